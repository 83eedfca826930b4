//! The training demo in its short form: from no speech at all to a student that has learnt.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Word error rates of a row of the demo's table, in percent: full context, then 320 ms.
fn rates(table: &str, label: &str) -> Vec<f64> {
    let row = table.lines().find_map(|line| line.strip_prefix(label));
    let cells = row.unwrap_or_else(|| panic!("no row {label:?} in\n{table}"));
    cells
        .split_whitespace()
        .filter(|cell| *cell != "-")
        .map(|cell| cell.parse().unwrap())
        .collect()
}

#[test]
fn a_student_learns_from_a_teacher_that_learnt() {
    if Command::new("espeak-ng").arg("--version").output().is_err() {
        sori_tests::skipped("espeak-ng is not installed; `scripts/setup all` does it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/demo/run");
    let ran = Command::new(demo)
        .arg("--quick")
        .arg(&out)
        .env("SORI_TRAIN", env!("CARGO_BIN_EXE_sori-train"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}\n{said}", ran.status);

    let table = String::from_utf8(ran.stdout).unwrap();
    let teacher = rates(&table, "teacher");
    let untrained = rates(&table, "untrained student");
    let student = rates(&table, "student");
    assert_eq!([1, 2, 2], [&teacher, &untrained, &student].map(Vec::len));
    // No three words that are always written, whatever is said, do better than 90 %.
    assert!(
        teacher.iter().chain(&student).all(|wer| *wer < 60.0),
        "{table}"
    );
    assert!(untrained.iter().all(|wer| *wer > 90.0), "{table}");

    for picture in ["curves.png", "attention.png"] {
        let bytes = fs::read(out.join(picture)).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"), "{picture}");
    }
}
