//! JSON-RPC envelope, method types and path URIs of the executor protocol.
