mod check;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::PackageError;
use crate::lm::LmOptions;

/// The contents of `config.json`.
///
/// ```json
/// {
///   "format": 1,
///   "name": "sori-en-5m", "language": "en", "description": "…", "license": "…",
///   "features":  {"kind": "slaney-log-mel", "sample_rate": 16000, "mel_bins": 80,
///                 "frame_length_ms": 25, "frame_shift_ms": 10},
///   "geometry":  {"window_size": 32, "chunk_shift": 32, "subsampling_factor": 4,
///                 "cache_last_channel": [80, 64, 36], "cache_last_time": [10, 144, 14]},
///   "streaming": {"chunk_ms": 320, "left_context_ms": 2560},
///   "tokens":    {"file": "tokens.txt", "sha256": "9f86…", "count": 129, "blank_id": 128},
///   "graphs":    {"fp32": {"file": "model.onnx", "sha256": "60d0…"},
///                 "int8": {"file": "model.int8.onnx", "sha256": "fd61…"}},
///   "batched":   {"file": "model.batch8.onnx", "sha256": "0c3e…", "streams": 8},
///   "language_model": {"file": "lm-en.lm", "weight": 0.5, "word_bonus": 1.0, "unknown_penalty": 10.0},
///   "confidence": {"slope": 1.7, "offset": -0.4},
///   "training":  {"recipe": "…", "data": "…", "commit": "…"},
///   "measured":  [{"set": "test-clean", "wer": 9.1, "chunk_ms": 320, "precision": "int8"}]
/// }
/// ```
///
/// Fields that this version does not know are kept out of the way, not refused: a newer exporter
/// may say more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Version of the package format; [`Config::FORMAT`] here.
    pub format: u64,
    /// Short name of the model.
    pub name: String,
    /// Language tag (BCP 47).
    pub language: String,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// Licence of the weights.
    #[serde(default)]
    pub license: String,
    /// The front-end the model was trained on.
    pub features: Features,
    /// Shapes of the streaming graph.
    pub geometry: Geometry,
    /// What the shapes mean in time.
    pub streaming: Streaming,
    /// The token inventory.
    pub tokens: TokenFacts,
    /// The graphs in the package.
    pub graphs: Graphs,
    /// The fp32 graph for several streams at once, for servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batched: Option<BatchedGraph>,
    /// A language model in the package, for whoever asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language_model: Option<BundledLm>,
    /// How the posteriors of a word become its confidence; without it, they are taken as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Calibration>,
    /// Where the weights come from; free form, for people.
    #[serde(default)]
    pub training: BTreeMap<String, serde_json::Value>,
    /// Word error rates measured by whoever made the package.
    #[serde(default)]
    pub measured: Vec<Measurement>,
}

/// The acoustic front-end of a model. This library computes one: see [`crate::features`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// `slaney-log-mel`.
    pub kind: String,
    /// Hz.
    pub sample_rate: u32,
    /// Mel bins of a frame.
    pub mel_bins: usize,
    /// Length of the analysis window, ms.
    pub frame_length_ms: u32,
    /// Time between frames, ms.
    pub frame_shift_ms: u32,
}

/// Shapes of the streaming graph; the names are those of its ONNX metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Feature frames that one step reads.
    pub window_size: usize,
    /// Feature frames by which a step advances, at most `window_size`.
    pub chunk_shift: usize,
    /// Feature frames per output frame.
    pub subsampling_factor: usize,
    /// `dim1..dim3` of the attention cache; the graph's shape is `(1, dim1, dim2, dim3)`.
    pub cache_last_channel: [usize; 3],
    /// `dim1..dim3` of the convolution cache; the graph's shape is `(1, dim1, dim2, dim3)`.
    pub cache_last_time: [usize; 3],
}

/// What the geometry means in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streaming {
    /// Audio consumed per step, ms.
    pub chunk_ms: u32,
    /// Audio before the chunk that attention sees, ms.
    pub left_context_ms: u32,
}

/// The token inventory, as a check on `tokens.txt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// File name in the package.
    pub file: String,
    /// Its [`sha256`](super::sha256()), if it is to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Number of tokens V, blank included.
    pub count: usize,
    /// Id of the blank: `count - 1`.
    pub blank_id: usize,
}

/// The graphs in a package, by precision. At least one is present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graphs {
    /// 32-bit float arithmetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fp32: Option<GraphFile>,
    /// Dynamically quantised matrix products.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<GraphFile>,
}

/// One ONNX file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphFile {
    /// File name in the package.
    pub file: String,
    /// Its [`sha256`](super::sha256()), if it is to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The fp32 graph once more, for several streams in one run: every shape begins with their number instead of 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchedGraph {
    /// File name in the package.
    pub file: String,
    /// Its [`sha256`](super::sha256()), if it is to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Streams in one run.
    pub streams: usize,
}

