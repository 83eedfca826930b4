//! Where utterances end.

use std::sync::Arc;

use sori::decode::Phrases;
use sori::engine::{Engine, EngineChoice, EngineError, Session, load};
use sori::model::Tokens;
use sori::{EndpointRule, EndpointRules, Event, Options, Recognizer, Stream};
use sori_tests::tone::{Sound, speak, transcript};

use crate::support::{on, tone};
use crate::{ENGINES, finals, hear, recognizer, text};

#[test]
fn silence_ends_utterances_and_time_goes_on() {
    let script = [
        Sound::Silence(200),
        Sound::Token(0, 200),
        Sound::Silence(2000),
        Sound::Token(1, 200),
        Sound::Silence(3000),
        Sound::Silence(3000),
        Sound::Token(2, 200),
    ];
    for engine in ENGINES {
        let events = hear(
            &mut recognizer(engine).stream().unwrap(),
            16_000,
            &speak(&script),
            777,
        );
        let texts: Vec<&str> = finals(&events)
            .iter()
            .map(|segment| segment.text.as_str())
            .collect();
        assert_eq!(texts, ["one", "two", "three"], "{engine:?}");
        let rules: Vec<(EndpointRule, f64)> = events
            .iter()
            .filter_map(|event| match event {
                Event::Endpoint(endpoint) => Some((endpoint.rule, endpoint.time)),
                _ => None,
            })
            .collect();
        // Chunks end on a grid of 320 ms: "one" ends at 0.44 s, its silence is over at 1.64 s.
        assert_eq!(
            rules[0],
            (EndpointRule::SilenceAfterSpeech, 1.92),
            "{engine:?}"
        );
        // "two" ends at 2.64 s; then nothing is said for 2.4 s.
        assert_eq!(
            rules[1],
            (EndpointRule::SilenceAfterSpeech, 3.84),
            "{engine:?}"
        );
        assert_eq!(rules[2], (EndpointRule::Silence, 6.4), "{engine:?}");
        assert_eq!(rules.len(), 3, "{engine:?}: {rules:?}");
        let three = finals(&events)[2];
        assert!((8.6..8.8).contains(&three.start), "{engine:?}: {three:?}");
    }
}

#[test]
fn a_word_that_begins_at_an_endpoint_is_whole() {
    for engine in ENGINES {
        let mut stream = recognizer(engine).stream().unwrap();
        // The endpoint falls 1.2 s to 1.5 s after the first word: the second begins before it, at
        // it and after it.
        let mut utterances = Vec::new();
        for gap in (1000..1800).step_by(40) {
            let script = [
                Sound::Token(0, 200),
                Sound::Silence(gap),
                Sound::Token(3, 120),
                Sound::Token(5, 120),
                Sound::Token(4, 120),
            ];
            let events = hear(&mut stream, 16_000, &speak(&script), 160);
            assert_eq!(text(&events), "one goings", "{engine:?}, {gap} ms");
            utterances.push(finals(&events).len());
        }
        assert_eq!(
            (utterances.first(), utterances.last()),
            (Some(&1), Some(&2)),
            "{engine:?}"
        );
        assert!(utterances.is_sorted(), "{engine:?}: {utterances:?}");
    }
}

#[test]
fn a_long_utterance_is_cut_between_words() {
    let rules = EndpointRules {
        longest: 1.5,
        ..EndpointRules::default()
    };
    let mut script = vec![];
    for _ in 0..6 {
        script.extend([
            Sound::Token(3, 200),
            Sound::Token(5, 200),
            Sound::Silence(80),
        ]);
    }
    for engine in ENGINES {
        let mut stream = recognizer(engine).stream().unwrap();
        stream.set_endpoint_rules(rules);
        let events = hear(&mut stream, 16_000, &speak(&script), 1600);
        assert!(finals(&events).len() > 1, "{engine:?}: {events:?}");
        assert_eq!(text(&events), transcript(&script), "{engine:?}");
        let words: Vec<_> = finals(&events)
            .iter()
            .flat_map(|segment| &segment.words)
            .cloned()
            .collect();
        assert!(
            words.windows(2).all(|pair| pair[0].end <= pair[1].start),
            "{engine:?}: {words:?}"
        );
    }
}

