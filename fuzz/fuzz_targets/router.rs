//! See `agent::fuzzing::router`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| agent::fuzzing::router(input));
