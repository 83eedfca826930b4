//! Hears many streams at once with one copy of the weights, and tells how many this machine could hear
//! as they are spoken.
//!
//! `cargo run --release --example many_streams -- MODEL FILE STREAMS`

use std::env;
use std::error::Error;
use std::thread;
use std::time::Instant;

use sori::audio::AudioFile;
use sori::{Event, Recognizer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [model, path, streams] = &arguments[..] else {
        return Err("usage: many_streams MODEL FILE STREAMS".into());
    };
    let streams: usize = streams.parse()?;
    let mut file = AudioFile::open(path)?;
    let mut samples = Vec::new();
    while file.read(&mut samples)? {}
    let rate = file.sample_rate();

    let recognizer = Recognizer::open(model)?;
    // A stream belongs to one thread at a time; a thread may have many, and takes them in turn.
    let threads = thread::available_parallelism()?.get().min(streams.max(1));
    let started = Instant::now();
    let texts = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (recognizer, samples) = (&recognizer, &samples);
                let own = (thread..streams).step_by(threads).count();
                scope.spawn(move || hear(recognizer, rate, samples, own))
            })
            .collect();
        let texts = workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"));
        texts.collect::<Result<Vec<_>, sori::Error>>()
    })?;
    let (seconds, spoken) = (
        started.elapsed().as_secs_f64(),
        samples.len() as f64 / f64::from(rate),
    );
    let texts: Vec<_> = texts.concat();
    println!("{}", texts.first().map_or("", String::as_str));
    assert!(
        texts.iter().all(|text| *text == texts[0]),
        "streams disturb each other"
    );
    println!(
        "{streams} streams of {spoken:.1} s on {threads} threads in {seconds:.2} s: {:.0} in real time",
        streams as f64 * spoken / seconds
    );
    Ok(())
}

/// Hears `samples` in `count` streams, a fifth of a second of each in turn.
fn hear(
    recognizer: &Recognizer,
    rate: u32,
    samples: &[f32],
    count: usize,
) -> Result<Vec<String>, sori::Error> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push((recognizer.stream()?, Vec::new()));
    }
    for piece in samples.chunks(rate as usize / 5) {
        for (stream, said) in &mut streams {
            said.extend(stream.accept(rate, piece)?.filter_map(text));
        }
    }
    for (stream, said) in &mut streams {
        said.extend(stream.finish()?.filter_map(text));
    }
    Ok(streams
        .into_iter()
        .map(|(_, said)| said.join(" "))
        .collect())
}

fn text(event: Event) -> Option<String> {
    match event {
        Event::Final(said) => Some(said.text),
        _ => None,
    }
}