/// A language model and what suits it with this model; where a number is absent, that of
/// [`LmOptions::default`] holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BundledLm {
    /// File name in the package.
    pub file: String,
    /// Its [`sha256`](super::sha256()), if it is to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// [`LmOptions::weight`], 0 to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f32>,
    /// [`LmOptions::word_bonus`], -100 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word_bonus: Option<f32>,
    /// [`LmOptions::unknown_penalty`], 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_penalty: Option<f32>,
}

impl BundledLm {
    /// What [`weight`](Self::weight) may be.
    pub const WEIGHTS: RangeInclusive<f32> = 0.0..=10.0;
    /// What [`word_bonus`](Self::word_bonus) may be.
    pub const WORD_BONUSES: RangeInclusive<f32> = -100.0..=100.0;
    /// What [`unknown_penalty`](Self::unknown_penalty) may be.
    pub const UNKNOWN_PENALTIES: RangeInclusive<f32> = 0.0..=100.0;

    /// With the defaults for what is absent.
    #[must_use]
    pub fn options(&self) -> LmOptions {
        let default = LmOptions::default();
        LmOptions {
            weight: self.weight.unwrap_or(default.weight),
            word_bonus: self.word_bonus.unwrap_or(default.word_bonus),
            unknown_penalty: self.unknown_penalty.unwrap_or(default.unknown_penalty),
            ..default
        }
    }
}

/// Makes confidences of posteriors that mean what they say: of words with confidence 0.8, four of five
/// are right. By a logistic curve, `sigmoid(slope * logit(p) + offset)` (Platt 1999), fitted to speech
/// with known transcripts.
///
/// ```
/// use sori::model::Calibration;
///
/// let modest = Calibration { slope: 0.5, offset: -0.2 };
/// assert!(modest.confidence(0.99) < 0.99);
/// assert!(modest.confidence(0.9) > modest.confidence(0.8));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// How much the posterior says: 0 to 100.
    pub slope: f32,
    /// What is added, -100 to 100.
    pub offset: f32,
}

impl Calibration {
    /// Leaves posteriors as they are.
    pub const NONE: Self = Self {
        slope: 1.0,
        offset: 0.0,
    };

    /// The confidence that a mean posterior, 0 to 1, stands for.
    #[must_use]
    pub fn confidence(self, posterior: f32) -> f32 {
        if self == Self::NONE {
            return posterior;
        }
        let logit = Self::logit(posterior);
        1.0 / (1.0 + (-self.slope * logit - self.offset).exp())
    }

    /// The logarithm of the odds, kept finite.
    #[must_use]
    pub fn logit(posterior: f32) -> f32 {
        let p = posterior.clamp(1e-6, 1.0 - 1e-6);
        (p / (1.0 - p)).ln()
    }
}

/// A word error rate that somebody measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// Name of the test set.
    pub set: String,
    /// Word error rate, per cent.
    pub wer: f64,
    /// Chunk size it was measured at, ms; absent for full context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_ms: Option<u32>,
    /// Precision it was measured at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
}

impl Config {
    /// The package format that this version of the library reads and writes.
    pub const FORMAT: u64 = 1;

    /// Parses and validates the bytes of a `config.json`; `path` is only named in errors.
    ///
    /// # Errors
    /// [`PackageError::Json`] when a field is missing or of the wrong type,
    /// [`PackageError::Format`] for another format version, [`PackageError::Field`] for a value
    /// that cannot be used.
    pub fn parse(json: &[u8], path: &Path) -> Result<Self, PackageError> {
        // The version is read by itself first: a package of another version may differ in any
        // other field, and its reader should hear of the version, not of that field.
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let version: Version = parse_json(json, path)?;
        if version.format != Self::FORMAT {
            return Err(PackageError::Format {
                path: path.to_owned(),
                found: version.format,
                expected: Self::FORMAT,
            });
        }
        let config: Self = parse_json(json, path)?;
        config.check(path)?;
        Ok(config)
    }
}

fn parse_json<T: serde::de::DeserializeOwned>(json: &[u8], path: &Path) -> Result<T, PackageError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let place = error.path().to_string();
        let inner = error.into_inner();
        let mut reason = inner.to_string();
        let field = if inner.is_data() && place != "." {
            place
        } else {
            // serde_json says the place last; it is said first here.
            let end = reason.rfind(" at line ").unwrap_or(reason.len());
            reason.truncate(end);
            format!("line {}, column {}", inner.line(), inner.column())
        };
        PackageError::Json {
            path: path.to_owned(),
            field,
            reason,
        }
    })?;
    deserializer.end().map_err(|error| PackageError::Json {
        path: path.to_owned(),
        field: format!("line {}, column {}", error.line(), error.column()),
        reason: "text after the end of the configuration".to_owned(),
    })?;
    Ok(value)
}
