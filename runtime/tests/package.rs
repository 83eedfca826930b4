//! A package in which something is wrong is refused with one line that names the file, the field,
//! what was expected and what was found.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice, load};
use sori::lm::{LanguageModel, LmOptions};
use sori::model::{Package, Precision};
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
    let error = Package::open(directory.path()).unwrap_err().to_string();
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

#[test]
fn configurations_that_are_no_json() {
    let write = |text: &'static str| {
        complaint(|directory| fs::write(directory.join("config.json"), text).unwrap())
    };
    assert_eq!(
        write(""),
        "config.json: line 1, column 0: EOF while parsing a value"
    );
    assert_eq!(
        write("{\"format\": 1,\n oops"),
        "config.json: line 2, column 2: key must be a string"
    );
    assert_eq!(
        write("[]"),
        "config.json: line 1, column 2: invalid length 0, expected struct Version with 1 element"
    );
    assert!(write("\u{0}\u{1}").starts_with("config.json: line 1, column 1: "));
    let deep: &'static str = Box::leak("[".repeat(1 << 19).into_boxed_str());
    assert!(write(deep).starts_with("config.json: "));
}

#[test]
fn other_format_versions() {
    assert_eq!(
        config(|config| {
            config["format"] = 2.into();
            config["geometry"] = "whatever comes next".into();
        }),
        "config.json: format: package format 2, this version of sori reads format 1; update sori or export the model again"
    );
    assert!(
        config(|config| config["format"] = "1".into())
            .starts_with("config.json: format: invalid type: string")
    );
    assert!(
        config(|config| drop(config.as_object_mut().unwrap().remove("format")))
            .contains("missing field `format`")
    );
}

#[test]
fn fields_that_cannot_be_used() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 19] = [
        (
            |c| c["geometry"]["window_size"] = "32".into(),
            "geometry.window_size: invalid type: string \"32\", expected usize",
        ),
        (
            |c| c["geometry"]["window_size"] = 0.into(),
            "geometry.window_size: expected 1 to 6000 frames, found 0",
        ),
        (
            |c| c["geometry"]["chunk_shift"] = 64.into(),
            "geometry.chunk_shift: expected 1 to window_size (32) frames, found 64",
        ),
        (
            |c| c["geometry"]["subsampling_factor"] = 0.into(),
            "geometry.subsampling_factor: expected a divisor of chunk_shift (32), found 0",
        ),
        (
            |c| c["geometry"]["subsampling_factor"] = 5.into(),
            "geometry.subsampling_factor: expected a divisor of chunk_shift (32), found 5",
        ),
        (
            |c| c["geometry"]["cache_last_time"][0] = 0.into(),
            "geometry.cache_last_time: expected three sizes of at least 1",
        ),
        (
            |c| c["geometry"]["cache_last_time"][0] = u64::MAX.into(),
            "geometry.cache_last_time: expected three sizes of at least 1",
        ),
        (
            |c| c["features"]["kind"] = "whisper".into(),
            "features.kind: expected slaney-log-mel, found whisper",
        ),
        (
            |c| c["features"]["sample_rate"] = 8000.into(),
            "features.sample_rate: expected 16000, found 8000",
        ),
        (
            |c| c["streaming"]["chunk_ms"] = 160.into(),
            "streaming.chunk_ms: expected 320 (chunk_shift x frame_shift_ms), found 160",
        ),
        (
            |c| c["tokens"]["blank_id"] = 0.into(),
            "tokens.blank_id: expected the last id, 8, found 0",
        ),
        (
            |c| c["tokens"]["count"] = u64::MAX.into(),
            "tokens.count: expected 2 to 131072",
        ),
        (
            |c| c["tokens"]["file"] = "../tokens.txt".into(),
            "tokens.file: expected a file name without folders, found \"../tokens.txt\"",
        ),
        (
            |c| c["graphs"] = serde_json::json!({}),
            "graphs: expected \"fp32\", \"int8\" or both, found neither",
        ),
        (
            |c| {
                drop(
                    c["geometry"]
                        .as_object_mut()
                        .unwrap()
                        .remove("cache_last_time"),
                );
            },
            "geometry: missing field `cache_last_time`",
        ),
        (
            |c| c["language_model"] = serde_json::json!({"weight": 1}),
            "language_model: missing field `file`",
        ),
        (
            |c| c["language_model"] = serde_json::json!({"file": "/etc/passwd"}),
            "language_model.file: expected a file name without folders, found \"/etc/passwd\"",
        ),
        (
            |c| c["language_model"] = serde_json::json!({"file": "a.lm", "weight": -1}),
            "language_model.weight: expected 0 to 10, found -1",
        ),
        (
            |c| c["language_model"] = serde_json::json!({"file": "a.lm", "unknown_penalty": 1e9}),
            "language_model.unknown_penalty: expected 0 to 100, found 1000000000",
        ),
    ];
    for (change, expected) in cases {
        let found = config(change);
        assert!(
            found.starts_with(&format!("config.json: {expected}")),
            "expected {expected}\n   found {found}"
        );
    }
}

