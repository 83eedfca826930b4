//! Decoding as a caller meets it: log-probabilities in, tokens with times out. The beam's scores are
//! pyctcdecode's (`tests/golden/beam/make.py`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::sync::Arc;

use sori::decode::{Beam, BeamOptions, Fusion, Greedy, Hit, PhraseError, Phrases};
use sori::lm::{LanguageModel, LmOptions};
use sori::model::{TokenId, Tokens};

fn tokens(symbols: &[&str]) -> Tokens {
    let lines: Vec<_> = symbols.iter().chain(&["<blk>"]).zip(0..).collect();
    let text: String = lines
        .iter()
        .map(|(symbol, id)| format!("{symbol} {id}\n"))
        .collect();
    Tokens::parse(&text, Path::new("tokens.txt")).unwrap()
}

fn spelled(hits: &[Hit], tokens: &Tokens) -> String {
    hits.iter().map(|hit| tokens.symbol(hit.token)).collect()
}

/// Everything is kept, so that scores are exact sums.
fn exhaustive() -> BeamOptions {
    BeamOptions {
        width: 1500,
        token_floor: f32::NEG_INFINITY,
        range: f32::INFINITY,
    }
}

#[test]
fn scores_are_the_sums_over_all_alignments() {
    #[derive(serde::Deserialize)]
    struct Case {
        log_probs: Vec<Vec<f32>>,
        beams: Vec<(String, f32)>,
    }
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/golden/beam/expected.json"
    );
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 200);
    let tokens = tokens(&["a", "b", "c", "d"]);
    for (number, case) in cases.iter().enumerate() {
        let mut beam = Beam::new(4, exhaustive());
        for row in &case.log_probs {
            beam.accept(row);
        }
        beam.finish();
        assert_eq!(
            spelled(beam.hits(), &tokens),
            case.beams[0].0,
            "case {number}"
        );
        let mut found = Vec::new();
        beam.alternatives(case.beams.len(), |hits, score| {
            found.push((spelled(hits, &tokens), score));
        });
        for ((text, score), (expected, expected_score)) in found.iter().zip(&case.beams) {
            assert!(
                (score - expected_score).abs() < 1e-4,
                "case {number}: {score} {expected_score}"
            );
            assert_eq!(text, expected, "case {number}");
        }
    }
}

/// A frame per letter, in which it has that probability; the rest is shared by the others.
fn frames(text: &str, probability: f32, tokens: &Tokens) -> Vec<f32> {
    let count = tokens.len();
    let mut rows = Vec::new();
    for said in text.chars() {
        let wanted = (0..tokens.blank())
            .find(|&token| tokens.symbol(token) == said.to_string())
            .unwrap_or(tokens.blank());
        let other = ((1.0 - probability) / (count - 1) as f32).ln();
        rows.extend((0..count).map(|token| {
            if token == wanted {
                probability.ln()
            } else {
                other
            }
        }));
    }
    rows
}

#[test]
fn where_nothing_is_in_doubt_the_beam_is_greedy_with_its_times() {
    let tokens = tokens(&["a", "b", "c"]);
    let rows = frames("--aa-a-bbbcc--b", 0.97, &tokens);
    let mut greedy = Greedy::new(tokens.blank());
    greedy.accept(&rows);
    for piece in [1, 2, 5, 15] {
        let mut beam = Beam::new(tokens.blank(), BeamOptions::default());
        for rows in rows.chunks(piece * tokens.len()) {
            beam.accept(rows);
        }
        assert_eq!(beam.hits(), greedy.hits());
        assert_eq!(beam.frames(), 15);
    }
}

#[test]
fn a_token_across_a_take_is_said_once_and_what_follows_is_not_lost() {
    let tokens = tokens(&["a", "b", "c"]);
    let hear = |beam: &mut Beam, text: &str| {
        beam.accept(&frames(text, 0.9, &tokens));
        spelled(beam.hits(), &tokens)
    };
    let mut beam = Beam::new(tokens.blank(), BeamOptions::default());
    assert_eq!(hear(&mut beam, "-a-bb"), "ab");
    beam.finish();
    assert_eq!(beam.take(usize::MAX).count(), 2);
    assert_eq!(hear(&mut beam, "bb-"), "");
    assert_eq!(hear(&mut beam, "b-ca"), "bca");
    let first: Vec<_> = beam.take(1).collect();
    assert_eq!(
        (spelled(&first, &tokens).as_str(), first[0].frame),
        ("b", 8)
    );
    assert_eq!(spelled(beam.hits(), &tokens), "ca");
    assert_eq!(hear(&mut beam, "ac"), "cac");
    beam.reset();
    assert_eq!(hear(&mut beam, "c"), "c");
    assert_eq!(beam.hits()[0].frame, 0);
}

