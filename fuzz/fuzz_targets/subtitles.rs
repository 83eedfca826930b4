#![no_main]

#[path = "../bodies/subtitles.rs"]
mod subtitles;

libfuzzer_sys::fuzz_target!(|data: &[u8]| subtitles::run(data));
