//! Reassembly of messages from record plaintexts: any bytes in any cut.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| relay_proto::fuzzing::reassemble(data));
