//! Measurements on speech that is not trained on.

use std::collections::BTreeMap;

use super::classroom::Classroom;
use super::error::TrainError;
use super::feed::Feed;
use super::metrics::{Figures, shares};
use crate::config::{FRAME_MS, Recipe, Stage};
use crate::data::{Corpus, Loader, LoaderConfig, Position, Shard, Source, SpecAugment, Strictness};
use crate::evaluate::{ErrorCounts, SpikeAgreement, texts, word_errors};
use crate::model::Context;

/// The speech, and how it is heard.
pub(super) struct HeldOut {
    corpus: Corpus,
    config: LoaderConfig,
    strictness: Strictness,
}

impl HeldOut {
    /// Reads the manifests; `None` if there are none.
    pub(super) fn read(recipe: &Recipe) -> Result<Option<Self>, TrainError> {
        let manifests = &recipe.evaluation.manifests;
        if manifests.is_empty() {
            return Ok(None);
        }
        let sources: Vec<_> = manifests.iter().map(Source::once).collect();
        let strictness = recipe.data.strictness();
        Ok(Some(Self {
            corpus: Corpus::read(&sources, strictness)?,
            config: LoaderConfig {
                batching: recipe.data.batching.clone(),
                keep_clean: recipe.keeps_clean(),
                ..LoaderConfig::evaluation()
            },
            strictness,
        }))
    }

    /// A stage's losses for each chunk size, the word error rate where the stage teaches to write,
    /// and the agreement of spikes for the first chunk size.
    pub(super) fn measure(
        &self,
        classroom: &Classroom,
        stage: &Stage,
    ) -> Result<Figures, TrainError> {
        let tokenizer = classroom.tokenizer.clone();
        let (strictness, start) = (self.strictness, Position::start_of(0));
        let loader = Loader::start(
            &self.corpus,
            tokenizer.clone(),
            &self.config,
            strictness,
            Shard::WHOLE,
            start,
        )?;
        let mut losses = BTreeMap::<String, f64>::new();
        let mut errors = BTreeMap::<String, ErrorCounts>::new();
        let mut agreement = SpikeAgreement::default();
        let mut utterances = 0.0;
        for course in Feed::start(loader, classroom.other_ear(), SpecAugment::none()) {
            let course = course?;
            let count = course.batch.utterances() as f64;
            utterances += count;
            for (index, context) in classroom.contexts.iter().enumerate() {
                let (objective, student) = classroom.examine(stage, &course, *context)?;
                let chunk = name(*context);
                for (loss, term) in objective.terms {
                    let sum = losses.entry(format!("held_out/{loss}/{chunk}"));
                    *sum.or_default() += term.double_value(&[]) * count;
                }
                if stage.loss.ctc > 0.0 {
                    let errors = errors.entry(format!("held_out/wer/{chunk}")).or_default();
                    let said = texts(tokenizer.pieces(), &student.log_probs, &student.lengths)?;
                    for (text, said) in course.batch.texts.iter().zip(&said) {
                        *errors += word_errors(text, said);
                    }
                }
                if index == 0 {
                    agreement += classroom.agreement(&course, &student)?.unwrap_or_default();
                }
            }
        }
        let losses = losses
            .into_iter()
            .map(|(name, sum)| (name, sum / utterances));
        let rates = errors
            .into_iter()
            .filter_map(|(name, errors)| Some((name, errors.rate()?)));
        let shares = shares("held_out", agreement);
        Ok(losses.chain(rates).chain(shares).collect())
    }
}

/// How a context is called in figures.
fn name(context: Context) -> String {
    match context {
        Context::Full => "full".into(),
        Context::Chunked { chunk, .. } => format!("{}ms", chunk * i64::from(FRAME_MS)),
    }
}
