//! The `sori` command as a user meets it: results, messages, exit statuses.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sori_tests::tone::{Sound, ToneModel, speak, speak_at, transcript};

const TONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");

fn sori(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sori"));
    command
        .args(arguments)
        .env_remove("SORI_MODEL")
        .env_remove("RUST_BACKTRACE");
    command
}

fn transcribe(arguments: &[&str], directory: &Path) -> Output {
    let mut command = sori(&["transcribe", "--model", TONE]);
    command
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn script() -> Vec<Sound> {
    vec![
        Sound::Silence(400),
        Sound::Token(0, 200),
        Sound::Silence(200),
        Sound::Token(3, 160),
        Sound::Token(5, 160),
        Sound::Silence(2000),
        Sound::Token(1, 200),
    ]
}

fn write_wav(path: &Path, rate: u32) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in speak_at(&script(), rate) {
        writer.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// A directory with `talk.wav`, and the path of that file.
fn talk() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("talk.wav");
    write_wav(&path, 44_100);
    (directory, path)
}

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
fn a_beam_hears_the_same_and_knows_alternatives() {
    let (folder, _) = talk();
    let plain = stdout(&transcribe(&["talk.wav"], folder.path()));
    let list = folder.path().join("phrases.txt");
    fs::write(&list, "one going\n# numbers\nthree 0.4\n").unwrap();
    for search in [&["--beam", "4"][..], &["--phrases", "phrases.txt"]] {
        let output = transcribe(&[search, &["talk.wav"]].concat(), folder.path());
        assert_eq!(stdout(&output), plain, "{}", stderr(&output));
    }
    let json = transcribe(
        &["--nbest", "3", "--format", "json", "talk.wav"],
        folder.path(),
    );
    let json: Value = serde_json::from_str(&stdout(&json)).unwrap();
    let first = &json["segments"][0];
    let alternatives = first["alternatives"].as_array().unwrap();
    assert!((2..=3).contains(&alternatives.len()), "{alternatives:?}");
    assert_eq!(alternatives[0]["text"], first["text"]);
    let score = |index: usize| alternatives[index]["score"].as_f64().unwrap();
    assert!(score(0) > score(1));

    fs::write(&list, "one\nzwölf\n").unwrap();
    let refused = transcribe(&["--phrases", "phrases.txt", "talk.wav"], folder.path());
    assert_eq!(
        stderr(&refused),
        "sori: phrases.txt:2: the model's tokens have no 'z', so it cannot say \"zwölf\"\n"
    );
    assert_eq!(refused.status.code(), Some(1));
}

const ARPA: &str = "\\data\\\nngram 1=4\nngram 2=1\n\n\
    \\1-grams:\n-1.5\t</s>\n-99\t<s>\t-0.5\n-1\tone\t-0.25\n-2\tgoing\n\n\
    \\2-grams:\n-0.5\t<s> one\n\n\\end\\\n";

#[test]
fn a_grammar_is_kept_to() {
    let (folder, _) = talk();
    let write = |grammar| fs::write(folder.path().join("commands"), grammar).unwrap();
    write("one going\none\nthree\n");
    let command = ["--grammar", "commands", "talk.wav"];
    let output = transcribe(&command, folder.path());
    assert_eq!(
        stdout(&output),
        "one going\n[out of grammar]\n",
        "{}",
        stderr(&output)
    );
    let json = transcribe(
        &[&["--format", "json"], &command[..]].concat(),
        folder.path(),
    );
    let json: Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(json["text"], "one going");
    assert!(json["segments"][0].get("out_of_grammar").is_none());
    assert_eq!(json["segments"][1]["out_of_grammar"], true);
    assert_eq!(json["segments"][1]["text"], "");

    write("#JSGF V1.0;\npublic <number> = one | zwei;\n");
    let refused = transcribe(&command, folder.path());
    assert_eq!(
        stderr(&refused),
        "sori: commands:2: the model's tokens have no 'z', so it cannot say \"zwei\"\n"
    );
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn without_a_model_a_checkout_takes_its_own() {
    let talk = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/jfk.wav");
    let output = sori(&["transcribe", "--json", talk]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_ne!(said["text"], "");
}

#[test]
fn without_a_model_the_one_beside_the_command_is_used() {
    let (folder, _) = talk();
    for place in ["share/sori/sori-en-5m", "bin/models/sori-en-5m"] {
        let package = folder.path().join(place);
        fs::create_dir_all(&package).unwrap();
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        for file in fs::read_dir(TONE).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), package.join(file.file_name())).unwrap();
        }
        let command = folder.path().join("bin/sori");
        fs::copy(env!("CARGO_BIN_EXE_sori"), &command).unwrap();
        let mut command = Command::new(command);
        command
            .args(["transcribe", "talk.wav"])
            .env_remove("SORI_MODEL");
        let output = command.current_dir(folder.path()).output().unwrap();
        assert_eq!(stdout(&output), "one going\ntwo\n", "{}", stderr(&output));
        fs::remove_dir_all(package).unwrap();
    }
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

/// A directory with `talk.wav`, and `model.lm` made of [`ARPA`].
fn talk_and_model() -> tempfile::TempDir {
    let (directory, _) = talk();
    fs::write(directory.path().join("model.arpa"), ARPA).unwrap();
    let output = sori(&["lm", "build", "model.arpa", "-o", "model.lm"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!((stdout(&output), stderr(&output)), Default::default());
    assert!(output.status.success());
    directory
}

fn with_stdin(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_language_model_is_built_described_and_asked() {
    let directory = talk_and_model();
    let run = |arguments: &[&str], input: &[u8]| {
        let mut command = sori(&["lm"]);
        with_stdin(command.args(arguments).current_dir(directory.path()), input)
    };
    let info = stdout(&run(&["info", "model.lm"], b""));
    assert_eq!(
        info,
        "order         2\n1-grams       4\n2-grams       1\nsize          0.00 MB\n"
    );
    let info = stdout(&run(&["info", "--json", "model.lm"], b""));
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["order"], 2);
    assert_eq!(info["ngrams"], serde_json::json!([4, 1]));
    let score = run(&["score", "model.lm"], b"one going\ntwo\n\n");
    let lines: Vec<Vec<String>> = stdout(&score)
        .lines()
        .map(|line| line.split('\t').map(ToOwned::to_owned).collect())
        .collect();
    for (line, (log10, unknown, sentence)) in lines.iter().zip([
        (-0.5 - 0.25 - 2.0 - 1.5, "0", "one going"),
        (-1.5, "1", "two"),
        (-0.5 - 1.5, "0", ""),
    ]) {
        assert!(
            (line[0].parse::<f64>().unwrap() - log10).abs() < 1e-3,
            "{line:?}"
        );
        assert_eq!((line[1].as_str(), line[2].as_str()), (unknown, sentence));
    }
    // 10^(7.75 / 6): three words and three ends.
    assert_eq!(
        stderr(&score),
        "3 sentences, 3 words, 1 of them unknown (33.33 %), perplexity 19.6 (35.5 without the unknown)\n"
    );
    assert_eq!(stderr(&run(&["score", "-q", "model.lm"], b"one\n")), "");

    let built = fs::read(directory.path().join("model.lm")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(ARPA.as_bytes()).unwrap();
    for input in [ARPA.as_bytes(), &packed.finish().unwrap()] {
        let output = run(&["build", "-", "-o", "again.lm"], input);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(fs::read(directory.path().join("again.lm")).unwrap(), built);
    }

    let wrong = run(&["build", "-", "-o", "wrong.lm"], &ARPA.as_bytes()[..60]);
    assert_eq!(
        stderr(&wrong),
        "sori: standard input:7: expected 4 1-grams, as \\data\\ says, found 2\n"
    );
    assert_eq!(wrong.status.code(), Some(1));
    assert!(!directory.path().join("wrong.lm").exists());
}

#[test]
fn a_language_model_leads_the_beam() {
    let directory = talk_and_model();
    let score = |search: &[&str], package: &str| {
        let mut command = sori(&["transcribe", "--nbest", "4", "--format", "json", "talk.wav"]);
        let command = command.args(["--model", package]).args(search);
        let output = command.current_dir(directory.path()).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", stderr(&output)));
        assert_eq!(json["text"], "one going two");
        json["segments"][0]["alternatives"][0]["score"]
            .as_f64()
            .unwrap()
    };
    let ln = std::f64::consts::LN_10;
    let plain = score(&[], TONE);
    let close = |found: f64, expected: f64| {
        assert!(
            (found - plain - expected).abs() < 2e-3,
            "{} {expected}",
            found - plain
        );
    };
    close(score(&["--lm=model.lm"], TONE), 0.5 * ln * -2.75 + 2.0);
    close(
        score(
            &[
                "--lm=model.lm",
                "--lm-weight",
                "0.25",
                "--word-bonus",
                "-0.5",
            ],
            TONE,
        ),
        0.25 * ln * -2.75 - 1.0,
    );

    // The one that the package brings along, with what it says of it.
    let package = directory.path().join("tone");
    ToneModel::default().write_package(&package).unwrap();
    let path = package.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["language_model"] = serde_json::json!({"file": "model.lm", "weight": 1.0});
    fs::write(&path, config.to_string()).unwrap();
    fs::copy(directory.path().join("model.lm"), package.join("model.lm")).unwrap();
    close(score(&["--lm"], "tone"), ln * -2.75 + 2.0);
    close(score(&["--lm", "--word-bonus", "0"], "tone"), ln * -2.75);
    close(score(&[], "tone"), 0.0);
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
    let vtt = stdout(&transcribe(
        &["--format", "vtt", "talk.wav"],
        directory.path(),
    ));
    assert!(vtt.starts_with("WEBVTT\n\n00:00:00."), "{vtt}");
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

    let cases: [(&[&str], &str); 13] = [
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
}

#[test]
fn a_missing_or_foreign_onnx_runtime_is_a_fall_back_or_an_error() {
    let (directory, _) = talk();
    fs::write(directory.path().join("libonnxruntime.so"), "not a library").unwrap();
    for library in ["/nowhere/libonnxruntime.so", "libonnxruntime.so", "/"] {
        let run = |engine: &str| {
            let mut command = sori(&[
                "-v",
                "transcribe",
                "--model",
                TONE,
                "--engine",
                engine,
                "talk.wav",
            ]);
            command
                .env("ORT_DYLIB_PATH", library)
                .current_dir(directory.path())
                .output()
                .unwrap()
        };
        let auto = run("auto");
        assert_eq!(
            stdout(&auto),
            "one going\ntwo\n",
            "{library}: {}",
            stderr(&auto)
        );
        assert!(
            stderr(&auto).contains("engine tract, because ort cannot be used"),
            "{}",
            stderr(&auto)
        );

        let ort = run("ort");
        assert_eq!(ort.status.code(), Some(1), "{library}");
        let message = stderr(&ort);
        assert!(
            message.contains("no usable ONNX Runtime library"),
            "{message}"
        );
        assert!(!message.contains("panicked"), "{message}");
    }
}

#[test]
fn an_old_onnx_runtime_is_named_with_its_version() {
    let (directory, _) = talk();
    let source = "static const char *version(void) { return \"1.10.0\"; }\n\
        static const void *api(unsigned number) { return 0; }\n\
        static struct { const void *(*get)(unsigned); const char *(*name)(void); } base = {api, version};\n\
        const void *OrtGetApiBase(void) { return &base; }\n";
    fs::write(directory.path().join("old.c"), source).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o", "old.so", "old.c"])
        .current_dir(directory.path())
        .status()
        .unwrap();
    assert!(compiled.success());
    let library = directory.path().join("old.so");
    let run = |engine: &str| {
        let mut command = sori(&[
            "-v",
            "transcribe",
            "--model",
            TONE,
            "--engine",
            engine,
            "talk.wav",
        ]);
        command
            .env("ORT_DYLIB_PATH", &library)
            .current_dir(directory.path())
            .output()
            .unwrap()
    };
    let ort = run("ort");
    let expected = format!("{}: version 1.10.0 is too old", library.display());
    assert!(stderr(&ort).contains(&expected), "{}", stderr(&ort));
    assert_eq!(ort.status.code(), Some(1));
    assert_eq!(stdout(&run("auto")), "one going\ntwo\n");
}

#[test]
fn verbose_says_which_engine_and_why() {
    let (directory, _) = talk();
    let output = transcribe(&["-v", "--engine", "auto", "talk.wav"], directory.path());
    assert!(
        stderr(&output).contains("engine ort, from "),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("int8"), "{}", stderr(&output));
    let output = transcribe(&["-v", "--engine", "tract", "talk.wav"], directory.path());
    // Int8 is the faster one where the processor has AVX2.
    #[cfg(target_arch = "x86_64")]
    let expected = ["fp32", "int8"][usize::from(std::is_x86_feature_detected!("avx2"))];
    #[cfg(not(target_arch = "x86_64"))]
    let expected = "fp32";
    assert!(
        stderr(&output).contains("tract") && stderr(&output).contains(expected),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let (directory, path) = talk();
    for index in 0..40 {
        fs::copy(&path, directory.path().join(format!("talk{index}.wav"))).unwrap();
    }
    let files: Vec<String> = (0..40).map(|index| format!("talk{index}.wav")).collect();
    let mut command = sori(&["transcribe", "--model", TONE, "--format", "json"]);
    command
        .args(&files)
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
    assert!(output.status.success());
}

#[test]
fn info_says_what_is_in_a_package() {
    let output = sori(&["info", TONE]).output().unwrap();
    let text = stdout(&output);
    for expected in [
        "name          tone\n",
        "tokens        9\n",
        "chunk         320 ms\n",
        "fp32 ",
        "int8 ",
    ] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    let json: Value =
        serde_json::from_slice(&sori(&["info", "--json", TONE]).output().unwrap().stdout).unwrap();
    assert_eq!(json["geometry"]["window_size"], 32);
}

#[test]
fn bench_prints_its_figures() {
    let (directory, _) = talk();
    for engine in ["ort", "tract"] {
        let arguments = [
            "bench", "--model", TONE, "--engine", engine, "--json", "--repeat", "2", "talk.wav",
        ];
        let output = sori(&arguments)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(figures["engine"].as_str().unwrap().starts_with(engine));
        assert!((figures["audio_seconds"].as_f64().unwrap() - 3.32).abs() < 1e-3);
        for field in ["load_ms", "cpu_real_time_factor", "wall_real_time_factor"] {
            assert!(figures[field].as_f64().unwrap() > 0.0, "{field}: {figures}");
        }
        let percentiles = &figures["chunk_wall_ms"];
        assert!(
            percentiles["p50"].as_f64() <= percentiles["p99"].as_f64(),
            "{figures}"
        );
        assert!(figures["peak_memory_mb"].is_number() || !cfg!(target_os = "linux"));
        assert_eq!(figures["streams"], 1);
    }
    let text = stdout(
        &sori(&["bench", "--model", TONE, "--streams", "3", "talk.wav"])
            .current_dir(directory.path())
            .output()
            .unwrap(),
    );
    assert!(
        text.contains("s per second of audio")
            && text.contains("p99")
            && text.contains("3 at once"),
        "{text}"
    );
}

#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = sori(&["completions", shell]).output().unwrap();
        assert!(stdout(&output).contains("transcribe"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man");
    assert!(
        sori(&["man", pages.to_str().unwrap()])
            .status()
            .unwrap()
            .success()
    );
    for page in ["sori.1", "sori-transcribe.1", "sori-lm-build.1"] {
        let text = fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(
        fs::read_to_string(pages.join("sori.1"))
            .unwrap()
            .contains("Exit status")
    );
}

#[test]
fn words_of_the_script_are_what_these_tests_expect() {
    assert_eq!(transcript(&script()), "one going two");
}
