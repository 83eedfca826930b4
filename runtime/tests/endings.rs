//! However a command ends, what was said before is said: at a signal, when the input fails, when the
//! output takes no more.

#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use sori_tests::tone::{Sound, speak};

const TONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");

/// The command, for which a hang-up is as ever, even where the tests run under `nohup`.
fn sori(arguments: &[&str]) -> Command {
    with_hang_up("default", arguments)
}

fn with_hang_up(what: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command
        .arg(format!("--{what}-signal=HUP"))
        .arg(env!("CARGO_BIN_EXE_sori"))
        .args(["transcribe", "--model", TONE, "--engine", "tract"])
        .args(arguments)
        .env_remove("RUST_BACKTRACE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// An utterance, its end, and a word that nothing has ended yet, as 16-bit samples at 16 kHz.
fn speech() -> Vec<u8> {
    let script = [
        Sound::Silence(400),
        Sound::Token(0, 200),
        Sound::Silence(2000),
        Sound::Token(1, 200),
        Sound::Silence(200),
    ];
    speak(&script)
        .iter()
        .flat_map(|sample| ((sample * 32_767.0) as i16).to_le_bytes())
        .collect()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_signal_ends_a_transcript_with_all_that_was_said() {
    for (hang_up, name) in [
        ("default", "-INT"),
        ("default", "-TERM"),
        ("default", "-HUP"),
        ("ignore", "-TERM"),
    ] {
        let mut command = with_hang_up(hang_up, &["--raw", "s16le", "-"]);
        let mut child = command.spawn().unwrap();
        // Whoever writes goes on, but says nothing more.
        let mut microphone = child.stdin.take().unwrap();
        microphone.write_all(&speech()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "one\n");
        // For the rest, which is some milliseconds of work.
        std::thread::sleep(Duration::from_secs(1));
        // As `nohup` has it: the terminal goes, the program does not.
        if hang_up == "ignore" {
            signal(&child, "-HUP");
            std::thread::sleep(Duration::from_millis(300));
            assert!(child.try_wait().unwrap().is_none());
        }
        signal(&child, name);
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "two\n", "{name}");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert_eq!(
            text(&output.stderr),
            "sori: standard input: stopped by a signal after 3.00 s of sound\n"
        );
        drop(microphone);
    }
}

#[test]
fn a_signal_before_any_sound_does_not_blame_the_sound() {
    let mut child = sori(&["-"]).spawn().unwrap();
    let microphone = child.stdin.take().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "sori: standard input: stopped by a signal before any sound\n"
    );
    drop(microphone);
}

#[test]
fn a_signal_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = sori(&["--raw", "s16le", "--format", "json", "-o", "out", "-"]);
    let mut child = command.current_dir(folder.path()).spawn().unwrap();
    let mut microphone = child.stdin.take().unwrap();
    // More than a pipe holds: once it is written, the beginning was read.
    microphone.write_all(&speech()).unwrap();
    microphone.write_all(&vec![0; 400_000]).unwrap();
    signal(&child, "-TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let json = fs::read(folder.path().join("out/stdin.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let said = json["text"].as_str().unwrap();
    assert!(
        said.starts_with("one") && "one two".starts_with(said),
        "{said}"
    );
}

/// Ends with the output; input that takes part is the sound of `speech`.
fn output(command: &mut Command) -> Output {
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || drop(input.write_all(&speech())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

#[test]
fn a_full_disk_is_said_in_one_line() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = sori(&["--raw", "s16le", "-"]);
    let heard = output(command.stdout(full));
    assert_eq!(heard.status.code(), Some(1));
    assert_eq!(
        text(&heard.stderr),
        "sori: standard output: cannot be written: No space left on device (os error 28)\n"
    );

    let folder = tempfile::tempdir().unwrap();
    symlink("/dev/full", folder.path().join("stdin.txt")).unwrap();
    let mut command = sori(&["--raw", "s16le", "-o", ".", "-"]);
    let heard = output(command.current_dir(folder.path()));
    assert_eq!(heard.status.code(), Some(1));
    assert_eq!(
        text(&heard.stderr),
        "sori: ./stdin.txt: cannot be written: No space left on device (os error 28)\n"
    );
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut child = sori(&["--raw", "s16le", "-"]).spawn().unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || drop(input.write_all(&speech())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(text(&output.stderr), "");
    assert!(output.status.success());
}

#[test]
fn input_that_fails_keeps_what_came_before() {
    let audio = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/audio"));
    let read = |name: &str| fs::read(audio.join(name)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // A second at 48 kHz, then another rate.
    let joined = [read("tone.opus"), read("tone.ogg")].concat();
    fs::write(folder.path().join("joined.ogg"), joined).unwrap();
    let mut command = sori(&["--format", "json", "joined.ogg"]);
    let heard = output(command.current_dir(folder.path()));
    assert_eq!(heard.status.code(), Some(1));
    let message = text(&heard.stderr);
    assert!(
        message.contains("sori: joined.ogg: the sample rate changes from 48000 to 44100 Hz"),
        "{message}"
    );
    let json: serde_json::Value = serde_json::from_slice(&heard.stdout).unwrap();
    assert_eq!(json["duration"], 1.0);
}
