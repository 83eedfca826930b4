//! What `sori transcribe` reads, and the text that it writes.

use std::fs;
use std::process::Stdio;

use serde_json::Value;
use sori_tests::tone::{speak, speak_at};

use crate::{TONE, script, sori, stderr, stdout, talk, transcribe, with_stdin};

#[test]
fn text_is_a_line_per_utterance_and_nothing_else() {
    let (directory, _) = talk();
    for engine in ["auto", "ort", "tract"] {
        let output = transcribe(&["--engine", engine, "talk.wav"], directory.path());
        assert_eq!(stdout(&output), "one going\ntwo\n", "{engine}");
        assert_eq!(stderr(&output), "", "{engine}");
        assert!(output.status.success());
    }
}

#[test]
fn json_has_its_documented_shape() {
    let (directory, _) = talk();
    let output = transcribe(&["--format", "json", "talk.wav"], directory.path());
    let short = transcribe(&["--json", "talk.wav"], directory.path());
    assert_eq!(short.stdout, output.stdout);
    let talk: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(talk["file"], "talk.wav");
    assert_eq!(talk["duration"], 3.32);
    assert_eq!(talk["text"], "one going two");
    let segments = talk["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 2);
    let keys = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&talk), ["duration", "file", "segments", "text"]);
    assert_eq!(
        keys(&segments[0]),
        ["confidence", "end", "start", "text", "tokens", "words"]
    );
    assert_eq!(
        keys(&segments[0]["words"][0]),
        ["confidence", "end", "start", "word"]
    );
    assert_eq!(keys(&segments[0]["tokens"][0]), ["onset", "start", "token"]);
    let going = &segments[0]["words"][1];
    assert_eq!(going["word"], "going");
    assert_eq!(going["end"], 1.16);
    assert_eq!(segments[0]["tokens"][2]["token"], "ing");
}

#[test]
fn jsonl_is_an_object_per_utterance() {
    let (directory, _) = talk();
    let output = transcribe(&["--format", "jsonl", "talk.wav"], directory.path());
    let lines: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["text"], "one going");
    assert_eq!(lines[1]["file"], "talk.wav");
}

#[test]
fn subtitles() {
    let (directory, _) = talk();
    let srt = stdout(&transcribe(
        &["--format", "srt", "talk.wav"],
        directory.path(),
    ));
    let lines: Vec<&str> = srt.lines().collect();
    assert_eq!(
        (lines[0], lines[2], lines[3], lines[4], lines[6]),
        ("1", "one going", "", "2", "two"),
        "{srt}"
    );
    assert!(
        lines[1].starts_with("00:00:00,") && lines[1].contains(" --> 00:00:01,"),
        "{srt}"
    );
    // The last line stays up for a while, but no longer than the sound.
    let (_, end) = lines[5].split_once(" --> 00:00:").unwrap();
    let end: f64 = end.replace(',', ".").parse().unwrap();
    let seconds = speak(&script()).len() as f64 / 16_000.0;
    assert!(end <= seconds + 0.001, "{end} of {seconds}");
    let vtt = stdout(&transcribe(
        &["--format", "vtt", "talk.wav"],
        directory.path(),
    ));
    assert!(vtt.starts_with("WEBVTT\n\n00:00:00."), "{vtt}");
}

#[test]
fn prose_is_written_on_demand_and_never_otherwise() {
    let (folder, _) = talk();
    let refused = transcribe(&["--prose", "talk.wav"], folder.path());
    assert_eq!(stdout(&refused), "one going\ntwo\n");
    assert_eq!(
        stderr(&refused),
        " WARN --prose has no rules for the model's language, \"x-tone\"\n"
    );

    let package = folder.path().join("package");
    fs::create_dir(&package).unwrap();
    for file in fs::read_dir(TONE).unwrap() {
        let file = file.unwrap();
        let bytes = fs::read(file.path()).unwrap();
        let english = match file.file_name() == "config.json" {
            true => String::from_utf8(bytes)
                .unwrap()
                .replace("x-tone", "en-GB")
                .into(),
            false => bytes,
        };
        fs::write(package.join(file.file_name()), english).unwrap();
    }
    let english = |arguments: &[&str]| {
        let arguments = [&["transcribe", "--model", "package", "talk.wav"], arguments].concat();
        let output = sori(&arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(stderr(&output), "");
        stdout(&output)
    };
    assert_eq!(english(&["--prose"]), "One going.\nTwo.\n");
    let json = |arguments: &[&str]| -> Value {
        let arguments = [arguments, &["--format", "json"]].concat();
        serde_json::from_str(&english(&arguments)).unwrap()
    };
    let (plain, prose) = (json(&[]), json(&["--prose"]));
    assert_eq!(plain["text"], "one going two");
    assert!(plain["segments"][0].get("raw_text").is_none());
    assert_eq!(
        prose["segments"][0]["raw_text"],
        plain["segments"][0]["text"]
    );
    assert_eq!(prose["segments"][0]["words"][1]["word"], "going.");
    assert_eq!(
        prose["segments"][0]["tokens"],
        plain["segments"][0]["tokens"]
    );
}

#[test]
fn files_are_written_into_a_directory() {
    let (directory, path) = talk();
    fs::copy(&path, directory.path().join("second.v2.wav")).unwrap();
    let output = transcribe(
        &[
            "-o",
            "out/deep",
            "--format",
            "srt",
            "talk.wav",
            "second.v2.wav",
        ],
        directory.path(),
    );
    assert_eq!(stdout(&output), "");
    assert!(output.status.success(), "{}", stderr(&output));
    for name in ["talk.srt", "second.v2.srt"] {
        let text = fs::read_to_string(directory.path().join("out/deep").join(name)).unwrap();
        assert!(text.contains("one going"), "{name}: {text}");
    }
}

#[test]
fn two_files_of_one_name_do_not_share_a_transcript() {
    let (directory, path) = talk();
    let other = directory.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::copy(&path, other.join("talk.wav")).unwrap();
    let output = transcribe(
        &["-o", "out", "talk.wav", "other/talk.wav"],
        directory.path(),
    );
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("other/talk.wav: out/talk.txt has the words of another file"),
        "{said}"
    );
    let text = fs::read_to_string(directory.path().join("out/talk.txt")).unwrap();
    assert!(text.contains("one going"), "{text}");
}

