//! Teachers of every kind through one door.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;

use sori_train::model::{ConformerConfig, Teacher, TeacherError, TeacherSource, save};
use support::{CPU, golden, largest_difference, model, random, random_log_mel, tiny_student};
use tch::{CModule, Device, Kind, Tensor};

fn open(source: &str, path: &Path) -> Result<Teacher, TeacherError> {
    let source = format!("{source}:{}", path.display()).parse()?;
    Teacher::open(&source, None, Device::Cpu)
}

/// A second of audio through the teacher's own front-end, (1, frames, width).
fn heard(teacher: &Teacher) -> (Tensor, i64) {
    let samples: Vec<f32> = (random(1, &[16_000]) * 0.1)
        .to_kind(Kind::Float)
        .try_into()
        .unwrap();
    let front_end = teacher.front_end();
    let features = Tensor::from_slice(&front_end.features(&samples));
    let features = features.reshape([1, -1, front_end.width() as i64]);
    let frames = features.size()[1];
    (features, frames)
}

#[test]
fn sources_are_a_kind_and_a_path() {
    for (text, source) in [
        (
            "sori:a/b.safetensors",
            TeacherSource::Sori("a/b.safetensors".into()),
        ),
        ("nemo:c:d.nemo", TeacherSource::Nemo("c:d.nemo".into())),
        (
            "whisper:e",
            TeacherSource::Whisper {
                encoder: "e".into(),
                head: None,
            },
        ),
        (
            "torchscript:f.pt",
            TeacherSource::TorchScript("f.pt".into()),
        ),
    ] {
        assert_eq!(text.parse::<TeacherSource>().unwrap(), source);
    }
    for text in ["", "model.nemo", "nemo:", "kaldi:x"] {
        let error = text.parse::<TeacherSource>().unwrap_err();
        assert!(
            error.to_string().ends_with(&format!("found {text:?}")),
            "{error}"
        );
    }
}

#[test]
fn a_checkpoint_teaches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.safetensors");
    let config = ConformerConfig {
        features: 80,
        ..tiny_student()
    };
    let (store, _) = model(&config, 1);
    save(&path, &store, &config).unwrap();
    let teacher = open("sori", &path).unwrap();
    let (features, frames) = heard(&teacher);
    let output = teacher.listen(&features, &[frames], true).unwrap();
    assert_eq!((frames, output.lengths[0]), (100, 25));
    assert_eq!(output.log_probs.unwrap().size(), [1, 25, config.outputs()]);
    assert_eq!(output.attention.unwrap().size(), [1, 3, 25, 25]);
    assert!(!output.hidden.unwrap().requires_grad());
    assert!(
        teacher
            .listen(&features, &[frames], false)
            .unwrap()
            .attention
            .is_none()
    );
}

#[test]
fn a_nemo_file_teaches_its_own_tokens() {
    let teacher = open("nemo", &golden("nemo", "tiny.nemo")).unwrap();
    assert_eq!(teacher.tokens().unwrap().len(), 24);
    let (features, frames) = heard(&teacher);
    let output = teacher.listen(&features, &[frames], true).unwrap();
    assert_eq!(output.log_probs.unwrap().size(), [1, 25, 25]);
    assert_eq!(output.attention.unwrap().size(), [1, 4, 25, 25]);
}

#[test]
fn whisper_teaches_maps_of_a_chosen_layer_but_no_posteriors() {
    let path = golden("whisper", "encoder.safetensors");
    let teacher = open("whisper", &path).unwrap();
    let features = random_log_mel(2, &[1, 100, 8]);
    let output = teacher.listen(&features, &[100], true).unwrap();
    assert!(output.log_probs.is_none());
    let last = output.attention.unwrap();
    assert_eq!(last.size(), [1, 2, 25, 25]);

    let source = TeacherSource::Whisper {
        encoder: path,
        head: None,
    };
    let layer = |layer| Teacher::open(&source, Some(layer), Device::Cpu);
    let first = layer(0)
        .unwrap()
        .listen(&features, &[100], true)
        .unwrap()
        .attention
        .unwrap();
    assert!(largest_difference(&first, &last) > 1e-3);
    assert!(matches!(
        layer(2),
        Err(TeacherError::Layer {
            layer: 2,
            layers: 2
        })
    ));
    let nemo = TeacherSource::Nemo(golden("nemo", "tiny.nemo"));
    let refused = Teacher::open(&nemo, Some(0), Device::Cpu);
    assert!(matches!(refused, Err(TeacherError::LastLayerOnly)));
}

#[test]
fn a_scripted_module_teaches() {
    let teacher = open("torchscript", &golden("torchscript", "teacher.pt")).unwrap();
    let (samples, count) = heard(&teacher);
    let output = teacher.listen(&samples, &[count - 700], true).unwrap();
    assert_eq!(output.lengths, [23]);
    assert_eq!(output.log_probs.unwrap().size(), [1, 25, 7]);
    let map = output.attention.unwrap();
    assert_eq!(map.size(), [1, 1, 25, 25]);
    // The lengths reach the module: it looks at no frame past them.
    assert_eq!(map.narrow(3, 23, 2).sum(Kind::Float).double_value(&[]), 0.0);
    assert!(!map.requires_grad());
}

#[test]
fn modules_that_return_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module.pt");
    let example = [Tensor::zeros([1, 640], CPU), Tensor::from_slice(&[640_i64])];
    CModule::create_by_tracing("teacher", "forward", &example, &mut |inputs| {
        vec![&inputs[0] * 2.0]
    })
    .unwrap()
    .save(&path)
    .unwrap();
    let teacher = open("torchscript", &path).unwrap();
    let (samples, count) = heard(&teacher);
    let error = teacher.listen(&samples, &[count], true).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("from the module, found one value"),
        "{error}"
    );

    // Seventeen samples are no whole frames: the module itself fails.
    let teacher = open("torchscript", &golden("torchscript", "teacher.pt")).unwrap();
    let error = teacher
        .listen(&Tensor::zeros([1, 17, 1], CPU), &[17], true)
        .unwrap_err();
    assert!(matches!(error, TeacherError::TorchScript { .. }));

    std::fs::write(&path, "no module").unwrap();
    let error = open("torchscript", &path).unwrap_err();
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(
        message.len() > path.display().to_string().len() + 10,
        "{message}"
    );
}
