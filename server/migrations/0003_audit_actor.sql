-- Who it was, where the id of a token does not say it: the user that ran a command.
ALTER TABLE audit ADD COLUMN actor TEXT;

-- `INSERT OR REPLACE` removes a record without asking the trigger that keeps it.
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'audit records are not changed');
END;