/// Letters and a mark that begins a word, which CTC says as a token of its own.
fn letters() -> Tokens {
    tokens(&["▁", "a", "n", "b", "e", "o", "s", "▁an", "na"])
}

fn phrases(list: &str, tokens: &Tokens) -> Arc<Phrases> {
    Arc::new(Phrases::parse(list.as_bytes(), "names.txt", tokens).unwrap())
}

/// Frames that each have a first and a second choice of these probabilities.
fn choices(choices: &[(&str, &str)], probability: f32, tokens: &Tokens) -> Vec<f32> {
    let id = |symbol: &str| {
        (0..tokens.len())
            .find(|&id| tokens.symbol(id) == symbol)
            .unwrap()
    };
    let mut rows = Vec::new();
    for (first, second) in choices {
        for symbol in [*first, "<blk>"] {
            let mut row = vec![1e-6_f32.ln(); tokens.len()];
            if symbol == "<blk>" {
                row[tokens.blank()] = 0.999_f32.ln();
            } else {
                row[id(second)] = (1.0 - probability).ln();
                row[id(symbol)] = probability.ln();
            }
            rows.extend(row);
        }
    }
    rows
}

/// What a beam hears of an utterance, and the score.
fn utterance(beam: &mut Beam, rows: &[f32], tokens: &Tokens) -> (String, f32) {
    for row in rows.chunks(tokens.len()) {
        beam.accept(row);
    }
    beam.finish();
    let mut best = None;
    beam.alternatives(1, |_, score| best = Some(score));
    let said: Vec<_> = beam.take(usize::MAX).collect();
    (spelled(&said, tokens), best.unwrap())
}

/// What is heard when these phrases are expected.
fn heard(said: &[(&str, &str)], probability: f32, list: &str) -> (String, f32) {
    let tokens = letters();
    let mut beam = Beam::new(tokens.blank(), BeamOptions::default());
    beam.set_phrases((!list.is_empty()).then(|| phrases(list, &tokens)));
    utterance(&mut beam, &choices(said, probability, &tokens), &tokens)
}

#[test]
fn a_phrase_wins_over_what_is_somewhat_more_probable() {
    // "anne" is more probable than "anna" at its last letter.
    let choices = [("▁", "▁"), ("a", "a"), ("n", "n"), ("n", "n"), ("e", "a")];
    assert_eq!(heard(&choices, 0.8, "").0, "▁anne");
    assert_eq!(heard(&choices, 0.8, "anna").0, "▁anna");
    assert_eq!(heard(&choices, 0.8, "anna 0.1").0, "▁anne");
    // However it is split into tokens.
    let choices = [("▁an", "▁an"), ("n", "na"), ("e", "e")];
    assert_eq!(heard(&choices, 0.8, "").0, "▁anne");
    assert_eq!(heard(&choices[..2], 0.8, "anna").0, "▁anna");
    // A negative boost makes a phrase less likely.
    let choices = [("▁", "▁"), ("b", "b"), ("o", "e")];
    assert_eq!(heard(&choices, 0.6, "bo -1").0, "▁be");
}

#[test]
fn what_is_only_begun_is_given_back() {
    let tokens = [("▁", "▁"), ("a", "a"), ("n", "n"), ("e", "e")];
    let plain = heard(&tokens, 0.9, "").1;
    for list in ["anna", "anes 3.0", "an 0.6\nane 0", "nes\ne 2"] {
        let (text, score) = heard(&tokens, 0.9, list);
        assert_eq!(
            (text.as_str(), (score - plain).abs() < 1e-3),
            ("▁ane", true),
            "{list}: {score} {plain}"
        );
    }
    // Said to its end, it keeps a boost for every letter, also within other words and twice.
    for (list, earned) in [("ane", 1.5), ("ane 2", 6.0), ("ane 2\nane b", 6.0)] {
        let score = heard(&tokens, 0.9, list).1;
        assert!(
            (score - plain - earned).abs() < 1e-3,
            "{list}: {score} {plain}"
        );
    }
}

