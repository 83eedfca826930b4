#![no_main]

#[path = "../bodies/arpa.rs"]
mod arpa;

libfuzzer_sys::fuzz_target!(|data: &[u8]| arpa::run(data));
