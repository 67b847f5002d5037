-- What the administration's pages ask for, found by index and not by reading everything.

-- The audit browser: one kind by one actor.
CREATE INDEX audit_by_kind_actor ON audit (kind, actor, seq);
-- The metrics: sessions by the day on which they ended.
CREATE INDEX session_by_end ON session (ended_at);
-- The newest sessions of one person or asset.
CREATE INDEX session_by_person_id ON session (person, id);
CREATE INDEX session_by_asset_id ON session (asset, id);
