-- Times are whole Unix seconds. Hashes are SHA-256. No secret is kept except the signing key.

-- Key of the rendezvous URLs.
CREATE TABLE signing_keys (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    secret BLOB NOT NULL CHECK (length(secret) = 32)
) STRICT;

-- Bearer tokens of executors, harnesses and administrators.
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    role TEXT NOT NULL CHECK (role IN ('executor', 'harness', 'admin')),
    -- The only environment it is good for, or NULL for all.
    environment_id TEXT,
    label TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;

-- Every environment that an executor ever registered for.
CREATE TABLE environments (
    id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

-- The current registration of each environment. A new one replaces it.
CREATE TABLE registrations (
    -- Never reused, so that of two registrations the newer one has the greater ordinal.
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    environment_id TEXT NOT NULL UNIQUE REFERENCES environments (id) ON DELETE CASCADE,
    x25519_public_key BLOB NOT NULL CHECK (length(x25519_public_key) = 32),
    mlkem768_public_key BLOB NOT NULL CHECK (length(mlkem768_public_key) = 1184),
    -- The token that registered; NULL for one that was not checked (development mode).
    token_id TEXT,
    created_at INTEGER NOT NULL
) STRICT;

-- One connect bundle each: a harness URL and an authorization text, both good for one use.
CREATE TABLE authorizations (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    -- Names the bundle in its URL. Says nothing about the authorization text.
    url_nonce TEXT NOT NULL UNIQUE,
    environment_id TEXT NOT NULL REFERENCES environments (id) ON DELETE CASCADE,
    registration_id TEXT NOT NULL,
    harness_key_hash BLOB NOT NULL CHECK (length(harness_key_hash) = 32),
    token_id TEXT,
    expires_at INTEGER NOT NULL,
    url_used_at INTEGER,
    used_at INTEGER
) STRICT;

CREATE INDEX authorizations_by_environment ON authorizations (environment_id, expires_at);
CREATE INDEX authorizations_by_expiry ON authorizations (expires_at);
