//! Registry calls and websockets against servers and proxies on loopback.

#![allow(clippy::expect_used, reason = "fixtures of tests fail by panicking")]

mod calls;
mod checkup;
mod fetch;
mod logs;
mod proxy;
mod retry;
mod status;
mod support;
mod tls;
mod websocket;
