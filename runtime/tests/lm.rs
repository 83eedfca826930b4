//! Language models: what they say, and what is said of files that are none. Scores of 1,000 sentences are
//! kenlm's (`tests/golden/lm/make.py`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write;

use proptest::prelude::*;
use sori::lm::{LanguageModel, LmError};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/lm/");

/// The comments say what the back-offs make of it.
const CAT: &str = "made by hand

\\data\\
ngram 1=6
ngram 2=4
ngram 3=2

\\1-grams:
-1.2\t<unk>
-99\t<s>\t-0.5
-0.9\t</s>
-0.7\tthe\t-0.4
-1.1\tcat\t-0.3
-1.5\tsat\t-0.2

\\2-grams:
-0.3\t<s> the\t-0.25
-0.4\tthe cat\t-0.15
-0.6\tcat sat
-0.8\tsat </s>

\\3-grams:
-0.1\t<s> the cat
-0.2\tthe cat sat

\\end\\
";

fn model(arpa: &str) -> LanguageModel {
    LanguageModel::from_arpa(arpa.as_bytes(), "model.arpa").unwrap()
}

/// What rounding may add up to over so many probabilities and back-offs.
fn rounding(values: usize) -> f64 {
    values as f64 / 8192.0 + 1e-4
}

#[test]
fn probabilities_back_off_to_shorter_histories() {
    let model = model(CAT);
    assert_eq!((model.order(), model.counts()), (3, &[6, 4, 2][..]));
    for (sentence, log10, unknown) in [
        ("the cat sat", -0.3 - 0.1 - 0.2 - 0.8, 0),
        // <s> cat: not there. cat the: not there, nor the history <s> cat.
        ("cat the", (-0.5 - 1.1) + (-0.3 - 0.7) + (-0.4 - 0.9), 0),
        // the cat cat: two steps back.
        (
            "the cat cat",
            -0.3 - 0.1 + (-0.15 - 0.3 - 1.1) + (-0.3 - 0.9),
            0,
        ),
        ("", -0.5 - 0.9, 0),
        ("dog sat", (-0.5 - 1.2) - 1.5 - 0.8, 1),
        (" the\tdog ", -0.3 + (-0.25 - 0.4 - 1.2) - 0.9, 1),
    ] {
        let score = model.sentence(sentence);
        assert!(
            (score.log10 - log10).abs() < rounding(12),
            "{sentence}: {score:?}"
        );
        assert_eq!(score.unknown, unknown, "{sentence}");
        assert_eq!(score.words, sentence.split_whitespace().count());
    }
    let unknown = model.sentence("dog sat").unknown_log10;
    assert!((unknown - -1.7).abs() < rounding(2), "{unknown}");
}

#[test]
fn five_words_and_one_word_are_orders_too() {
    let mut five = "\\data\\\n".to_owned();
    for (order, count) in [(1, 5), (2, 1), (3, 1), (4, 1), (5, 1)] {
        writeln!(five, "ngram {order}={count}").unwrap();
    }
    five += "\\1-grams:\n-1 a -0.5\n-1 b\n-1 c\n-1 d -0.25\n-1 e\n\n\\2-grams:\n-0.4 a b -0.01\n\n\
        \\3-grams:\n-0.3 a b c -0.02\n\n\\4-grams:\n-0.2 a b c d -0.04\n\n\
        \\5-grams:\n-0.1 a b c d e\n\n\\end\\\n";
    let five = model(&five);
    let score = |words| five.sentence(words).log10;
    assert!((score("a b c d e") - -2.0).abs() < rounding(5));
    // From four words of history to one to none.
    assert!((score("a b c d a") - (-1.9 - 0.04 - 0.25 - 1.0)).abs() < rounding(7));
    assert!((score("e a b c d e") - -3.0).abs() < rounding(6));

    let one = model("\\data\\\nngram 1=2\n\n\\1-grams:\n-1 a\n-2 b\n\n\\end\\\n");
    let score = one.sentence("a b x");
    assert!((score.log10 - -3.0).abs() < rounding(2), "{score:?}");
    assert_eq!(
        (score.words, score.unknown, score.unknown_log10),
        (3, 1, 0.0)
    );
    assert_eq!(one.end(), None);
}

