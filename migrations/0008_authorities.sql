-- The SSH authorities, old and new, and which of their certificates count no more. `id` is the fingerprint of the public
-- key; `sealed` the private one, absent for that in the configured file and once an authority is finished. `signs_from`:
-- since when it signs, or will; absent until somebody says that it is trusted everywhere. `trusted_until`: of one that was
-- replaced. What stage each is in follows from these and the clock.
CREATE TABLE authority (
    id            TEXT PRIMARY KEY,
    purpose       TEXT NOT NULL,
    public_key    TEXT NOT NULL,
    sealed        BYTEA,
    made_at       BIGINT NOT NULL,
    made_by       TEXT NOT NULL,
    signs_from    BIGINT,
    trusted_until BIGINT,
    finished_at   BIGINT
);
CREATE TABLE revoked_certificate (
    purpose    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    at         BIGINT NOT NULL,
    listed_until BIGINT NOT NULL,
    actor      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    PRIMARY KEY (purpose, kind, value)
);
-- Privileged accounts that the last look at an asset found; `found` is JSON, without secrets.
CREATE TABLE discovery (
    asset TEXT PRIMARY KEY,
    at    BIGINT NOT NULL,
    found TEXT NOT NULL
);