#[test]
fn a_phrase_within_one_that_fails_still_counts() {
    let said = "▁bo▁an▁be▁an▁bo"
        .split_inclusive(|_: char| true)
        .collect::<Vec<_>>();
    let choices: Vec<_> = said.iter().map(|&letter| (letter, letter)).collect();
    let plain = heard(&choices, 0.9, "").1;
    for (list, earned) in [
        // The long one fails at its last letter; "an" was in it.
        ("bo an bo\nan 1", 4.0),
        ("an 1\nbe 1", 6.0),
        // The longest counts where one ends with another.
        ("bo an 1\nan 1", 6.0),
        ("bo an be an bo 1", 10.0),
    ] {
        let score = heard(&choices, 0.9, list).1;
        assert!(
            (score - plain - earned).abs() < 1e-3,
            "{list}: {} {earned}",
            score - plain
        );
    }
}

#[test]
fn lists_are_checked_line_by_line() {
    let tokens = letters();
    let refused = |list: &[u8]| match Phrases::parse(list, "names.txt", &tokens).unwrap_err() {
        error @ PhraseError::Line { .. } => error.to_string(),
        other => panic!("{other}"),
    };
    assert_eq!(
        refused(b"anna\n\nbeno\nhugo 2\n"),
        "names.txt:4: the model's tokens have no 'h', so it cannot say \"hugo\""
    );
    assert_eq!(
        refused(b"anna\nb\xff\n"),
        "names.txt:2: expected UTF-8, found another byte at 2"
    );
    assert_eq!(
        refused(b"anna 21.0"),
        "names.txt:1: expected a boost from -20 to 20, found 21"
    );
    // A number that is said.
    for line in ["anna 5", "anna 182"] {
        let message = refused(line.as_bytes());
        assert!(
            message.contains("a boost or part of the phrase?"),
            "{message}"
        );
    }
    Phrases::parse(&b"anna 2\nbeno 5.0\nbeno -5"[..], "names.txt", &tokens).unwrap();
    assert_eq!(
        refused(b"anna 1e99"),
        "names.txt:1: expected a boost from -20 to 20, found inf"
    );
    // A word, though Rust takes it for a number.
    Phrases::parse(&b"anna nan"[..], "names.txt", &tokens).unwrap();
    let long = "a".repeat(1001);
    assert_eq!(
        refused(long.as_bytes()),
        "names.txt:1: the line is longer than 1000 bytes"
    );
    let endless = std::io::repeat(b'a');
    assert!(Phrases::parse(endless, "zero", &tokens).is_err());
    let many = "an\n".repeat(100_001);
    assert_eq!(phrases(&many, &tokens).len(), 1);
    assert!(
        Phrases::open("no/such/list", &tokens)
            .unwrap_err()
            .to_string()
            .starts_with("no/such/list: ")
    );

    let list = "\u{feff}# names\nANNA\n  Bo   ann 1.5 \r\n\nanna 2\n";
    assert_eq!(phrases(list, &tokens).len(), 2);
    assert!(phrases("", &tokens).is_empty());
}

