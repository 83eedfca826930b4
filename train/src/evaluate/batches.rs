//! Utterances read, turned into features and padded, while those before them are heard.

use std::sync::mpsc::SyncSender;

use rayon::prelude::*;
use sori::features::{LogMel, frame_count, log_mel};
use tch::Tensor;

use crate::data::manifest::Entry;
use crate::data::{DataError, audio};
use crate::front_end::FrontEnd;
use crate::model::{Context, SUBSAMPLING};

/// Batches are padded to multiples of so many log-mel frames: libtorch keeps something for every
/// shape that it has seen.
const PAD_TO: usize = 64;

/// Who hears a batch, and how.
pub(super) struct Listeners<'a> {
    pub(super) causal: bool,
    pub(super) contexts: &'a [Context],
    /// The model's own, where it does not hear our log-mel frames.
    pub(super) own: Option<&'a FrontEnd>,
    pub(super) teacher: Option<&'a FrontEnd>,
}

/// A batch of utterances, ready to be heard.
pub(super) struct Prepared<'a> {
    /// Those that could be read.
    pub(super) entries: Vec<&'a Entry>,
    /// Log-mel frames, (B, T, 80).
    pub(super) features: Tensor,
    /// Log-mel frames of each utterance, by context: their ends depend on the chunk.
    pub(super) lengths: Vec<Vec<i64>>,
    /// What a model with another front-end hears.
    pub(super) own: Option<(Tensor, Vec<i64>)>,
    /// What the teacher hears.
    pub(super) for_teacher: Option<(Tensor, Vec<i64>)>,
    pub(super) unreadable: Vec<DataError>,
}

/// Reads utterances in batches of similar length, the longest first, until nobody takes them.
pub(super) fn prepare<'a>(
    mut entries: Vec<&'a Entry>,
    batch_seconds: f64,
    listeners: &Listeners<'_>,
    batches: &SyncSender<Prepared<'a>>,
) {
    entries.sort_by(|a, b| b.duration.total_cmp(&a.duration));
    let mut rest = &entries[..];
    while let Some(longest) = rest.first() {
        let frames = listeners.lengths(audio::samples_in(longest.duration));
        let seconds = padded_frames(frames.into_iter().max().unwrap_or(0)) as f64 / 100.0;
        let count = (batch_seconds / seconds).max(1.0) as usize;
        let (batch, after) = rest.split_at(count.min(rest.len()));
        rest = after;
        if batches.send(listeners.prepare(batch)).is_err() {
            return;
        }
    }
}

impl Listeners<'_> {
    fn prepare<'a>(&self, entries: &[&'a Entry]) -> Prepared<'a> {
        let read: Vec<_> = entries
            .par_iter()
            .map(|&entry| {
                let samples = audio::read(entry)?;
                let (features, lengths) = self.log_mel(&samples);
                Ok((entry, samples, features, lengths))
            })
            .collect();
        let mut batch = Prepared {
            entries: Vec::new(),
            features: Tensor::new(),
            lengths: vec![Vec::new(); self.contexts.len()],
            own: None,
            for_teacher: None,
            unreadable: Vec::new(),
        };
        let (mut waveforms, mut rows) = (Vec::new(), Vec::new());
        for utterance in read {
            match utterance {
                Ok((entry, samples, features, lengths)) => {
                    batch.entries.push(entry);
                    waveforms.push(samples);
                    rows.push(features);
                    for (all, length) in batch.lengths.iter_mut().zip(lengths) {
                        all.push(length as i64);
                    }
                }
                Err(error) => batch.unreadable.push(error),
            }
        }
        batch.features = padded(&rows);
        batch.own = self.own.map(|front_end| front_end.batch(&waveforms));
        batch.for_teacher = self.teacher.map(|front_end| front_end.batch(&waveforms));
        batch
    }

    /// Log-mel frames of an utterance, and how many of them each context hears.
    fn log_mel(&self, samples: &[f32]) -> (Vec<f32>, Vec<usize>) {
        let lengths = self.lengths(samples.len());
        if !self.causal {
            return (log_mel(samples), lengths);
        }
        let most = lengths.iter().copied().max().unwrap_or(0);
        (streamed_log_mel(samples, most), lengths)
    }

    /// Log-mel frames that each context hears of so many samples.
    fn lengths(&self, samples: usize) -> Vec<usize> {
        let frames = |&context: &Context| {
            if self.causal {
                streamed_frames(samples, context)
            } else {
                frame_count(samples)
            }
        };
        self.contexts.iter().map(frames).collect()
    }
}

/// Log-mel frames that the runtime lets a model hear of so many samples: to the end of the tail of
/// silence, and on to the end of the chunk.
fn streamed_frames(samples: usize, context: Context) -> usize {
    let chunk = match context {
        Context::Full => SUBSAMPLING,
        Context::Chunked { chunk, .. } => SUBSAMPLING * chunk,
    };
    let tail = audio::samples_in(sori::Options::default().tail);
    (samples + tail)
        .div_ceil(LogMel::SHIFT)
        .next_multiple_of(chunk as usize)
}

/// The first `frames` log-mel frames of the samples and the silence behind them.
fn streamed_log_mel(samples: &[f32], frames: usize) -> Vec<f32> {
    let mut features = Vec::with_capacity((frames + 1) * LogMel::BINS);
    let mut log_mel = LogMel::new();
    log_mel.accept(samples, &mut features);
    while features.len() < frames * LogMel::BINS {
        log_mel.accept(&[0.0; LogMel::SHIFT], &mut features);
    }
    features.truncate(frames * LogMel::BINS);
    features
}

/// What a batch is padded to whose longest utterance has so many log-mel frames.
fn padded_frames(longest: usize) -> usize {
    longest.max(1).next_multiple_of(PAD_TO)
}

/// (B, T, 80), each row followed by zeros.
fn padded(rows: &[Vec<f32>]) -> Tensor {
    let frames = rows
        .iter()
        .map(|row| row.len() / LogMel::BINS)
        .max()
        .unwrap_or(0);
    let frames = padded_frames(frames);
    let mut values = vec![0.0_f32; rows.len() * frames * LogMel::BINS];
    for (row, values) in rows
        .iter()
        .zip(values.chunks_exact_mut(frames * LogMel::BINS))
    {
        values[..row.len()].copy_from_slice(row);
    }
    Tensor::from_slice(&values).reshape([rows.len(), frames, LogMel::BINS].map(|n| n as i64))
}
