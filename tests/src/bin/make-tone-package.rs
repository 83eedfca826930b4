//! Writes the default tone package and its sample: `make-tone-package DIRECTORY`.

use std::path::Path;
use std::process::ExitCode;

use sori_tests::tone::ToneModel;

fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: make-tone-package DIRECTORY");
        return ExitCode::from(2);
    };
    match ToneModel::default().write_package(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "cannot write a package into {}: {error}",
                directory.display()
            );
            ExitCode::FAILURE
        }
    }
}
