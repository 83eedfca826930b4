//! Files that are not those of the configuration.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice, load};
use sori::lm::{LanguageModel, LmOptions};
use sori::model::{Package, PackageError, Precision};

use sori_tests::tone::ToneModel;

use crate::{complaint, config, package};

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
