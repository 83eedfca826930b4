//! Expects names: hears a file twice, without and with a list of phrases, and swaps lists between
//! utterances as a program would when another screen opens.
//!
//! `cargo run --release --example phrases -- MODEL FILE PHRASE...`

use std::env;
use std::error::Error;
use std::sync::Arc;

use sori::audio::AudioFile;
use sori::decode::Phrases;
use sori::{Event, Recognizer, Stream};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, path, expected @ ..] = &arguments[..] else {
        return Err("usage: phrases MODEL FILE PHRASE...".into());
    };
    let mut file = AudioFile::open(path)?;
    let mut samples = Vec::new();
    while file.read(&mut samples)? {}
    let rate = file.sample_rate();

    let recognizer = Recognizer::open(model)?;
    let mut stream = recognizer.stream()?;
    println!("without: {}", hear(&mut stream, rate, &samples)?);

    // A line each; a number behind a phrase would be a boost of its own.
    let list = expected.join("\n");
    let phrases = Phrases::parse(
        list.as_bytes(),
        "the arguments",
        recognizer.package().tokens(),
    )?;
    stream.set_phrases(Some(Arc::new(phrases)));
    println!(
        "with {}: {}",
        expected.join(", "),
        hear(&mut stream, rate, &samples)?
    );
    Ok(())
}

/// Hears all of it. The stream is then ready for the next.
fn hear(stream: &mut Stream, rate: u32, samples: &[f32]) -> Result<String, sori::Error> {
    let mut said = Vec::new();
    let text = |event| match event {
        Event::Final(segment) => Some(segment.text),
        _ => None,
    };
    said.extend(stream.accept(rate, samples)?.filter_map(text));
    said.extend(stream.finish()?.filter_map(text));
    Ok(said.join(" "))
}