#[test]
fn silence_before_the_first_word_does_not_cut_it() {
    for engine in ENGINES {
        let mut stream = recognizer(engine).stream().unwrap();
        stream.set_endpoint_rules(EndpointRules {
            silence: f64::INFINITY,
            silence_after_speech: f64::INFINITY,
            longest: 1.5,
        });
        // Chunks end in every part of the word.
        for silence in (4000..4640).step_by(80) {
            let script = [
                Sound::Silence(silence),
                Sound::Token(3, 200),
                Sound::Token(5, 200),
            ];
            let events = hear(&mut stream, 16_000, &speak(&script), 1600);
            assert_eq!(text(&events), "going", "{engine:?}, {silence} ms");
        }
    }
}

#[test]
fn a_word_without_end_is_cut_at_twice_the_length() {
    let mut stream = recognizer(EngineChoice::Tract).stream().unwrap();
    stream.set_endpoint_rules(EndpointRules {
        longest: 1.0,
        ..EndpointRules::default()
    });
    let script: Vec<Sound> = (0..20)
        .flat_map(|_| [Sound::Token(4, 120), Sound::Token(5, 120)])
        .collect();
    let events = hear(&mut stream, 16_000, &speak(&script), 1600);
    assert!(finals(&events).len() >= 2, "{events:?}");
    let said: String = finals(&events)
        .iter()
        .map(|segment| segment.text.as_str())
        .collect();
    assert_eq!(said, "sing".repeat(20));
}

#[test]
fn an_utterance_ends_on_demand() {
    let mut stream = recognizer(EngineChoice::Tract).stream().unwrap();
    let samples = speak(&[
        Sound::Silence(200),
        Sound::Token(0, 200),
        Sound::Silence(400),
        Sound::Token(1, 200),
    ]);
    let (first, second) = samples.split_at(16 * 700);
    stream.accept(16_000, first).unwrap().for_each(drop);
    let said: Vec<Event> = stream.end_utterance().collect();
    assert_eq!(text(&said), "one");
    stream.accept(16_000, second).unwrap().for_each(drop);
    assert_eq!(text(&stream.finish().unwrap().collect::<Vec<_>>()), "two");
}

/// An engine whose sessions fail once, after so many steps.
struct Failing(Arc<dyn Engine>, usize);

struct FailingSession(Box<dyn Session>, usize);

impl Engine for Failing {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(FailingSession(self.0.session()?, self.1)))
    }

    fn description(&self) -> &str {
        "failing"
    }
}

impl Session for FailingSession {
    fn step(&mut self, window: &[f32]) -> Result<&[f32], EngineError> {
        self.1 = self.1.wrapping_sub(1);
        match self.1 {
            0 => Err(EngineError::Run {
                engine: "failing",
                reason: "as it was told".to_owned(),
            }),
            _ => self.0.step(window),
        }
    }

    fn reset(&mut self) {
        self.0.reset();
    }
}

#[test]
fn what_was_said_before_an_engine_failed_is_not_lost() {
    let package = tone();
    let engine = load(&package, on(EngineChoice::Tract)).unwrap();
    // "one" is over, "two" is not.
    let samples = speak(&[
        Sound::Silence(400),
        Sound::Token(0, 200),
        Sound::Silence(2000),
        Sound::Token(1, 200),
        Sound::Silence(400),
    ]);
    let steps = samples.len() / 5120;
    for at in 1..steps + 8 {
        let failing = Arc::new(Failing(engine.clone(), at));
        let recognizer = Recognizer::with_engine(package.clone(), failing, Options::default());
        let mut stream = recognizer.stream().unwrap();
        let mut events = Vec::new();
        let mut failed = false;
        for piece in samples.chunks(1600) {
            if failed {
                break;
            }
            failed = stream.accept(16_000, piece).is_err();
            events.extend(stream.events());
        }
        if failed {
            events.extend(stream.end_utterance());
        } else {
            failed = stream.finish().is_err();
            events.extend(stream.events());
        }
        let heard = text(&events);
        assert!("one two".starts_with(&heard), "{at}: {heard}");
        // Both words are within the first ten chunks, the first within the first three.
        match at {
            ..=2 => {}
            3..=10 => assert!(heard.starts_with("one"), "{at}: {heard:?}"),
            _ => assert_eq!(heard, "one two", "{at}"),
        }
        assert!(failed || at > steps, "{at}");
    }
}