#[test]
fn phrases_of_a_program_are_taken_as_they_are() {
    let tokens = tokens(&["▁", "a", "e", "r", "m", "o", "n", "#", "5", "1"]);
    let long = "a".repeat(1001);
    let list = [
        "area 51", "maroon 5", "#1 roma", "José", " ", &long, "maroon",
    ];
    let (phrases, left_out) = Phrases::of(list.map(|text| (text, 1.0)), &tokens).unwrap();
    assert_eq!((phrases.len(), left_out), (4, vec![3, 4, 5]));
    // As the lines of a file, the same say something else.
    let lines = Phrases::parse(&b"maroon 1.5\n#1 roma\nmaroon"[..], "list", &tokens).unwrap();
    assert_eq!(lines.len(), 1);

    let said = "▁maroon▁5"
        .split_inclusive(|_: char| true)
        .map(|letter| (letter, letter))
        .collect::<Vec<_>>();
    let score = |phrases: Option<Phrases>| {
        let mut beam = Beam::new(tokens.blank(), BeamOptions::default());
        beam.set_phrases(phrases.map(Arc::new));
        utterance(&mut beam, &choices(&said, 0.9, &tokens), &tokens).1
    };
    // Six letters and the number, at 1 each.
    let earned = score(Some(phrases)) - score(None);
    assert!((earned - 7.0).abs() < 1e-3, "{earned}");

    for (boost, found) in [(21.0, "21"), (f32::NAN, "NaN")] {
        let refused = Phrases::of([("maroon", 1.0), ("roma", boost)], &tokens).unwrap_err();
        let expected = format!("phrase 2: expected a boost from -20 to 20, found {found}");
        assert_eq!(refused.to_string(), expected);
    }
    let many = std::iter::repeat_n("maroon maroon maroon", 200_000).map(|text| (text, 1.0));
    assert!(matches!(
        Phrases::of(many, &tokens),
        Err(PhraseError::Phrase { .. })
    ));
}

#[test]
fn phrases_are_swapped_between_utterances() {
    let tokens = letters();
    let mut beam = Beam::new(tokens.blank(), BeamOptions::default());
    let hear = |beam: &mut Beam| {
        let mut rows = frames("▁ann", 0.99, &tokens);
        let mut last = vec![1e-6_f32.ln(); tokens.len()];
        let id = |symbol: &str| -> TokenId {
            (0..tokens.len())
                .find(|&id| tokens.symbol(id) == symbol)
                .unwrap()
        };
        (last[id("a")], last[id("e")]) = (0.3_f32.ln(), 0.7_f32.ln());
        rows.splice(
            rows.len() - tokens.len()..rows.len() - tokens.len(),
            frames("-", 0.99, &tokens),
        );
        rows.extend(last);
        rows.extend(frames("-", 0.99, &tokens));
        beam.accept(&rows);
        beam.finish();
        let said: Vec<_> = beam.take(usize::MAX).collect();
        spelled(&said, &tokens)
    };
    assert_eq!(hear(&mut beam), "▁anne");
    beam.set_phrases(Some(phrases("anna", &tokens)));
    assert_eq!(hear(&mut beam), "▁anna");
    beam.set_phrases(Some(phrases("bob", &tokens)));
    assert_eq!(hear(&mut beam), "▁anne");
    beam.set_phrases(None);
    assert_eq!(hear(&mut beam), "▁anne");
}

/// "be" is more frequent than "bo", except after "an". The model knows no other words.
const WORDS: &str = "\\data\\\nngram 1=5\nngram 2=3\n\n\\1-grams:\n\
    -99 <s> -0.4\n-1 </s>\n-1 an -0.3\n-0.5 be -0.2\n-2 bo -0.1\n\n\
    \\2-grams:\n-0.2 an bo\n-1.5 an be\n-0.7 <s> an\n\n\\end\\\n";

fn fusion(arpa: &str, options: LmOptions, tokens: &Tokens) -> Arc<Fusion> {
    let model = LanguageModel::from_arpa(arpa.as_bytes(), "model.arpa").unwrap();
    Arc::new(Fusion::new(Arc::new(model), options, tokens))
}

fn heard_with(arpa: &str, options: LmOptions, said: &[(&str, &str)]) -> (String, f32) {
    let tokens = letters();
    let mut beam = Beam::new(tokens.blank(), BeamOptions::default());
    beam.set_language_model(Some(fusion(arpa, options, &tokens)));
    utterance(&mut beam, &choices(said, 0.6, &tokens), &tokens)
}

/// A letter a frame; the other letter is its second choice.
fn letter_by_letter<'a>(first: &'a str, second: &'a str) -> Vec<(&'a str, &'a str)> {
    let letters = |text: &'a str| text.split_inclusive(|_: char| true);
    letters(first).zip(letters(second)).collect()
}

