//! Checkpoints bring a model back, and unfit ones say why they do not.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use sori_train::model::{
    CheckpointError, Conformer, ConformerConfig, Pass, WeightError, average, load, save,
};
use support::{CPU, model, random_log_mel, tiny_student, tiny_teacher};
use tch::{Device, Tensor};

type Tensors = BTreeMap<String, Tensor>;

/// A weight that the forged files get wrong.
const NAME: &str = "encoder.layers.1.norm_out.weight";

#[test]
fn a_checkpoint_brings_the_model_back() {
    let folder = tempfile::tempdir().unwrap();
    for (name, config) in [("teacher", tiny_teacher()), ("student", tiny_student())] {
        let path = folder.path().join(name);
        let (store, written) = model(&config, 1);
        let log_mel = random_log_mel(1, &[1, 50, 16]);
        // Moves the batch statistics, which must be kept as well.
        let _ = written.forward(
            &log_mel,
            &[50],
            Pass {
                train: true,
                ..Pass::default()
            },
        );
        save(&path, &store, &config).unwrap();
        let (_store, read) = load(&path, Device::Cpu).unwrap();
        assert_eq!(read.config(), &config);
        let run = |model: &Conformer| model.forward(&log_mel, &[50], Pass::default()).log_probs;
        assert_eq!(run(&written), run(&read));
    }
}

#[test]
fn models_are_averaged_and_halved() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let config = tiny_student();
    let stores: Vec<_> = (1..=3)
        .map(|seed| {
            let (store, _) = model(&config, seed);
            save(&file(&seed.to_string()), &store, &config).unwrap();
            store
        })
        .collect();
    let files: Vec<_> = ["1", "2", "3"].map(file).into();
    for (half, within) in [(false, 1e-6), (true, 1e-2)] {
        let out = file("mean");
        average(&files, half, &out).unwrap();
        let (mean, read) = load(&out, Device::Cpu).unwrap();
        assert_eq!(read.config(), &config);
        for (name, found) in mean.variables() {
            let sum: Tensor = stores
                .iter()
                .map(|store| &store.variables()[&name] / 3.0)
                .sum();
            let apart = f64::try_from((found - sum).abs().max()).unwrap();
            assert!(apart < within, "{name}: {apart}");
        }
    }
    let sizes = [file("1"), file("mean")].map(|path| path.metadata().unwrap().len());
    assert!(sizes[1] < sizes[0] * 6 / 10, "{sizes:?}");

    // Another geometry.
    let (other, _) = model(&tiny_teacher(), 1);
    save(&file("2"), &other, &tiny_teacher()).unwrap();
    let refused = average(&files, false, &file("never")).unwrap_err();
    assert!(
        matches!(refused, CheckpointError::Weights { .. }),
        "{refused}"
    );
    assert!(
        refused.to_string().contains(file("2").to_str().unwrap()),
        "{refused}"
    );
    assert!(!file("never").exists());
}

/// Writes tensors as a checkpoint of `config` by the format's own library, and reads it.
fn read_forged(config: &str, tensors: &Tensors) -> CheckpointError {
    let bytes: Vec<(_, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let values = Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap();
            let data = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            (
                name,
                tensor.size().iter().map(|&n| n as usize).collect(),
                data,
            )
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, data)| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), data).unwrap(),
        )
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forged");
    let header = Some([("conformer".to_owned(), config.to_owned())].into());
    safetensors::serialize_to_file(views, header, &path).unwrap();
    load(&path, Device::Cpu).unwrap_err()
}

fn good() -> Tensors {
    let variables = model(&tiny_student(), 1).0.variables();
    variables
        .into_iter()
        .map(|(name, tensor)| (name, tensor.detach().copy()))
        .collect()
}

fn json(config: &ConformerConfig) -> String {
    serde_json::to_string(config).unwrap()
}

/// Reads a file whose tensors were changed.
fn refused_weights(change: impl FnOnce(&mut Tensors)) -> WeightError {
    let mut tensors = good();
    change(&mut tensors);
    match read_forged(&json(&tiny_student()), &tensors) {
        CheckpointError::Weights { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn unfit_tensors_are_named() {
    let missing = refused_weights(|tensors| {
        let _ = tensors.remove(NAME).unwrap();
    });
    assert!(matches!(missing, WeightError::Missing { name } if name == NAME));
    let unknown = refused_weights(|tensors| {
        tensors.insert("stranger".into(), Tensor::zeros([1], CPU));
    });
    assert!(matches!(unknown, WeightError::Unknown { name } if name == "stranger"));
    let reshaped = refused_weights(|tensors| {
        tensors.insert(NAME.into(), Tensor::ones([5, 5], CPU));
    });
    let expected = format!("tensor {NAME}: expected shape [24], found [5, 5]");
    assert_eq!(reshaped.to_string(), expected);
    for poison in [f64::NAN, f64::INFINITY] {
        let poisoned = refused_weights(|tensors| {
            let _ = tensors[NAME].get(3).fill_(poison);
        });
        assert!(matches!(poisoned, WeightError::NotFinite { name } if name == NAME));
    }
}

#[test]
fn unfit_headers_are_explained() {
    let boastful = ConformerConfig {
        d_model: 8190,
        layers: 200,
        ..tiny_student()
    };
    let error = read_forged(&json(&boastful), &good());
    assert!(matches!(error, CheckpointError::TooSmall { .. }), "{error}");
    let impossible = ConformerConfig {
        kernel: 4,
        ..tiny_student()
    };
    let error = read_forged(&json(&impossible), &good());
    assert!(matches!(error, CheckpointError::Config { .. }), "{error}");
    let error = read_forged("{}", &good());
    assert!(matches!(error, CheckpointError::Json { .. }), "{error}");
}

#[test]
fn files_that_are_no_checkpoints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let refused = |path: &Path| load(path, Device::Cpu).unwrap_err();
    assert!(matches!(refused(&path), CheckpointError::Io { .. }));
    std::fs::write(&path, b"not a checkpoint at all").unwrap();
    assert!(matches!(refused(&path), CheckpointError::Format { .. }));

    let (store, _) = model(&tiny_student(), 1);
    save(&path, &store, &tiny_student()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(refused(&path), CheckpointError::Format { .. }));

    let data = [0; 4];
    let view = TensorView::new(Dtype::F32, vec![1], &data).unwrap();
    safetensors::serialize_to_file([("x", view)], None, &path).unwrap();
    assert!(matches!(refused(&path), CheckpointError::NoConfig { .. }));
}
