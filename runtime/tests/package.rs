//! A package in which something is wrong is refused with one line that names the file, the field,
//! what was expected and what was found.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice, load};
use sori::lm::{LanguageModel, LmOptions};
use sori::model::{Package, PackageError, Precision};
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
    let cases: [(Change, &str); 21] = [
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
            |c| c["tokens"]["blank_id"] = u64::MAX.into(),
            "tokens.blank_id: expected the last id, 8, found 18446744073709551615",
        ),
        (
            // Three gigabytes of log-probabilities at once.
            |c| {
                c["geometry"]["window_size"] = 6000.into();
                c["geometry"]["chunk_shift"] = 6000.into();
                c["geometry"]["subsampling_factor"] = 1.into();
                c["streaming"]["chunk_ms"] = 60_000.into();
                c["tokens"]["count"] = 131_072.into();
            },
            "tokens.count: expected at most 67108864 log-probabilities of a step",
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
fn files_that_are_not_those_of_the_configuration_are_named() {
    let arpa = "\\data\\\nngram 1=1\n\n\\1-grams:\n-1 one\n\n\\end\\\n";
    let model = LanguageModel::from_arpa(arpa.as_bytes(), "model.arpa").unwrap();
    let files = ["tokens.txt", "model.onnx", "model.int8.onnx", "a.lm"];
    let sums = |directory: &Path| {
        fs::write(directory.join("a.lm"), model.bytes()).unwrap();
        let path = directory.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let [tokens, fp32, int8, lm] = files.map(|file| {
            let sum = sori::model::sha256(&fs::read(directory.join(file)).unwrap());
            // As other tools may write it.
            Value::from(sum.to_uppercase())
        });
        config["tokens"]["sha256"] = tokens;
        config["graphs"]["fp32"]["sha256"] = fp32;
        config["graphs"]["int8"]["sha256"] = int8;
        config["language_model"] = serde_json::json!({"file": "a.lm", "sha256": lm});
        fs::write(path, config.to_string()).unwrap();
    };
    let whole = package();
    sums(whole.path());
    Package::open(whole.path()).unwrap();
    for file in files {
        let complaint = complaint(|directory| {
            sums(directory);
            let path = directory.join(file);
            let mut bytes = fs::read(&path).unwrap();
            // Nothing else would notice it: the number in a token's line, a weight, a probability.
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        });
        assert!(
            complaint.starts_with(&format!("{file}: damaged"))
                && complaint.ends_with("; copy the package again, whole"),
            "{complaint}"
        );
    }

    // An engine is not given a graph that is another one, and reads no more than the one it runs.
    let path = whole.path().join("model.onnx");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    let package = Package::open(whole.path()).unwrap();
    for engine in [EngineChoice::Ort, EngineChoice::Tract] {
        let run = |precision| {
            let options = EngineOptions {
                engine,
                precision: PrecisionChoice::Exactly(precision),
                ..EngineOptions::default()
            };
            load(&package, options).map(|engine| engine.description().to_owned())
        };
        run(Precision::Int8).unwrap();
        let error = run(Precision::Fp32).unwrap_err().to_string();
        assert!(error.contains("model.onnx: damaged"), "{error}");
    }

    // In memory, the graph that is given is checked against its own precision.
    let read = |name: &str| fs::read(whole.path().join(name)).unwrap();
    let in_memory = |precision, graph: &str| {
        let (config, tokens) = (read("config.json"), read("tokens.txt"));
        Package::from_memory(&config, &tokens, precision, read(graph).into())
    };
    in_memory(Precision::Int8, "model.int8.onnx").unwrap();
    assert!(matches!(
        in_memory(Precision::Int8, "model.onnx"),
        Err(PackageError::Checksum { .. })
    ));
    assert_eq!(
        sori::model::sha256(b"abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn a_batched_graph_that_disagrees_with_the_configuration() {
    type Change = fn(&mut Value);
    let batched = |change: Change, damage: fn(&Path)| {
        complaint(|directory| {
            ToneModel::default()
                .write_batched_package(directory, 3)
                .unwrap();
            let path = directory.join("config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            change(&mut config["batched"]);
            fs::write(path, config.to_string()).unwrap();
            damage(directory);
        })
    };
    let cases: [(Change, &str); 5] = [
        (
            |batched| batched["streams"] = 4.into(),
            "model.batch3.onnx: input 0 (audio_signal): expected f32 (4, 80, 32), found \"audio_signal\" f32 (3, 80, 32)",
        ),
        (
            |batched| batched["file"] = "model.onnx".into(),
            "model.onnx: input 0 (audio_signal): expected f32 (3, 80, 32)",
        ),
        (
            |batched| batched["streams"] = 0.into(),
            "config.json: batched.streams: expected 1 to 1024 (inputs and outputs of at most 67108864 values), found 0",
        ),
        (
            |batched| batched["streams"] = u64::MAX.into(),
            "config.json: batched.streams: expected 1 to 1024",
        ),
        (
            |batched| batched["file"] = "../model.onnx".into(),
            "config.json: batched.file: expected a file name without folders",
        ),
    ];
    for (change, expected) in cases {
        let found = batched(change, |_| ());
        assert!(
            found.starts_with(expected),
            "expected {expected}\n   found {found}"
        );
    }
    let gone = batched(
        |_| (),
        |directory| fs::remove_file(directory.join("model.batch3.onnx")).unwrap(),
    );
    assert!(
        gone.starts_with("model.batch3.onnx: missing from the model package"),
        "{gone}"
    );
    let other = batched(
        |batched| batched["sha256"] = sori::model::sha256(b"another").into(),
        |_| (),
    );
    assert!(other.starts_with("model.batch3.onnx: damaged"), "{other}");

    // A stream's caches may be as large as all sizes allow; then there is no room for a second one's.
    let large = config(|config| {
        config["geometry"]["cache_last_time"] = serde_json::json!([1, 1, 1 << 26]);
        config["batched"] = serde_json::json!({"file": "model.batch2.onnx", "streams": 2});
    });
    assert!(
        large.starts_with("config.json: batched.streams: expected 1 to 1 ("),
        "{large}"
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
fn graphs_that_name_other_files_are_refused() {
    use prost::Message as _;
    use sori_tests::tone::pb::{AttributeProto, GraphProto, StringStringEntryProto, TensorProto};

    type Change = fn(&mut GraphProto, TensorProto);

    let outside = || TensorProto {
        external_data: vec![StringStringEntryProto {
            key: "location".into(),
            value: "../../etc/passwd".into(),
        }],
        data_location: Some(1),
        ..TensorProto::default()
    };
    let changes: [Change; 3] = [
        |graph, outside| graph.initializer.push(outside),
        |graph, outside| {
            graph.node[0].attribute.push(AttributeProto {
                t: Some(outside),
                ..AttributeProto::default()
            });
        },
        |graph, outside| {
            graph.node[0].attribute.push(AttributeProto {
                g: Some(GraphProto {
                    initializer: vec![outside],
                    ..GraphProto::default()
                }),
                ..AttributeProto::default()
            });
        },
    ];
    for change in changes {
        for partly in [false, true] {
            let found = complaint(|directory| {
                let mut model = ToneModel::default().graph(sori_tests::tone::Precision::Fp32);
                let mut outside = outside();
                if partly {
                    outside.data_location = None;
                }
                change(model.graph.as_mut().unwrap(), outside);
                fs::write(directory.join("model.onnx"), model.encode_to_vec()).unwrap();
            });
            assert_eq!(
                found,
                "model.onnx: a tensor: expected values in this file, found a reference to another file"
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
                    ..EngineOptions::default()
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
