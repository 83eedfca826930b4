//! A client that nobody here wrote hears in our packages what we hear.
//!
//! The student has learnt one recording by heart: random weights would leave many frames undecided,
//! and the last bit would decide differently in the two programs.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice};
use sori::features::log_mel;
use sori::model::{Package, Precision};
use sori::{EndpointRules, Event, Recognizer};
use sori_export::{Options, export};
use sori_train::model::{ConformerConfig, Context, Pass, save};
use support::{CHECKPOINT, checkpoint, model, tiny_student};
use tch::Tensor;
use tch::nn::{self, OptimizerConfig};

const CHUNK: i64 = 8;
const LEFT: i64 = 32;

/// A Python that has sherpa-onnx.
fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("SORI_CACHE").map(PathBuf::from);
    let cache =
        cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/sori")))?;
    let python = cache.join("venv/bin/python");
    let output = Command::new(&python)
        .args(["-c", "import sherpa_onnx"])
        .output()
        .ok()?;
    output.status.success().then_some(python)
}

/// Speech and a second of silence, as samples and as a file.
fn recording(folder: &Path) -> (Vec<f32>, PathBuf) {
    let speech = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/jfk.wav");
    let mut samples: Vec<i16> = hound::WavReader::open(speech)
        .unwrap()
        .into_samples()
        .collect::<Result<_, _>>()
        .unwrap();
    samples.resize(samples.len() + 16_000, 0);
    let path = folder.join("recording.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for &sample in &samples {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    (
        samples
            .iter()
            .map(|&sample| f32::from(sample) / 32_768.0)
            .collect(),
        path,
    )
}

/// Tokens of uneven distances and lengths, some of them doubled, and blanks.
fn labels(frames: i64, blank: i64) -> Vec<i64> {
    (0..frames)
        .map(|frame| match frame % 7 {
            2 | 3 => frame / 7 % blank,
            5 if frame % 3 == 0 => (frame / 3) % blank,
            _ => blank,
        })
        .collect()
}

/// Teaches a small student to say the labels where they stand in the recording.
fn learn(folder: &Path, samples: &[f32]) -> PathBuf {
    let config = ConformerConfig {
        d_model: 48,
        feed_forward: 96,
        ..tiny_student()
    };
    checkpoint(folder, &config, 1);
    let (store, student) = model(&config, 1);
    let frames = log_mel(samples);
    let frames = Tensor::from_slice(&frames).reshape([1, -1, 80]);
    let count = frames.size()[1];
    let labels = labels(config.subsampled(count), config.blank());
    let labels = Tensor::from_slice(&labels);
    let context = Context::Chunked {
        chunk: CHUNK,
        left: LEFT,
    };
    let mut optimiser = nn::Adam::default().build(&store, 3e-3).unwrap();
    for _ in 0..400 {
        let output = student.forward(
            &frames,
            &[count],
            Pass {
                context,
                ..Pass::default()
            },
        );
        let loss = output.log_probs.squeeze_dim(0).g_nll_loss::<&Tensor>(
            &labels,
            None,
            tch::Reduction::Mean,
            -100,
        );
        optimiser.backward_step(&loss);
        if loss.double_value(&[]) < 2e-3 {
            break;
        }
    }
    let path = folder.join(CHECKPOINT);
    save(&path, &store, &config).unwrap();
    path
}

/// Tokens and times in output frames, as sherpa-onnx hears them.
fn theirs(python: &Path, package: &Path, graph: &str, wav: &Path) -> Vec<(String, i64)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sherpa/recognise.py");
    let output = Command::new(python)
        .arg(script)
        .arg(package)
        .arg(graph)
        .arg(wav)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let heard: Value = serde_json::from_slice(&output.stdout).unwrap();
    let times = heard["times"]
        .as_array()
        .unwrap()
        .iter()
        .map(|time| frame(time.as_f64().unwrap()));
    // It writes the mark of a word start as a space.
    let symbol = |token: &Value| token.as_str().unwrap().replace(' ', "▁");
    let tokens = heard["tokens"].as_array().unwrap().iter().map(symbol);
    tokens.zip(times).collect()
}

/// The same as our runtime hears them.
fn ours(package: &Path, precision: Precision, samples: &[f32]) -> Vec<(String, i64)> {
    let options = sori::Options {
        engine: EngineOptions {
            engine: EngineChoice::Ort,
            precision: PrecisionChoice::Exactly(precision),
            ..EngineOptions::default()
        },
        // It never ends an utterance by itself, as it forgets the stream then.
        endpoint: EndpointRules {
            silence: 1e9,
            silence_after_speech: 1e9,
            longest: 1e9,
        },
        ..sori::Options::default()
    };
    let recognizer = Recognizer::new(Package::open(package).unwrap(), options).unwrap();
    let mut stream = recognizer.stream().unwrap();
    let mut events: Vec<_> = stream.accept(16_000, samples).unwrap().collect();
    events.extend(stream.finish().unwrap());
    let said = events.into_iter().filter_map(|event| match event {
        Event::Final(segment) => Some(segment.tokens),
        _ => None,
    });
    said.flatten()
        .map(|token| (token.token, frame(token.onset)))
        .collect()
}

fn frame(seconds: f64) -> i64 {
    (seconds / 0.04).round() as i64
}

#[test]
fn sherpa_onnx_hears_the_same_tokens_at_the_same_times() {
    let Some(python) = python() else {
        sori_tests::skipped("no sherpa-onnx in the Python of scripts/setup");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (samples, wav) = recording(folder.path());
    let checkpoint = learn(folder.path(), &samples);
    for f16_weights in [false, true] {
        let target = folder.path().join(format!("package-{f16_weights}"));
        let options = Options {
            left_ms: Some(40 * LEFT as u32),
            int8: true,
            f16_weights,
            ..Options::default()
        };
        export(&checkpoint, &target, &options).unwrap();

        for (precision, graph) in [
            (Precision::Fp32, "model.onnx"),
            (Precision::Int8, "model.int8.onnx"),
        ] {
            // What follows the recording is silence of different lengths.
            let heard = |mut tokens: Vec<(String, i64)>| {
                tokens.retain(|(_, frame)| *frame < 300);
                tokens
            };
            let ours = heard(ours(&target, precision, &samples));
            assert!(ours.len() > 40, "{} tokens", ours.len());
            assert_eq!(
                ours,
                heard(theirs(&python, &target, graph, &wav)),
                "{graph}, 16 bits: {f16_weights}"
            );
        }
    }
}
