//! The recipe as a whole, and its smaller tables.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{RecipeError, require};
use super::model::ModelRecipe;
use super::optimiser::Optimiser;
use super::stage::Stage;
use crate::data::{
    Augmentation, Batching, KeptSpeech, LoaderConfig, Source, SpecAugment, Strictness, Timbre,
};
use crate::loss::HeadMatching;
use crate::model::{Context, TeacherSource};

/// Milliseconds of an output frame.
pub const FRAME_MS: u32 = 40;

/// All that a training run depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The recipe's name: of the run's folder and in the trained model. Default: the file's.
    pub name: String,
    /// What all random numbers start from. Default: 1.
    #[serde(default = "one")]
    pub seed: u64,
    /// The precision of matrix products and convolutions. Default: `"fp32"`.
    #[serde(default)]
    pub precision: Precision,
    /// Decay of the running average of the weights, per step; 0 for none. Default: 0.999.
    #[serde(default = "ema_decay")]
    pub ema_decay: f64,
    /// Whom it learns from, if there is a teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<TeacherRecipe>,
    /// The model to train.
    #[serde(default)]
    pub model: ModelRecipe,
    /// What it hears.
    pub data: DataRecipe,
    /// What its attention may see.
    #[serde(default)]
    pub contexts: Contexts,
    /// How it is moved.
    #[serde(default)]
    pub optimiser: Optimiser,
    /// When its state is written.
    #[serde(default)]
    pub checkpoints: Checkpoints,
    /// When its losses are measured on other data.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// When figures are written.
    #[serde(default)]
    pub metrics: Metrics,
    /// What is minimised, in this order.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

/// The precision of training. Weights and the optimiser's state are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits everywhere.
    #[default]
    Fp32,
    /// bfloat16 where torch's autocast holds it to be safe; 32 bits on a processor without such
    /// arithmetic, which would take many times longer.
    Bf16,
}

/// `[teacher]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherRecipe {
    /// Its kind and file, as [`TeacherSource`] reads them: `"nemo:large.nemo"`.
    pub source: String,
    /// The layer whose attention map it gives, from 0, where it offers a choice. Default: the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// A folder where what the teacher says is kept, so that it is asked once about each utterance at
    /// each speed. It then hears the speech without quiet, room and noise, and attention maps are
    /// compared as means over heads. Default: none, it hears what the student hears each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// What it says about speech at its own speed is stretched to other speeds, instead of asking it about each: no
    /// longer exact, but speeds may then be as many as one likes. Needs a cache. Default: no.
    #[serde(default)]
    pub stretch: bool,
}

/// `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// The folder of the tokenizer.
    pub tokenizer: PathBuf,
    /// The speech to train on: `[{ manifest = "a.jsonl", share = 0.5 }, ...]`.
    pub train: Vec<Source>,
    /// Fail at bad lines and broken audio, instead of leaving them out. Default: no.
    #[serde(default)]
    pub strict: bool,
    /// Threads that read, augment and compute features ([`LoaderConfig::workers`]). Default: one
    /// less than the machine has cores for each process that trains on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// Transcripts are split into pieces in random ways ([`LoaderConfig::subword_alpha`]). Default:
    /// no, always the best split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subword_alpha: Option<f64>,
    /// How utterances are put together.
    #[serde(default)]
    pub batching: Batching,
    /// What happens to the sound that teacher and student hear.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Other throats and microphones, for the student only. Not for a head, whose encoder hears other features.
    #[serde(default)]
    pub timbre: Timbre,
    /// What is hidden from the student.
    #[serde(default)]
    pub spec_augment: SpecAugment,
}

/// `[contexts]`: attention during training. A chunk size is drawn for every batch, so that one model
/// serves several latencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contexts {
    /// Chunk sizes to draw from, milliseconds in steps of 40 or `"full"`, each as likely as the
    /// others. Default: `[160, 320, 640, "full"]`.
    pub chunks_ms: Vec<Chunk>,
    /// Left context of a chunk, in milliseconds in steps of 40. Default: 2560.
    pub left_ms: u32,
}

/// A chunk of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "toml::Value", into = "toml::Value")]
pub enum Chunk {
    /// So many milliseconds.
    Ms(u32),
    /// The whole utterance.
    Full,
}

/// `[checkpoints]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoints {
    /// Steps from one to the next. Default: 1000.
    pub every_steps: u64,
    /// How many of the newest are kept. Default: 3.
    pub keep: usize,
    /// How many of the last stage's newest are averaged for the trained model. Default: 1.
    pub average_last: usize,
}

/// `[evaluation]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluation {
    /// Manifests of speech that is not trained on. Default: none, so that nothing is measured.
    pub manifests: Vec<PathBuf>,
    /// Steps from one measurement to the next. Default: 1000.
    pub every_steps: u64,
}

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Steps from one line of `metrics.jsonl` to the next. Default: 50.
    pub every_steps: u64,
}

