#![no_main]

#[path = "../bodies/ear.rs"]
mod ear;
#[path = "../bodies/input.rs"]
mod input;
#[path = "../bodies/stream.rs"]
mod stream;

libfuzzer_sys::fuzz_target!(|data: &[u8]| stream::run(data));
