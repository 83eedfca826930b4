//! Live captions: what is being said on one line, what was said above it. Ends after SECONDS, or never.
//!
//! `cargo run --release --example microphone -- MODEL [SECONDS]`

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use sori::audio::Microphone;
use sori::{Event, Events, Recognizer};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let model = arguments
        .next()
        .ok_or("usage: microphone MODEL [SECONDS]")?;
    let seconds = arguments
        .next()
        .map(|seconds| seconds.parse())
        .transpose()?;
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));

    let recognizer = Recognizer::open(model)?;
    let mut stream = recognizer.stream()?;
    let mut microphone = Microphone::open(None)?;
    eprintln!("{} listens; Ctrl-C ends it", microphone.name());
    let rate = microphone.sample_rate();
    let mut samples = Vec::new();
    while end.is_none_or(|end| Instant::now() < end) {
        // Whatever there is; waits for the first of it.
        microphone.read(&mut samples, Duration::from_millis(100))?;
        print(stream.accept(rate, &samples)?);
        samples.clear();
    }
    print(stream.finish()?);
    Ok(())
}

fn print(events: Events<'_>) {
    for event in events {
        match event {
            Event::Partial(heard) => eprint!("\r\x1b[K{}", heard.text),
            Event::Final(said) => {
                eprint!("\r\x1b[K");
                println!("{}", said.text);
            }
            _ => {}
        }
    }
}
