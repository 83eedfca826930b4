//! Measurements on speech that is not trained on.

use std::collections::BTreeMap;

use tch::Tensor;

use super::classroom::Classroom;
use super::error::TrainError;
use super::feed::Feed;
use super::metrics::{Figures, SPIKE_SHARES};
use super::peers::Peers;
use crate::config::{FRAME_MS, LossWeights, Recipe, Stage};
use crate::data::{
    Batching, Corpus, Loader, LoaderConfig, Position, Source, SpecAugment, Strictness,
};
use crate::evaluate::{Settings, texts, word_errors};
use crate::model::Context;

/// The speech, and how it is heard.
pub(super) struct HeldOut {
    corpus: Corpus,
    config: LoaderConfig,
    strictness: Strictness,
}

impl HeldOut {
    /// Reads the manifests, of which utterances up to `longest` seconds can be heard; `None` if there are none.
    pub(super) fn read(recipe: &Recipe, longest: f64) -> Result<Option<Self>, TrainError> {
        let manifests = &recipe.evaluation.manifests;
        if manifests.is_empty() {
            return Ok(None);
        }
        let sources: Vec<_> = manifests.iter().map(Source::once).collect();
        let strictness = recipe.data.strictness();
        let corpus = Corpus::read(&sources, strictness)?;
        // What is too long to be learnt from is heard all the same, as by `evaluate`.
        let learnt = &recipe.data.batching;
        let longest = (longest - learnt.pad_to).min(Settings::default().longest);
        let batching = Batching {
            longest,
            max_seconds: learnt.max_seconds.max(longest + learnt.pad_to),
            ..learnt.clone()
        };
        let too_long = (0..corpus.len()).filter(|&index| corpus.duration(index) > longest);
        let too_long = too_long.count();
        if too_long > 0 {
            tracing::warn!(
                "held-out speech: {too_long} of {} utterances are longer than {longest} s and left out",
                corpus.len()
            );
        }
        Ok(Some(Self {
            corpus,
            config: LoaderConfig {
                batching,
                keep_clean: recipe.keeps_clean(),
                // All of it is heard, however many processes share it.
                keep_rest: true,
                ..LoaderConfig::evaluation()
            },
            strictness,
        }))
    }

    /// A stage's losses for each chunk size, the word error rate where the stage teaches to write,
    /// and the agreement of spikes for the first chunk size. Each process hears its part of the
    /// speech; the figures are of all of it.
    pub(super) fn measure(
        &self,
        classroom: &Classroom,
        stage: &Stage,
        peers: &Peers,
    ) -> Result<Figures, TrainError> {
        let tokenizer = classroom.tokenizer.clone();
        let (strictness, start) = (self.strictness, Position::start_of(0));
        let loader = Loader::start(
            &self.corpus,
            tokenizer.clone(),
            &self.config,
            strictness,
            peers.shard(),
            start,
        )?;
        let mut shares = Shares::of(&classroom.contexts);
        for course in Feed::start(loader, classroom.other_ear(), SpecAugment::none()) {
            let course = course?;
            let utterances = course.batch.utterances() as f64;
            for (index, context) in classroom.contexts.iter().enumerate() {
                let (objective, student) = classroom.examine(stage, &course, *context)?;
                let chunk = name(*context);
                for (loss, mean) in objective.terms {
                    let sum = mean.double_value(&[]) * utterances;
                    shares.add(&format!("{loss}/{chunk}"), sum, utterances);
                }
                if stage.loss.ctc > 0.0 {
                    let said = texts(tokenizer.pieces(), &student.log_probs, &student.lengths)?;
                    for (text, said) in course.batch.texts.iter().zip(&said) {
                        let counts = word_errors(text, said);
                        let (errors, words) = (counts.errors() as f64, counts.reference as f64);
                        shares.add(&format!("wer/{chunk}"), errors, words);
                    }
                }
                if index == 0
                    && let Some(found) = classroom.agreement(&course, &student)?
                {
                    for (name, agree) in SPIKE_SHARES
                        .iter()
                        .zip([found.same_frame, found.within_one])
                    {
                        shares.add(name, agree as f64, found.spikes as f64);
                    }
                }
            }
        }
        shares.exchange(peers)?;
        Ok(shares.figures())
    }
}

/// Figures by name, each a sum and what it is divided by: so those of several processes add up.
struct Shares(BTreeMap<String, [f64; 2]>);

impl Shares {
    /// With every figure that there can be, for processes that hear nothing name the same ones.
    fn of(contexts: &[Context]) -> Self {
        let losses = LossWeights::default().by_name().map(|(loss, _)| loss);
        let of_chunks = contexts.iter().flat_map(|context| {
            let kinds = losses.into_iter().chain(["wer"]);
            kinds.map(|kind| format!("{kind}/{}", name(*context)))
        });
        let names = of_chunks.chain(SPIKE_SHARES.map(String::from));
        Self(names.map(|name| (name, [0.0; 2])).collect())
    }

    fn add(&mut self, name: &str, sum: f64, divisor: f64) {
        if let Some(share) = self.0.get_mut(name) {
            share[0] += sum;
            share[1] += divisor;
        }
    }

    /// Has the sums changed into those of all processes.
    fn exchange(&mut self, peers: &Peers) -> Result<(), TrainError> {
        let own: Vec<f64> = self.0.values().flatten().copied().collect();
        let all = peers.sum(vec![Tensor::from_slice(&own)])?;
        let all = all.into_iter().map(Vec::<f64>::try_from);
        let all = all.collect::<Result<Vec<_>, _>>()?.concat();
        let (pairs, _) = all.as_chunks::<2>();
        for (share, all) in self.0.values_mut().zip(pairs) {
            *share = *all;
        }
        Ok(())
    }

    /// Those that something was found of.
    fn figures(self) -> Figures {
        let found = self
            .0
            .into_iter()
            .filter(|(_, [_, divisor])| *divisor > 0.0);
        found
            .map(|(name, [sum, divisor])| (format!("held_out/{name}"), sum / divisor))
            .collect()
    }
}

/// How a context is called in figures.
fn name(context: Context) -> String {
    match context {
        Context::Full => "full".into(),
        Context::Chunked { chunk, .. } => format!("{}ms", chunk * i64::from(FRAME_MS)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::trainer::peers;

    #[test]
    fn processes_add_up_what_each_heard() {
        for world in [1, 3] {
            let each = |peers: Peers| {
                let mut shares = Shares::of(&[Context::Full]);
                // The last hears nothing.
                let rank = peers.shard().rank;
                if rank < 2 {
                    shares.add("ctc/full", 6.0 * (rank + 1) as f64, 3.0);
                    shares.add("wer/full", rank as f64, 10.0);
                }
                shares.exchange(&peers).unwrap();
                shares.figures()
            };
            let (ctc, wer) = if world == 1 { (2.0, 0.0) } else { (3.0, 0.05) };
            let expected = [("held_out/ctc/full", ctc), ("held_out/wer/full", wer)];
            let found = match world {
                1 => vec![each(Peers::none())],
                _ => peers::meet(world, each),
            };
            assert_eq!(found.len(), world);
            for figures in found {
                assert_eq!(
                    figures,
                    expected.map(|(name, value)| (name.to_owned(), value))
                );
            }
        }
    }
}
