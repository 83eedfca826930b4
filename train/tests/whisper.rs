//! A Whisper encoder gives what Hugging Face's gives, at half the frame rate.
//!
//! `golden/whisper/make.py` made the encoder and the expected results.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::PathBuf;

use safetensors::tensor::{Dtype, TensorView};
use sori_train::front_end::WhisperFeatures;
use sori_train::model::CheckpointError;
use sori_train::model::whisper::{self, Whisper};
use support::{Golden, largest_difference, random};
use tch::{Device, Kind, Tensor};

fn golden(name: &str) -> PathBuf {
    support::golden("whisper", name)
}

fn encoder() -> Whisper {
    tch::set_num_threads(1);
    whisper::load(&golden("encoder.safetensors"), Device::Cpu).unwrap()
}

#[test]
fn the_encoder_is_hugging_faces_at_half_the_rate() {
    let expected = Golden::read(&golden("expected.safetensors"));
    let whisper = encoder();
    assert_eq!((whisper.layers(), whisper.max_frames()), (2, 120));
    for layer in 0..2 {
        let output = whisper.listen(&expected.tensor("features"), &[120], Some(layer));
        assert_eq!(output.lengths, [30]);
        let pairs = |x: &Tensor, dim| x.unflatten(dim, [30, 2]);
        let hidden = pairs(&expected.tensor("hidden"), 1).mean_dim(2, false, Kind::Float);
        assert!(largest_difference(&output.hidden, &hidden) < 1e-4);
        let map = expected.tensor(&format!("attention.{layer}"));
        let map = pairs(&map, 3).sum_dim_intlist(4, false, Kind::Float);
        let map = pairs(&map, 2).mean_dim(3, false, Kind::Float);
        assert!(largest_difference(&output.attention.unwrap(), &map) < 1e-5);
    }
}

#[test]
fn features_are_those_of_whispers_extractor() {
    let expected = Golden::read(&golden("expected.safetensors"));
    let samples: Vec<f32> = (expected.tensor("samples").to_kind(Kind::Float) / 32768.0)
        .try_into()
        .unwrap();
    let found = WhisperFeatures::new(80).features(&samples);
    let found = Tensor::from_slice(&found).reshape([-1, 80]);
    let difference = largest_difference(&found, &expected.tensor("log_mel"));
    assert!(difference < 1e-3, "{difference}");
}

#[test]
fn odd_audio_gives_finite_features() {
    let front_end = WhisperFeatures::new(80);
    assert!(front_end.features(&[]).is_empty());
    for samples in [vec![0.5; 160], vec![0.0; 4000], vec![1.0; 161]] {
        let features = front_end.features(&samples);
        assert_eq!(features.len(), samples.len() / 160 * 80);
        assert!(features.iter().all(|value| value.is_finite()));
    }
}

#[test]
fn a_longer_batch_mate_changes_nothing_and_rows_sum_to_one() {
    let whisper = encoder();
    let features = random(1, &[2, 90, 8]).to_kind(Kind::Float);
    for length in [61, 62, 63, 64] {
        let together = whisper.listen(&features, &[length, 90], Some(1));
        let alone = features.narrow(0, 0, 1).narrow(1, 0, length);
        let alone = whisper.listen(&alone, &[length], Some(1));
        let pooled = (length + 3) / 4;
        assert_eq!((together.lengths[0], alone.lengths[0]), (pooled, pooled));
        let map = together
            .attention
            .unwrap()
            .narrow(0, 0, 1)
            .narrow(2, 0, pooled)
            .narrow(3, 0, pooled);
        // Kernels for AVX2 add in another order where a matrix has another shape.
        let apart = largest_difference(&map, &alone.attention.unwrap());
        assert!(apart < 1e-5, "{apart}");
        let sums = map.sum_dim_intlist(-1, false, Kind::Float);
        assert!(largest_difference(&sums, &sums.ones_like()) < 1e-5);
        let hidden = together.hidden.narrow(0, 0, 1).narrow(1, 0, pooled);
        assert!(largest_difference(&hidden, &alone.hidden) < 1e-4);
    }
}

#[test]
fn other_files_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let refused = |tensors: &[(&str, Vec<usize>)]| {
        let zeros = vec![0; 1 << 20];
        let views = tensors.iter().map(|(name, shape)| {
            let bytes = 4 * shape.iter().product::<usize>();
            (
                name,
                TensorView::new(Dtype::F32, shape.clone(), &zeros[..bytes]).unwrap(),
            )
        });
        safetensors::serialize_to_file(views, None, &path).unwrap();
        let error = whisper::load(&path, Device::Cpu).unwrap_err();
        let CheckpointError::Whisper { reason, .. } = error else {
            panic!("{error}")
        };
        reason
    };
    assert!(refused(&[("x", vec![1])]).contains("conv1.weight of shape [a multiple of 64"));
    let reason = refused(&[("encoder.conv1.weight", vec![65, 80, 3])]);
    assert!(reason.contains("found [65, 80, 3]"), "{reason}");
    // A width that would make a layer of 100 MB, of which the file has nothing.
    let boastful = refused(&[
        ("conv1.weight", vec![5120, 8, 3]),
        ("embed_positions.weight", vec![1, 5120]),
        ("layers.0.fc1.weight", vec![1, 5120]),
    ]);
    let expected = "layers.0.self_attn.q_proj.weight of shape [any, 5120], found none";
    assert!(boastful.ends_with(expected), "{boastful}");
}
