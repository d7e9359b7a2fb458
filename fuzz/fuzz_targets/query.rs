//! See `agent::fuzzing::query`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| agent::fuzzing::query(input));