/// An engine that says a word with a probability of a tenth in its first frame, and nothing after that.
#[derive(Clone)]
struct Whisper {
    rows: Vec<f32>,
    said: bool,
}

const WORD: usize = 0;
const OUTPUTS: usize = 9;
const FRAMES: usize = 8;

impl Engine for Whisper {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(self.clone()))
    }

    fn description(&self) -> &'static str {
        "a whisper"
    }
}

impl Session for Whisper {
    fn step(&mut self, _: &[f32]) -> Result<&[f32], EngineError> {
        self.rows.clear();
        self.rows.resize(FRAMES * OUTPUTS, -20.0);
        let blanks = self.rows.iter_mut().skip(OUTPUTS - 1).step_by(OUTPUTS);
        blanks.for_each(|blank| *blank = 0.0);
        if !std::mem::replace(&mut self.said, true) {
            self.rows[OUTPUTS - 1] = f32::ln(0.9);
            self.rows[WORD] = f32::ln(0.1);
        }
        Ok(&self.rows)
    }

    fn reset(&mut self) {
        self.said = false;
    }
}

fn whisper(options: Options) -> Stream {
    let engine = Whisper {
        rows: Vec::new(),
        said: false,
    };
    let recognizer = Recognizer::with_engine(tone(), Arc::new(engine), options);
    recognizer.stream().unwrap()
}

#[test]
fn what_a_partial_said_and_nobody_did_is_taken_back() {
    let mut stream = whisper(Options::default());
    // Its letters lend so much that the word is believed for as long as the phrase may go on.
    let list = "one two 1.0\n";
    let phrases = Phrases::parse(list.as_bytes(), "list", tone().tokens()).unwrap();
    stream.set_phrases(Some(Arc::new(phrases)));
    let events = hear(&mut stream, 16_000, &[0.0; 48_000], 1600);
    let texts: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Partial(said) => Some(said.text.as_str()),
            Event::Final(said) => panic!("{said:?}"),
            _ => None,
        })
        .collect();
    assert_eq!(texts, ["one", ""]);
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Endpoint(_))),
        "{events:?}"
    );
}

#[test]
fn no_endpoint_lies_behind_the_sound() {
    let mut options = Options::default();
    options.endpoint.silence_after_speech = 0.5;
    let samples = speak(&[
        Sound::Silence(400),
        Sound::Token(0, 200),
        Sound::Silence(400),
    ]);
    let recognizer = recognizer(EngineChoice::Tract);
    let mut stream = recognizer.stream().unwrap();
    stream.set_endpoint_rules(options.endpoint);
    let events = hear(&mut stream, 16_000, &samples, 1600);
    let ends: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Endpoint(end) => Some(end.time),
            _ => None,
        })
        .collect();
    assert!(!ends.is_empty());
    assert!(
        ends.iter()
            .all(|&end| end <= samples.len() as f64 / 16_000.0),
        "{ends:?}"
    );
}

#[test]
#[should_panic(expected = "made for a model with 3 tokens, this one has 8")]
fn phrases_of_another_model_are_told_apart() {
    let tokens = Tokens::parse("a 0\nb 1\nc 2\n<blk> 3\n", "tokens.txt".as_ref()).unwrap();
    let phrases = Phrases::parse(&b"abc"[..], "list", &tokens).unwrap();
    whisper(Options::default()).set_phrases(Some(Arc::new(phrases)));
}