fn one() -> u64 {
    1
}

fn ema_decay() -> f64 {
    0.999
}

impl Default for Contexts {
    fn default() -> Self {
        Self {
            chunks_ms: vec![Chunk::Ms(160), Chunk::Ms(320), Chunk::Ms(640), Chunk::Full],
            left_ms: 2560,
        }
    }
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            every_steps: 1000,
            keep: 3,
            average_last: 1,
        }
    }
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            manifests: Vec::new(),
            every_steps: 1000,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { every_steps: 50 }
    }
}

impl TryFrom<toml::Value> for Chunk {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        match &value {
            toml::Value::Integer(ms) => u32::try_from(*ms).map(Self::Ms).ok(),
            toml::Value::String(text) if text == "full" => Some(Self::Full),
            _ => None,
        }
        .ok_or_else(|| format!("expected milliseconds or \"full\", found {value}"))
    }
}

impl From<Chunk> for toml::Value {
    fn from(chunk: Chunk) -> Self {
        match chunk {
            Chunk::Ms(ms) => Self::Integer(ms.into()),
            Chunk::Full => Self::String("full".into()),
        }
    }
}

impl Contexts {
    /// What attention may see with each of the chunk sizes.
    #[must_use]
    pub fn contexts(&self) -> Vec<Context> {
        let frames = |ms: u32| i64::from(ms / FRAME_MS);
        let left = frames(self.left_ms);
        self.chunks_ms
            .iter()
            .map(|chunk| match chunk {
                Chunk::Full => Context::Full,
                Chunk::Ms(ms) => Context::Chunked {
                    chunk: frames(*ms),
                    left,
                },
            })
            .collect()
    }

    fn validate(&self) -> Result<(), RecipeError> {
        let chunks = self.chunks_ms.len();
        require(
            "contexts.chunks_ms",
            "at least one chunk size",
            chunks,
            chunks >= 1,
        )?;
        let whole = |ms: u32| ms.is_multiple_of(FRAME_MS) && ms <= 3_600_000;
        for chunk in &self.chunks_ms {
            if let Chunk::Ms(ms) = *chunk {
                let expected = format!("a multiple of {FRAME_MS} ms above 0");
                require("contexts.chunks_ms", expected, ms, ms > 0 && whole(ms))?;
            }
        }
        // A streaming graph has a cache, or it is none.
        let streams = self.chunks_ms.iter().any(|chunk| *chunk != Chunk::Full);
        let least = if streams { FRAME_MS } else { 0 };
        require(
            "contexts.left_ms",
            format!("a multiple of {FRAME_MS} ms from {least} on"),
            self.left_ms,
            whole(self.left_ms) && self.left_ms >= least,
        )
    }
}

impl DataRecipe {
    fn loader(&self, seed: u64) -> LoaderConfig {
        let defaults = LoaderConfig::default();
        LoaderConfig {
            seed,
            workers: self.workers.unwrap_or(defaults.workers),
            batching: self.batching.clone(),
            augmentation: self.augmentation.clone(),
            timbre: self.timbre.clone(),
            spec_augment: self.spec_augment.clone(),
            subword_alpha: self.subword_alpha,
            ..defaults
        }
    }

    /// What to do about bad lines and broken audio.
    #[must_use]
    pub fn strictness(&self) -> Strictness {
        if self.strict {
            Strictness::Strict
        } else {
            Strictness::Lenient
        }
    }
}

impl Recipe {
    /// How batches for training are made.
    #[must_use]
    pub fn loader(&self) -> LoaderConfig {
        LoaderConfig {
            keep_clean: self.keeps_clean(),
            two_views: self.stages.iter().any(|stage| stage.loss.consistency > 0.0),
            ..self.data.loader(self.seed)
        }
    }

    /// Who listens beside the model that is trained: its teacher, or the encoder under it if what that
    /// says is kept.
    pub(crate) fn listener(&self) -> Option<TeacherRecipe> {
        let (encoder, cache) = (self.model.encoder(), self.model.cache());
        let kept = encoder.zip(cache).map(|(encoder, cache)| TeacherRecipe {
            source: format!("whisper:{}", encoder.display()),
            layer: None,
            cache: Some(cache.clone()),
            stretch: false,
        });
        kept.or_else(|| self.teacher.clone())
    }

    /// What who listens hears of the speech alone, if what it says is kept.
    pub(crate) fn keeps_clean(&self) -> KeptSpeech {
        match self.listener() {
            Some(listener) if listener.cache.is_some() && listener.stretch => {
                KeptSpeech::AtOwnSpeed
            }
            Some(listener) if listener.cache.is_some() => KeptSpeech::AsPlayed,
            _ => KeptSpeech::None,
        }
    }

