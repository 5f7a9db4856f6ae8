//! See `relay_proto::fuzzing::link`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay_proto::fuzzing::link(data));
