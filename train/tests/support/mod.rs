//! What several tests need: random tensors and models, and the distance of tensors.
// Each test file uses its own part of this.
#![allow(unreachable_pub, dead_code)]

use std::f32::consts::TAU;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use sori_train::data::{Tokenizer, TokenizerKind, manifest};
use sori_train::model::{Conformer, ConformerConfig, ConvolutionNorm};
use tch::{Device, Kind, Tensor, nn};

/// Options of float tensors on the CPU.
pub const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A float64 tensor of values with mean zero and variance one. Torch's own generator is shared by
/// all threads, and tests run side by side.
pub fn random(seed: u64, shape: &[i64]) -> Tensor {
    let mut rng = StdRng::seed_from_u64(seed);
    let bound = 3_f64.sqrt();
    let count: i64 = shape.iter().product();
    let values: Vec<f64> = (0..count)
        .map(|_| rng.random_range(-bound..bound))
        .collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// The teacher's kind, small.
pub fn tiny_teacher() -> ConformerConfig {
    ConformerConfig {
        features: 16,
        feature_mean: -8.0,
        feature_deviation: 3.0,
        vocabulary: 9,
        d_model: 24,
        layers: 2,
        heads: 3,
        feed_forward: 32,
        kernel: 7,
        subsampling_channels: 6,
        ..ConformerConfig::teacher()
    }
}

/// The student's kind, as small.
pub fn tiny_student() -> ConformerConfig {
    ConformerConfig {
        causal: true,
        norm: ConvolutionNorm::Layer,
        xscaling: false,
        ..tiny_teacher()
    }
}

/// Log-mel frames: their level is far from zero, as zeros are not what silence sounds like.
pub fn random_log_mel(seed: u64, shape: &[i64]) -> Tensor {
    random(seed, shape).to_kind(Kind::Float) * 3.0 - 8.0
}

/// A model all of whose parameters are random. Fresh biases and norms are zeros and ones, which
/// would hide one applied at the wrong place.
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
            1 if name.ends_with("weight") || name.ends_with("running_var") => noise * 0.1 + 1.0,
            1 => noise * 0.1,
            _ => noise / (variable.numel() as f64 / variable.size()[0] as f64).sqrt(),
        };
        tch::no_grad(|| variable.copy_(&value));
    }
    (store, model)
}

/// The largest absolute difference of two tensors of one shape.
pub fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    f64::try_from((a - b).abs().max()).unwrap()
}

/// A committed file of expected results.
pub fn golden(folder: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder)
        .join(name)
}

/// The tensors of a committed safetensors file.
pub struct Golden(Vec<u8>);

impl Golden {
    pub fn read(path: &Path) -> Self {
        Self(std::fs::read(path).unwrap())
    }

    pub fn tensor(&self, name: &str) -> Tensor {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let view = file.tensor(name).unwrap();
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            Dtype::I16 => Kind::Int16,
            other => panic!("{other:?}"),
        };
        let shape: Vec<_> = view.shape().iter().map(|&n| n as i64).collect();
        Tensor::from_data_size(view.data(), &shape, kind)
    }

    pub fn integers(&self, name: &str) -> Vec<i64> {
        self.tensor(name).try_into().unwrap()
    }

    /// An entry of the file's header.
    pub fn header(&self, key: &str) -> String {
        let (_, header) = SafeTensors::read_metadata(&self.0).unwrap();
        header.metadata().as_ref().unwrap()[key].clone()
    }
}

/// Writes a text in tones of 0.16 s, and returns the seconds.
pub fn write_tones(path: &Path, text: &str) -> f64 {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec).unwrap();
    let mut samples = 0;
    for letter in text.bytes() {
        let level = if letter == b' ' { 0.0 } else { 8000.0 };
        let pitch = 300.0 + 350.0 * f32::from(letter.saturating_sub(b'a'));
        for n in 0..2560 {
            let phase = TAU * pitch * n as f32 / 16_000.0;
            file.write_sample((level * phase.sin()) as i16).unwrap();
        }
        samples += 2560;
    }
    file.finalize().unwrap();
    f64::from(samples) / 16_000.0
}

/// What is said in tones: every letter is one of its own.
pub const TEXTS: [&str; 8] = [
    "a cab",
    "bad face",
    "a deaf cafe",
    "fed",
    "cede a bead",
    "dab",
    "ebb",
    "face a cad",
];

/// Writes texts in tones, a manifest `speech.jsonl` of them and a tokenizer into a folder.
pub fn write_speech(folder: &Path, texts: &[&str]) {
    write_manifest(folder, "speech.jsonl", texts);
    let tokenizer = Tokenizer::train(texts.iter().copied(), TokenizerKind::Bpe, 28).unwrap();
    tokenizer.save(&folder.join("tokenizer")).unwrap();
}

/// Writes texts in tones and a manifest of them, which lies beside them.
pub fn write_manifest(folder: &Path, name: &str, texts: &[&str]) {
    let mut lines = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let file = format!("{index}.wav");
        let seconds = write_tones(&folder.join(&file), text);
        manifest::write_line(&mut lines, &file, seconds, text, None).unwrap();
    }
    std::fs::write(folder.join(name), lines).unwrap();
}
