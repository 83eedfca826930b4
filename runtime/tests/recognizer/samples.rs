//! Samples of any rate, in pieces of any size, and such as no sound has.

use proptest::prelude::*;
use sori::Event;
use sori::engine::EngineChoice;
use sori_tests::tone::{Sound, speak, speak_at, transcript};

use crate::{ENGINES, finals, hear, recognizer, script, text};

#[test]
fn any_rate_and_integer_samples_give_the_same_words() {
    // Tones below 4 kHz, which 8 kHz audio still has.
    let script = [
        Sound::Silence(400),
        Sound::Token(0, 200),
        Sound::Silence(200),
        Sound::Token(1, 200),
        Sound::Token(4, 200),
        Sound::Silence(400),
        Sound::Token(6, 200),
    ];
    for engine in ENGINES {
        let mut stream = recognizer(engine).stream().unwrap();
        for rate in [8_000, 11_025, 16_000, 22_050, 44_100, 48_000] {
            let samples = speak_at(&script, rate);
            let events = hear(&mut stream, rate, &samples, 1000);
            assert_eq!(text(&events), transcript(&script), "{engine:?}, {rate} Hz");
            let start = finals(&events)[0].words[0].start;
            assert!(
                (0.4..0.65).contains(&start),
                "{engine:?}, {rate} Hz: {start}"
            );

            let integers: Vec<i16> = samples
                .iter()
                .map(|sample| (sample * 32_768.0) as i16)
                .collect();
            stream.accept_i16(rate, &integers).unwrap().for_each(drop);
            let events: Vec<Event> = stream.finish().unwrap().collect();
            assert_eq!(
                text(&events),
                transcript(&script),
                "{engine:?}, {rate} Hz, integers"
            );
        }
    }
}

#[test]
fn a_rate_that_changes_midway_loses_nothing() {
    let (first, second) = (
        [Sound::Silence(400), Sound::Token(0, 200)],
        [Sound::Silence(400), Sound::Token(1, 200)],
    );
    let mut stream = recognizer(EngineChoice::Tract).stream().unwrap();
    stream
        .accept(48_000, &speak_at(&first, 48_000))
        .unwrap()
        .for_each(drop);
    stream
        .accept(44_100, &speak_at(&second, 44_100))
        .unwrap()
        .for_each(drop);
    let events: Vec<Event> = stream.finish().unwrap().collect();
    assert_eq!(text(&events), "one two");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_of_any_size_give_the_same_events(
        sizes in prop::collection::vec(1_usize..9000, 1..12),
        rate in prop::sample::select(vec![16_000_u32, 48_000, 44_100]),
    ) {
        let samples = speak_at(&script(), rate);
        let recognizer = recognizer(EngineChoice::Tract);
        let whole = hear(&mut recognizer.stream().unwrap(), rate, &samples, samples.len());
        let mut stream = recognizer.stream().unwrap();
        let mut events = Vec::new();
        let mut rest = &samples[..];
        for size in sizes.iter().cycle() {
            let (piece, more) = rest.split_at((*size).min(rest.len()));
            events.extend(stream.accept(rate, piece).unwrap());
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        events.extend(stream.finish().unwrap());
        prop_assert_eq!(events, whole);
    }
}

#[test]
fn one_sample_at_a_time_gives_the_same_events() {
    let samples = speak(&script());
    let recognizer = recognizer(EngineChoice::Tract);
    let whole = hear(
        &mut recognizer.stream().unwrap(),
        16_000,
        &samples,
        samples.len(),
    );
    assert_eq!(
        hear(&mut recognizer.stream().unwrap(), 16_000, &samples, 1),
        whole
    );
}

#[test]
fn loud_and_impossible_samples_at_any_rate_do_no_lasting_harm() {
    let mut stream = recognizer(EngineChoice::Tract).stream().unwrap();
    for rate in [8_000, 16_000, 44_100, 48_000] {
        for odd in [
            f32::MAX,
            f32::MIN,
            f32::NAN,
            f32::INFINITY,
            f32::MIN_POSITIVE / 8.0,
        ] {
            let mut samples = vec![odd; rate as usize / 2];
            samples.extend(speak_at(&script()[..4], rate));
            samples.extend(vec![odd; rate as usize / 2]);
            let events = hear(&mut stream, rate, &samples, 1000);
            assert!(
                text(&events).contains("one"),
                "{rate} Hz, {odd}: {events:?}"
            );
        }
    }
}

#[test]
fn samples_that_are_no_numbers_do_no_lasting_harm() {
    let mut stream = recognizer(EngineChoice::Tract).stream().unwrap();
    let mut samples = speak(&script());
    samples[..2000].fill(f32::NAN);
    samples[2000..2100].fill(f32::INFINITY);
    let end = samples.len() - 1000;
    samples[end..].fill(f32::NEG_INFINITY);
    let events = hear(&mut stream, 16_000, &samples, 1600);
    assert_eq!(text(&events), "one twos going");
}
