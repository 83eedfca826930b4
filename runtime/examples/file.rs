//! Says what is said in a file, with the time and the confidence of each word.
//!
//! `cargo run --release --example file -- MODEL FILE`

use std::env;
use std::error::Error;

use sori::audio::AudioFile;
use sori::{Event, Events, Recognizer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, path] = &arguments[..] else {
        return Err("usage: file MODEL FILE".into());
    };
    let recognizer = Recognizer::open(model)?;
    let mut stream = recognizer.stream()?;
    let mut file = AudioFile::open(path)?;
    // One buffer: a packet at a time, however long the file is.
    let mut samples = Vec::new();
    while file.read(&mut samples)? {
        print(stream.accept(file.sample_rate(), &samples)?);
        samples.clear();
    }
    print(stream.finish()?);
    Ok(())
}

fn print(events: Events<'_>) {
    for event in events {
        if let Event::Final(said) = event {
            for word in said.words {
                let percent = 100.0 * word.confidence;
                println!(
                    "{:7.2} {:7.2} {percent:4.0} % {}",
                    word.start, word.end, word.word
                );
            }
        }
    }
}
