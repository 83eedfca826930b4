//! A thread that makes batches of plans.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use sori::features::{LogMel, log_mel};

use super::audio;
use super::augment::{Augmentation, Augmenter};
use super::batch::{Batch, Clean, Example, KeptSpeech};
use super::chance::{Hearing, Purpose};
use super::corpus::Corpus;
use super::error::{DataError, Strictness};
use super::manifest::Entry;
use super::sampler::{BatchPlan, Position, fits};
use super::spec_augment::SpecAugment;
use super::tarred::Buffer;
use super::timbre::Timbre;
use super::tokenizer::Tokenizer;

/// Broken audio that is told of, one by one.
const MOST_WARNINGS: u64 = 20;

pub(super) type Plan = Result<BatchPlan, DataError>;

/// A batch, or only the place after it if none of its utterances could be read.
pub(super) type Made = Result<(Position, Option<Batch>), DataError>;

/// Hearings that went wrong, over all threads.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) utterances: AtomicU64,
    pub(super) noises: AtomicU64,
}

/// Reads, augments and puts together what a plan names.
pub(super) struct Worker {
    pub(super) corpus: Corpus,
    pub(super) buffer: Option<Arc<Buffer>>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) augmentation: Arc<Augmentation>,
    pub(super) augmenter: Augmenter,
    pub(super) timbre: Timbre,
    pub(super) spec_augment: SpecAugment,
    pub(super) subword_alpha: Option<f64>,
    pub(super) keep_clean: KeptSpeech,
    pub(super) two_views: bool,
    pub(super) strictness: Strictness,
    pub(super) counters: Arc<Counters>,
}

impl Worker {
    /// Goes on until there are no more plans, or nobody takes the batches.
    pub(super) fn run(mut self, plans: &Receiver<Plan>, batches: &SyncSender<Made>) {
        for plan in plans {
            let Some(made) = plan.and_then(|plan| self.batch(&plan)).transpose() else {
                return;
            };
            let failed = made.is_err();
            if batches.send(made).is_err() || failed {
                return;
            }
        }
    }

    /// `None` if the loader has stopped.
    fn batch(&mut self, plan: &BatchPlan) -> Result<Option<(Position, Option<Batch>)>, DataError> {
        let mut examples = Vec::with_capacity(plan.hearings.len());
        for &hearing in &plan.hearings {
            match self.example(hearing) {
                Ok(Some(example)) => examples.push(example),
                Ok(None) => return Ok(None),
                Err(error) => pass_over(self.strictness, &self.counters.utterances, error)?,
            }
        }
        let batch =
            (!examples.is_empty()).then(|| Batch::collate(examples, plan.samples, plan.next));
        Ok(Some((plan.next, batch)))
    }

    /// An utterance's samples.
    fn sound(&self, entry: &Entry, hearing: Hearing) -> Result<Option<Vec<f32>>, DataError> {
        let Some((name, buffer)) = self
            .corpus
            .member(hearing.utterance as usize, entry)
            .zip(self.buffer.as_ref())
        else {
            return audio::read(entry).map(Some);
        };
        let bytes = buffer.take(hearing).transpose()?;
        let sound = bytes.map(|bytes| audio::read_bytes(entry, bytes, name));
        sound.transpose()
    }

    /// `None` if the loader has stopped.
    fn example(&mut self, hearing: Hearing) -> Result<Option<Example>, DataError> {
        let entry = self.corpus.entry(hearing.utterance as usize)?;
        let Some(sound) = self.sound(&entry, hearing)? else {
            return Ok(None);
        };
        let (strictness, noises) = (self.strictness, &self.counters.noises);
        let stretch = self.augmentation.stretch(hearing);
        let clean = |samples: &[f32], speed| Clean {
            samples: samples.to_vec(),
            speed,
            leading: stretch.leading(),
        };
        let keeps = |kept| self.keep_clean == kept;
        let unplayed = keeps(KeptSpeech::AtOwnSpeed).then(|| clean(&sound, stretch.speed()));
        let played = self.augmenter.play(sound, hearing);
        let clean = unplayed.or_else(|| keeps(KeptSpeech::AsPlayed).then(|| clean(&played, 1.0)));
        let samples = self.augmenter.disturb(played, hearing, &mut |error| {
            pass_over(strictness, noises, error)
        })?;
        let features = log_mel(&samples);
        let view = |hearing| {
            let mut view = features.clone();
            self.timbre.apply(&mut view, LogMel::BINS, hearing);
            self.spec_augment.apply(&mut view, LogMel::BINS, hearing);
            view
        };
        let changes = !(self.timbre.is_none() && self.spec_augment.is_none());
        let masked = changes.then(|| view(hearing));
        let other_view = self.two_views.then(|| view(hearing.other_view()));
        Ok(Some(Example {
            hearing,
            tokens: self.tokens(&entry.text, samples.len(), hearing)?,
            samples,
            clean,
            features,
            masked,
            other_view,
            id: entry.id(),
            text: entry.text,
            speaker: entry.speaker,
        }))
    }

    fn tokens(&self, text: &str, samples: usize, hearing: Hearing) -> Result<Vec<i64>, DataError> {
        if let Some(alpha) = self.subword_alpha {
            let mut rng = hearing.rng(Purpose::Pieces);
            let tokens = self.tokenizer.sample(text, alpha, &mut rng)?;
            // A random split may have more pieces than there is time for.
            if fits(&tokens, samples) {
                return Ok(tokens);
            }
        }
        self.tokenizer.encode(text)
    }
}

/// Tells of broken audio and counts it, or fails.
fn pass_over(strictness: Strictness, count: &AtomicU64, error: DataError) -> Result<(), DataError> {
    if strictness == Strictness::Strict || !matches!(error, DataError::Audio { .. }) {
        return Err(error);
    }
    match count.fetch_add(1, Ordering::Relaxed) + 1 {
        0..MOST_WARNINGS => tracing::warn!("skipped: {error}"),
        MOST_WARNINGS => tracing::warn!("skipped: {error}; more are counted only"),
        _ => {}
    }
    Ok(())
}
