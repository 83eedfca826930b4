//! How fast a manifest is read into batches, and in how much memory:
//!
//!     cargo run --release -p sori-train --example loading -- TOKENIZER SECONDS WORKERS MANIFEST [TARS]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sori_train::data::{
    Corpus, Loader, LoaderConfig, Position, Shard, Source, Strictness, Tokenizer,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [tokenizer, seconds, workers, manifest, tars @ ..] = &arguments[..] else {
        return Err("expected TOKENIZER SECONDS WORKERS MANIFEST [TARS]".into());
    };
    let source = Source {
        tars: tars.first().cloned(),
        ..Source::once(manifest)
    };
    let (strictness, start) = (Strictness::Lenient, Position::start_of(0));
    let begun = Instant::now();
    let corpus = Corpus::read(&[source], strictness)?;
    let tokenizer = Arc::new(Tokenizer::load(Path::new(tokenizer))?);
    let config = LoaderConfig {
        workers: workers.parse()?,
        ..LoaderConfig::default()
    };
    let loader = Loader::start(&corpus, tokenizer, &config, strictness, Shard::WHOLE, start)?;
    println!(
        "{} lines, {:.1} h, ready after {:.2} s, with {} MB at most",
        corpus.len(),
        corpus.seconds() / 3600.0,
        begun.elapsed().as_secs_f64(),
        peak_megabytes()?
    );
    let end = Duration::from_secs_f64(seconds.parse()?);
    let (begun, mut utterances, mut heard) = (Instant::now(), 0, 0.0);
    for batch in loader {
        let batch = batch?;
        utterances += batch.utterances();
        heard += batch.seconds();
        if begun.elapsed() > end {
            break;
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    println!(
        "{:.1} utterances and {:.0} s of audio a second, with {} MB at most",
        utterances as f64 / elapsed,
        heard / elapsed,
        peak_megabytes()?
    );
    Ok(())
}

/// The most memory that this process had, where the system tells.
fn peak_megabytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes
        .ok_or("the system does not tell")?
        .parse::<u64>()?
        / 1024)
}
