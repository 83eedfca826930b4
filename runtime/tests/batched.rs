//! Streams that share runs of a graph hear what they hear alone.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::Barrier;
use std::time::{Duration, Instant};

use sori::engine::{Engine, EngineChoice, EngineOptions, PrecisionChoice, Session, load};
use sori::model::{Package, Precision};
use sori::{Event, Options, Recognizer, Search, Stream};
use sori_tests::tone::{Sound, ToneModel, speak, transcript};
use support::on;
use tempfile::TempDir;

const ENGINES: [EngineChoice; 2] = [EngineChoice::Ort, EngineChoice::Tract];

/// In one run.
const ROOM: usize = 3;
const STREAMS: usize = 7;

fn package() -> (TempDir, Package) {
    let directory = tempfile::tempdir().unwrap();
    ToneModel::default()
        .write_batched_package(directory.path(), ROOM)
        .unwrap();
    let package = Package::open(directory.path()).unwrap();
    (directory, package)
}

fn together(engine: EngineChoice) -> EngineOptions {
    EngineOptions {
        batch: true,
        ..on(engine)
    }
}

/// Lets all streams go at once, again and again until some were computed together.
fn until_batched(steps: impl Fn() -> u64, hear: impl Fn(usize) + Sync) {
    let started = Instant::now();
    while steps() == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "never a batch");
        let begin = Barrier::new(STREAMS);
        let (begin, hear) = (&begin, &hear);
        std::thread::scope(|scope| {
            for stream in 0..STREAMS {
                scope.spawn(move || {
                    begin.wait();
                    hear(stream);
                });
            }
        });
    }
}

/// The log-probabilities of forty windows that no other stream has.
fn log_probs(stream: usize, session: &mut dyn Session) -> Vec<f32> {
    let values = (0..40 * 32 * 80).map(|n| 12.0 * ((n * (stream + 3)) as f32 * 0.37).sin());
    let values: Vec<f32> = values.collect();
    let windows = values.chunks(32 * 80);
    windows
        .flat_map(|window| session.step(window).unwrap().to_vec())
        .collect()
}

#[test]
fn log_probabilities_are_those_of_a_stream_alone() {
    let (_directory, package) = package();
    for choice in ENGINES {
        let alone = load(&package, on(choice)).unwrap();
        assert_eq!(alone.batching(), None);
        let expected: Vec<Vec<f32>> = (0..STREAMS)
            .map(|stream| log_probs(stream, &mut *alone.session().unwrap()))
            .collect();
        let engine = load(&package, together(choice)).unwrap();
        let batching = || engine.batching().unwrap();
        assert_eq!(batching().streams, ROOM);
        let said = engine.description();
        assert!(said.contains("up to 3 waiting streams in a run"), "{said}");
        until_batched(
            || batching().steps,
            |stream| {
                let mut session = engine.session().unwrap();
                // A second time from the beginning.
                for _ in 0..2 {
                    let found = log_probs(stream, &mut *session);
                    let pairs = found.iter().zip(&expected[stream]);
                    let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(largest < 1e-4, "{choice:?}, stream {stream}: {largest}");
                    session.reset();
                }
            },
        );
        println!("{choice:?}: {} steps in company", batching().steps);
    }
}

fn script(stream: usize) -> Vec<Sound> {
    let words = (0..20).flat_map(|n| {
        let token = (n * (stream + 1) + stream) % 4;
        [Sound::Token(token, 200), Sound::Silence(120)]
    });
    words.collect()
}

fn said(stream: &mut Stream, samples: &[f32]) -> String {
    let mut events = Vec::new();
    for piece in samples.chunks(1600) {
        events.extend(stream.accept(16_000, piece).unwrap());
    }
    events.extend(stream.finish().unwrap());
    let finals = events.into_iter().filter_map(|event| match event {
        Event::Final(segment) => Some(segment.text),
        _ => None,
    });
    finals.collect::<Vec<_>>().join(" ")
}

#[test]
fn words_are_those_that_each_stream_said() {
    let (_directory, package) = package();
    for choice in ENGINES {
        let options = Options {
            engine: EngineOptions {
                parallel: 2,
                ..together(choice)
            },
            ..Options::default()
        };
        let recognizer = Recognizer::new(package.clone(), options).unwrap();
        let alone = support::recognizer(package.clone(), choice, Search::Greedy);
        assert_eq!(alone.batching(), None);
        until_batched(
            || recognizer.batching().unwrap().steps,
            |stream| {
                let script = script(stream);
                let samples = speak(&script);
                let found = said(&mut recognizer.stream().unwrap(), &samples);
                assert_eq!(found, transcript(&script), "{choice:?}");
                assert_eq!(found, said(&mut alone.stream().unwrap(), &samples));
            },
        );
    }
}

#[test]
fn without_a_graph_of_the_precision_each_stream_is_computed_alone() {
    let (_directory, package) = package();
    assert_eq!(package.batched(), Some(ROOM));
    let step = |engine: &dyn Engine| {
        assert_eq!(engine.batching(), None, "{}", engine.description());
        engine.session().unwrap().step(&[0.0; 32 * 80]).unwrap();
    };
    for choice in ENGINES {
        let int8 = EngineOptions {
            precision: PrecisionChoice::Exactly(Precision::Int8),
            ..together(choice)
        };
        step(&*load(&package, int8).unwrap());
        step(&*load(&support::tone(), together(choice)).unwrap());
    }
}
