//! Grammars as a caller meets them: sentences that may be said, with the tone model, whose words are
//! known to the frame.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sori::decode::{Grammar, GrammarError, Phrases};
use sori::engine::EngineChoice;
use sori::{EndpointRules, Event, Recognizer, Search, Segment, Stream};
use sori_tests::tone::{Sound, speak};

fn recognizer() -> Recognizer {
    support::recognizer(support::tone(), EngineChoice::Tract, Search::Greedy)
}

fn parse(recognizer: &Recognizer, grammar: &str) -> Result<Grammar, GrammarError> {
    Grammar::parse(grammar.as_bytes(), "g", recognizer.package().tokens())
}

fn under(recognizer: &Recognizer, grammar: &str) -> Stream {
    let mut stream = recognizer.stream().unwrap();
    let grammar = parse(recognizer, grammar).unwrap();
    assert_eq!(stream.set_grammar(Some(Arc::new(grammar))).count(), 0);
    stream
}

/// Utterances of these words, each with silence around it that ends it.
fn said(utterances: &[&str]) -> Vec<f32> {
    let mut sounds = vec![Sound::Silence(400)];
    for utterance in utterances {
        for word in utterance.split_whitespace() {
            let tokens: &[usize] = match word {
                "one" => &[0],
                "two" => &[1],
                "three" => &[2],
                "gos" => &[3, 4],
                "going" => &[3, 5],
                "소리" => &[6, 7],
                _ => panic!("the model has no {word:?}"),
            };
            sounds.extend(tokens.iter().map(|&token| Sound::Token(token, 160)));
            sounds.push(Sound::Silence(120));
        }
        sounds.push(Sound::Silence(2000));
    }
    speak(&sounds)
}

fn hear(stream: &mut Stream, samples: &[f32]) -> Vec<Event> {
    let mut events: Vec<_> = Vec::new();
    for piece in samples.chunks(1111) {
        events.extend(stream.accept(16_000, piece).unwrap());
    }
    events.extend(stream.finish().unwrap());
    events
}

fn finals(events: Vec<Event>) -> Vec<Segment> {
    let finals = events.into_iter().filter_map(|event| match event {
        Event::Final(segment) => Some(segment),
        _ => None,
    });
    finals.collect()
}

/// What is made of each utterance: a sentence, or `-` if it is none.
fn matched(grammar: &str, utterances: &[&str]) -> Vec<String> {
    let recognizer = recognizer();
    let mut stream = under(&recognizer, grammar);
    let finals = finals(hear(&mut stream, &said(utterances)));
    let texts = finals.into_iter().map(|segment| {
        assert!(segment.start < segment.end);
        match segment.out_of_grammar {
            true => {
                assert!(segment.text.is_empty() && segment.words.is_empty());
                "-".to_owned()
            }
            false => segment.text,
        }
    });
    texts.collect()
}

#[test]
fn a_list_is_its_sentences_and_nothing_else() {
    let list = "# numbers\none two\n\nthree going\ntwo\n";
    let utterances = [
        "one two",
        "two",
        "three",
        "going",
        "three going",
        "one two two",
    ];
    assert_eq!(
        matched(list, &utterances),
        ["one two", "two", "-", "-", "three going", "-"]
    );
}

#[test]
fn jsgf_rules_are_followed() {
    let grammar = r#"#JSGF V1.0 UTF-8 en;
        grammar numbers; // a comment
        /* one that
           is longer */
        public <count> = <number>+ [gos] | "소리 going"* three {tag};
        <number> = one | ( two two );"#;
    let utterances = [
        "one",
        "two two one gos",
        "two",
        "소리 going 소리 going three",
        "three",
        "gos",
    ];
    assert_eq!(
        matched(grammar, &utterances),
        [
            "one",
            "two two one gos",
            "-",
            "소리 going 소리 going three",
            "three",
            "-"
        ]
    );
}

#[test]
fn times_are_those_of_a_free_search() {
    let recognizer = recognizer();
    let samples = said(&["one two three", "going"]);
    let free = finals(hear(&mut recognizer.stream().unwrap(), &samples));
    let mut stream = under(&recognizer, "one two three\ngoing\ngos\n");
    let bound = finals(hear(&mut stream, &samples));
    assert_eq!(free, bound);
    // And again, after the end of the audio.
    assert_eq!(finals(hear(&mut stream, &samples)), bound);
}

