//! A list of phrases or a grammar, and speech that is led by it.

use std::sync::Arc;

use sori::decode::{Grammar, Phrases};
use sori::{Event, Options};

use super::ear;

pub fn phrases(data: &[u8]) {
    let recognizer = ear::recognizer(Options::default());
    let tokens = recognizer.package().tokens();
    if let Ok(phrases) = Phrases::parse(data, "list", tokens) {
        let mut stream = recognizer.stream().expect("an ear always hears");
        stream.set_phrases(Some(Arc::new(phrases)));
        hear(stream, data);
    }
}

pub fn grammar(data: &[u8]) {
    let recognizer = ear::recognizer(Options::default());
    let tokens = recognizer.package().tokens();
    if let Ok(grammar) = Grammar::parse(data, "grammar", tokens) {
        let mut stream = recognizer.stream().expect("an ear always hears");
        stream.set_grammar(Some(Arc::new(grammar)));
        hear(stream, data);
    }
}

/// Two seconds of noise that depends on the input.
fn hear(mut stream: sori::Stream, data: &[u8]) {
    let noise = |n: usize| f32::from(data[n % data.len()].wrapping_mul(n as u8)) / 512.0;
    let samples: Vec<f32> = match data.len() {
        0 => vec![0.0; 32_000],
        _ => (0..32_000).map(noise).collect(),
    };
    let mut events: Vec<Event> = stream.accept(16_000, &samples).expect("heard").collect();
    events.extend(stream.finish().expect("heard"));
    for event in events {
        if let Event::Final(segment) = event {
            assert!(segment.start <= segment.end && segment.end <= 2.0);
            assert!((0.0..=1.0).contains(&segment.confidence));
        }
    }
}
