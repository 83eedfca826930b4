//! What goes wrong is told in a line, with an exit status.

use std::fs;

use sori_tests::tone::ToneModel;

use crate::{TONE, sori, stderr, stdout, talk, transcribe};

#[test]
fn one_bad_file_among_ten_is_named_and_the_nine_are_done() {
    let (directory, path) = talk();
    let mut files: Vec<String> = (0..9).map(|index| format!("talk{index}.wav")).collect();
    for file in &files {
        fs::copy(&path, directory.path().join(file)).unwrap();
    }
    fs::write(directory.path().join("notes.wav"), "Dear diary,\n").unwrap();
    files.insert(4, "notes.wav".to_owned());
    let arguments: Vec<&str> = files.iter().map(String::as_str).collect();
    let output = transcribe(&arguments, directory.path());
    assert_eq!(stdout(&output), "one going\ntwo\n".repeat(9));
    let message = stderr(&output);
    assert!(
        message.starts_with("sori: notes.wav: ") && message.lines().count() == 1,
        "{message}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn every_mistake_is_answered_in_one_line() {
    let (directory, path) = talk();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("empty.wav"), "").unwrap();
    fs::write(at("text.wav"), "This is no sound.\n".repeat(100)).unwrap();
    let sound = fs::read(&path).unwrap();
    fs::write(at("header.wav"), &sound[..20]).unwrap();
    fs::create_dir(at("folder")).unwrap();
    ToneModel::default().write_package(&at("old")).unwrap();
    let config = fs::read_to_string(at("old/config.json")).unwrap();
    fs::write(
        at("old/config.json"),
        config.replace("\"format\": 1", "\"format\": 7"),
    )
    .unwrap();
    ToneModel::default().write_package(&at("new")).unwrap();
    fs::write(at("afile"), "x").unwrap();
    fs::write(
        at("small.arpa"),
        "\\data\\\nngram 1=1\n\n\\1-grams:\n-1 one\n\n\\end\\\n",
    )
    .unwrap();
    fs::write(at("a.lm"), b"sori-lm\0\x01\0\0\0").unwrap();
    fs::write(at("phrases"), "one\ngoing 5\n").unwrap();

    let cases: [(&[&str], &str); 16] = [
        (
            &["transcribe", "--model", TONE, "tlak.wav"],
            "sori: tlak.wav: no such file",
        ),
        (
            &["transcribe", "--model", TONE, "folder"],
            "sori: folder: is a directory",
        ),
        (
            &["transcribe", "--model", TONE, "empty.wav"],
            "sori: empty.wav: is empty",
        ),
        (
            &["transcribe", "--model", TONE, "text.wav"],
            "sori: text.wav: not an audio file",
        ),
        (
            &["transcribe", "--model", TONE, "header.wav"],
            "sori: header.wav: ",
        ),
        (
            &["transcribe", "--model", "nowhere", "talk.wav"],
            "sori: nowhere: no such model package",
        ),
        (
            &["transcribe", "--model", "talk.wav", "talk.wav"],
            "sori: talk.wav: a model package is a directory",
        ),
        (
            &["info", "old"],
            "sori: old/config.json: format: package format 7, this version of sori reads format 1",
        ),
        (
            &["transcribe", "--model", TONE, "-o", "afile/out", "talk.wav"],
            "sori: afile/out: cannot be made the output directory",
        ),
        (
            &["transcribe", "--model", "new", "--lm", "talk.wav"],
            "sori: new: this package has no language model; name one: --lm=FILE",
        ),
        (
            &["transcribe", "--model", TONE, "--lm=talk.wav", "talk.wav"],
            "sori: talk.wav: not a language model of sori; `sori lm build",
        ),
        (
            &["lm", "info", "nowhere.lm"],
            "sori: nowhere.lm: cannot be read: ",
        ),
        (
            &["lm", "build", "talk.wav", "-o", "talk.lm"],
            "sori: talk.wav:",
        ),
        (
            &["lm", "build", "small.arpa", "-o", "./small.arpa"],
            "sori: ./small.arpa: is the ARPA file itself",
        ),
        (
            &["transcribe", "--model", TONE, "a.lm"],
            "sori: a.lm: not an audio file",
        ),
        (
            &[
                "transcribe",
                "--model",
                TONE,
                "--phrases",
                "phrases",
                "talk.wav",
            ],
            "sori: phrases:2: is 5 a boost or part of the phrase?",
        ),
    ];
    for (arguments, expected) in cases {
        let output = sori(arguments)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let message = stderr(&output);
        assert!(message.starts_with(expected), "{arguments:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{arguments:?}: {message}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn a_wrong_command_line_is_status_2() {
    for arguments in [
        &["transcribe"][..],
        &["transcribe", "--engine", "gpu", "a.wav"],
        &["transcribe", "--threads", "0", "a.wav"],
        &["transcribe", "--endpoint-silence", "-1", "a.wav"],
        &["transcribe", "--rate", "8000", "a.wav"],
        &["transcribe", "--lm-weight", "0.5", "a.wav"],
        &["transcribe", "--lm", "--lm-weight", "NaN", "a.wav"],
        &["transcribe", "--raw", "s16le", "a.wav"],
        &["transcribe", "--format", "srt", "a.wav", "b.wav"],
        &["transcribe", "--nbest", "3", "a.wav"],
        &["transcribe", "--raw", "s16le", "--rate", "7999", "-"],
        &["transcribe", "--raw", "s16le", "--channels", "0", "-"],
        &["serve", "--listen", "2700"],
        &["lm", "build", "a.arpa"],
        &["sing"],
    ] {
        let output = sori(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            stderr(&output).starts_with("error: "),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    let output = sori(&["transcribe", "--nbest", "3", "a.wav"]).output();
    let usage = stderr(&output.unwrap());
    assert!(usage.contains("Usage: sori transcribe"), "{usage}");
}
