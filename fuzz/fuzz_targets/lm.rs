#![no_main]

#[path = "../bodies/lm.rs"]
mod lm;

libfuzzer_sys::fuzz_target!(|data: &[u8]| lm::run(data));
