//! The tone model is what it claims to be: the committed package is what the generator writes, its
//! graph obeys the streaming contract, and tones come out where `expected` says.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use sori_tests::tone::pb::ModelProto;
use sori_tests::tone::{
    BLANK, HISTORY, MEL_BINS, PAST_FRAMES, Precision, Sound, TOKENS, ToneModel, expected,
    frequency, speak, speak_at, transcript,
};
use tract_onnx::prelude::*;

const GEOMETRIES: [ToneModel; 5] = [
    ToneModel {
        chunk_frames: 32,
        overlap_frames: 0,
    },
    ToneModel {
        chunk_frames: 16,
        overlap_frames: 0,
    },
    ToneModel {
        chunk_frames: 64,
        overlap_frames: 0,
    },
    ToneModel {
        chunk_frames: 32,
        overlap_frames: 8,
    },
    ToneModel {
        chunk_frames: 4,
        overlap_frames: 6,
    },
];

/// Log-mels of `frames` frames as nobody's voice has them: every tone is absent, partly present and
/// present many times. The last chunk of 32 frames is not full.
fn noisy_features(frames: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let mut features = Vec::new();
    for frame in 0..frames {
        for bin in 0..MEL_BINS {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let noise = (state >> 40) as f32 / (1 << 24) as f32;
            let tone = if (bin / 5 + frame / 7) % 8 == 0 {
                9.0
            } else {
                0.0
            };
            features.push(-12.0 + 8.0 * noise + tone);
        }
    }
    features
}

/// Log-mels of the tones of `script`. Where a 25 ms window hears only the end of a tone is left
/// open: `spill` frames at each edge count as tone or not.
fn tone_features(script: &[Sound], spill: usize) -> Vec<f32> {
    let spoken = expected(script);
    let milliseconds: u32 = script
        .iter()
        .map(|sound| match *sound {
            Sound::Token(_, ms) | Sound::Silence(ms) | Sound::Zeros(ms) => ms,
        })
        .sum();
    let mut features = vec![-15.9; MEL_BINS * milliseconds as usize / 10];
    for (frame, bins) in features.chunks_exact_mut(MEL_BINS).enumerate() {
        for tone in &spoken {
            let start = tone.milliseconds.start as usize / 10;
            let end = tone.milliseconds.end as usize / 10;
            if (start.saturating_sub(spill)..end + spill).contains(&frame) {
                bins[nearest_bin(frequency(tone.token))] = 6.0;
                bins[nearest_bin(frequency(tone.token)) + 1] = 6.0;
            }
        }
    }
    features
}

/// The bin of the mel bank whose centre is next below `hz`, which is above 1000.
fn nearest_bin(hz: f64) -> usize {
    let mel = |hz: f64| 15.0 + 27.0 * (hz / 1000.0).ln() / 6.4_f64.ln();
    let step = mel(8000.0) / (MEL_BINS + 1) as f64;
    (mel(hz) / step) as usize - 1
}

fn best(log_probs: &[f32]) -> Vec<usize> {
    log_probs
        .chunks_exact(TOKENS.len())
        .map(|row| {
            (0..row.len())
                .max_by(|&a, &b| row[a].total_cmp(&row[b]))
                .unwrap()
        })
        .collect()
}

/// What a client keeps between chunks.
struct Caches {
    channel: Tensor,
    time: Tensor,
    channel_length: i64,
}

impl Caches {
    fn empty() -> Self {
        Self {
            channel: Tensor::zero::<f32>(&[1, 1, HISTORY, BLANK]).unwrap(),
            time: Tensor::zero::<f32>(&[1, 1, MEL_BINS, PAST_FRAMES]).unwrap(),
            channel_length: 0,
        }
    }
}

/// The graph in tract.
struct Graph {
    model: ToneModel,
    plan: Arc<TypedRunnableModel>,
}

impl Graph {
    fn new(model: ToneModel, precision: Precision) -> Self {
        let bytes = model.graph(precision).encode_to_vec();
        let plan = tract_onnx::onnx()
            .model_for_read(&mut bytes.as_slice())
            .and_then(InferenceModelExt::into_optimized)
            .and_then(IntoRunnable::into_runnable)
            .unwrap();
        Self { model, plan }
    }

