use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sori_train::data::manifest::{self, Contents, Reader};
use sori_train::data::text::{LETTERS, normalise};
use sori_train::data::{Corpus, DataError, Source, Strictness, audio};

use crate::sound::{Folder, RATE, tone, write_wav};

fn read(text: &str) -> Vec<Result<manifest::Entry, String>> {
    Reader::new(
        text.as_bytes(),
        Path::new("set/train.jsonl"),
        Contents::Speech,
    )
    .map(|entry| entry.map_err(|error| error.to_string()))
    .collect()
}

#[test]
fn a_manifest_gives_its_lines() {
    let entries = read(concat!(
        r#"{"audio_filepath": "a/1.flac", "duration": 1.5, "text": "It’s  ONE."}"#,
        "\n\n",
        r#"{"audio_filepath": "/b.wav", "duration": 2, "text": "", "speaker": 84, "offset": 0.5, "pred": [1]}"#,
        "\r\n",
        r#"{"text": "c", "speaker": "x", "duration": 2e0, "audio_filepath": "c"}"#,
    ));
    let [a, b, c] = &entries[..] else {
        panic!("{entries:?}");
    };
    let (a, b, c) = (
        a.as_ref().unwrap(),
        b.as_ref().unwrap(),
        c.as_ref().unwrap(),
    );
    assert_eq!(a.path(), Path::new("set/a/1.flac"));
    assert_eq!((a.line, a.duration, a.offset), (1, 1.5, 0.0));
    assert_eq!((a.text.as_str(), &a.speaker), ("it's one", &None));
    assert_eq!(
        (a.id().as_str(), b.id().as_str()),
        ("a/1.flac", "/b.wav@0.5")
    );
    assert_eq!(b.path(), Path::new("/b.wav"));
    assert_eq!(
        (b.line, b.offset, b.speaker.as_deref()),
        (3, 0.5, Some("84"))
    );
    assert_eq!((c.line, c.speaker.as_deref()), (4, Some("x")));
}

