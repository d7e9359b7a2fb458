//! See `agent::fuzzing::host`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| agent::fuzzing::host(input));