    /// Runs the chunk that begins at `start`, and gives the log-probabilities that count. What the
    /// window has beyond the end of the features is filled with `padding`.
    fn step(&self, features: &[f32], start: usize, padding: f32, caches: &mut Caches) -> Vec<f32> {
        let window = self.model.window_frames();
        let length = (features.len() / MEL_BINS - start).min(window);
        let audio =
            tract_ndarray::Array3::from_shape_fn((1, MEL_BINS, window), |(_, bin, frame)| {
                if frame < length {
                    features[(start + frame) * MEL_BINS + bin]
                } else {
                    padding
                }
            });
        let outputs = self
            .plan
            .run(tvec![
                Tensor::from(audio).into_tvalue(),
                tensor1(&[length as i64]).into_tvalue(),
                caches.channel.clone().into_tvalue(),
                caches.time.clone().into_tvalue(),
                tensor1(&[caches.channel_length]).into_tvalue(),
            ])
            .unwrap();
        let integer = |index: usize| outputs[index].to_plain_array_view::<i64>().unwrap()[[0]];
        let valid = integer(1) as usize;
        assert_eq!(
            outputs[0].shape(),
            [1, self.model.chunk_outputs(), TOKENS.len()]
        );
        assert_eq!(valid, length.div_ceil(4).min(self.model.chunk_outputs()));
        *caches = Caches {
            channel: outputs[2].clone().into_tensor(),
            time: outputs[3].clone().into_tensor(),
            channel_length: integer(4),
        };
        let rows = outputs[0].to_plain_array_view::<f32>().unwrap();
        rows.iter().copied().take(valid * TOKENS.len()).collect()
    }

    fn run(&self, features: &[f32]) -> Vec<f32> {
        let mut caches = Caches::empty();
        let starts = (0..features.len() / MEL_BINS).step_by(self.model.chunk_frames);
        starts
            .flat_map(|start| self.step(features, start, 50.0, &mut caches))
            .collect()
    }
}

fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter()
        .zip(right)
        .map(|(left, right)| (left - right).abs())
        .fold(0.0, f32::max)
}