#[test]
fn partials_are_beginnings_of_sentences() {
    let recognizer = recognizer();
    let mut stream = under(&recognizer, "one two three");
    let events = hear(&mut stream, &said(&["one two three"]));
    let partials: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Partial(partial) => Some(partial.text.as_str()),
            _ => None,
        })
        .collect();
    assert!(partials.contains(&"one two"), "{partials:?}");
    assert!(
        partials
            .iter()
            .all(|text| "one two three".starts_with(text))
    );
}

#[test]
fn silence_is_no_sentence_and_no_mistake() {
    assert!(matched("one\n", &[]).is_empty());
}

#[test]
fn a_grammar_is_swapped_and_taken_away_between_utterances() {
    let recognizer = recognizer();
    let mut stream = under(&recognizer, "one\n");
    let samples = said(&["two"]);
    let hear = |stream: &mut Stream, grammar: Option<&str>| {
        let grammar = grammar.map(|text| Arc::new(parse(&recognizer, text).unwrap()));
        let mut events: Vec<_> = stream.set_grammar(grammar).collect();
        events.extend(stream.accept(16_000, &samples).unwrap());
        events.extend(stream.end_utterance());
        finals(events)
            .into_iter()
            .map(|segment| (segment.text, segment.out_of_grammar))
            .collect::<Vec<_>>()
    };
    let two = ("two".to_owned(), false);
    assert_eq!(hear(&mut stream, Some("one")), [(String::new(), true)]);
    assert_eq!(hear(&mut stream, Some("two")), std::slice::from_ref(&two));
    assert_eq!(hear(&mut stream, None), std::slice::from_ref(&two));
    let phrases = Phrases::parse("two".as_bytes(), "list", recognizer.package().tokens()).unwrap();
    stream.set_phrases(Some(Arc::new(phrases)));
    assert_eq!(hear(&mut stream, Some("two\none")), [two]);
}

#[test]
fn an_utterance_that_is_too_long_is_none_or_one() {
    let recognizer = recognizer();
    let rules = EndpointRules {
        longest: 2.0,
        ..EndpointRules::default()
    };
    let mut stream = under(&recognizer, "#JSGF V1.0; public <s> = (one two)+;");
    stream.set_endpoint_rules(rules);
    let words = "one two ".repeat(12);
    let finals = finals(hear(&mut stream, &said(&[&words])));
    assert!(finals.len() >= 3, "{finals:?}");
    let whole = |segment: &Segment| segment.text.split(' ').count().is_multiple_of(2);
    assert!(finals.iter().all(|s| s.out_of_grammar || whole(s)));
}