#[test]
fn sentences_score_as_kenlm_scores_them() {
    let arpa = std::fs::File::open(format!("{GOLDEN}model.arpa")).unwrap();
    let built = LanguageModel::from_arpa(arpa, "model.arpa").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.lm");
    std::fs::write(&path, built.bytes()).unwrap();
    let model = LanguageModel::open(&path).unwrap();
    let expected = std::fs::read_to_string(format!("{GOLDEN}expected.tsv")).unwrap();
    let mut count = 0;
    for line in expected.lines() {
        let [log10, unknown, sentence] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let score = model.sentence(sentence);
        let log10: f64 = log10.parse().unwrap();
        // Each word takes a probability and at most three back-offs.
        let tolerance = rounding(4 * (score.words + 1));
        assert!((score.log10 - log10).abs() < tolerance, "{line}: {score:?}");
        assert_eq!(score.unknown.to_string(), unknown, "{line}");
        count += 1;
    }
    assert_eq!(count, 1000);
}

#[test]
fn a_long_word_list_takes_wider_ids() {
    let words = 70_000;
    let mut arpa = format!("\\data\\\nngram 1={words}\nngram 2={words}\n\n\\1-grams:\n");
    for word in 0..words {
        writeln!(arpa, "-4\tw{word}\t-0.5").unwrap();
    }
    arpa += "\n\\2-grams:\n";
    for word in 0..words {
        writeln!(arpa, "-1\tw{word} w{}", (word * 7 + 3) % words).unwrap();
    }
    arpa += "\n\\end\\\n";
    let model = model(&arpa);
    for word in (0..words).step_by(501) {
        let next = (word * 7 + 3) % words;
        let seen = model.sentence(&format!("w{word} w{next}")).log10;
        let unseen = model
            .sentence(&format!("w{word} w{}", (next + 1) % words))
            .log10;
        assert!((seen - -5.0).abs() < 1e-3 && (unseen - -8.5).abs() < 1e-3);
    }
}

#[test]
fn every_defect_of_an_arpa_file_names_its_line() {
    let refused = |arpa: &[u8]| match LanguageModel::from_arpa(arpa, "m.arpa").unwrap_err() {
        error @ LmError::Arpa { .. } => error.to_string(),
        other => panic!("{other}"),
    };
    let number = |line: &str| 1 + CAT.lines().position(|other| other == line).unwrap();
    for (from, to, at, expected) in [
        (
            "ngram 2=4",
            "ngram 2=5",
            "\\3-grams:",
            "expected 5 2-grams, as \\data\\ says, found 4",
        ),
        (
            "ngram 2=4",
            "ngram 2=3",
            "-0.8\tsat </s>",
            "expected 3 2-grams, as \\data\\ says, found more",
        ),
        (
            "ngram 2=4",
            "ngram 3=4",
            "ngram 2=4",
            "expected \"ngram 2=COUNT\", found \"ngram 3=4\"",
        ),
        (
            "ngram 2=4",
            "ngram 2=many",
            "ngram 2=4",
            "expected \"ngram 2=COUNT\", found \"ngram 2=many\"",
        ),
        (
            "ngram 2=4",
            "ngram 2=99999999999",
            "ngram 2=4",
            "too much: expected at most 100000000 n-grams",
        ),
        (
            "\\2-grams:",
            "\\3-grams:",
            "\\2-grams:",
            "expected \\2-grams:, found \"\\\\3-grams:\"",
        ),
        (
            "\\end\\",
            "\\fin\\",
            "\\end\\",
            "expected \\end\\, found \"\\\\fin\\\\\"",
        ),
        (
            "-0.7\tthe",
            "0.7\tthe",
            "-0.7\tthe\t-0.4",
            "expected the log10 of a probability, at most 0, found 0.7",
        ),
        (
            "-0.7\tthe",
            "NaN\tthe",
            "-0.7\tthe\t-0.4",
            "expected the log10 of a probability, found \"NaN\"",
        ),
        (
            "-0.7\tthe",
            "-inf\tthe",
            "-0.7\tthe\t-0.4",
            "expected the log10 of a probability, found \"-inf\"",
        ),
        (
            "-0.7\tthe",
            "the",
            "-0.7\tthe\t-0.4",
            "expected the log10 of a probability, found \"the\"",
        ),
        (
            "-0.7\tthe\t-0.4",
            "-0.7\tthe\tcat",
            "-0.7\tthe\t-0.4",
            "expected the log10 of a back-off weight, found \"cat\"",
        ),
        (
            "-0.7\tthe\t-0.4",
            "-0.7\tthe\t-0.4\t1",
            "-0.7\tthe\t-0.4",
            "expected 1 words and a back-off weight, found \"1\" behind them",
        ),
        (
            "-0.2\tthe cat sat",
            "-0.2\tthe cat sat\t-1",
            "-0.2\tthe cat sat",
            "expected 3 words and no more, found \"-1\"",
        ),
        (
            "-0.4\tthe cat\t-0.15",
            "-0.4\tthe",
            "-0.4\tthe cat\t-0.15",
            "expected 2 words, found 1",
        ),
        (
            "-0.4\tthe cat",
            "-0.4\tthe dog",
            "-0.4\tthe cat\t-0.15",
            "the word \"dog\" is not among the 1-grams",
        ),
        (
            "-0.2\tthe cat sat",
            "-0.2\tsat the cat",
            "-0.2\tthe cat sat",
            "the n-gram \"sat the cat\" has no n-gram of order 2 that it goes on with",
        ),
        (
            "-0.2\tthe cat sat",
            "-0.2\t<s> the cat",
            "-0.2\tthe cat sat",
            "the n-gram \"<s> the cat\" is given twice",
        ),
        (
            "-1.5\tsat",
            "-1.5\tthe",
            "-1.5\tsat\t-0.2",
            "the word \"the\" is given twice",
        ),
    ] {
        let arpa = CAT.replacen(from, to, 1);
        let expected = format!("m.arpa:{}: {expected}", number(at));
        let found = refused(arpa.as_bytes());
        assert!(
            found.starts_with(&expected),
            "expected {expected}\n   found {found}"
        );
    }

    // What is cut short anywhere is refused.
    let end = CAT.find("\\end\\").unwrap();
    for end in 0..end + 4 {
        refused(&CAT.as_bytes()[..end]);
    }
    assert_eq!(
        refused(b""),
        "m.arpa:1: not an ARPA file: it has no line \\data\\"
    );
    assert_eq!(
        refused(b"\\data\\\n\\1-grams:\n"),
        "m.arpa:2: expected \"ngram 1=COUNT\" with at least one word"
    );
    assert_eq!(
        refused(b"\\data\\\nngram 1=1\n\\1-grams:\n-1 a\n"),
        "m.arpa:4: expected \\end\\, found the end of the file"
    );
    assert_eq!(
        refused(b"x\nb\xff\n"),
        "m.arpa:2: expected UTF-8, found another byte at 2"
    );
    let six = "\\data\\\n".to_owned()
        + &(1..=6)
            .map(|n| format!("ngram {n}=1\n"))
            .collect::<String>();
    assert!(refused(six.as_bytes()).starts_with("m.arpa:7: too much: "));
    let endless = std::io::repeat(b'\\');
    let error = LanguageModel::from_arpa(endless, "zero").unwrap_err();
    assert_eq!(
        error.to_string(),
        "zero:1: the line is longer than 4096 bytes"
    );

    // As some tools write it.
    let windows = CAT
        .replace('\n', "\r\n")
        .replace('\t', " ")
        .replace("ngram 1=6", "ngram 1 = 6");
    assert_eq!(model(&windows).bytes(), model(CAT).bytes());
}

