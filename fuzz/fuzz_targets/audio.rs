#![no_main]

#[path = "../bodies/audio.rs"]
mod audio;

libfuzzer_sys::fuzz_target!(
    init: {
        // libFuzzer's hook ends the process at any panic, before the guard of the decoders sees it.
        let end = std::panic::take_hook();
        audio::contain_decoders(move |info| end(info));
    },
    |data: &[u8]| audio::run(data)
);
