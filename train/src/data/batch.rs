//! What a training step is given.

use sori::features::LogMel;
use tch::{Kind, Tensor};

use super::chance::Hearing;
use super::sampler::Position;

/// Utterances that are heard together, padded with zeros to one length.
#[derive(Debug)]
pub struct Batch {
    /// The augmented sound, (B, N), 16 kHz, float32 on the CPU: for teachers with a front-end of
    /// their own.
    pub waveforms: Tensor,
    /// Samples of each utterance.
    pub samples: Vec<i64>,
    /// The speech of each utterance alone, if it is kept ([`LoaderConfig::keep_clean`]); else empty.
    ///
    /// [`LoaderConfig::keep_clean`]: super::LoaderConfig::keep_clean
    pub clean: Vec<Clean>,
    /// Log-mel features of the same sound, (B, T, 80), in another timbre and partly hidden by SpecAugment, if
    /// either is asked for: for students.
    pub features: Tensor,
    /// Features of the same sound in yet another timbre and with other parts hidden, if two views are asked for.
    pub other_view: Option<Tensor>,
    /// The same features with nothing hidden: for teachers with our front-end.
    pub clean_features: Tensor,
    /// Log-mel frames of each utterance.
    pub frames: Vec<i64>,
    /// The token ids of each transcript, without blanks.
    pub tokens: Vec<Vec<i64>>,
    /// What the random numbers of each utterance follow from.
    pub hearings: Vec<Hearing>,
    /// Each utterance's name, for reports.
    pub ids: Vec<String>,
    /// The normalised transcripts.
    pub texts: Vec<String>,
    /// Who speaks, where it is known.
    pub speakers: Vec<Option<String>>,
    /// The place after this batch: what a checkpoint saves.
    pub next: Position,
}

/// What is kept of an utterance's speech beside what is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeptSpeech {
    /// Nothing.
    #[default]
    None,
    /// The speech at the speed that was drawn.
    AsPlayed,
    /// The speech as it was recorded.
    AtOwnSpeed,
}

/// An utterance's speech without what augmentation puts around and over it.
#[derive(Debug, Clone, PartialEq)]
pub struct Clean {
    /// 16 kHz.
    pub samples: Vec<f32>,
    /// How much faster than this it is played in what is heard.
    pub speed: f64,
    /// Samples of quiet before it in what is heard.
    pub leading: usize,
}

/// One utterance, ready to be put into a batch.
pub(super) struct Example {
    pub(super) hearing: Hearing,
    pub(super) samples: Vec<f32>,
    pub(super) clean: Option<Clean>,
    /// (frames, 80).
    pub(super) features: Vec<f32>,
    /// The same, partly hidden; `None` if nothing is.
    pub(super) masked: Option<Vec<f32>>,
    /// The same, in yet another view; of all examples of a batch, or of none.
    pub(super) other_view: Option<Vec<f32>>,
    pub(super) tokens: Vec<i64>,
    pub(super) id: String,
    pub(super) text: String,
    pub(super) speaker: Option<String>,
}

impl Batch {
    /// Puts examples together, each padded to `samples`, and their features to as many frames as
    /// these give.
    pub(super) fn collate(examples: Vec<Example>, samples: usize, next: Position) -> Self {
        let frames = sori::features::frame_count(samples);
        let rows = |of: fn(&Example) -> &[f32]| {
            padded(examples.iter().map(of), frames * LogMel::BINS).reshape([
                -1,
                frames as i64,
                LogMel::BINS as i64,
            ])
        };
        let features = rows(|example| &example.features);
        let masked = if examples.iter().any(|example| example.masked.is_some()) {
            rows(|example| example.masked.as_deref().unwrap_or(&example.features))
        } else {
            features.shallow_clone()
        };
        let has_other = examples.iter().any(|example| example.other_view.is_some());
        let other_view = has_other
            .then(|| rows(|example| example.other_view.as_deref().unwrap_or(&example.features)));
        let mut batch = Self {
            waveforms: padded(
                examples.iter().map(|example| example.samples.as_slice()),
                samples,
            ),
            samples: Vec::new(),
            clean: Vec::new(),
            features: masked,
            other_view,
            clean_features: features,
            frames: Vec::new(),
            tokens: Vec::new(),
            hearings: Vec::new(),
            ids: Vec::new(),
            texts: Vec::new(),
            speakers: Vec::new(),
            next,
        };
        for example in examples {
            batch.samples.push(example.samples.len() as i64);
            batch.clean.extend(example.clean);
            batch
                .frames
                .push((example.features.len() / LogMel::BINS) as i64);
            batch.tokens.push(example.tokens);
            batch.hearings.push(example.hearing);
            batch.ids.push(example.id);
            batch.texts.push(example.text);
            batch.speakers.push(example.speaker);
        }
        batch
    }

    /// Number of utterances, B.
    #[must_use]
    pub fn utterances(&self) -> usize {
        self.ids.len()
    }

    /// Seconds of audio, padding not counted.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.samples.iter().sum::<i64>() as f64 / f64::from(LogMel::SAMPLE_RATE)
    }
}

/// (rows, `length`), each row followed by zeros.
fn padded<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, length: usize) -> Tensor {
    let shape = [rows.len() as i64, length as i64];
    let mut values = vec![0.0_f32; rows.len() * length];
    for (row, values) in rows.zip(values.chunks_exact_mut(length.max(1))) {
        values[..row.len()].copy_from_slice(row);
    }
    Tensor::from_slice(&values)
        .reshape(shape)
        .to_kind(Kind::Float)
}