    /// Checks everything that can be checked without the data and the teacher.
    ///
    /// # Errors
    /// Names the first value that is out of bounds.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let named = !self.name.is_empty() && !self.name.contains(['/', '\\']);
        require(
            "name",
            "a name without slashes",
            format!("{:?}", self.name),
            named,
        )?;
        // TOML has no larger numbers.
        let most = i64::MAX as u64;
        require(
            "seed",
            format!("at most {most}"),
            self.seed,
            self.seed <= most,
        )?;
        let decay = self.ema_decay;
        require(
            "ema_decay",
            "at least 0 and below 1",
            decay,
            (0.0..1.0).contains(&decay),
        )?;
        self.model.validate()?;
        self.contexts.validate()?;
        if !self.model.causal() {
            let full = self
                .contexts
                .chunks_ms
                .iter()
                .all(|&chunk| chunk == Chunk::Full);
            let expected = "[\"full\"] for a model that is not causal";
            require("contexts.chunks_ms", expected, "a chunk size", full)?;
        }
        require(
            "data.train",
            "at least one manifest",
            0,
            !self.data.train.is_empty(),
        )?;
        self.loader().validate()?;
        self.optimiser.validate()?;
        let Checkpoints {
            every_steps,
            keep,
            average_last,
        } = self.checkpoints;
        require(
            "checkpoints.every_steps",
            "at least 1",
            every_steps,
            every_steps >= 1,
        )?;
        require("checkpoints.keep", "at least 1", keep, keep >= 1)?;
        let expected = format!("from 1 to {keep}, the checkpoints that are kept");
        let holds = (1..=keep).contains(&average_last);
        require("checkpoints.average_last", expected, average_last, holds)?;
        let every = self.evaluation.every_steps;
        require("evaluation.every_steps", "at least 1", every, every >= 1)?;
        let every = self.metrics.every_steps;
        require("metrics.every_steps", "at least 1", every, every >= 1)?;
        require("stage", "at least one stage", 0, !self.stages.is_empty())?;
        for (index, stage) in self.stages.iter().enumerate() {
            stage.validate(index)?;
            let twice = self.stages[..index]
                .iter()
                .any(|other| other.name == stage.name);
            let field = format!("stage.{index}.name");
            require(field, "another than the stages before", &stage.name, !twice)?;
        }
        if self.model.encoder().is_some() {
            let comparing = self.stages.iter().find(|stage| stage.loss.need_teacher());
            let name = comparing.map_or("none", |stage| &stage.name);
            let holds = comparing.is_none() && self.teacher.is_none();
            let expected = "no teacher, as a head learns from transcripts alone";
            require(
                "teacher, or a stage that compares with one",
                expected,
                name,
                holds,
            )?;
            let agreeing = self
                .stages
                .iter()
                .find(|stage| stage.loss.consistency > 0.0);
            require(
                "loss.consistency",
                "0, as a head hears one view of an utterance",
                agreeing.map_or(0.0, |stage| stage.loss.consistency),
                agreeing.is_none(),
            )?;
            require(
                "data.timbre",
                "no probability above 0, as a head does not hear our log-mel features",
                format!("{:?}", self.data.timbre),
                self.data.timbre.is_none(),
            )?;
        }
        match &self.teacher {
            Some(teacher) => {
                let grouped = self
                    .stages
                    .iter()
                    .find(|stage| stage.loss.sam > 0.0 && stage.heads != HeadMatching::Mean);
                let name = grouped.map_or("", |stage| stage.name.as_str());
                require(
                    "teacher.cache",
                    format!(
                        "none, as stage {name:?} compares head by head and the cache keeps means"
                    ),
                    teacher
                        .cache
                        .as_ref()
                        .map_or("".into(), |path| path.to_string_lossy()),
                    teacher.cache.is_none() || grouped.is_none(),
                )?;
                require(
                    "teacher.stretch",
                    "false, or a teacher.cache to stretch from",
                    teacher.stretch,
                    !teacher.stretch || teacher.cache.is_some(),
                )?;
                let holds = teacher.source.parse::<TeacherSource>();
                let expected = "sori:FILE, nemo:FILE, whisper:ENCODER, whisper:ENCODER+HEAD or torchscript:FILE";
                require("teacher.source", expected, &teacher.source, holds.is_ok())
            }
            None => {
                let needing = self.stages.iter().find(|stage| stage.loss.need_teacher());
                let name = needing.map_or("", |stage| &stage.name);
                let expected = format!("given, as stage {name:?} compares with a teacher");
                require("teacher.source", expected, "none", needing.is_none())
            }
        }
    }

    /// The recipe as TOML, with every default written out.
    ///
    /// # Panics
    /// Never: a recipe is made of tables, strings and numbers.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is made of tables, strings and numbers")
    }
}
