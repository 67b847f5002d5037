-- Rotation of secrets: where each account stands. An account has a row while its site file says how it is rotated and it
-- has a secret. `progress` is the vault's own JSON (its secrets sealed); the columns beside it are what is searched by.
CREATE TABLE rotation (
    asset        TEXT NOT NULL,
    login        TEXT NOT NULL,
    enabled      BIGINT NOT NULL,
    version      BIGINT NOT NULL,
    want_number  BIGINT NOT NULL,
    want_reason  TEXT,
    answered     BIGINT NOT NULL,
    next_at      BIGINT NOT NULL,
    touched_at   BIGINT NOT NULL,
    claim_holder TEXT,
    claim_until  BIGINT,
    progress     TEXT NOT NULL,
    PRIMARY KEY (asset, login)
);
CREATE INDEX rotation_by_next ON rotation (next_at);
