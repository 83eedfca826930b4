//! The examples do what they say. `cargo test` builds them beside the tests.

#![cfg(all(feature = "files", feature = "tract"))]
#![allow(clippy::unwrap_used, missing_docs)]

use std::env;
use std::path::PathBuf;
use std::process::Command;

const TONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone/sample.wav");

fn example(name: &str) -> Command {
    // Tests lie in `deps`, examples beside it.
    let tests = env::current_exe().unwrap();
    let folder = tests.ancestors().nth(2).unwrap().join("examples");
    let path: PathBuf = folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{}: run `cargo build --examples`",
        path.display()
    );
    Command::new(path)
}

fn says(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn file_gives_each_word_its_times() {
    let said = says(example("file").args([TONE, SAMPLE]));
    let words: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let spoken: Vec<_> = words.iter().map(|word| word[4]).collect();
    assert_eq!(spoken, ["one", "two", "three", "소리", "going"]);
    let times: Vec<f64> = words
        .iter()
        .flat_map(|word| [word[0], word[1]].map(|time| time.parse().unwrap()))
        .collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[test]
fn many_streams_all_hear_the_same() {
    let said = says(example("many_streams").args([TONE, SAMPLE, "5"]));
    let (text, rest) = said.split_once('\n').unwrap();
    assert_eq!(text, "one two three 소리 going");
    assert!(rest.starts_with("5 streams of 4.2 s"), "{rest}");
}

#[test]
fn phrases_are_expected_and_others_are_still_heard() {
    let said = says(example("phrases").args([TONE, SAMPLE, "one", "소리"]));
    assert_eq!(
        said,
        "without: one two three 소리 going\nwith one, 소리: one two three 소리 going\n"
    );
}

#[cfg(all(feature = "microphone", target_os = "linux"))]
#[test]
fn microphone_captions_what_is_said() {
    if env::var_os("SORI_SKIP_VIRTUAL_MIC").is_some() {
        sori_tests::not_for_this_machine("SORI_SKIP_VIRTUAL_MIC is set");
        return;
    }
    let microphone = sori_tests::virtual_microphone::VirtualMicrophone::start().unwrap();
    let mut command = example("microphone");
    command.args([TONE, "12"]).envs(microphone.environment());
    let listening = std::thread::spawn(move || says(&mut command));
    // Sound that comes before it listens is not heard, so it comes twice.
    microphone.play(std::path::Path::new(SAMPLE)).unwrap();
    microphone.play(std::path::Path::new(SAMPLE)).unwrap();
    let said = listening.join().unwrap();
    assert!(said.contains("소리 going\n"), "{said}");
}
