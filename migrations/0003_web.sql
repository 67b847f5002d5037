-- Log-ins to the web interface, what they prove with, and what the gateway owes people by mail or webhook.

-- `digest` is SHA-256 of the cookie, hexadecimal: whoever reads the database cannot be anybody. `factors` is a JSON
-- document of how the person proved who they are.
CREATE TABLE web_session (
    digest     TEXT PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    person     TEXT NOT NULL,
    factors    TEXT NOT NULL,
    source     TEXT NOT NULL,
    client     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX web_session_by_person ON web_session (person);
CREATE INDEX web_session_by_end ON web_session (expires_at);

-- What a browser was asked and has not answered yet: works once, for whom and what it was made.
CREATE TABLE web_challenge (
    id         TEXT PRIMARY KEY,
    purpose    TEXT NOT NULL,
    body       TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX web_challenge_by_end ON web_challenge (expires_at);

-- Passkeys (WebAuthn credentials): public keys and counters, no secrets. `id` is the credential's id, base64url.
CREATE TABLE passkey (
    id         TEXT PRIMARY KEY,
    person     TEXT NOT NULL,
    name       TEXT NOT NULL,
    body       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX passkey_by_person ON passkey (person);

-- Tokens of the API. `scopes`: a JSON array.
CREATE TABLE api_token (
    digest     TEXT PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    person     TEXT NOT NULL,
    name       TEXT NOT NULL,
    scopes     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX api_token_by_person ON api_token (person);

-- Messages on their way. Written in the transaction of what they tell of; one node takes each.
CREATE TABLE notification (
    id         TEXT PRIMARY KEY,
    channel    TEXT NOT NULL,
    body       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    done_at    BIGINT,
    outcome    TEXT
);
CREATE INDEX notification_pending ON notification (done_at, next_at);

-- A window's page lists the sessions through it, the newest first.
CREATE INDEX session_by_window ON session (window_id, id);
