#![no_main]
#![allow(dead_code)]

#[path = "../bodies/training.rs"]
mod training;

libfuzzer_sys::fuzz_target!(|data: &[u8]| training::nemo(data));
