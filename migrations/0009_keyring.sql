-- The vault's keyring: one small document, sealed under a key that only the vault's root gives. It is replaced as a whole and
-- only by who has seen the one before.
CREATE TABLE vault_keyring (
    id         BIGINT PRIMARY KEY,
    document   BYTEA NOT NULL,
    updated_at BIGINT NOT NULL
);
