//! The `sori` command as a user meets it: results, messages, exit statuses.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, missing_docs)]

mod commands;
mod engines;
mod mistakes;
mod models;
mod output;
mod search;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sori_tests::tone::{Sound, speak_at, transcript};

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
fn words_of_the_script_are_what_these_tests_expect() {
    assert_eq!(transcript(&script()), "one going two");
}