fn committed() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/data/tone"))
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn the_committed_package_is_what_the_generator_writes() {
    let directory = tempfile::tempdir().unwrap();
    ToneModel::default()
        .write_package(directory.path())
        .unwrap();
    let (written, committed) = (files(directory.path()), files(committed()));
    assert_eq!(
        written.keys().collect::<Vec<_>>(),
        committed.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &committed {
        assert!(
            written[name] == *bytes,
            "tests/data/tone/{name} is not what the generator writes: run \
             `cargo run -p sori-tests --bin make-tone-package -- tests/data/tone`"
        );
    }
}

#[test]
fn configuration_and_graph_tell_the_same_geometry() {
    for model in GEOMETRIES {
        let config: serde_json::Value = serde_json::from_str(&model.config()).unwrap();
        let geometry = &config["geometry"];
        for precision in [Precision::Fp32, Precision::Int8] {
            let graph = model.graph(precision);
            let metadata: BTreeMap<&str, &str> = graph
                .metadata_props
                .iter()
                .map(|entry| (entry.key.as_str(), entry.value.as_str()))
                .collect();
            let mut expected = BTreeMap::new();
            for key in ["window_size", "chunk_shift", "subsampling_factor"] {
                expected.insert(key.to_owned(), geometry[key].to_string());
            }
            for cache in ["cache_last_channel", "cache_last_time"] {
                for dim in 0..3 {
                    expected.insert(
                        format!("{cache}_dim{}", dim + 1),
                        geometry[cache][dim].to_string(),
                    );
                }
            }
            expected.insert(
                "vocab_size".to_owned(),
                config["tokens"]["blank_id"].to_string(),
            );
            for (key, value) in expected {
                assert_eq!(metadata[key.as_str()], value, "{key} of {model:?}");
            }
        }
    }
}

#[test]
fn chunks_give_what_one_pass_gives() {
    let features = noisy_features(333);
    for model in GEOMETRIES {
        let reference = model.log_probs(&features);
        assert_eq!(reference.len(), 84 * TOKENS.len());
        let difference = largest_difference(
            &Graph::new(model, Precision::Fp32).run(&features),
            &reference,
        );
        assert!(difference < 1e-5, "{model:?}: {difference}");
    }
}

#[test]
fn int8_is_close_to_float_but_not_equal() {
    let features = noisy_features(333);
    let model = ToneModel::default();
    let (int8, reference) = (
        Graph::new(model, Precision::Int8).run(&features),
        model.log_probs(&features),
    );
    let difference = largest_difference(&int8, &reference);
    assert!((1e-4..0.2).contains(&difference), "{difference}");
}

#[test]
fn every_input_matters() {
    let features = noisy_features(64);
    let graph = Graph::new(ToneModel::default(), Precision::Fp32);
    let after_first = || {
        let mut caches = Caches::empty();
        graph.step(&features, 0, 0.0, &mut caches);
        assert_eq!(caches.channel_length, HISTORY as i64);
        caches
    };
    let right = graph.step(&features, 32, 0.0, &mut after_first());
    let empty = Caches::empty;
    let wrong = [
        ("all caches", empty()),
        (
            "cache_last_channel",
            Caches {
                channel: empty().channel,
                ..after_first()
            },
        ),
        (
            "cache_last_time",
            Caches {
                time: empty().time,
                ..after_first()
            },
        ),
        (
            "cache_last_channel_len",
            Caches {
                channel_length: 0,
                ..after_first()
            },
        ),
    ];
    for (name, mut caches) in wrong {
        let difference = largest_difference(&graph.step(&features, 32, 0.0, &mut caches), &right);
        assert!(
            difference > 0.1,
            "{name} reset: log-probabilities move by only {difference}"
        );
    }

    // Of the window, `length` frames count and no more.
    let short = &features[..13 * MEL_BINS];
    let [zeros, loud] =
        [0.0, 50.0].map(|padding| graph.step(short, 0, padding, &mut Caches::empty()));
    assert_eq!(zeros.len(), 4 * TOKENS.len());
    assert_eq!(zeros, loud);
}

#[test]
fn tones_are_said_on_the_frames_expected() {
    let script = [
        Sound::Token(0, 80), // at the very start, as short as can be
        Sound::Silence(40),  // as short as can be between different tokens
        Sound::Token(4, 200),
        Sound::Token(5, 120), // straight after another
        Sound::Zeros(120),    // as short as can be between equal tokens
        Sound::Token(5, 80),
        Sound::Token(7, 80),
        Sound::Token(5, 80),
        Sound::Silence(1000),
        Sound::Token(6, 2000),
        Sound::Silence(80),
    ];
    for model in GEOMETRIES {
        for spill in [0, 1] {
            let log_probs = model.log_probs(&tone_features(&script, spill));
            let mut frames = vec![BLANK; log_probs.len() / TOKENS.len()];
            for spoken in expected(&script) {
                frames[spoken.frames].fill(spoken.token);
            }
            assert_eq!(
                best(&log_probs),
                frames,
                "{model:?}, {spill} frames more at each edge"
            );
        }
    }
}

#[test]
fn tones_and_silence_are_firm() {
    let script = [
        Sound::Silence(400),
        Sound::Token(2, 400),
        Sound::Silence(400),
    ];
    let log_probs = ToneModel::default().log_probs(&tone_features(&script, 0));
    let row = |frame: usize| &log_probs[frame * TOKENS.len()..][..TOKENS.len()];
    assert!(row(5)[BLANK].exp() > 0.99);
    assert!(row(15)[2].exp() > 0.99);
    assert!(row(28)[BLANK].exp() > 0.99);
}

#[test]
fn audio_is_as_long_as_the_script_at_any_rate() {
    let script = [Sound::Silence(35), Sound::Token(3, 90), Sound::Zeros(10)];
    assert_eq!(speak(&script), speak_at(&script, 16_000));
    for (rate, samples) in [(8_000, 1_080), (44_100, 5_953), (48_000, 6_480)] {
        assert_eq!(speak_at(&script, rate).len(), samples);
    }
    let audio = speak(&script);
    let peak = |samples: &[f32]| {
        samples
            .iter()
            .fold(0.0_f32, |peak, sample| peak.max(sample.abs()))
    };
    assert!((5e-5..=1e-4).contains(&peak(&audio[..560])));
    assert!((0.29..=0.3).contains(&peak(&audio[560..2000])));
    assert_eq!(peak(&audio[2000..]), 0.0);
}

#[test]
fn words_begin_where_the_vocabulary_says() {
    let script = [3, 5, 1, 4, 6, 7].map(|token| Sound::Token(token, 80));
    assert_eq!(transcript(&script), "going twos 소리");
}

#[test]
fn a_graph_survives_the_way_to_disk() {
    let bytes = std::fs::read(committed().join("model.onnx")).unwrap();
    let graph = ModelProto::decode(bytes.as_slice()).unwrap();
    assert_eq!(graph, ToneModel::default().graph(Precision::Fp32));
}
