-- Findings that people were told of by mail: what bounds how many of these go out.
ALTER TABLE finding ADD COLUMN mailed BIGINT NOT NULL DEFAULT 0;
CREATE INDEX finding_mailed ON finding (mailed, at);

-- The approval queue: whether somebody has been on a machine, and what they did there last.
CREATE INDEX session_by_person_asset ON session (person, asset, id);
-- The windows that somebody asked for.
CREATE INDEX access_window_by_requester ON access_window (requested_by);
-- The sessions that somebody has open.
CREATE INDEX session_open_by_person ON session (person, id) WHERE ended_at IS NULL;
