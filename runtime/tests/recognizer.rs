//! Audio to words through the public API, on both engines, with the tone model: what it must hear
//! is known to the frame.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use proptest::prelude::*;
use sori::decode::{BeamOptions, Fusion};
use sori::engine::{EngineChoice, EngineOptions};
use sori::lm::LanguageModel;
use sori::model::{Package, Precision};
use sori::{EndpointRule, EndpointRules, Event, Options, Recognizer, Search, Segment, Stream};
use sori_tests::tone::{self, Sound, ToneModel, expected, speak, speak_at, transcript};
use support::{on, tone};

const ENGINES: [EngineChoice; 2] = [EngineChoice::Ort, EngineChoice::Tract];

fn recognizer(engine: EngineChoice) -> Recognizer {
    support::recognizer(tone(), engine, Search::Greedy)
}

/// Everything a stream says of `samples`, heard in pieces of `piece`.
fn hear(stream: &mut Stream, rate: u32, samples: &[f32], piece: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in samples.chunks(piece) {
        events.extend(stream.accept(rate, piece).unwrap());
    }
    events.extend(stream.finish().unwrap());
    events
}

fn finals(events: &[Event]) -> Vec<&Segment> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Final(segment) => Some(segment),
            _ => None,
        })
        .collect()
}

fn text(events: &[Event]) -> String {
    let texts: Vec<&str> = finals(events)
        .iter()
        .map(|segment| segment.text.as_str())
        .collect();
    texts.join(" ")
}

/// One, twos, going; with silence around.
fn script() -> Vec<Sound> {
    vec![
        Sound::Silence(400),
        Sound::Token(0, 200),
        Sound::Silence(200),
        Sound::Token(1, 200),
        Sound::Token(4, 120),
        Sound::Silence(400),
        Sound::Token(3, 160),
        Sound::Token(5, 160),
        Sound::Silence(400),
    ]
}

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

#[test]
fn streams_of_one_recognizer_do_not_mix() {
    let scripts = [
        script(),
        vec![
            Sound::Silence(240),
            Sound::Token(2, 200),
            Sound::Silence(200),
            Sound::Token(6, 200),
            Sound::Silence(2000),
        ],
    ];
    for engine in ENGINES {
        let recognizer = recognizer(engine);
        let audio: Vec<Vec<f32>> = scripts.iter().map(|script| speak(script)).collect();
        let alone: Vec<Vec<Event>> = audio
            .iter()
            .map(|samples| hear(&mut recognizer.stream().unwrap(), 16_000, samples, 1600))
            .collect();

        let mut streams = [recognizer.stream().unwrap(), recognizer.stream().unwrap()];
        let mut together = [Vec::new(), Vec::new()];
        for start in (0..audio[0].len().max(audio[1].len())).step_by(1234) {
            for (index, samples) in audio.iter().enumerate() {
                let piece = &samples[start.min(samples.len())..(start + 1234).min(samples.len())];
                together[index].extend(streams[index].accept(16_000, piece).unwrap());
            }
        }
        for (stream, events) in streams.iter_mut().zip(&mut together) {
            events.extend(stream.finish().unwrap());
        }
        assert_eq!(together.to_vec(), alone, "{engine:?}");
    }
}

#[test]
fn streams_run_on_several_threads() {
    for engine in ENGINES {
        let recognizer = recognizer(engine);
        let samples = speak(&script());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut stream = recognizer.stream().unwrap();
                    assert_eq!(
                        text(&hear(&mut stream, 16_000, &samples, 500)),
                        "one twos going"
                    );
                });
            }
        });
    }
}

/// What compiles: a recognizer is shared by threads, a stream goes from one to another.
fn shared<T: Send + Sync>(_: &T) {}
fn sent<T: Send>(_: &T) {}

