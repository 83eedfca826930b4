//! The command as a person types it.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use assert_cmd::Command;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};
use sori_train::model::ConformerConfig;
use support::{checkpoint, tiny_student};

fn sori_export() -> Command {
    Command::cargo_bin("sori-export").unwrap()
}

#[test]
fn a_checkpoint_becomes_a_package_and_its_graph_can_be_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, _) = checkpoint(folder.path(), &tiny_student(), 1);
    let target = folder.path().join("tiny");
    sori_export()
        .arg(&checkpoint)
        .args(["-o".as_ref(), target.as_os_str()])
        .args([
            "--chunk-ms",
            "160",
            "--left-ms",
            "640",
            "--int8",
            "--training",
            "data=none",
            "--measured",
            "none=99",
        ])
        .assert()
        .success()
        .stdout(contains("model.int8.onnx").and(contains("same best token")));
    assert!(sori::model::Package::open(&target).is_ok());

    sori_export()
        .args(["inspect".as_ref(), target.join("model.onnx").as_os_str()])
        .assert()
        .success()
        .stdout(contains("LayerNormalization").and(contains("per 160 ms chunk")));
    let inspect = [
        "inspect",
        "--json",
        target.join("model.onnx").to_str().unwrap(),
    ]
    .map(str::to_owned);
    let printed = sori_export().args(inspect).assert().success();
    let printed: serde_json::Value = serde_json::from_slice(&printed.get_output().stdout).unwrap();
    let found = sori_export::inspect(&target.join("model.onnx")).unwrap();
    assert_eq!(printed["multiply_adds"], found.multiply_adds);
    assert_eq!(
        printed["operators"]["LayerNormalization"],
        found.operators["LayerNormalization"]
    );
}

#[test]
fn errors_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, _) = checkpoint(folder.path(), &tiny_student(), 1);
    let checkpoint = checkpoint.to_str().unwrap();
    let target = folder.path().join("tiny");
    let refused = |arguments: &[&str], reason: &str| {
        let one_line = predicate::function(|text: &str| text.lines().count() == 1);
        sori_export()
            .args(arguments)
            .args(["-o".as_ref(), target.as_os_str()])
            .assert()
            .failure()
            .stderr(
                starts_with("sori-export: ")
                    .and(contains(reason))
                    .and(one_line),
            );
        assert!(!target.exists());
    };
    refused(
        &["missing.safetensors"],
        "missing.safetensors: No such file",
    );
    refused(
        &[checkpoint, "--chunk-ms", "33"],
        "chunk: expected a multiple of 40 ms",
    );
    refused(
        &[checkpoint, "--batch", "0"],
        "batch: expected 1 to 1024 streams, found 0",
    );
    refused(
        &[checkpoint, "--tokens", "missing.txt"],
        "missing.txt: No such file",
    );

    let inspect = |file| sori_export().args(["inspect", file]).assert().failure();
    inspect("Cargo.toml").stderr(contains("not a complete ONNX model"));
    inspect(checkpoint).stderr(contains("not a complete ONNX model"));
    let no_rate = [checkpoint, "-o", "x", "--measured", "much"];
    sori_export()
        .args(no_rate)
        .assert()
        .failure()
        .stderr(contains("SET=WER"));
    sori_export().assert().failure();
}

#[test]
fn an_inspection_counts_what_is_known_beforehand() {
    let folder = tempfile::tempdir().unwrap();
    let config = ConformerConfig {
        layers: 1,
        ..tiny_student()
    };
    let (checkpoint, _) = checkpoint(folder.path(), &config, 1);
    let target = folder.path().join("tiny");
    sori_export::export(&checkpoint, &target, &support::options(160, 640)).unwrap();
    let inspection = sori_export::inspect(&target.join("model.onnx")).unwrap();

    let (d, inner, channels, frames, keys) = (24, 32, 6, 4, 20);
    let subsampling =
        channels * (2 * 9) * 9 * 41 + channels * channels * 9 * 4 * 20 + 4 * 20 * channels * d;
    let feed_forward = 2 * 2 * frames * d * inner;
    let attention = frames * (4 * d * d) + frames * d * (keys + keys + keys + frames - 1);
    let convolution = frames * (2 * d * d + 7 * d + d * d);
    let head = frames * d * 10;
    assert_eq!(
        inspection.multiply_adds,
        subsampling + feed_forward + attention + convolution + head
    );
    assert_eq!(inspection.operators["LayerNormalization"], 6);
    assert_eq!(inspection.chunk_ms, Some(160));
    let caches = 2 * 3 * 16 * 8 + 3 * 10 * 24;
    let rest = 80 * 16 + 4 * 10 + 4 * 2;
    assert_eq!(inspection.cache_bytes, 4 * (2 * caches + rest));
}
