//! Words, their times and their confidence.

use sori::Event;
use sori::engine::EngineChoice;
use sori_tests::tone::{Sound, expected, speak, transcript};

use crate::{ENGINES, finals, hear, recognizer, script, text};

#[test]
fn words_and_times_are_exact_on_both_engines() {
    let script = script();
    for engine in ENGINES {
        let events = hear(
            &mut recognizer(engine).stream().unwrap(),
            16_000,
            &speak(&script),
            1600,
        );
        let [said] = finals(&events)[..] else {
            panic!("{engine:?}: {events:?}")
        };
        assert_eq!(said.text, "one twos going", "{engine:?}");
        assert_eq!(said.tokens.len(), 5);

        let tokens = expected(&script);
        let seconds = |frame: usize| frame as f64 * 0.04;
        for (token, expected) in said.tokens.iter().zip(&tokens) {
            assert!(
                (token.onset - seconds(expected.frames.start)).abs() < 1e-9,
                "{engine:?}: {token:?}"
            );
        }
        // Words: one; two+s; go+ing.
        for (word, (first, last)) in said.words.iter().zip([(0, 0), (1, 2), (3, 4)]) {
            assert!(
                (word.end - seconds(tokens[last].frames.end)).abs() < 1e-9,
                "{engine:?}: {word:?}"
            );
            let run = &tokens[first].frames;
            assert!(
                (seconds(run.start)..seconds(run.end)).contains(&word.start),
                "{engine:?}: {word:?}"
            );
            assert!(
                word.confidence > 0.9 && word.confidence <= 1.0,
                "{engine:?}: {word:?}"
            );
        }
        assert_eq!(
            (said.start, said.end),
            (said.words[0].start, said.words[2].end)
        );
    }
}

#[test]
fn a_partial_precedes_each_final_and_ends_in_its_words() {
    let mut stream = recognizer(EngineChoice::Tract).stream().unwrap();
    let events = hear(&mut stream, 16_000, &speak(&script()), 1600);
    let partials: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::Partial(segment) => Some(segment.text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(partials.first(), Some(&"one"));
    assert_eq!(partials.last(), Some(&"one twos going"));
    assert!(
        partials
            .windows(2)
            .all(|pair| pair[1].starts_with(pair[0]) && pair[0] != pair[1])
    );
}

#[test]
fn no_word_is_lost_at_the_start_or_at_the_tail() {
    for engine in ENGINES {
        let mut stream = recognizer(engine).stream().unwrap();
        // Speech from the first sample to the last, at every offset of the end within a chunk.
        for extra in (0..320).step_by(40) {
            let script = [
                Sound::Token(0, 200),
                Sound::Silence(120 + extra),
                Sound::Token(6, 160),
                Sound::Token(7, 120),
            ];
            let events = hear(&mut stream, 16_000, &speak(&script), 160);
            assert_eq!(text(&events), transcript(&script), "{engine:?}, {extra} ms");
            let end = f64::from(200 + 120 + extra + 160 + 120) / 1000.0;
            assert!(
                finals(&events)[0].end <= end,
                "{engine:?}: a time past the audio's end"
            );
        }
    }
}
