//! Clocks near their end.

#![allow(clippy::unwrap_used)]

use sori_tests::tone::{Sound, speak_at};

use super::*;
use crate::Recognizer;
use crate::decode::BeamOptions;
use crate::engine::EngineChoice;

fn hear(stream: &mut Stream, rate: u32, samples: &[f32]) -> Vec<(String, f64, f64)> {
    let mut events = Vec::new();
    for piece in samples.chunks(1000) {
        events.extend(stream.accept(rate, piece).unwrap());
    }
    events.extend(stream.finish().unwrap());
    let said = events.into_iter().map(|event| match event {
        Event::Partial(said) | Event::Final(said) => (said.text, said.start, said.end),
        Event::Endpoint(end) => (String::new(), end.time, end.time),
    });
    said.collect()
}

/// As after so many chunks of silence.
fn skip(stream: &mut Stream, chunks: u64) {
    let frames = chunks * (stream.shift / LogMel::BINS) as u64;
    stream.processed = frames;
    stream.heard = frames * LogMel::SHIFT as u64;
    stream.utterance = stream.heard * 1000 / 16_000 / stream.clock.frame_ms;
    stream.decoder.start_at(stream.utterance);
    stream.resampler.start_at(stream.heard);
}

/// Samples pass 2^31 and 2^32 after 37 and 75 hours at 16 kHz, output frames after years.
#[test]
fn clocks_go_on_where_32_bits_end() {
    let script = [
        Sound::Silence(400),
        Sound::Token(0, 200),
        Sound::Silence(2000),
        Sound::Token(1, 200),
        Sound::Token(4, 200),
        Sound::Silence(4000),
        Sound::Token(2, 200),
    ];
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");
    for search in [Search::Greedy, Search::Beam(BeamOptions::default())] {
        let mut options = Options {
            search,
            ..Options::default()
        };
        options.engine.engine = EngineChoice::Tract;
        let package = Package::open(directory).unwrap();
        let recognizer = Recognizer::new(package, options).unwrap();
        let mut stream = recognizer.stream().unwrap();
        for rate in [16_000, 48_000] {
            let samples = speak_at(&script, rate);
            let expected = hear(&mut stream, rate, &samples);
            assert!(expected.len() > 5, "{expected:?}");
            for edge in [1_u64 << 31, 1 << 32, (1 << 32) * 640, 1 << 53] {
                // The edge is passed in the middle of the sound.
                let chunks = edge / 5120 - 10;
                skip(&mut stream, chunks);
                let at = chunks as f64 * 0.32;
                let found = hear(&mut stream, rate, &samples);
                assert_eq!(found.len(), expected.len(), "{edge}: {found:?}");
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(found.0, expected.0, "{edge}");
                    for (found, expected) in [(found.1, expected.1), (found.2, expected.2)] {
                        // A double has room for a millisecond in 17,000 years.
                        let error = (found - at - expected).abs();
                        assert!(error < 0.001, "{edge}: {found}, {expected}");
                    }
                }
            }
        }
    }
}