#[test]
fn many_streams_at_once_say_what_each_says_alone() {
    // Two utterances each, no two streams alike.
    let said: Vec<Vec<f32>> = (0..16)
        .map(|number| {
            speak(&[
                Sound::Silence(100 + 37 * number),
                Sound::Token(number as usize % 4, 200),
                Sound::Silence(160),
                Sound::Token(4 + number as usize % 2, 200),
                Sound::Silence(1600),
                Sound::Token(6, 240),
            ])
        })
        .collect();
    // One step at a time; fewer than there are streams.
    for (engine, parallel) in ENGINES
        .into_iter()
        .flat_map(|engine| [(engine, 1), (engine, 3)])
    {
        let engine = EngineOptions {
            parallel,
            ..on(engine)
        };
        let options = Options {
            engine,
            ..Options::default()
        };
        let recognizer = Recognizer::new(tone(), options).unwrap();
        shared(&recognizer);
        sent(&recognizer.stream().unwrap());
        let alone: Vec<Vec<Event>> = said
            .iter()
            .map(|samples| hear(&mut recognizer.stream().unwrap(), 16_000, samples, 1600))
            .collect();
        let together: Vec<Vec<Event>> = std::thread::scope(|scope| {
            let threads: Vec<_> = said
                .iter()
                .map(|samples| {
                    let mut stream = recognizer.stream().unwrap();
                    scope.spawn(move || hear(&mut stream, 16_000, samples, 333))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(alone == together, "{engine:?}");
        assert!(alone.iter().all(|events| finals(events).len() == 2));
    }
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
fn reset_and_finish_start_over() {
    for engine in ENGINES {
        let mut stream = recognizer(engine).stream().unwrap();
        let samples = speak(&script());
        let first = hear(&mut stream, 16_000, &samples, 1600);
        assert_eq!(
            hear(&mut stream, 16_000, &samples, 1600),
            first,
            "{engine:?} after finish"
        );
        stream
            .accept(44_100, &speak_at(&script(), 44_100)[..50_000])
            .unwrap()
            .for_each(drop);
        stream.reset();
        assert_eq!(stream.time(), 0.0);
        assert_eq!(
            hear(&mut stream, 16_000, &samples, 1600),
            first,
            "{engine:?} after reset"
        );
        assert_eq!(
            stream.finish().unwrap().count(),
            0,
            "{engine:?}: words out of nothing"
        );
    }
}

#[test]
fn every_chunk_size_gives_the_same_words_and_chunked_equals_one_pass() {
    let script = script();
    let features = sori::features::log_mel(&speak(&script));
    for (chunk_frames, overlap_frames) in [(16, 0), (32, 0), (64, 0), (4, 0), (16, 4), (32, 12)] {
        let model = ToneModel {
            chunk_frames,
            overlap_frames,
        };
        let directory = tempfile::tempdir().unwrap();
        model.write_package(directory.path()).unwrap();
        let one_pass = model.log_probs(&features);
        for engine in ENGINES {
            let package = Package::open(directory.path()).unwrap();
            let recognizer = support::recognizer(package, engine, Search::Greedy);
            let events = hear(
                &mut recognizer.stream().unwrap(),
                16_000,
                &speak(&script),
                4000,
            );
            assert_eq!(text(&events), transcript(&script), "{engine:?} {model:?}");

            let engine = sori::engine::load(recognizer.package(), on(engine)).unwrap();
            let mut session = engine.session().unwrap();
            // Twice over one session, to see that a reset empties every cache.
            for _ in 0..2 {
                let (window, shift) = (80 * model.window_frames(), 80 * chunk_frames);
                let mut chunked = Vec::new();
                let mut start = 0;
                while start + window <= features.len() {
                    chunked
                        .extend_from_slice(session.step(&features[start..start + window]).unwrap());
                    start += shift;
                }
                assert!(chunked.len() >= 9 * 20, "{model:?}: too short to tell");
                let difference = chunked
                    .iter()
                    .zip(&one_pass)
                    .map(|(chunked, one_pass)| (chunked - one_pass).abs())
                    .fold(0.0, f32::max);
                assert!(
                    difference < 1e-4,
                    "{} {model:?}: {difference}",
                    engine.description()
                );
                session.reset();
            }
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
fn the_tone_model_is_what_the_tests_think_it_is() {
    assert_eq!(tone().tokens().len(), tone::TOKENS.len());
    assert_eq!(tone().tokens().blank(), tone::BLANK);
}

#[test]
fn a_recognizer_in_memory_hears_alike_and_lets_its_graph_go() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");
    let read = |name: &str| std::fs::read(format!("{directory}/{name}")).unwrap();
    let graph: std::sync::Arc<[u8]> = read("model.onnx").into();
    let package = Package::from_memory(
        &read("config.json"),
        &read("tokens.txt"),
        Precision::Fp32,
        graph.clone(),
    )
    .unwrap();
    for engine in ENGINES {
        let in_memory = support::recognizer(package.clone(), engine, Search::Greedy);
        assert_eq!(in_memory.package().precisions().count(), 0);
        let from_file = recognizer(engine);
        assert_eq!(from_file.package().precisions().count(), 2);
        let [memory, file] = [in_memory, from_file].map(|recognizer| {
            hear(
                &mut recognizer.stream().unwrap(),
                16_000,
                &speak(&script()),
                1600,
            )
        });
        assert_eq!(memory, file, "{engine:?}");
    }
    drop(package);
    assert_eq!(std::sync::Arc::strong_count(&graph), 1);
}

#[test]
fn new_streams_ask_the_language_model_of_the_package_if_told_to() {
    let arpa =
        "\\data\\\nngram 1=4\n\n\\1-grams:\n-1 one\n-0.5 twos\n-0.7 going\n-0.1 </s>\n\n\\end\\\n";
    let model = std::sync::Arc::new(LanguageModel::from_arpa(arpa.as_bytes(), "arpa").unwrap());
    let score = |language_model: bool, by_hand: bool| {
        let options = Options {
            engine: EngineOptions {
                engine: EngineChoice::Tract,
                ..EngineOptions::default()
            },
            search: Search::Beam(BeamOptions::default()),
            alternatives: 1,
            language_model,
            ..Options::default()
        };
        let package = tone().with_language_model(model.clone());
        let recognizer = Recognizer::new(package, options).unwrap();
        let mut stream = recognizer.stream().unwrap();
        if by_hand {
            let (model, suits) = recognizer.package().language_model().unwrap();
            let fusion = Fusion::new(model.clone(), suits, recognizer.package().tokens());
            stream.set_language_model(Some(std::sync::Arc::new(fusion)));
        }
        let events = hear(&mut stream, 16_000, &speak(&script()), 1600);
        assert_eq!(text(&events), "one twos going");
        finals(&events)[0].alternatives[0].score
    };
    assert!((score(true, false) - score(false, true)).abs() < 1e-4);
    assert!((score(true, false) - score(false, false)).abs() > 0.1);
}

#[test]
fn events_can_be_taken_apart_from_giving_audio() {
    let recognizer = recognizer(EngineChoice::Tract);
    let mut stream = recognizer.stream().unwrap();
    let samples = speak(&script());
    stream.accept(16_000, &samples).unwrap();
    stream.finish().unwrap();
    let events: Vec<Event> = stream.events().collect();
    assert_eq!(stream.events().count(), 0);
    assert_eq!(events, hear(&mut stream, 16_000, &samples, samples.len()));
    assert_eq!(stream.recognizer().engine(), recognizer.engine());
}
