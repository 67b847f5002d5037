-- Single-use tokens with which people log in to desktops. The log-in by NTLM needs the token itself on this side too, so it
-- is kept sealed by the vault, for a minute at most, and its row is gone with the first use.
CREATE TABLE desktop_token (
    id         TEXT PRIMARY KEY,
    person     TEXT NOT NULL,
    asset      TEXT NOT NULL,
    login      TEXT NOT NULL,
    window_id  TEXT NOT NULL,
    factors    TEXT NOT NULL,
    source     TEXT NOT NULL,
    sealed     BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX desktop_token_by_person ON desktop_token (person);
CREATE INDEX desktop_token_by_end ON desktop_token (expires_at);
