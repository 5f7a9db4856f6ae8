//! Tokio shell of the relay protocol core.
