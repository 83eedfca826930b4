//! Once warm, a stream allocates nothing for a chunk that brings no new token.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use sori::decode::{Beam, BeamOptions, Fusion, Phrases};
use sori::engine::{
    Engine, EngineChoice, EngineError, EngineOptions, PrecisionChoice, Session, load,
};
use sori::lm::{LanguageModel, LmOptions};
use sori::model::{Package, Precision};
use sori::{Options, Recognizer, Search};
use sori_tests::memory::{Counting, allocations};
use sori_tests::tone::{BLANK, Sound, ToneModel, speak_at};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// An engine that hears only blanks and does not allocate: what is counted is the way around it.
struct Quiet;

struct QuietSession(Vec<f32>);

impl Engine for Quiet {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        let mut row = [-9.0; BLANK + 1];
        row[BLANK] = -0.01;
        Ok(Box::new(QuietSession(row.repeat(8))))
    }

    fn description(&self) -> &str {
        "quiet"
    }
}

impl Session for QuietSession {
    fn step(&mut self, _: &[f32]) -> Result<&[f32], EngineError> {
        Ok(&self.0)
    }

    fn reset(&mut self) {}
}

fn fusion(package: &Package) -> Arc<Fusion> {
    let arpa = "\\data\\\nngram 1=4\nngram 2=2\n\n\\1-grams:\n-99 <s> -0.1\n-1 one -0.2\n-1 two\n-2 going\n\n\
        \\2-grams:\n-1 one two\n-1 <s> one\n\n\\end\\\n";
    let model = LanguageModel::from_arpa(arpa.as_bytes(), "model.arpa").unwrap();
    let options = LmOptions::default();
    Arc::new(Fusion::new(Arc::new(model), options, package.tokens()))
}

#[test]
fn a_warm_stream_allocates_nothing() {
    let package =
        Package::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone")).unwrap();
    let phrases = Phrases::parse("one two\ngoing".as_bytes(), "list", package.tokens()).unwrap();
    let phrases = Arc::new(phrases);
    let beam = Search::Beam(BeamOptions::default());
    for (rate, search) in [
        (16_000, Search::Greedy),
        (48_000, Search::Greedy),
        (44_100, Search::Greedy),
        (16_000, beam),
    ] {
        let options = Options {
            search,
            ..Options::default()
        };
        let recognizer = Recognizer::with_engine(package.clone(), Arc::new(Quiet), options);
        let mut stream = recognizer.stream().unwrap();
        if search == beam {
            stream.set_phrases(Some(phrases.clone()));
            stream.set_language_model(Some(fusion(&package)));
        }
        let samples = speak_at(&[Sound::Token(0, 10_000)], rate);
        let integers: Vec<i16> = samples
            .iter()
            .map(|sample| (sample * 32_767.0) as i16)
            .collect();
        let mut hear = || {
            let before = allocations();
            let mut events = 0;
            for (floats, integers) in samples.chunks(1111).zip(integers.chunks(1111)) {
                events += stream.accept(rate, floats).unwrap().count();
                events += stream.accept_i16(rate, integers).unwrap().count();
            }
            (allocations() - before, events)
        };
        let (cold, _) = hear();
        assert!(cold > 0, "the counter does not count");
        let (warm, events) = hear();
        assert_eq!(warm, 0, "{rate} Hz, {search:?}");
        assert!(events >= 5, "silence has endpoints too: {events}");
    }
}

/// What an engine takes for a step, it takes; streams that share runs take nothing beside it.
#[test]
fn warm_streams_in_company_allocate_no_more_than_alone() {
    const STREAMS: usize = 6;
    const STEPS: usize = 200;
    let directory = tempfile::tempdir().unwrap();
    ToneModel::default()
        .write_batched_package(directory.path(), 3)
        .unwrap();
    let package = Package::open(directory.path()).unwrap();
    let alone = EngineOptions {
        engine: EngineChoice::Ort,
        precision: PrecisionChoice::Exactly(Precision::Fp32),
        ..EngineOptions::default()
    };
    let together = EngineOptions {
        batch: true,
        ..alone
    };
    let window = [0.0; 32 * 80];
    let steps = |session: &mut dyn Session| {
        let before = allocations();
        for _ in 0..STEPS {
            session.step(&window).unwrap();
        }
        allocations() - before
    };
    let mut session = load(&package, alone).unwrap().session().unwrap();
    steps(&mut *session);
    let alone = steps(&mut *session);

    let engine = load(&package, together).unwrap();
    let started = Instant::now();
    while engine.batching().unwrap().steps == 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "never a batch");
        let begin = Barrier::new(STREAMS);
        let counts = std::thread::scope(|scope| {
            let hear = || {
                let mut session = engine.session().unwrap();
                steps(&mut *session);
                // The queue has been as long as it gets.
                begin.wait();
                steps(&mut *session)
            };
            let threads: Vec<_> = (0..STREAMS).map(|_| scope.spawn(hear)).collect();
            let counts = threads.into_iter().map(|thread| thread.join().unwrap());
            counts.sum::<usize>()
        });
        assert!(counts <= STREAMS * alone, "{counts} of {STREAMS} * {alone}");
    }
}

/// Every frame is in doubt, so that hypotheses come and go: the beam's tree is cleared many times.
#[test]
fn a_warm_beam_allocates_nothing() {
    let package =
        Package::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone")).unwrap();
    let phrases = Phrases::parse("one two\ngoing".as_bytes(), "list", package.tokens()).unwrap();
    let mut beam = Beam::new(BLANK, BeamOptions::default());
    beam.set_phrases(Some(Arc::new(phrases)));
    beam.set_language_model(Some(fusion(&package)));
    let rows: Vec<f32> = (0..400 * (BLANK + 1))
        .map(|n| -2.0 + (n as f32 * 1.7).sin())
        .collect();
    let mut utterance = || {
        let before = allocations();
        for chunk in rows.chunks(8 * (BLANK + 1)) {
            beam.accept(chunk);
        }
        beam.finish();
        let said = beam.take(usize::MAX).count();
        (allocations() - before, said)
    };
    utterance();
    let (warm, said) = utterance();
    assert!(said > 50, "{said}");
    assert_eq!(warm, 0);
}
