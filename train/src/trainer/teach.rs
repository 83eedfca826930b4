//! Asks a teacher about everything that a recipe will want to know, before training.

use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use tch::{Device, no_grad};

use super::error::TrainError;
use super::feed::{Ear, Feed};
use super::listener::{Listener, check_length};
use super::peers::Peers;
use super::precision;
use crate::config::Recipe;
use crate::data::{
    Augmentation, Corpus, KeptSpeech, Loader, LoaderConfig, Position, Source, SpecAugment, Timbre,
    Tokenizer,
};

/// What a teacher was asked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Taught {
    /// Utterances, at all speeds, that are in the cache now; of several processes, this one's.
    pub utterances: u64,
    /// Utterances of these that the teacher heard just now.
    pub asked: u64,
    /// Hours of speech, at all speeds, that are in the cache now.
    pub hours: f64,
    /// Hours of it that the teacher heard just now.
    pub heard: f64,
    /// Whether it was stopped before the end.
    pub stopped: bool,
}

/// Lets the recipe's teacher, or the encoder under its head, hear all training speech at all speeds, and
/// keeps what its stages compare in `teacher.cache` or `model.cache`. What is there already is left out, so
/// that it can be stopped and called again.
/// Several processes, of which `peers` tells, share the speech; they need not wait for each other.
///
/// # Errors
/// If the recipe has no teacher or no cache for it, and as [`train`](super::train).
pub fn teach(
    recipe: &Recipe,
    device: Device,
    stop: &AtomicBool,
    peers: &Peers,
) -> Result<Taught, TrainError> {
    recipe.validate()?;
    let teacher = recipe.listener();
    let Some((teacher, Some(cache))) = teacher.as_ref().map(|teacher| (teacher, &teacher.cache))
    else {
        return Err(TrainError::NothingKept);
    };
    tracing::info!("the teacher's words are kept in {}", cache.display());
    let mut listener = Listener::open(teacher, device)?;
    let precision = precision::suited(recipe.precision, device);
    listener.keep(teacher, precision, recipe)?;
    check_length(recipe, "the teacher", listener.max_frames())?;

    let tokenizer = std::sync::Arc::new(Tokenizer::load(&recipe.data.tokenizer)?);
    let strictness = recipe.data.strictness();
    let sources: Vec<_> = recipe
        .data
        .train
        .iter()
        .map(|source| Source {
            share: None,
            ..source.clone()
        })
        .collect();
    let corpus = Corpus::read(&sources, strictness)?;
    let mut factors = recipe.data.augmentation.speed.factors.clone();
    if factors.is_empty() || teacher.stretch {
        factors = vec![1.0];
    }
    let spoken = corpus.seconds();
    let total: f64 = factors.iter().map(|factor| spoken / factor).sum();
    let shard = peers.shard();
    let bar = match peers.leads() {
        true => ProgressBar::new((total / shard.world as f64) as u64),
        false => ProgressBar::hidden(),
    };
    let bar = bar.with_style(
        ProgressStyle::with_template("{bar:30} {percent} %, {msg}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );

    let mut taught = Taught::default();
    for factor in factors {
        let mut augmentation = Augmentation::none();
        augmentation.speed.factors = vec![factor];
        let config = LoaderConfig {
            epochs: Some(1),
            augmentation,
            timbre: Timbre::none(),
            spec_augment: SpecAugment::none(),
            keep_clean: KeptSpeech::AsPlayed,
            two_views: false,
            // Nothing is left unheard because it does not make a batch for each process.
            keep_rest: true,
            ..recipe.loader()
        };
        let start = Position::start_of(0);
        let loader = Loader::start(
            &corpus,
            tokenizer.clone(),
            &config,
            strictness,
            shard,
            start,
        )?;
        let ear = Ear::teacher(listener.front_end().clone(), listener.cache().cloned());
        for course in Feed::start(loader, Some(ear), SpecAugment::none()) {
            if stop.load(Ordering::Relaxed) {
                taught.stopped = true;
                bar.finish_and_clear();
                return Ok(taught);
            }
            let course = course?;
            let _autocast = precision::begin(precision, device)?;
            let wants_map = recipe.stages.iter().any(|stage| stage.loss.sam > 0.0);
            no_grad(|| listener.hear(&course, wants_map))?;
            let known = course.known.iter().flatten().zip(&course.batch.samples);
            for (known, &samples) in known {
                let hours = samples as f64 / 16_000.0 / 3600.0;
                taught.utterances += 1;
                taught.hours += hours;
                if known.record.is_none() {
                    taught.asked += 1;
                    taught.heard += hours;
                }
            }
            bar.inc(course.batch.seconds() as u64);
            bar.set_message(format!("{:.1} h heard", taught.heard));
        }
    }
    bar.finish_and_clear();
    Ok(taught)
}
