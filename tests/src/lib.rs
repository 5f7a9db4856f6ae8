//! Unpublished end-to-end and interop tests with the real binaries.
