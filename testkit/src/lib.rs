//! Unpublished test support: scripted model, real processes, fixtures.
