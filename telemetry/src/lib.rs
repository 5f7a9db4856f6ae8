//! What the programs tell about themselves while they run.
//!
//! | module | idea |
//! |---|---|
//! | [`logging`] | lines on standard error, as text or JSON |
//! | [`trace`] | which span is whose parent, over the wire |
//! | [`plan`] | where spans and numbers go, by settings and the standard variables |
//! | [`export`] | they go there, if built with the feature `otlp` |
//! | `numbers` | from what `/metrics` shows to the form of OTLP |
//!
//! Spans are those with the target [`trace::TARGET`], and no others: what a library or a log statement
//! makes is never exported. While nothing is exported they are disabled, which costs one comparison.
//! What is logged or put into a span, and that it holds no secrets, is for whoever does that.

#![forbid(unsafe_code)]

#[cfg(feature = "otlp")]
pub mod export;
#[cfg(all(feature = "logging", not(feature = "otlp")))]
#[path = "without.rs"]
pub mod export;
#[cfg(feature = "logging")]
pub mod logging;
#[cfg(feature = "otlp")]
mod numbers;
#[cfg(feature = "logging")]
pub mod plan;
pub mod trace;

#[doc(hidden)]
pub use tracing;