#[test]
fn a_transcript_never_takes_the_place_of_what_it_was_made_of() {
    let (directory, path) = talk();
    let sound = fs::read(&path).unwrap();
    // A recording without an extension of its own, and one behind a link.
    fs::write(directory.path().join("talk.txt"), &sound).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("talk.wav", directory.path().join("talk.srt")).unwrap();
    // What else is read, and what has two names.
    fs::write(directory.path().join("other.txt"), "one\n").unwrap();
    fs::copy(&path, directory.path().join("other.wav")).unwrap();
    fs::hard_link(&path, directory.path().join("talk.json")).unwrap();
    for arguments in [
        &["-o", ".", "talk.txt"][..],
        &["-o", ".", "--phrases", "other.txt", "other.wav"],
        &["-o", ".", "--format", "json", "talk.wav"],
        &["-o", ".", "talk.wav", "talk.txt"],
        #[cfg(unix)]
        &["-o", ".", "--format", "srt", "talk.wav"],
    ] {
        let output = transcribe(arguments, directory.path());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.contains("is one of the files to read"), "{said}");
        for name in ["talk.wav", "talk.txt"] {
            assert_eq!(fs::read(directory.path().join(name)).unwrap(), sound);
        }
    }
}

#[test]
fn a_pipe_that_ends_where_the_sound_does_is_no_cause_for_alarm() {
    let (directory, path) = talk();
    let mut bytes = fs::read(&path).unwrap();
    let sound = bytes.windows(4).position(|at| at == b"data").unwrap() + 4;
    for size in [4, sound] {
        bytes[size..size + 4].fill(0xff);
    }
    let mut command = sori(&["transcribe", "--model", TONE, "-"]);
    let output = with_stdin(command.current_dir(directory.path()), &bytes);
    assert_eq!(
        (stdout(&output).as_str(), stderr(&output).as_str()),
        ("one going\ntwo\n", "")
    );
    // A size that was known and is not kept is told.
    let mut command = sori(&["transcribe", "--model", TONE, "-"]);
    let whole = fs::read(&path).unwrap();
    let cut = &whole[..whole.len() - 4000];
    let output = with_stdin(command.current_dir(directory.path()), cut);
    assert!(
        stderr(&output).contains("stops in the middle"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn standard_input_is_a_file_or_bare_samples() {
    let (directory, path) = talk();
    let hear = |arguments: &[&str], bytes: &[u8]| {
        let mut command = sori(&["transcribe", "--model", TONE, "-"]);
        command.args(arguments).current_dir(directory.path());
        with_stdin(&mut command, bytes)
    };
    assert_eq!(
        stdout(&hear(&[], &fs::read(&path).unwrap())),
        "one going\ntwo\n"
    );

    let samples = speak(&script());
    let floats: Vec<u8> = samples
        .iter()
        .flat_map(|sample| sample.to_le_bytes())
        .collect();
    assert_eq!(
        stdout(&hear(&["--raw", "f32le"], &floats)),
        "one going\ntwo\n"
    );
    let stereo: Vec<u8> = speak_at(&script(), 48_000)
        .iter()
        .flat_map(|sample| [(sample * 32_767.0) as i16, 0])
        .flat_map(i16::to_le_bytes)
        .collect();
    let output = hear(
        &["--raw", "s16le", "--rate", "48000", "--channels", "2"],
        &stereo,
    );
    assert_eq!(stdout(&output), "one going\ntwo\n", "{}", stderr(&output));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (directory, path) = talk();
    for index in 0..40 {
        fs::copy(&path, directory.path().join(format!("talk{index}.wav"))).unwrap();
    }
    let files: Vec<String> = (0..40).map(|index| format!("talk{index}.wav")).collect();
    // Whoever reads goes away before the first word.
    let unread = |options: &[&str]| {
        let mut command = sori(&["transcribe", "--model", TONE]);
        command
            .args(options)
            .args(&files)
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap()
    };
    let output = unread(&["--format", "json"]);
    assert_eq!(stderr(&output), "");
    assert!(output.status.success());

    // A file that failed before is one that failed.
    let output = unread(&["missing.wav"]);
    assert!(stderr(&output).starts_with("sori: missing.wav: "));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn messages_that_nobody_reads_are_no_error_of_another_kind() {
    let mut command = sori(&["transcribe", "--model", TONE, "missing.wav"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut command = sori(&["info", "missing"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
