//! Samples to what a model hears. Teacher and student listen to one waveform, each through the
//! front-end that it was trained with.

mod nemo;
pub(crate) mod slaney;
mod whisper;

use std::sync::Arc;

use rayon::prelude::*;
use tch::Tensor;

pub use nemo::NemoFeatures;
pub use whisper::WhisperFeatures;

/// A front-end. Clones share their tables and may be used by several threads at once.
#[derive(Debug, Clone)]
pub enum FrontEnd {
    /// Our own models' log-mel frames: [`sori::features`].
    Sori,
    /// A NeMo model's.
    Nemo(Arc<NemoFeatures>),
    /// Whisper's.
    Whisper(Arc<WhisperFeatures>),
    /// None: the model takes samples.
    Samples,
}

impl FrontEnd {
    /// Features of a whole utterance of 16 kHz mono samples in [-1, 1]: row-major (frames,
    /// [`width`](Self::width)).
    #[must_use]
    pub fn features(&self, samples: &[f32]) -> Vec<f32> {
        match self {
            Self::Sori => sori::features::log_mel(samples),
            Self::Nemo(nemo) => nemo.features(samples),
            Self::Whisper(whisper) => whisper.features(samples),
            Self::Samples => samples.to_vec(),
        }
    }

    /// Features of several utterances, padded with zeros to (B, T, [`width`](Self::width)), and the
    /// frames of each.
    pub fn batch(&self, utterances: &[Vec<f32>]) -> (Tensor, Vec<i64>) {
        self.batch_with(utterances, |_, _| {})
    }

    /// As [`batch`](Self::batch); `change` may alter each utterance's features, told its index,
    /// before they are padded.
    pub fn batch_with(
        &self,
        utterances: &[Vec<f32>],
        change: impl Fn(usize, &mut [f32]) + Sync,
    ) -> (Tensor, Vec<i64>) {
        let width = self.width();
        let rows: Vec<_> = utterances
            .par_iter()
            .enumerate()
            .map(|(row, samples)| {
                let mut features = self.features(samples);
                change(row, &mut features);
                features
            })
            .collect();
        let lengths: Vec<_> = rows.iter().map(|row| row.len() / width).collect();
        let frames = lengths.iter().copied().max().unwrap_or(0);
        let mut values = vec![0.0; rows.len() * frames * width];
        for (row, values) in rows.iter().zip(values.chunks_mut((frames * width).max(1))) {
            values[..row.len()].copy_from_slice(row);
        }
        let shape = [rows.len(), frames, width].map(|n| n as i64);
        let tensor = Tensor::from_slice(&values).reshape(shape);
        (tensor, lengths.into_iter().map(|n| n as i64).collect())
    }

    /// Values in a frame.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Sori => sori::features::LogMel::BINS,
            Self::Nemo(nemo) => nemo.bands(),
            Self::Whisper(whisper) => whisper.bands(),
            Self::Samples => 1,
        }
    }
}
