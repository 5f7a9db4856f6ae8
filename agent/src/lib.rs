//! The executor: dials out, serves sessions of process, filesystem and HTTP calls.
