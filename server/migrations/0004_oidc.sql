-- Tokens of an identity provider that opened something: until when it may stay open. Their texts are
-- not kept, only a hash of each as its name.
CREATE TABLE oidc_tokens (
    id TEXT PRIMARY KEY,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE INDEX oidc_tokens_by_expiry ON oidc_tokens (expires_at);
