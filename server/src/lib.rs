//! Self-hosted environment registry and rendezvous in one process.
