//! `sori-train evaluate`: its table, its JSON and what it says of the missing.

use std::fs;

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use serde_json::Value;
use sori_train::data::{Tokenizer, TokenizerKind};
use sori_train::evaluate::{ErrorCounts, word_errors};
use sori_train::model::{self, ConformerConfig};
use tch::Device;

use crate::support::{self, tiny_student};
use crate::{Speech, of_80_bands};

/// The command with a checkpoint of the tiny student and a tokenizer of as many pieces.
struct Bench {
    speech: Speech,
}

const VOCABULARY: usize = 28;

impl Bench {
    fn new(lengths: &[usize]) -> Self {
        let speech = Speech::of(lengths);
        let config = ConformerConfig {
            vocabulary: VOCABULARY as i64,
            ..of_80_bands(&tiny_student())
        };
        let (store, _model) = support::model(&config, 3);
        model::save(&speech.path("student.safetensors"), &store, &config).unwrap();
        let texts = ["the cat sat"];
        let tokenizer = Tokenizer::train(texts, TokenizerKind::Bpe, VOCABULARY).unwrap();
        tokenizer.save(&speech.path("tokens")).unwrap();
        Self { speech }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("sori-train").unwrap();
        command
            .current_dir(self.speech.folder.path())
            .args(["evaluate", "student.safetensors", "--device", "cpu"])
            .args(["--manifest", "speech.jsonl"])
            .args(arguments);
        command
    }
}

#[test]
fn the_command_prints_a_table() {
    let bench = Bench::new(&[12_000, 9_111, 700]);
    let output = bench
        .command(&[
            "--tokens",
            "tokens",
            "--chunk-ms",
            "160,full",
            "--errors",
            "errors.jsonl",
        ])
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let table = String::from_utf8(output).unwrap();
    let lines: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(lines[0][..4], ["set", "chunk", "WER", "%"]);
    assert_eq!(lines[1][..3], ["speech", "160", "ms"]);
    assert_eq!(lines[2][..2], ["speech", "full"]);
    assert!(
        lines[1].contains(&"6") && lines[1].contains(&"3"),
        "{table}"
    );

    let errors = fs::read_to_string(bench.speech.path("errors.jsonl")).unwrap();
    let errors: Vec<Value> = errors
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // An untrained model is always wrong.
    assert_eq!(errors.len(), 6);
    let first = &errors[0];
    assert_eq!(
        (&first["id"], &first["chunk_ms"]),
        (&Value::from("0.wav"), &Value::from(160))
    );
    let counts = word_errors("the cat", first["hypothesis"].as_str().unwrap());
    assert_eq!(first["insertions"], Value::from(counts.insertions));
}

#[test]
fn the_command_tells_where_results_come_from() {
    let bench = Bench::new(&[12_000, 9_111, 700]);
    let arguments = [
        "--tokens",
        "tokens",
        "--chunk-ms",
        "320",
        "--json",
        "--limit",
        "2",
    ];
    let output = bench
        .command(&arguments)
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let report: Value = serde_json::from_slice(&output).unwrap();
    let (_, model) = model::load(&bench.speech.path("student.safetensors"), Device::Cpu).unwrap();
    let parameters: i64 = model
        .config()
        .parameters()
        .iter()
        .map(|(_, count)| count)
        .sum();
    assert_eq!(report["parameters"], Value::from(parameters));
    assert_eq!(report["checkpoint"], "student.safetensors");
    assert_eq!(report["command"][1], "evaluate");
    assert_eq!(report["limit"], 2);
    let row = &report["results"][0];
    assert_eq!(
        (&row["chunk_ms"], &row["utterances"]),
        (&Value::from(320), &Value::from(2))
    );
    let words: ErrorCounts = serde_json::from_value(row["words"].clone()).unwrap();
    assert_eq!(words.reference, 4);
    assert_eq!(row["wer"].as_f64(), words.rate());
}

#[test]
fn missing_utterances_are_told_of() {
    let bench = Bench::new(&[12_000, 9_111, 700]);
    fs::write(bench.speech.path("1.wav"), "no sound").unwrap();
    let manifest = bench.speech.path("speech.jsonl");
    let lines = fs::read_to_string(&manifest).unwrap() + "{}\n";
    fs::write(&manifest, lines).unwrap();
    let arguments = [
        "--tokens",
        "tokens",
        "--chunk-ms",
        "full",
        "--longest",
        "0.6",
    ];
    bench
        .command(&arguments)
        .assert()
        .success()
        .stdout(contains(
            "speech: 3 utterances are missing: 1 bad lines, 1 with broken audio, 1 too long",
        ))
        .stderr(contains("speech.jsonl:2: ").and(contains("1.wav")));
    bench
        .command(&["--tokens", "tokens", "--longest", "0.01"])
        .assert()
        .failure()
        .stderr(contains(
            "speech holds no utterance that can be used: of 3, 0 cannot be read, 3 are too long",
        ));
    bench
        .command(&["--tokens", "tokens", "--strict"])
        .assert()
        .failure()
        .stderr(contains("speech.jsonl:4"));
}

#[test]
fn a_checkpoint_without_tokens_needs_some() {
    let bench = Bench::new(&[700]);
    bench.command(&[]).assert().failure().stderr(contains(
        "student.safetensors does not tell its tokens: give --tokens",
    ));
}
