//! Tells what streams that wait for one another cost together, and what they cost alone.
//!
//! `cargo run --release --example batching -- PACKAGE ENGINE SECONDS`, the package with a graph for several streams
//! (`sori-export --batch 8`), the engine `ort` or `tract`.
//!
//! So many streams step through noise without a pause, each in a thread of its own, while one run at a time is allowed:
//! all but those that are being computed wait. Both ways take turns of a second. A line for each number of streams:
//! CPU time of a chunk alone and together, and the share of chunks that were computed in company.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cpu_time::ProcessTime;
use sori::engine::{Engine, EngineChoice, EngineOptions, PrecisionChoice, load};
use sori::model::{Package, Precision};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [package, engine, seconds] = &arguments[..] else {
        return Err("usage: batching PACKAGE ort|tract SECONDS".into());
    };
    let seconds: u32 = seconds.parse()?;
    let package = Package::open(package)?;
    let alone = EngineOptions {
        engine: match engine.as_str() {
            "ort" => EngineChoice::Ort,
            "tract" => EngineChoice::Tract,
            _ => return Err("expected ort or tract".into()),
        },
        precision: PrecisionChoice::Exactly(Precision::Fp32),
        ..EngineOptions::default()
    };
    let together = load(
        &package,
        EngineOptions {
            batch: true,
            ..alone
        },
    )?;
    let alone = load(&package, alone)?;
    let batched = || together.batching().map_or(0, |batching| batching.steps);
    println!("{}", together.description());
    let features = &package.config().features;
    let window = package.config().geometry.window_size * features.mel_bins;
    for streams in [1, 2, 4, 8, 9, 16, 24] {
        let (mut costs, mut chunks) = ([Duration::ZERO; 2], [0; 2]);
        let before = batched();
        for _ in 0..seconds {
            for (way, engine) in [&alone, &together].into_iter().enumerate() {
                let (cost, count) = run(&**engine, streams, window)?;
                costs[way] += cost;
                chunks[way] += count;
            }
        }
        let [alone, together] =
            [0, 1].map(|way| 1e3 * costs[way].as_secs_f64() / f64::from(chunks[way]));
        let share = (batched() - before) as f64 / f64::from(chunks[1]);
        println!(
            "{streams:>2} streams: {alone:.2} ms alone, {together:.2} ms together, {:.0} % in company",
            100.0 * share
        );
    }
    Ok(())
}

/// CPU time and chunks of a second.
fn run(engine: &dyn Engine, streams: usize, window: usize) -> Result<(Duration, u32), String> {
    let over = AtomicBool::new(false);
    let cpu = ProcessTime::now();
    let chunks = thread::scope(|scope| {
        let over = &over;
        let steps = |stream: usize| {
            move || {
                let noise = (0..window).map(|n| ((n + stream) as f32 * 1.7).sin());
                let noise: Vec<f32> = noise.collect();
                let mut session = engine.session().map_err(|error| error.to_string())?;
                let mut chunks = 0;
                while !over.load(Ordering::Relaxed) {
                    session.step(&noise).map_err(|error| error.to_string())?;
                    chunks += 1;
                }
                Ok(chunks)
            }
        };
        let threads: Vec<_> = (0..streams)
            .map(|stream| scope.spawn(steps(stream)))
            .collect();
        thread::sleep(Duration::from_secs(1));
        over.store(true, Ordering::Relaxed);
        let counts = threads.into_iter().map(thread::ScopedJoinHandle::join);
        counts
            .map(|count| count.unwrap_or_else(|_| Err("a stream panicked".to_owned())))
            .sum::<Result<u32, String>>()
    })?;
    Ok((cpu.elapsed(), chunks))
}
