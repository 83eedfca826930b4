//! Checkpoints of tiny students with random weights, and their packages.
// Each test file uses its own part of this.
#![allow(unreachable_pub, dead_code)]

use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sori_export::Options;
use sori_train::model::{Conformer, ConformerConfig, save};
use tch::{Device, Kind, Tensor, nn};

/// The file that [`checkpoint`] writes.
pub const CHECKPOINT: &str = "student.safetensors";

/// A student that is small in every way but its features.
pub fn tiny_student() -> ConformerConfig {
    ConformerConfig {
        vocabulary: 9,
        d_model: 24,
        layers: 2,
        heads: 3,
        feed_forward: 32,
        kernel: 7,
        subsampling_channels: 6,
        ..ConformerConfig::student()
    }
}

/// Chunk and left context in ms, and nothing else asked for.
pub fn options(chunk_ms: u32, left_ms: u32) -> Options {
    Options {
        chunk_ms,
        left_ms: Some(left_ms),
        ..Options::default()
    }
}

/// A float32 tensor of values with mean zero and variance one. Torch's own generator is shared by
/// all threads, and tests run side by side.
pub fn random(seed: u64, shape: &[i64]) -> Tensor {
    let mut rng = StdRng::seed_from_u64(seed);
    let bound = 3_f32.sqrt();
    let count: i64 = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|_| rng.random_range(-bound..bound))
        .collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// A model all of whose parameters are random, in memory. Fresh biases and norms are zeros and
/// ones, which would hide one applied at the wrong place.
pub fn model(config: &ConformerConfig, seed: u64) -> (nn::VarStore, Conformer) {
    // Tests run side by side: more threads would only wait for each other.
    tch::set_num_threads(1);
    let store = nn::VarStore::new(Device::Cpu);
    let model = Conformer::new(&store.root(), config).unwrap();
    let mut variables: Vec<_> = store.variables().into_iter().collect();
    variables.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (i, (name, mut variable)) in variables.into_iter().enumerate() {
        let noise = random(seed * 1000 + i as u64, &variable.size());
        let value = match variable.dim() {
            1 if name.ends_with("weight") => noise * 0.1 + 1.0,
            1 => noise * 0.1,
            _ => noise / (variable.numel() as f64 / variable.size()[0] as f64).sqrt(),
        };
        tch::no_grad(|| variable.copy_(&value));
    }
    (store, model)
}

/// Writes a checkpoint of random weights and its tokens into `folder`; gives its path and the model.
pub fn checkpoint(folder: &Path, config: &ConformerConfig, seed: u64) -> (PathBuf, Conformer) {
    let (store, model) = model(config, seed);
    let path = folder.join(CHECKPOINT);
    save(&path, &store, config).unwrap();
    let mut tokens: String = (0..config.vocabulary)
        .map(|i| format!("▁t{i} {i}\n"))
        .collect();
    tokens += &format!("<blk> {}\n", config.vocabulary);
    std::fs::write(folder.join("tokens.txt"), tokens).unwrap();
    (path, model)
}

/// Log-mel frames (frames, features): their level is far from zero, as zeros are not what silence
/// sounds like.
pub fn random_log_mel(seed: u64, frames: i64, features: i64) -> Tensor {
    random(seed, &[frames, features]).to_kind(Kind::Float) * 3.0 - 8.0
}