#[test]
fn a_language_model_decides_between_words_that_sound_alike() {
    let options = LmOptions::default();
    let said = letter_by_letter("▁bo▁an", "▁be▁an");
    assert_eq!(heard(&said, 0.6, "").0, "▁bo▁an");
    assert_eq!(heard_with(WORDS, options, &said).0, "▁be▁an");
    let light = LmOptions {
        weight: 0.1,
        ..options
    };
    assert_eq!(heard_with(WORDS, light, &said).0, "▁bo▁an");
    // The last word is scored at the end of the utterance, and by the word before it.
    let said = letter_by_letter("▁an▁be", "▁an▁bo");
    assert_eq!(heard(&said, 0.6, "").0, "▁an▁be");
    assert_eq!(heard_with(WORDS, options, &said).0, "▁an▁bo");
    // However words are split into tokens.
    let said = [("▁an", "▁an"), ("▁", "▁"), ("b", "b"), ("e", "o")];
    assert_eq!(heard_with(WORDS, options, &said).0, "▁an▁bo");
    // A model in capitals is one of the same words.
    let capitals = WORDS
        .replace("an", "AN")
        .replace("be", "BE")
        .replace("bo", "BO");
    assert_eq!(heard_with(&capitals, options, &said).0, "▁an▁bo");
}

#[test]
fn a_word_costs_what_the_language_model_says() {
    let plain = LmOptions {
        weight: 0.0,
        word_bonus: 0.0,
        unknown_penalty: 0.0,
        end_weight: 0.0,
    };
    let ln = |log10: f32| log10 * std::f32::consts::LN_10;
    for (said, options, earned) in [
        (
            "▁an▁bo▁be",
            LmOptions {
                weight: 1.0,
                ..plain
            },
            ln(-0.7 - 0.2 - (0.1 + 0.5)),
        ),
        (
            "▁an▁bo▁be",
            LmOptions {
                weight: 0.5,
                word_bonus: 0.25,
                ..plain
            },
            0.5 * ln(-1.5) + 0.75,
        ),
        // The first word may come without a mark, and a mark without a word.
        (
            "an▁▁bo▁",
            LmOptions {
                weight: 1.0,
                word_bonus: 0.5,
                ..plain
            },
            ln(-0.9) + 1.0,
        ),
        // Unknown words cost their penalty, and nothing is remembered beyond them.
        (
            "▁an▁os▁bo",
            LmOptions {
                weight: 1.0,
                unknown_penalty: 3.0,
                ..plain
            },
            ln(-0.7 - 2.0) - 3.0,
        ),
        (
            "▁an▁bo",
            LmOptions {
                end_weight: 2.0,
                ..plain
            },
            2.0 * ln(-0.1 - 1.0),
        ),
        (
            "",
            LmOptions {
                end_weight: 2.0,
                ..plain
            },
            2.0 * ln(-0.4 - 1.0),
        ),
    ] {
        let letters = letter_by_letter(said, said);
        let (text, without) = heard_with(WORDS, plain, &letters);
        let (_, score) = heard_with(WORDS, options, &letters);
        assert_eq!(text, said);
        assert!(
            (score - without - earned).abs() < 2e-3,
            "{said}: {} {earned}",
            score - without
        );
    }
}

#[test]
fn every_utterance_is_a_sentence_of_its_own() {
    let tokens = letters();
    let rows = choices(&letter_by_letter("▁an▁be", "▁an▁bo"), 0.6, &tokens);
    let mut beam = Beam::new(tokens.blank(), BeamOptions::default());
    let without = utterance(&mut beam, &rows, &tokens);
    beam.set_language_model(Some(fusion(WORDS, LmOptions::default(), &tokens)));
    let first = utterance(&mut beam, &rows, &tokens);
    assert_eq!(first.0, "▁an▁bo");
    for _ in 0..2 {
        let again = utterance(&mut beam, &rows, &tokens);
        assert_eq!(again.0, first.0);
        assert!((again.1 - first.1).abs() < 1e-3, "{again:?} {first:?}");
    }
    beam.set_language_model(None);
    let off = utterance(&mut beam, &rows, &tokens);
    assert_eq!(off.0, without.0);
    assert!((off.1 - without.1).abs() < 1e-3, "{off:?} {without:?}");
}
