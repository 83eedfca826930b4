//! Streams that go on for hours: memory stays flat, the same sound gives the same words, and times do
//! not drift. Minutes of audio here; `make soak` makes it ten hours (`SORI_SOAK_HOURS`).

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use sori::decode::BeamOptions;
use sori::engine::EngineChoice;
use sori::{Event, Search, Segment};
use sori_tests::chance::Chance;
use sori_tests::memory::{Counting, held, resident};
use sori_tests::tone::{Sound, speak_at};
use support::{recognizer, tone};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Loops in an ordinary run; the first two warm up.
const LOOPS: usize = 8;
const WARM: usize = 2;

/// Seconds of an output frame.
const FRAME: f64 = 0.04;

/// 32 s that end as they began, a hundred chunks of 320 ms: speech, a quiet room, a muted microphone.
fn script() -> Vec<Sound> {
    let mut script = vec![Sound::Silence(400)];
    for (word, token) in [0, 1, 2, 3, 6, 0, 3, 1].into_iter().enumerate() {
        script.extend([
            Sound::Token(token, 200),
            Sound::Token([4, 5][word % 2], 160),
            Sound::Silence([240, 1640][usize::from(word % 3 == 2)]),
        ]);
    }
    script.push(Sound::Zeros(3000));
    // A word in the middle of nothing, and what follows it up to the end.
    script.extend([Sound::Token(7, 240), Sound::Silence(1360)]);
    let length = |sound: &Sound| match *sound {
        Sound::Token(_, ms) | Sound::Silence(ms) | Sound::Zeros(ms) => ms,
    };
    let so_far: u32 = script.iter().map(length).sum();
    script.push(Sound::Silence(32_000 - so_far));
    script
}

/// The loop, with noise as loud as speech over part of its last silence.
fn sound(rate: u32) -> Vec<f32> {
    let mut samples = speak_at(&script(), rate);
    let mut chance = Chance::new(3);
    let second = rate as usize;
    let end = samples.len() - 5 * second;
    for sample in &mut samples[end - 4 * second..end] {
        *sample += (chance.next() >> 40) as f32 / (1 << 24) as f32 * 0.2 - 0.1;
    }
    samples
}

/// Bytes per hour by least squares, from (hours, bytes).
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (hour, bytes) = (mean(|point| point.0), mean(|point| point.1));
    let (mut together, mut alone) = (0.0, 0.0);
    for point in points {
        together += (point.0 - hour) * (point.1 - bytes);
        alone += (point.0 - hour).powi(2);
    }
    together / alone
}

fn finals(events: &[Event]) -> Vec<&Segment> {
    let said = events.iter().filter_map(|event| match event {
        Event::Final(segment) => Some(segment),
        _ => None,
    });
    said.collect()
}

/// The largest difference in time between what two loops said, apart from where they begin.
fn drift(first: &[Event], at: f64, other: &[Event], other_at: f64) -> f64 {
    let times = |events: &[Event], at: f64| -> Vec<f64> {
        let words = finals(events).into_iter().flat_map(|said| &said.words);
        words
            .flat_map(|word| [word.start - at, word.end - at])
            .collect()
    };
    let (first, other) = (times(first, at), times(other, other_at));
    assert_eq!(first.len(), other.len());
    let differences = first.iter().zip(&other).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f64::max)
}

fn texts(events: &[Event]) -> Vec<String> {
    finals(events)
        .iter()
        .map(|said| format!("{} {:.6}", said.text, said.confidence))
        .collect()
}

/// How many loops, and whether they are so many that the process's memory says something.
fn loops(seconds: f64) -> (usize, bool) {
    let hours = std::env::var("SORI_SOAK_HOURS").ok();
    let hours: Option<f64> = hours.map(|hours| hours.parse().unwrap());
    match hours {
        Some(hours) => ((hours * 3600.0 / seconds) as usize, hours >= 1.0),
        None => (LOOPS, false),
    }
}