#[test]
fn files_that_are_no_model_are_refused() {
    let refused = |bytes: &[u8]| {
        let error = LanguageModel::from_bytes(bytes.to_vec(), "m.lm").unwrap_err();
        error.to_string()
    };
    let good = model(CAT).bytes().to_vec();
    let other = "m.lm: not a language model of sori; ";
    assert!(refused(b"").starts_with(other) && refused(CAT.as_bytes()).starts_with(other));
    let mut newer = good.clone();
    newer[8] = 2;
    assert_eq!(
        refused(&newer),
        "m.lm: language model format 2, this version of sori reads format 1; build it again from its ARPA file"
    );
    for size in 8..good.len() {
        assert!(
            refused(&good[..size]).starts_with("m.lm: damaged language model: "),
            "{size}"
        );
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(
        refused(&longer),
        format!(
            "m.lm: damaged language model: expected {} bytes, found {}; copy or build it again",
            good.len(),
            longer.len()
        )
    );
    let mut huge = good.clone();
    huge[20..32].fill(0xff);
    assert!(refused(&huge).contains(": expected "));
    // The first two words change places.
    let mut unsorted = good.clone();
    unsorted[32..48].rotate_left(8);
    assert!(refused(&unsorted).contains("its words are out of order"));

    let error = LanguageModel::open("no/such/model.lm")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("no/such/model.lm: cannot be read: "),
        "{error}"
    );
    assert!(
        matches!(
            LanguageModel::open("/dev/null"),
            Err(LmError::Foreign { .. })
        ) || !cfg!(unix)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damage_is_found_or_does_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = model(CAT).bytes().to_vec();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Ok(model) = LanguageModel::from_bytes(bytes, "m.lm") {
            for sentence in ["the cat sat", "cat cat", "dog sat the sat the"] {
                prop_assert!(model.sentence(sentence).log10.is_finite());
            }
        }
    }
}
