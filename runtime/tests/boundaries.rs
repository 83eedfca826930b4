//! No word is lost where one thing ends and the next begins: at the first and the last sample, at an
//! endpoint, at the edges of chunks and of pieces. Five hundred utterances with random words,
//! silences and cuts, the same on every run, are heard whole and cut, and compared with each other and
//! with the script.

#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use sori::audio::AudioFile;
use sori::decode::BeamOptions;
use sori::engine::{EngineChoice, EngineOptions};
use sori::model::Package;
use sori::{EndpointRule, EndpointRules, Event, Options, Recognizer, Search, Stream};
use sori_tests::chance::Chance;
use sori_tests::tone::{Sound, TOKENS, ToneModel, speak, transcript};
use support::{recognizer, tone};

const UTTERANCES: usize = 500;

/// Frames of a chunk and of what it sees ahead.
const CHUNKS: [(usize, usize); 5] = [(4, 0), (16, 0), (32, 0), (32, 8), (64, 0)];

/// One to six words, speech from the first sample or after a silence, to the last sample or not; pauses
/// anywhere from a gap between words to well past an endpoint. No length is a multiple of a frame.
fn utterance(chance: &mut Chance) -> Vec<Sound> {
    let mut script = Vec::new();
    let silence = |chance: &mut Chance, most: usize| Sound::Silence(chance.within(1..most) as u32);
    if !chance.once_in(3) {
        script.push(silence(chance, 700));
    }
    for word in 0..chance.within(1..7) {
        if word > 0 {
            let longest = chance.among(&[600, 600, 1900]);
            let pause = chance.within(200..longest);
            script.push(Sound::Silence(pause as u32));
        }
        script.extend(spoken_word(chance));
    }
    if !chance.once_in(3) {
        script.push(silence(chance, 1700));
    }
    script
}

/// A token that begins a word, and up to two that go on with it.
fn spoken_word(chance: &mut Chance) -> Vec<Sound> {
    let mut tokens = vec![chance.among(&[0, 1, 2, 3, 6])];
    for _ in 0..chance.within(0..3) {
        let next = chance.among(&[4, 5, 7]);
        if tokens.last() != Some(&next) {
            tokens.push(next);
        }
    }
    tokens
        .into_iter()
        .map(|token| Sound::Token(token, chance.within(130..330) as u32))
        .collect()
}

/// Recognisers of every chunk size, on both engines; one in three of them searches with a beam.
fn recognizers() -> Vec<(String, Recognizer)> {
    let mut recognizers = Vec::new();
    for (chunk_frames, overlap_frames) in CHUNKS {
        let directory = tempfile::tempdir().unwrap();
        let model = ToneModel {
            chunk_frames,
            overlap_frames,
        };
        model.write_package(directory.path()).unwrap();
        for engine in [EngineChoice::Ort, EngineChoice::Tract] {
            for beam in [false, true] {
                let search = if beam {
                    Search::Beam(BeamOptions::default())
                } else {
                    Search::Greedy
                };
                let name =
                    format!("{engine:?}, {chunk_frames}+{overlap_frames} frames, beam {beam}");
                let package = Package::open(directory.path()).unwrap();
                recognizers.push((name, recognizer(package, engine, search)));
            }
        }
    }
    recognizers
}

/// Random pieces of `samples`: single samples, a few milliseconds, seconds.
fn pieces<'a>(samples: &'a [f32], chance: &mut Chance) -> Vec<&'a [f32]> {
    let mut pieces = Vec::new();
    let mut rest = samples;
    while !rest.is_empty() {
        let scale = chance.among(&[2, 100, 1000, 5000, 30_000]);
        let (piece, more) = rest.split_at(chance.within(1..scale).min(rest.len()));
        pieces.push(piece);
        rest = more;
    }
    pieces
}

fn hear(stream: &mut Stream, pieces: &[&[f32]]) -> Vec<Event> {
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(stream.accept(16_000, piece).unwrap());
    }
    events.extend(stream.finish().unwrap());
    events
}

