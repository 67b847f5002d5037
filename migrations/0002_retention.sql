-- How long recordings are kept, what holds them, and how they were deleted.

-- One row per session that has a recording. `zone` and `crown_jewel` are those of the asset when the session opened, so
-- that a machine that leaves the site takes nothing from how long its recordings are kept; both are absent for sessions
-- from before this table. `lifters`: a JSON array of all who ever lifted a hold.
CREATE TABLE recording (
    session      TEXT PRIMARY KEY,
    zone         TEXT,
    crown_jewel  BIGINT,
    held_by      TEXT,
    held_at      BIGINT,
    held_reason  TEXT,
    lifters      TEXT,
    deletion     TEXT,
    deleted_at   BIGINT,
    requested_by TEXT,
    approved_by  TEXT,
    erased_at    BIGINT
);
CREATE INDEX recording_by_deletion ON recording (deleted_at, erased_at);
INSERT INTO recording (session) SELECT id FROM session WHERE recording IS NOT NULL;

-- Requests to delete; `body` holds the exact list.
CREATE TABLE recording_deletion (
    id         TEXT PRIMARY KEY,
    state      TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    body       TEXT NOT NULL
);
