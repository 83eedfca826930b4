#![no_main]

#[path = "../bodies/c_abi.rs"]
mod c_abi;
#[path = "../bodies/input.rs"]
mod input;

/// ONNX Runtime, which takes no building.
const ENGINE: u32 = sori_capi::SoriEngine::Ort as u32;

libfuzzer_sys::fuzz_target!(|data: &[u8]| c_abi::run(data));