#[test]
fn a_bad_line_is_named_and_the_next_is_read() {
    let long = format!(r#"{{"x": "{}"}}"#, "x".repeat(3 << 20));
    let good = r#"{"audio_filepath": "a", "duration": 1, "text": "a"}"#;
    let lines = [
        good,
        "nonsense",
        &long,
        r#"{"audio_filepath": "a", "duration": 1}"#,
        r#"{"audio_filepath": "a", "duration": 0, "text": "a"}"#,
        r#"{"audio_filepath": "a", "duration": 1, "offset": -1, "text": "a"}"#,
        r#"{"audio_filepath": "a", "text": "a"}"#,
        r#"{"audio_filepath": "a", "duration": 1, "text": "room 7"}"#,
        good,
    ];
    let entries = read(&lines.join("\n"));
    let expected = [
        "",
        "set/train.jsonl:2: expected ident",
        "set/train.jsonl:3: longer than 1048576 bytes",
        "set/train.jsonl:4: \"text\" is missing",
        "set/train.jsonl:5: \"duration\" must be above 0",
        "set/train.jsonl:6: \"offset\" must be from 0",
        "set/train.jsonl:7: missing field `duration`",
        "set/train.jsonl:8: \"text\": '7' at character 6 cannot be spelled",
        "",
    ];
    assert_eq!(entries.len(), expected.len());
    for (entry, expected) in entries.iter().zip(expected) {
        match entry {
            Ok(entry) => assert!(expected.is_empty(), "{entry:?}"),
            Err(error) => assert!(
                !expected.is_empty() && error.starts_with(expected),
                "{error}"
            ),
        }
    }
}

#[test]
fn bad_lines_are_skipped_and_counted_or_fatal() {
    let mut folder = Folder::new();
    folder
        .line("a.wav", 1.0, "a")
        .line("b.wav", -1.0, "b")
        .line("c.wav", 1.0, "c");
    let sources = [Source::once(folder.manifest())];
    let corpus = Corpus::read(&sources, Strictness::Lenient).unwrap();
    assert_eq!((corpus.len(), corpus.bad_lines()), (2, 1));
    assert_eq!(corpus.entry(1).unwrap().line, 3);
    assert_eq!(corpus.seconds(), 2.0);
    let error = Corpus::read(&sources, Strictness::Strict).unwrap_err();
    assert!(matches!(error, DataError::Line { line: 2, .. }), "{error}");
    let error = Corpus::read(&[Source::once("no/such.jsonl")], Strictness::Lenient).unwrap_err();
    assert!(error.to_string().starts_with("no/such.jsonl: "), "{error}");
}

#[test]
fn a_manifest_that_changes_while_it_is_used_is_named() {
    let mut folder = Folder::new();
    folder.line("a.wav", 1.0, "one").line("b.wav", 2.0, "two");
    let corpus = folder.corpus();
    assert_eq!(corpus.entry(1).unwrap().text, "two");
    let path = folder.path("manifest.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("2", "3")).unwrap();
    let error = corpus.entry(1).unwrap_err();
    assert!(
        matches!(error, DataError::Changed { line: 2, .. }),
        "{error}"
    );
    fs::write(&path, &text[..text.len() - 5]).unwrap();
    assert!(matches!(corpus.entry(1), Err(DataError::Io { .. })));
    assert_eq!(corpus.entry(0).unwrap().text, "one");
}

#[test]
fn what_is_written_is_read() {
    let mut text = Vec::new();
    manifest::write_line(&mut text, "a \"b\".flac", 1.25, "it's", Some("7")).unwrap();
    manifest::write_line(&mut text, "c.flac", 2.0, "", None).unwrap();
    let entries = read(std::str::from_utf8(&text).unwrap());
    let [Ok(a), Ok(c)] = &entries[..] else {
        panic!("{entries:?}");
    };
    assert_eq!(
        (a.audio.as_str(), a.duration, a.text.as_str()),
        ("a \"b\".flac", 1.25, "it's")
    );
    assert_eq!((a.speaker.as_deref(), &c.speaker), (Some("7"), &None));
}

#[test]
fn noise_needs_no_text() {
    let line = r#"{"audio_filepath": "rain.wav", "duration": 5}"#;
    let mut reader = Reader::new(line.as_bytes(), Path::new("n"), Contents::Noise);
    assert_eq!(reader.next().unwrap().unwrap().text, "");
}

#[test]
fn audio_comes_at_16_khz_from_offset_for_duration() {
    let mut folder = Folder::new();
    // One second each of silence, tone and silence, in stereo at 48 kHz.
    let silence = vec![0.0; 48_000];
    let sound = [silence.clone(), tone(440.0, 1.0, 48_000), silence].concat();
    write_wav(&folder.path("a.wav"), &sound, 48_000, 2);
    folder.line("a.wav", 3.0, "");
    let entry = folder.corpus().entry(0).unwrap();

    let whole = audio::read(&entry).unwrap();
    assert_eq!(whole.len(), 48_000);
    let expected = tone(440.0, 1.0, RATE);
    let error = |heard: &[f32]| {
        assert_eq!(heard.len(), expected.len());
        // Not at its ends, where the tone is cut off and its band has no limit.
        let differences = heard.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        differences.skip(500).take(15_000).fold(0.0, f32::max)
    };
    assert!(error(&whole[16_000..32_000]) < 1e-3);

    let part = manifest::Entry {
        offset: 1.0,
        duration: 1.0,
        ..entry.clone()
    };
    assert!(error(&audio::read(&part).unwrap()) < 1e-3);
    assert_eq!(audio::read_part(&part, 0.5, 0.25).unwrap().len(), 4000);
    // Coders round the length; a header that is a little too long does no harm.
    let rounded = manifest::Entry {
        duration: 3.2,
        ..entry
    };
    assert_eq!(audio::read(&rounded).unwrap().len(), 48_000);
}

#[test]
fn broken_audio_is_an_error_with_the_line() {
    let mut folder = Folder::new();
    write_wav(&folder.path("short.wav"), &tone(440.0, 1.0, RATE), RATE, 1);
    fs::write(folder.path("text.wav"), "not audio at all").unwrap();
    fs::write(folder.path("empty.wav"), "").unwrap();
    folder
        .line("short.wav", 2.0, "")
        .line("text.wav", 1.0, "")
        .line("empty.wav", 1.0, "")
        .line("missing.wav", 1.0, "");
    let manifest = folder.manifest();
    let corpus = folder.corpus();
    for (line, expected) in [
        (
            1,
            "short.wav: expected sound up to 2.00 s, it ends at 1.00 s",
        ),
        (2, "text.wav: not an audio file"),
        (3, "empty.wav: is empty"),
        (4, "missing.wav: no such file"),
    ] {
        let error = audio::read(&corpus.entry(line - 1).unwrap())
            .unwrap_err()
            .to_string();
        let start = format!("{}:{line}: ", manifest.display());
        assert!(
            error.starts_with(&start) && error.contains(expected),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_line_by_line(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let lines = bytes.split(|&byte| byte == b'\n').count();
        let reader = Reader::new(&bytes[..], Path::new("x"), Contents::Speech);
        prop_assert!(reader.count() <= lines);
    }

    #[test]
    fn normalised_text_is_spelled_in_its_letters_and_stays(text in "[a-zA-Z'’ ,.\\-\t]{0,40}") {
        let normal = normalise(&text).unwrap();
        prop_assert!(normal.chars().all(|c| c == ' ' || LETTERS.contains(c)));
        prop_assert!(!normal.starts_with(' ') && !normal.ends_with(' ') && !normal.contains("  "));
        prop_assert_eq!(normalise(&normal).unwrap(), normal);
    }
}
