#![no_main]

#[path = "../bodies/ear.rs"]
mod ear;
#[path = "../bodies/hints.rs"]
mod hints;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hints::phrases(data));