#[test]
fn tolerance_decides_what_is_near_enough() {
    let recognizer = recognizer();
    let grammar = || parse(&recognizer, "three").unwrap();
    let outcome = |grammar: Grammar, word: &str| {
        let mut stream = recognizer.stream().unwrap();
        stream.set_grammar(Some(Arc::new(grammar)));
        let mut finals = finals(hear(&mut stream, &said(&[word])));
        (finals.len() == 1).then(|| finals.remove(0).out_of_grammar)
    };
    assert_eq!(outcome(grammar(), "three"), Some(false));
    assert_eq!(outcome(grammar(), "two"), Some(true));
    let anything = grammar().with_tolerance(f32::INFINITY);
    assert_eq!(outcome(anything, "two"), Some(false));
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let recognizer = recognizer();
    let jsgf = |rules: &str| format!("#JSGF V1.0;\n{rules}");
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(70), close.repeat(70));
        jsgf(&format!("public <a> = {open}one{close};"))
    };
    // Neither alone is too much.
    let (open, close) = ("[one | one ".repeat(60), "]*".repeat(60));
    let nested: String = (0..60)
        .map(|i| format!("<n{i}> = {open}<n{}>{close};", i + 1))
        .collect();
    let chain: String = (0..70).map(|i| format!("<r{i}> = <r{}>;", i + 1)).collect();
    let many = "one two three going ".repeat(40_000);
    for (grammar, expected) in [
        (
            "one\nzwei\n".to_owned(),
            "g:2: the model's tokens have no 'z', so it cannot say \"zwei\"",
        ),
        ("# nothing\n".to_owned(), "g: the grammar has no sentence"),
        (
            jsgf("<a> = one;"),
            "g: no rule is public: put `public` before the one that says whole sentences",
        ),
        (
            jsgf("public <a> = one"),
            "g:2: the grammar ends in the middle of a rule: is a `;` missing?",
        ),
        (jsgf("public <a> = <b>;"), "g:2: there is no rule <b>"),
        (
            jsgf("public <a> = one\n <a>;"),
            "g:3: rule <a> refers to itself: repeat with * or + instead",
        ),
        (
            jsgf("public <a> = one | ;"),
            "g:2: expected a word, <rule>, ( or [, found \";\"",
        ),
        (jsgf("public <a> = (one;"), "g:2: expected `)`, found \";\""),
        (
            jsgf("public one;"),
            "g:2: expected the name of a rule, as in <name>, found \"one\"",
        ),
        (
            jsgf("one;"),
            "g:2: expected a rule, as in <name> = words;, found \"one\"",
        ),
        (jsgf("public <a = one;"), "g:2: \"<a = one;\" has no `>`"),
        (
            jsgf("public <> = one;"),
            "g:2: expected the name of a rule, found <>",
        ),
        (
            jsgf("public <a> = /2/ one;"),
            "g:2: weights as in /2/ are not known: leave them out",
        ),
        (
            jsgf("import <x.y>;"),
            "g:2: grammars cannot be imported: write their rules here",
        ),
        (
            jsgf("<a> = one;\n<a> = two;"),
            "g:3: rule <a> is written twice",
        ),
        (
            jsgf("public <a> = [one];"),
            "g: silence is a sentence of this grammar: it must say at least a word",
        ),
        (jsgf("/* public"), "g:2: a comment has no `*/`"),
        (
            deep("(", ")"),
            "g:2: groups stand in one another more than 64 deep",
        ),
        (
            jsgf(&format!("public <a> = <r0>;\n{chain}")),
            "g:3: rules refer to one another more than 64 deep",
        ),
        (
            jsgf(&format!("{nested}<n60> = one; public <a> = <n0>;")),
            "g: groups and rules stand in one another too deep: write fewer groups in rules that others refer to",
        ),
        (
            many,
            "g: the grammar is too large: its sentences need more than 500000 states",
        ),
    ] {
        let error = parse(&recognizer, &grammar).unwrap_err();
        assert_eq!(error.to_string(), expected, "{grammar:.80}");
    }
    let tokens = recognizer.package().tokens();
    let error = Grammar::parse(&b"one\n\xff"[..], "g", tokens).unwrap_err();
    assert_eq!(error.to_string(), "g:2: expected UTF-8, found other bytes");
    let endless = std::io::repeat(b'\n');
    let error = Grammar::parse(endless, "g", tokens).unwrap_err();
    assert_eq!(
        error.to_string(),
        "g: expected at most 8388608 bytes of grammar"
    );
    let error = Grammar::open("no/such/file", tokens).unwrap_err();
    assert!(error.to_string().starts_with("no/such/file: "), "{error}");
}

/// As many different words of the tone model's letters.
fn many_words(count: usize) -> Vec<String> {
    let letters: Vec<char> = "onetwhrgis".chars().collect();
    let spell = |mut number: usize| {
        let mut word = String::new();
        for _ in 0..5 {
            word.push(letters[number % letters.len()]);
            number /= letters.len();
        }
        word
    };
    (0..count).map(spell).collect()
}

#[test]
fn repeating_many_words_takes_no_square_of_them() {
    let words = many_words(30_000).join(" | ");
    let grammar = format!("#JSGF V1.0;\npublic <all> = ({words})+;");
    let started = Instant::now();
    parse(&recognizer(), &grammar).unwrap();
    // A second, where each word's end led to each word it was a minute and a half.
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_grammar_that_would_take_for_ever_is_refused() {
    // Before each word may stand another: where one word ends, twenty thousand places begin.
    let words = many_words(20_000).join(" | [one] ");
    let grammar = format!("#JSGF V1.0;\npublic <all> = ([one] {words})+;");
    let error = parse(&recognizer(), &grammar).unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
}
