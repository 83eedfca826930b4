//! Packages that open, from a folder and from memory, and paths that are none.

use std::fs;
use std::sync::Arc;

use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice, load, preferred_precisions};
use sori::model::{Package, Precision};

use crate::{complaint, package};

#[test]
fn a_good_package_opens_and_runs_on_both_engines() {
    let directory = package();
    let package = Package::open(directory.path()).unwrap();
    assert_eq!(package.config().name, "tone");
    for engine in [EngineChoice::Ort, EngineChoice::Tract] {
        for precision in package.precisions() {
            let options = EngineOptions {
                engine,
                precision: PrecisionChoice::Exactly(precision),
                threads: 2,
                parallel: 3,
                ..EngineOptions::default()
            };
            let engine = load(&package, options).unwrap();
            assert!(
                engine.description().contains(precision.name()),
                "{}",
                engine.description()
            );
            let window = vec![0.0; 32 * 80];
            assert_eq!(
                engine.session().unwrap().step(&window).unwrap().len(),
                8 * 9
            );
        }
    }
}

#[test]
fn what_is_not_asked_for_is_the_preferred_precision() {
    let directory = package();
    let package = Package::open(directory.path()).unwrap();
    for engine in [EngineChoice::Ort, EngineChoice::Tract, EngineChoice::Auto] {
        let options = EngineOptions {
            engine,
            ..EngineOptions::default()
        };
        let loaded = load(&package, options).unwrap();
        let [preferred, _] = preferred_precisions(engine);
        let description = loaded.description();
        assert!(description.contains(preferred.name()), "{description}");
    }
}

#[test]
fn a_package_opens_from_memory() {
    let directory = package();
    let read = |name: &str| fs::read(directory.path().join(name)).unwrap();
    let graph: Arc<[u8]> = read("model.onnx").into();
    let package = Package::from_memory(
        &read("config.json"),
        &read("tokens.txt"),
        Precision::Fp32,
        Arc::clone(&graph),
    )
    .unwrap();
    for engine in [EngineChoice::Ort, EngineChoice::Tract] {
        let options = EngineOptions {
            engine,
            ..EngineOptions::default()
        };
        let window = vec![0.0; 32 * 80];
        load(&package, options)
            .unwrap()
            .session()
            .unwrap()
            .step(&window)
            .unwrap();
        let int8 = EngineOptions {
            precision: PrecisionChoice::Exactly(Precision::Int8),
            ..options
        };
        let Err(error) = load(&package, int8) else {
            panic!("an int8 graph out of nothing")
        };
        assert_eq!(
            error.to_string(),
            "<memory>: no int8 graph in this package (it has fp32); choose another precision"
        );
    }
    let error =
        Package::from_memory(b"{}", &read("tokens.txt"), Precision::Fp32, graph).unwrap_err();
    assert!(error.to_string().starts_with("config.json: "), "{error}");
}

#[test]
fn paths_that_are_no_package() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("sori-en");
    assert_eq!(
        Package::open(&missing).unwrap_err().to_string(),
        format!(
            "{}: no such model package; give the directory that holds config.json",
            missing.display()
        )
    );
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(
        Package::open(&file)
            .unwrap_err()
            .to_string()
            .contains("a model package is a directory, this is a file")
    );
    for name in ["config.json", "tokens.txt", "model.onnx"] {
        assert_eq!(
            complaint(|directory| fs::remove_file(directory.join(name)).unwrap()),
            format!("{name}: missing from the model package; copy the package again, whole")
        );
    }
}
