-- One schema for SQLite and PostgreSQL: BIGINT for integers and moments (microseconds since 1970, UTC), TEXT for ids,
-- names, JSON documents and hexadecimal digests, BYTEA for sealed bytes.

-- Counters that are one number each. 'revision' moves with every change that a decision can depend on.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counter (name, value) VALUES ('revision', 1);

-- The audit log; see docs/audit-log.md for the bytes under `hash` and `signature`.
CREATE TABLE audit (
    seq       BIGINT NOT NULL PRIMARY KEY,
    at        BIGINT NOT NULL,
    kind      TEXT NOT NULL,
    actor     TEXT NOT NULL,
    subject   TEXT NOT NULL,
    body      TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash      TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    signature TEXT NOT NULL
);
CREATE INDEX audit_by_kind ON audit (kind, seq);
CREATE INDEX audit_by_subject ON audit (subject, seq);
CREATE INDEX audit_by_actor ON audit (actor, seq);
CREATE INDEX audit_by_time ON audit (at);

-- One row: the newest entry. Every write transaction locks it first, so that writers of all nodes stand in one line.
CREATE TABLE audit_head (
    id   BIGINT PRIMARY KEY,
    seq  BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO audit_head (id, seq, hash) VALUES
    (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

-- The described site, one row per item.
CREATE TABLE site_item (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE plant_state (
    zone   TEXT PRIMARY KEY,
    state  TEXT NOT NULL,
    since  BIGINT NOT NULL,
    actor  TEXT NOT NULL,
    reason TEXT NOT NULL
);

-- How people prove who they are. `totp_step` is the last time step whose code was accepted: no code works twice.
CREATE TABLE credential (
    person        TEXT PRIMARY KEY,
    password_hash TEXT,
    totp_sealed   BYTEA,
    totp_step     BIGINT NOT NULL,
    enrolled_at   BIGINT,
    updated_at    BIGINT NOT NULL
);
CREATE TABLE recovery_code (
    person  TEXT NOT NULL,
    digest  TEXT NOT NULL,
    used_at BIGINT,
    PRIMARY KEY (person, digest)
);
CREATE TABLE invitation (
    digest     TEXT PRIMARY KEY,
    person     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX invitation_by_person ON invitation (person);

-- Failed attempts, per source and per account.
CREATE TABLE tally (
    scope    TEXT NOT NULL,
    subject  TEXT NOT NULL,
    failures BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL,
    PRIMARY KEY (scope, subject)
);
CREATE INDEX tally_by_age ON tally (last_at);

CREATE TABLE remembered_factor (
    person     TEXT NOT NULL,
    device_key TEXT NOT NULL,
    source     TEXT NOT NULL,
    window_id  TEXT NOT NULL,
    until      BIGINT NOT NULL,
    PRIMARY KEY (person, device_key, source, window_id)
);

CREATE TABLE source_seen (
    person   TEXT NOT NULL,
    source   TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL,
    PRIMARY KEY (person, source)
);

-- Secrets of accounts, sealed by the vault; the history never holds a value.
CREATE TABLE account_secret (
    asset      TEXT NOT NULL,
    login      TEXT NOT NULL,
    sealed     BYTEA NOT NULL,
    version    BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (asset, login)
);
CREATE TABLE account_secret_history (
    asset   TEXT NOT NULL,
    login   TEXT NOT NULL,
    version BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    PRIMARY KEY (asset, login, version)
);

-- Access windows. `version` moves with every change, so that two changes at once cannot both be written.
CREATE TABLE access_window (
    id           TEXT PRIMARY KEY,
    version      BIGINT NOT NULL,
    state        TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    start_at     BIGINT NOT NULL,
    end_at       BIGINT NOT NULL,
    body         TEXT NOT NULL
);
CREATE INDEX access_window_by_end ON access_window (end_at);
CREATE TABLE access_window_person (
    window_id TEXT NOT NULL,
    person    TEXT NOT NULL,
    PRIMARY KEY (window_id, person)
);
CREATE INDEX access_window_person_by_person ON access_window_person (person);
CREATE TABLE access_window_asset (
    window_id TEXT NOT NULL,
    asset     TEXT NOT NULL,
    PRIMARY KEY (window_id, asset)
);
CREATE INDEX access_window_asset_by_asset ON access_window_asset (asset);
CREATE TABLE access_window_usage (
    window_id  TEXT PRIMARY KEY,
    file_bytes BIGINT NOT NULL
);

CREATE TABLE decision (
    id      TEXT PRIMARY KEY,
    at      BIGINT NOT NULL,
    person  TEXT NOT NULL,
    asset   TEXT NOT NULL,
    session TEXT,
    outcome TEXT NOT NULL,
    body    TEXT NOT NULL,
    digest  TEXT NOT NULL
);
CREATE INDEX decision_by_session ON decision (session, at);
CREATE INDEX decision_by_time ON decision (at);

CREATE TABLE session (
    id               TEXT PRIMARY KEY,
    person           TEXT NOT NULL,
    asset            TEXT NOT NULL,
    login            TEXT NOT NULL,
    protocol         TEXT NOT NULL,
    source           TEXT NOT NULL,
    device_key       TEXT,
    window_id        TEXT,
    decision         TEXT NOT NULL,
    node             TEXT NOT NULL,
    state            TEXT NOT NULL,
    started_at       BIGINT NOT NULL,
    ended_at         BIGINT,
    end_reason       TEXT,
    recording        TEXT,
    recording_digest TEXT,
    bytes_up         BIGINT NOT NULL,
    bytes_down       BIGINT NOT NULL
);
CREATE INDEX session_by_state ON session (state, node);
CREATE INDEX session_by_start ON session (started_at);
CREATE INDEX session_by_person ON session (person, started_at);
CREATE INDEX session_by_asset ON session (asset, started_at);

-- Orders to live sessions, written by any process and carried out by the node that holds the session.
CREATE TABLE session_order (
    id      TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    node    TEXT NOT NULL,
    kind    TEXT NOT NULL,
    actor   TEXT NOT NULL,
    reason  TEXT NOT NULL,
    at      BIGINT NOT NULL,
    done_at BIGINT,
    outcome TEXT
);
CREATE INDEX session_order_pending ON session_order (node, done_at);

CREATE TABLE finding (
    id           TEXT PRIMARY KEY,
    session      TEXT,
    at           BIGINT NOT NULL,
    trigger_name TEXT NOT NULL,
    severity     TEXT NOT NULL,
    message      TEXT NOT NULL,
    response     TEXT NOT NULL
);
CREATE INDEX finding_by_session ON finding (session, at);
CREATE INDEX finding_by_time ON finding (at);