#[test]
fn a_language_model_in_a_package_is_checked_with_it() {
    let arpa = "\\data\\\nngram 1=1\n\n\\1-grams:\n-1 one\n\n\\end\\\n";
    let model = LanguageModel::from_arpa(arpa.as_bytes(), "model.arpa").unwrap();
    let name = |directory: &Path| {
        let path = directory.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["language_model"] = serde_json::json!({"file": "a.lm", "weight": 0.25});
        fs::write(path, config.to_string()).unwrap();
    };
    let directory = package();
    assert!(
        Package::open(directory.path())
            .unwrap()
            .language_model()
            .is_none()
    );
    name(directory.path());
    fs::write(directory.path().join("a.lm"), model.bytes()).unwrap();
    let package = Package::open(directory.path()).unwrap();
    let (found, suits) = package.language_model().unwrap();
    assert_eq!(found.counts(), [1]);
    assert_eq!(
        suits,
        LmOptions {
            weight: 0.25,
            ..LmOptions::default()
        }
    );

    assert_eq!(
        complaint(name),
        "a.lm: missing from the model package; copy the package again, whole"
    );
    let cut = complaint(|directory| {
        name(directory);
        fs::write(directory.join("a.lm"), &model.bytes()[..20]).unwrap();
    });
    assert!(
        cut.starts_with("a.lm: damaged language model: it ends within its header"),
        "{cut}"
    );
}

#[test]
fn tokens_that_disagree_with_the_configuration() {
    let write = |text: &'static str| {
        complaint(|directory| fs::write(directory.join("tokens.txt"), text).unwrap())
    };
    assert_eq!(
        write("▁a 0\n<blk> 1\n"),
        "tokens.txt: number of tokens: expected 9, as config.json says, found 2"
    );
    assert_eq!(
        write("▁a 0\n▁b 2\n<blk> 1\n"),
        "tokens.txt:3: the blank has id 1, expected the last id, 2"
    );
    assert_eq!(
        complaint(|directory| fs::write(directory.join("tokens.txt"), b"a 0\n\xff 1\n").unwrap()),
        "tokens.txt:2: not UTF-8 text"
    );
}

#[test]
fn graphs_that_disagree_with_the_configuration() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 5] = [
        (
            |c| {
                c["geometry"]["window_size"] = 64.into();
                c["geometry"]["chunk_shift"] = 64.into();
                c["streaming"]["chunk_ms"] = 640.into();
            },
            "input 0 (audio_signal): expected f32 (1, 80, 64), found \"audio_signal\" f32 (1, 80, 32)",
        ),
        (
            |c| c["geometry"]["cache_last_channel"] = serde_json::json!([1, 3, 8]),
            "input 2 (cache_last_channel): expected f32 (1, 1, 3, 8)",
        ),
        (
            |c| c["geometry"]["cache_last_time"] = serde_json::json!([1, 80, 5]),
            "input 3 (cache_last_time): expected f32 (1, 1, 80, 5)",
        ),
        (
            |c| {
                c["geometry"]["subsampling_factor"] = 8.into();
            },
            "output 0 (logprobs): expected f32 (1, 4, 9), found \"logprobs\" f32 (1, 8, 9)",
        ),
        (
            |c| {
                c["tokens"]["count"] = 2.into();
                c["tokens"]["blank_id"] = 1.into();
            },
            "",
        ),
    ];
    for (change, expected) in cases {
        let found = config(change);
        if expected.is_empty() {
            assert_eq!(
                found,
                "tokens.txt: number of tokens: expected 2, as config.json says, found 9"
            );
        } else {
            assert!(
                found.starts_with(&format!("model.onnx: {expected}")),
                "expected {expected}\n   found {found}"
            );
        }
    }
}

#[test]
fn damaged_graphs_are_refused_and_never_panic() {
    let directory = package();
    let path = directory.path().join("model.onnx");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = Package::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("model.onnx: not a complete ONNX model ("),
        "{error}"
    );
    fs::write(&path, b"").unwrap();
    let error = Package::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "model.onnx: not a complete ONNX model (no graph in it); copy the package again"
        ),
        "{error}"
    );

    // Every other byte in turn, on both engines: refused or run, but no panic and no wrong shape.
    let (mut refused, mut ran) = (0, 0);
    for position in (0..whole.len()).step_by(31) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        let Ok(package) = Package::open(directory.path()) else {
            refused += 1;
            continue;
        };
        for engine in [EngineChoice::Ort, EngineChoice::Tract] {
            let precision = PrecisionChoice::Exactly(Precision::Fp32);
            let window = vec![0.0; 32 * 80];
            let loaded = load(
                &package,
                EngineOptions {
                    engine,
                    precision,
                    threads: 1,
                },
            );
            match loaded.and_then(|engine| engine.session()?.step(&window).map(<[f32]>::len)) {
                Ok(length) => {
                    assert_eq!(length, 8 * 9);
                    ran += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 0 && ran > 0, "{refused} refused, {ran} ran");
}
