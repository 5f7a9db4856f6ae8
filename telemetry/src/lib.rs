//! What the programs tell about themselves while they run.
//!
//! | module | idea |
//! |---|---|
//! | [`logging`] | lines on standard error, as text or JSON |
//!
//! What is logged, and that it holds no secrets, is for whoever logs; this crate only silences the
//! libraries that would print requests as they are.

#![forbid(unsafe_code)]

pub mod logging;
