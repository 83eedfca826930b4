//! Audio to words through the public API, on both engines, with the tone model: what it must hear
//! is known to the frame.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod packages;
mod samples;
mod streams;
mod utterances;
mod words;

use sori::engine::EngineChoice;
use sori::{Event, Recognizer, Search, Segment, Stream};
use sori_tests::tone::{self, Sound};
use support::tone;

const ENGINES: [EngineChoice; 2] = [EngineChoice::Ort, EngineChoice::Tract];

fn recognizer(engine: EngineChoice) -> Recognizer {
    support::recognizer(tone(), engine, Search::Greedy)
}

/// Everything a stream says of `samples`, heard in pieces of `piece`.
fn hear(stream: &mut Stream, rate: u32, samples: &[f32], piece: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in samples.chunks(piece) {
        events.extend(stream.accept(rate, piece).unwrap());
    }
    events.extend(stream.finish().unwrap());
    events
}

fn finals(events: &[Event]) -> Vec<&Segment> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Final(segment) => Some(segment),
            _ => None,
        })
        .collect()
}

fn text(events: &[Event]) -> String {
    let texts: Vec<&str> = finals(events)
        .iter()
        .map(|segment| segment.text.as_str())
        .collect();
    texts.join(" ")
}

/// One, twos, going; with silence around.
fn script() -> Vec<Sound> {
    vec![
        Sound::Silence(400),
        Sound::Token(0, 200),
        Sound::Silence(200),
        Sound::Token(1, 200),
        Sound::Token(4, 120),
        Sound::Silence(400),
        Sound::Token(3, 160),
        Sound::Token(5, 160),
        Sound::Silence(400),
    ]
}

#[test]
fn the_tone_model_is_what_the_tests_think_it_is() {
    assert_eq!(tone().tokens().len(), tone::TOKENS.len());
    assert_eq!(tone().tokens().blank(), tone::BLANK);
}
