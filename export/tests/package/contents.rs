//! Graphs, tokens, configuration and card.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message;
use serde_json::Value;
use sori::engine::{Engine, EngineChoice, EngineOptions, PrecisionChoice, load};
use sori::model::{Measurement, Package, Precision};
use sori_export::{Options, export};
use sori_train::config::Chunk;
use sori_train::model::ConformerConfig;
use tch::Tensor;
use tract_onnx::pb::ModelProto;

use crate::support::{self, CHECKPOINT, checkpoint, options, tiny_student};
use crate::with_provenance;

fn decode(path: &Path) -> ModelProto {
    ModelProto::decode(&*fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_float_graph_may_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, _) = checkpoint(folder.path(), &tiny_student(), 1);
    let target = folder.path().join("small");
    let options = Options {
        int8: true,
        int8_only: true,
        ..options(320, 1280)
    };
    export(&checkpoint, &target, &options).unwrap();
    assert!(!target.join("model.onnx").exists());
    let package = Package::open(&target).unwrap();
    let precisions: Vec<_> = package.precisions().map(Precision::name).collect();
    assert_eq!(precisions, ["int8"]);
    let card = fs::read_to_string(target.join("README.md")).unwrap();
    assert!(card.contains("small/model.int8.onnx") && !card.contains("model.onnx"));
}

#[test]
fn the_runtime_computes_streams_together_with_a_batched_graph() {
    const STREAMS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, _) = checkpoint(folder.path(), &tiny_student(), 1);
    let target = folder.path().join("batched");
    let options = Options {
        batch: Some(2),
        ..options(320, 1280)
    };
    export(&checkpoint, &target, &options).unwrap();
    let package = Package::open(&target).unwrap();
    let hear = |engine: &dyn Engine, stream: usize| -> Vec<f32> {
        let log_mel = support::random_log_mel(stream as u64, 20 * 32, 80);
        let values: Vec<f32> = log_mel.flatten(0, -1).try_into().unwrap();
        let mut session = engine.session().unwrap();
        let windows = values.chunks(32 * 80);
        windows
            .flat_map(|window| session.step(window).unwrap().to_vec())
            .collect()
    };
    for engine in [EngineChoice::Ort, EngineChoice::Tract] {
        let options = EngineOptions {
            engine,
            ..EngineOptions::default()
        };
        let alone = load(&package, options).unwrap();
        let expected: Vec<_> = (0..STREAMS).map(|stream| hear(&*alone, stream)).collect();
        let together = EngineOptions {
            batch: true,
            ..options
        };
        let together = load(&package, together).unwrap();
        let started = Instant::now();
        while together.batching().unwrap().steps == 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "never a batch");
            std::thread::scope(|scope| {
                for (stream, expected) in expected.iter().enumerate() {
                    let (hear, together) = (&hear, &together);
                    scope.spawn(move || {
                        let found = hear(&**together, stream);
                        let pairs = found.iter().zip(expected);
                        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                        assert!(largest < 1e-4, "{engine:?}, stream {stream}: {largest}");
                    });
                }
            });
        }
    }
}

#[test]
fn a_package_holds_graphs_tokens_configuration_and_card() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, _) = checkpoint(folder.path(), &tiny_student(), 1);
    let target = folder.path().join("models").join("tiny-en");
    let mut options = Options {
        int8: true,
        batch: Some(3),
        ..options(320, 1280)
    };
    options.about.description = "a test".to_owned();
    options.about.license = "CC0-1.0".to_owned();
    options.about.training = [("recipe".to_owned(), "none".into())].into();
    options.about.measured = vec![Measurement {
        set: "made-up".into(),
        wer: 12.5,
        chunk_ms: Some(320),
        precision: None,
    }];
    let exported = export(&checkpoint, &target, &options).unwrap();

    let mut files: Vec<_> = fs::read_dir(&target)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    files.sort();
    let expected = [
        "README.md",
        "config.json",
        "model.batch3.onnx",
        "model.int8.onnx",
        "model.onnx",
        "tokens.txt",
    ];
    assert_eq!(files, expected);

    let package = Package::open(&target).unwrap();
    let config = package.config();
    assert_eq!(config.name, "tiny-en");
    assert_eq!(config.streaming.left_context_ms, 1280);
    assert_eq!(config.geometry.window_size, config.geometry.chunk_shift);
    assert_eq!(config.training["recipe"], "none");
    assert_eq!(config.training["parameters"], exported.parameters);
    let json: Value =
        serde_json::from_slice(&fs::read(target.join("config.json")).unwrap()).unwrap();
    // Two engines hear two signals for each of two graphs; the batched one has tract alone.
    assert_eq!(json["verified"].as_array().unwrap().len(), 10);
    assert_eq!(json["batched"]["streams"], 3);
    for (file, facts) in [
        ("tokens.txt", &json["tokens"]),
        ("model.onnx", &json["graphs"]["fp32"]),
        ("model.int8.onnx", &json["graphs"]["int8"]),
        ("model.batch3.onnx", &json["batched"]),
    ] {
        let sum = sori::model::sha256(&fs::read(target.join(file)).unwrap());
        assert_eq!(facts["sha256"], sum, "{file}");
    }

    let card = fs::read_to_string(target.join("README.md")).unwrap();
    for fact in [
        "# tiny-en",
        "a test",
        "CC0-1.0",
        "recipe: none",
        "| made-up | 12.50 | 320 ms |",
        "sherpa_onnx",
    ] {
        assert!(card.contains(fact), "{fact} is not in\n{card}");
    }

    // What clients of the contract read; one that is missing ends them.
    let onnx = decode(&target.join("model.int8.onnx"));
    let value = |key: &str| {
        &onnx
            .metadata_props
            .iter()
            .find(|entry| entry.key == key)
            .unwrap()
            .value
    };
    for (key, expected) in [
        ("window_size", "32"),
        ("chunk_shift", "32"),
        ("subsampling_factor", "4"),
        ("vocab_size", "9"),
        ("normalize_type", ""),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    for dim in [
        "cache_last_channel_dim1",
        "cache_last_channel_dim2",
        "cache_last_channel_dim3",
        "cache_last_time_dim1",
        "cache_last_time_dim2",
        "cache_last_time_dim3",
        "model_type",
        "version",
        "model_author",
        "comment",
    ] {
        assert!(!value(dim).is_empty(), "{dim}");
    }
}

