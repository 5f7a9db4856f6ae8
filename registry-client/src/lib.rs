//! Environment registry calls and the one outbound connector for HTTP and websockets.
