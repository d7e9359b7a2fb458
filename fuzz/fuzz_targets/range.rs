//! See `agent::fuzzing::range`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, u64)| agent::fuzzing::range(input.0, input.1));