#[test]
fn half_weights_halve_the_file_and_change_little() {
    let folder = tempfile::tempdir().unwrap();
    // Large enough for the weights to outweigh the names.
    let config = ConformerConfig {
        d_model: 96,
        heads: 2,
        feed_forward: 256,
        ..tiny_student()
    };
    let (checkpoint, _) = checkpoint(folder.path(), &config, 2);
    let write = |name: &str, f16_weights| {
        let target = folder.path().join(name);
        export(
            &checkpoint,
            &target,
            &Options {
                f16_weights,
                ..options(160, 640)
            },
        )
        .unwrap();
        target
    };
    let (full, half) = (write("full", false), write("half", true));
    let size = |target: &Path| fs::metadata(target.join("model.onnx")).unwrap().len() as f64;
    assert!(
        size(&half) < 0.6 * size(&full),
        "{} {}",
        size(&half),
        size(&full)
    );

    let log_mel = support::random_log_mel(3, 16, 80);
    let window: Vec<f32> = log_mel.flatten(0, -1).try_into().unwrap();
    let first_chunk = |target: &Path, engine| {
        let precision = PrecisionChoice::Exactly(Precision::Fp32);
        let options = EngineOptions {
            engine,
            precision,
            ..EngineOptions::default()
        };
        let engine = load(&Package::open(target).unwrap(), options).unwrap();
        Tensor::from_slice(engine.session().unwrap().step(&window).unwrap())
    };
    for engine in [EngineChoice::Ort, EngineChoice::Tract] {
        let difference = (first_chunk(&full, engine) - first_chunk(&half, engine))
            .abs()
            .max()
            .double_value(&[]);
        assert!(
            0.0 < difference && difference < 1e-2,
            "{engine:?}: {difference}"
        );
        // A package of links into a store, as downloaders make them.
        let links = folder.path().join(format!("links-{engine:?}"));
        std::fs::create_dir(&links).unwrap();
        for file in std::fs::read_dir(&full).unwrap() {
            let file = file.unwrap();
            std::os::unix::fs::symlink(file.path(), links.join(file.file_name())).unwrap();
        }
        assert_eq!(first_chunk(&links, engine), first_chunk(&full, engine));
    }
}

#[test]
fn an_int8_graph_may_have_half_weights_where_it_has_floats() {
    let folder = tempfile::tempdir().unwrap();
    let (checkpoint, _) = checkpoint(folder.path(), &tiny_student(), 2);
    let size = |name: &str, f16_weights| {
        let target = folder.path().join(name);
        let options = Options {
            int8: true,
            f16_weights,
            ..options(160, 640)
        };
        // Both engines have run it, and agree with the trained model.
        export(&checkpoint, &target, &options).unwrap();
        fs::metadata(target.join("model.int8.onnx")).unwrap().len()
    };
    assert!(size("half", true) < size("full", false));
}

#[test]
fn what_the_checkpoint_says_of_its_training_goes_into_the_package() {
    let folder = tempfile::tempdir().unwrap();
    with_provenance(folder.path(), &[Chunk::Ms(160), Chunk::Full]);
    let target = folder.path().join("package");
    let options = Options {
        chunk_ms: 160,
        ..Options::default()
    };
    export(&folder.path().join(CHECKPOINT), &target, &options).unwrap();

    let package = Package::open(&target).unwrap();
    let config = package.config();
    assert_eq!(config.streaming.left_context_ms, 800);
    assert_eq!(config.training["commit"], "0123abc");
    assert_eq!(config.training["recipe_toml"], "name = \"made-up\"\n");
    assert!(!config.training.contains_key("tokens"));
    assert_eq!(package.tokens().symbol(3), "▁inside3");
}
