//! Relay protocol core: frames, Noise handshake and records, ordering, streams. No I/O.
