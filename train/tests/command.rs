//! The `sori-train` command as a user meets it.
#![allow(clippy::unwrap_used, missing_docs)]

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, is_match};

fn sori_train() -> Command {
    Command::cargo_bin("sori-train").unwrap()
}

#[test]
fn params_prints_the_parameters_of_teacher_and_student() {
    let params = |config: &str| {
        let mut command = sori_train();
        command
            .args(["params", "--config", config])
            .assert()
            .success()
    };
    params("teacher")
        .stdout(is_match(r"(?m)^CTC head +66177$").unwrap())
        .stdout(is_match(r"(?m)^total +121501313$").unwrap());
    params("student").stdout(is_match(r"(?m)^total +4992129$").unwrap());
}

#[test]
fn params_reads_a_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.json");
    let params = || {
        let mut command = sori_train();
        command.args(["params", "--config"]).arg(&path).assert()
    };
    params()
        .failure()
        .stderr(contains("cannot read").and(contains("model.json")));

    let student = sori_train::model::ConformerConfig::student();
    let write = |text: String| std::fs::write(&path, text).unwrap();
    write(serde_json::to_string(&student).unwrap());
    params().success().stdout(contains("4992129"));
    write(
        serde_json::to_string(&student)
            .unwrap()
            .replace("\"heads\":4", "\"heads\":7"),
    );
    params()
        .failure()
        .stderr(contains("d_model must be even and a multiple of 7 heads"));
    write("{\"heads\": 4}".into());
    params()
        .failure()
        .stderr(contains("model.json").and(contains("missing field")));
}

#[test]
fn what_is_wrong_with_a_recipe_is_said_once() {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../recipes/demo/student.toml");
    let refused = |change: &str| {
        let mut command = sori_train();
        command
            .args(["train", recipe, "-o", "run", "--set", change])
            .assert()
            .failure()
    };
    refused("data.batching.max_seconds=0.5").stderr(
        is_match(
            r"\Asori-train: recipe: \[data\]: batching.max_seconds must be [^\n]+, found 0.5\n\z",
        )
        .unwrap(),
    );
    refused("model.heads=7").stderr(
        is_match(r"\Asori-train: recipe: \[model\]: [^\n]+ multiple of 7 heads, found [0-9]+\n\z")
            .unwrap(),
    );
}