/// The words of all final segments.
fn text(events: &[Event]) -> String {
    let texts = events.iter().filter_map(|event| match event {
        Event::Final(segment) => Some(segment.text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// The tokens of all final segments and their onsets, of which a cut must not change any.
fn tokens(events: &[Event]) -> Vec<(String, f64)> {
    let segments = events.iter().filter_map(|event| match event {
        Event::Final(segment) => Some(segment),
        _ => None,
    });
    segments
        .flat_map(|segment| &segment.tokens)
        .map(|token| (token.token.clone(), token.onset))
        .collect()
}

fn endpoints(events: &[Event], wanted: EndpointRule) -> usize {
    let wanted = |event: &&Event| matches!(event, Event::Endpoint(end) if end.rule == wanted);
    events.iter().filter(wanted).count()
}

/// What was compared, so that the test cannot pass by comparing nothing.
#[derive(Default, Debug)]
struct Tally {
    words: usize,
    at_first_sample: usize,
    at_last_sample: usize,
    pieces: usize,
    endpoints: usize,
    cuts_of_length: usize,
    cuts_on_demand: usize,
}

#[test]
fn no_word_is_lost_at_any_boundary() {
    let recognizers = recognizers();
    let mut streams: Vec<Stream> = recognizers
        .iter()
        .map(|(_, recognizer)| recognizer.stream().unwrap())
        .collect();
    let mut chance = Chance::new(20_260_801);
    let mut tally = Tally::default();
    let mut losses = Vec::new();
    for number in 0..UTTERANCES {
        let script = utterance(&mut chance);
        let (samples, expected) = (speak(&script), transcript(&script));
        tally.words += expected.split(' ').count();
        tally.at_first_sample += usize::from(matches!(script.first(), Some(Sound::Token(..))));
        tally.at_last_sample += usize::from(matches!(script.last(), Some(Sound::Token(..))));
        let which = number % streams.len();
        let stream = &mut streams[which];
        let mut check = |what: &str, ok: bool, heard: &str| {
            if !ok {
                let name = &recognizers[which].0;
                losses.push(format!(
                    "{number}, {name}, {what}: expected {expected:?}, heard {heard:?} of {script:?}"
                ));
            }
        };

        let whole = hear(stream, &[&samples]);
        check("whole", text(&whole) == expected, &text(&whole));
        tally.endpoints += endpoints(&whole, EndpointRule::SilenceAfterSpeech);

        let cut = pieces(&samples, &mut chance);
        tally.pieces += cut.len();
        let events = hear(stream, &cut);
        check("in pieces", events == whole, &text(&events));

        // Utterances cut by their length, between words.
        let longest = chance.within(1200..4000) as f64 / 1000.0;
        stream.set_endpoint_rules(EndpointRules {
            longest,
            ..EndpointRules::default()
        });
        let events = hear(stream, &cut);
        stream.set_endpoint_rules(EndpointRules::default());
        tally.cuts_of_length += endpoints(&events, EndpointRule::Longest);
        check("cut by length", text(&events) == expected, &text(&events));

        // Ended on demand at any moment: words may be divided, tokens may not go or come.
        let mut events = Vec::new();
        for piece in &cut {
            events.extend(stream.accept(16_000, piece).unwrap());
            if chance.once_in(3) {
                events.extend(stream.end_utterance());
                tally.cuts_on_demand += 1;
            }
        }
        events.extend(stream.finish().unwrap());
        let (heard, expected) = (tokens(&events), tokens(&whole));
        let same = |((token, onset), (other, other_onset)): (&(String, f64), &(String, f64))| {
            // Ended while a token begins, a beam may take it to begin a frame later.
            token == other && (onset - other_onset).abs() < 0.041
        };
        let all = heard.len() == expected.len() && heard.iter().zip(&expected).all(same);
        check("ended", all, &format!("{heard:?}"));
    }
    println!("{tally:?}, {} lost", losses.len());
    assert!(
        losses.is_empty(),
        "{} losses; the first: {:#?}",
        losses.len(),
        &losses[..losses.len().min(3)]
    );
    assert!(tally.words > 3 * UTTERANCES, "{tally:?}");
    assert!(
        tally.at_first_sample > 100 && tally.at_last_sample > 100,
        "{tally:?}"
    );
    assert!(
        tally.endpoints > 200 && tally.cuts_of_length > 200,
        "{tally:?}"
    );
    assert!(
        tally.cuts_on_demand > 2000 && tally.pieces > 5000,
        "{tally:?}"
    );
}

/// The same utterances one after the other, as a microphone gives them: nothing is lost between them,
/// and the clock goes on.
#[test]
fn no_word_is_lost_in_one_long_stream() {
    let mut chance = Chance::new(7);
    let mut script = Vec::new();
    for _ in 0..UTTERANCES {
        script.extend(utterance(&mut chance));
        script.push(Sound::Silence(chance.within(200..1800) as u32));
    }
    let samples = speak(&script);
    let recognizer = recognizer(tone(), EngineChoice::Tract, Search::Greedy);
    let whole = hear(&mut recognizer.stream().unwrap(), &[&samples]);
    let (heard, expected) = (text(&whole), transcript(&script));
    let lost = heard
        .split(' ')
        .zip(expected.split(' '))
        .position(|(heard, said)| heard != said);
    assert_eq!(lost, None, "the first word that differs");
    assert_eq!(heard.len(), expected.len(), "words at the end");
    let cut = pieces(&samples, &mut chance);
    assert!(hear(&mut recognizer.stream().unwrap(), &cut) == whole);

    // Each token is where its tone is, to the frames that hear its edges.
    let heard = tokens(&whole);
    let mut ms = 0;
    let mut index = 0;
    for sound in &script {
        let (length, token) = match *sound {
            Sound::Token(token, length) => (length, Some(token)),
            Sound::Silence(length) | Sound::Zeros(length) => (length, None),
        };
        if let Some(token) = token {
            assert_eq!(heard[index].0, TOKENS[token]);
            let late = heard[index].1 - f64::from(ms) / 1000.0;
            assert!((0.0..0.14).contains(&late), "token {index}: {late} s late");
            index += 1;
        }
        ms += length;
    }
    println!("{index} tokens in {} s of audio", ms / 1000);
}

/// The bundled model over excerpts of recorded speech, which begin and end within words, between silences: how it is
/// cut changes no word of what it says, whatever that is. `SORI_EXCERPTS=500` for more of them.
#[test]
fn the_bundled_model_says_the_same_however_it_is_cut() {
    let excerpts = std::env::var("SORI_EXCERPTS").map_or(8, |number| number.parse().unwrap());
    let speech = recording();
    let mut chance = Chance::new(31);
    let (mut words, mut cuts, mut losses) = (0, 0, Vec::new());
    for (engine, search) in [
        (EngineChoice::Ort, Search::Greedy),
        (EngineChoice::Tract, Search::Greedy),
        (EngineChoice::Tract, Search::Beam(BeamOptions::default())),
    ] {
        let package = Package::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/sori-en-5m"));
        let engine_options = EngineOptions {
            engine,
            ..EngineOptions::default()
        };
        let options = Options {
            engine: engine_options,
            search,
            ..Options::default()
        };
        let recognizer = Recognizer::new(package.unwrap(), options).unwrap();
        let mut stream = recognizer.stream().unwrap();
        for number in 0..excerpts {
            let mut samples = vec![0.0; chance.within(0..12_000)];
            let length = chance.within(16_000..96_000);
            let from = chance.within(0..speech.len() - length);
            samples.extend(&speech[from..from + length]);
            samples.resize(samples.len() + chance.within(0..28_000), 0.0);

            let whole = hear(&mut stream, &[&samples]);
            let expected = text(&whole);
            words += expected.split_whitespace().count();
            let cut = pieces(&samples, &mut chance);
            let in_pieces = hear(&mut stream, &cut);
            let mut readings = vec![("in pieces", in_pieces)];
            // A cut makes a beam decide on the spot, where later sound might have changed its mind.
            if search == Search::Greedy {
                stream.set_endpoint_rules(EndpointRules {
                    longest: chance.within(1200..4000) as f64 / 1000.0,
                    ..EndpointRules::default()
                });
                let by_length = hear(&mut stream, &cut);
                stream.set_endpoint_rules(EndpointRules::default());
                cuts += endpoints(&by_length, EndpointRule::Longest);
                readings.push(("cut by length", by_length));
            }
            for (what, found) in readings {
                if text(&found) != expected {
                    losses.push(format!(
                        "{engine:?}, {number}, {what}: {:?}, whole {expected:?}",
                        text(&found)
                    ));
                }
            }
        }
    }
    println!(
        "{words} words, {cuts} cuts by length, {} readings differ",
        losses.len()
    );
    assert!(losses.is_empty(), "{losses:#?}");
    assert!(
        words > 4 * excerpts && cuts > excerpts / 2,
        "{words} words, {cuts} cuts"
    );
}

/// Eleven seconds of recorded speech at 16 kHz.
fn recording() -> Vec<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/jfk.wav");
    let mut file = AudioFile::open(path).unwrap();
    assert_eq!(file.sample_rate(), 16_000);
    let mut samples = Vec::new();
    while file.read(&mut samples).unwrap() {}
    samples
}
