-- Who did what, when, from where. Rows are never changed, and go only when they are old.
CREATE TABLE audit (
    -- Never reused, in the order of events.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    action TEXT NOT NULL,
    -- 'ok', or why not.
    outcome TEXT NOT NULL,
    token_id TEXT,
    environment_id TEXT,
    registration_id TEXT,
    -- Address of the peer; NULL for a command on the data directory.
    peer TEXT
) STRICT;

CREATE INDEX audit_by_time ON audit (at);

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit records are not changed');
END;

-- 90 days.
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit WHEN OLD.at > unixepoch() - 7776000
BEGIN
    SELECT RAISE(ABORT, 'audit records are kept');
END;