#[test]
fn hours_are_like_the_first_minute() {
    let beam = Search::Beam(BeamOptions::default());
    for (name, engine, search, rate) in [
        ("ort", EngineChoice::Ort, Search::Greedy, 16_000),
        ("tract", EngineChoice::Tract, Search::Greedy, 16_000),
        ("tract, beam, 44.1 kHz", EngineChoice::Tract, beam, 44_100),
    ] {
        let samples = sound(rate);
        let seconds = samples.len() as f64 / f64::from(rate);
        let (loops, long) = loops(seconds);
        let mut stream = recognizer(tone(), engine, search).stream().unwrap();
        let (mut first, mut reference) = (Vec::new(), Vec::new());
        let (mut warm, mut memory) = (0, Vec::new());
        let mut worst: f64 = 0.0;
        for number in 0..loops {
            let mut events = Vec::with_capacity(128);
            for piece in samples.chunks(rate as usize / 10) {
                events.extend(stream.accept(rate, piece).unwrap());
            }
            let at = number as f64 * seconds;
            match number {
                0 => first.clone_from(&events),
                WARM => reference.clone_from(&events),
                _ => {}
            }
            // The resampler's blocks begin elsewhere in every loop, and so do confidences in their last
            // places; at 16 kHz everything is the same.
            if rate == 16_000 {
                assert_eq!(texts(&events), texts(&first), "{name}, loop {number}");
            }
            if number > WARM && rate == 16_000 {
                assert_eq!(events.len(), reference.len(), "{name}, loop {number}");
            }
            let words = |events: &[Event]| -> Vec<String> {
                let said = finals(events);
                said.iter().map(|said| said.text.clone()).collect()
            };
            assert_eq!(words(&events), words(&first), "{name}, loop {number}");
            worst = worst.max(drift(&first, 0.0, &events, at));
            drop(events);
            if number == WARM {
                warm = held();
            }
            if number >= (loops / 10).max(WARM) {
                memory.extend(resident().map(|bytes| (at / 3600.0, bytes)));
            }
        }
        assert!(finals(&first).len() >= 4, "{first:?}");
        let hours = loops as f64 * seconds / 3600.0;
        assert!((stream.time() - hours * 3600.0).abs() < 0.1, "{name}");
        let grown = held() - warm;
        println!(
            "{name}: {hours:.3} h of audio, {} utterances a loop, {loops} loops; drift {:.1} ms, the thread's memory grew by {grown} bytes, resident {:.3} MB per hour",
            finals(&first).len(),
            worst * 1000.0,
            slope(&memory) / 1e6,
        );
        assert!(worst <= FRAME + 1e-6, "{name}: {worst} s of drift");
        assert!(grown.abs() < 64 << 10, "{name}: {grown} bytes more");
        if long {
            let slope = slope(&memory);
            assert!(slope < 1e6, "{name}: {slope} bytes per hour");
        }
    }
}

/// Servers make and drop streams on one thread and hear them on others.
#[test]
fn streams_that_go_from_thread_to_thread_leave_nothing_behind() {
    let samples = &speak_at(&[Sound::Token(0, 240), Sound::Silence(400)], 16_000);
    for engine in [EngineChoice::Ort, EngineChoice::Tract] {
        let recognizer = recognizer(tone(), engine, Search::Greedy);
        std::thread::scope(|scope| {
            let (give, given) = std::sync::mpsc::channel::<sori::Stream>();
            let (back, come_back) = std::sync::mpsc::channel();
            scope.spawn(move || {
                for mut stream in given {
                    assert!(stream.accept(16_000, samples).unwrap().count() > 0);
                    back.send((stream, held())).unwrap();
                }
            });
            // Bytes of both threads together.
            let visit = || {
                give.send(recognizer.stream().unwrap()).unwrap();
                let (stream, elsewhere) = come_back.recv().unwrap();
                drop(stream);
                held() + elsewhere
            };
            let warm = (0..20).fold(0, |_, _| visit());
            let later = (0..100).fold(0, |_, _| visit());
            let each = (later - warm) / 100;
            println!("{engine:?}: {each} bytes for each stream");
            assert!(each < 100, "{engine:?}: {each} bytes for each stream");
            drop(give);
        });
    }
}
