-- Secrets that people see. A check-out is a request, who agreed to it, what was shown and what follows (`body`, JSON); the
-- columns beside it are what is searched by.
CREATE TABLE checkout (
    id           TEXT PRIMARY KEY,
    asset        TEXT NOT NULL,
    login        TEXT NOT NULL,
    person       TEXT NOT NULL,
    state        TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    until_at     BIGINT,
    body         TEXT NOT NULL
);
CREATE INDEX checkout_by_account ON checkout (asset, login, state);
CREATE INDEX checkout_by_state ON checkout (state, id);
CREATE INDEX checkout_by_person ON checkout (person, id);

-- Break-glass envelopes: that they exist, never what is inside. `change_at`: when the secret of an opened one is asked to be
-- changed; `changed_at`: when that was done.
CREATE TABLE envelope (
    id         TEXT PRIMARY KEY,
    asset      TEXT NOT NULL,
    login      TEXT NOT NULL,
    version    BIGINT NOT NULL,
    made_at    BIGINT NOT NULL,
    made_by    TEXT NOT NULL,
    recipients TEXT NOT NULL,
    opened_at  BIGINT,
    opened_by  TEXT,
    change_at  BIGINT,
    changed_at BIGINT
);
CREATE INDEX envelope_by_account ON envelope (asset, login);
CREATE INDEX envelope_by_change ON envelope (change_at);
