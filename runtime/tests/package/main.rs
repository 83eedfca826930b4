//! A package in which something is wrong is refused with one line that names the file, the field,
//! what was expected and what was found.

#![allow(clippy::unwrap_used, missing_docs)]

mod configuration;
mod files;
mod graphs;
mod opening;

use std::fs;
use std::path::Path;

use serde_json::Value;
use sori::model::Package;
use sori_tests::tone::ToneModel;
use tempfile::TempDir;

fn package() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    ToneModel::default()
        .write_package(directory.path())
        .unwrap();
    directory
}

/// What is said of a package after `damage`, without the path of its directory.
fn complaint(damage: impl FnOnce(&Path)) -> String {
    let directory = package();
    damage(directory.path());
    let checked = Package::open(directory.path()).and_then(|package| package.verify());
    let error = checked.unwrap_err().to_string();
    assert!(!error.contains('\n'), "more than a line: {error}");
    error.replace(&format!("{}/", directory.path().display()), "")
}

fn config(change: impl FnOnce(&mut Value)) -> String {
    complaint(|directory| {
        let path = directory.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    })
}
