#![no_main]

#[path = "../bodies/ear.rs"]
mod ear;
// The other target calls the rest of it.
#[allow(dead_code)]
#[path = "../bodies/hints.rs"]
mod hints;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hints::grammar(data));
