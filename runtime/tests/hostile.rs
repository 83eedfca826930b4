//! Input made to harm is refused or does no harm, within bounds of memory and time: the corpora of the
//! fuzz targets, what the fuzzer once found, and damage by chance, on the ordinary compiler.
//!
//! `HOSTILE_SECONDS=600 cargo test --workspace --test hostile` goes on for ten minutes a target.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::time::{Duration, Instant};

use sori::audio::AudioFile;
use sori_tests::hostile::{Bounds, replay};
use sori_tests::memory::{Counting, most};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[path = "../../fuzz/bodies/arpa.rs"]
mod arpa;
#[path = "../../fuzz/bodies/audio.rs"]
mod audio;
#[path = "../../fuzz/bodies/ear.rs"]
mod ear;
#[path = "../../fuzz/bodies/hints.rs"]
mod hints;
#[path = "../../fuzz/bodies/input.rs"]
mod input;
#[path = "../../fuzz/bodies/lm.rs"]
mod lm;
#[path = "../../fuzz/bodies/package.rs"]
mod package;
#[path = "../../fuzz/bodies/stream.rs"]
mod stream;
#[path = "../../fuzz/bodies/subtitles.rs"]
mod subtitles;

#[test]
fn audio_files() {
    let default = std::panic::take_hook();
    audio::contain_decoders(move |info| default(info));
    replay("audio", 1000, Bounds::default(), audio::run);
}

#[test]
fn packages() {
    replay("package", 3000, Bounds::default(), package::run);
}

#[test]
fn arpa_files() {
    replay("arpa", 5000, Bounds::default(), arpa::run);
}

#[test]
fn compiled_language_models() {
    replay("lm", 20_000, Bounds::default(), lm::run);
}

#[test]
fn lists_of_phrases() {
    replay("phrases", 300, Bounds::default(), hints::phrases);
}

#[test]
fn grammars() {
    // A grammar of some letters may stand for very many sentences, up to a limit of its own.
    let bounds = Bounds {
        memory: 256 << 20,
        ..Bounds::default()
    };
    replay("grammar", 300, bounds, hints::grammar);
}

#[test]
fn streams_in_any_order() {
    replay("stream", 300, Bounds::default(), stream::run);
}

#[test]
fn subtitles_are_read_as_they_were_written() {
    replay("subtitles", 5000, Bounds::default(), subtitles::run);
}

/// A WAV header that claims two gigabytes in front of a second of sound.
#[test]
fn a_header_that_claims_two_gigabytes_allocates_nothing_near_it() {
    let claimed = 2_000_000_000_u32;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((claimed + 36).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
    bytes.extend(claimed.to_le_bytes());
    bytes.extend([1; 32_000]);
    let start = Instant::now();
    let (count, held) = most(|| {
        let mut file = AudioFile::from_bytes(bytes, "claims").unwrap();
        let mut samples = Vec::new();
        while file.read(&mut samples).unwrap() {}
        samples.len()
    });
    assert_eq!(count, 16_000);
    assert!(held < 2 << 20, "{held} bytes");
    assert!(start.elapsed() < Duration::from_secs(5));
}
