//! The utterances of one source, in the order in which an epoch hears them.

use std::ops::Range;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::chance::shuffling;
use super::corpus::{Corpus, Part};

/// The usable utterances of one source.
#[derive(Debug)]
pub(super) struct PartPlan {
    /// In the order of archives, if the source has any.
    pub(super) utterances: Vec<u32>,
    /// Ranges of `utterances` that are in one archive each; `None` without archives.
    pub(super) archives: Option<Vec<Range<usize>>>,
    /// Samples that are mixed with each other, if the source has archives.
    pub(super) buffer: f64,
    /// Utterances in an epoch; `None` for each once.
    pub(super) drawn: Option<usize>,
}

impl PartPlan {
    /// What is heard of the source in an epoch, and how often before in it. It is in order only if there
    /// are archives; others are shuffled where that decides over `windows`.
    pub(super) fn stream(
        &self,
        seed: u64,
        epoch: u64,
        index: u32,
        windows: bool,
    ) -> Vec<(u32, u32)> {
        let Some(drawn) = self.drawn else {
            let order = match windows {
                true => self.pass(&mut shuffling(seed, epoch, index)),
                false => self.utterances.clone(),
            };
            return order.into_iter().map(|utterance| (utterance, 0)).collect();
        };
        // The source is passed through again and again, shuffled each time; an epoch takes up
        // where the one before stopped.
        let all = self.utterances.len() as u128;
        let start = u128::from(epoch) * drawn as u128;
        let end = start + drawn as u128;
        let mut stream = Vec::with_capacity(drawn);
        for pass in start / all..end.div_ceil(all) {
            let order = self.pass(&mut shuffling(seed, pass as u64, index));
            let from = start.saturating_sub(pass * all) as usize;
            let to = (end - pass * all).min(all) as usize;
            let repeat = (pass - start / all) as u32;
            stream.extend(order[from..to].iter().map(|&utterance| (utterance, repeat)));
        }
        stream
    }

    /// All utterances, in an order of their own.
    fn pass(&self, rng: &mut StdRng) -> Vec<u32> {
        let Some(archives) = &self.archives else {
            let mut order = self.utterances.clone();
            order.shuffle(rng);
            return order;
        };
        let mut archives = archives.clone();
        archives.shuffle(rng);
        let utterances = archives
            .into_iter()
            .flat_map(|archive| &self.utterances[archive]);
        utterances.copied().collect()
    }
}

pub(super) fn part_plans(corpus: &Corpus, samples: &[u32]) -> Vec<PartPlan> {
    let parts = corpus.parts();
    let usable = |part: &Part| -> Vec<u32> {
        let utterances = part.range.clone().filter(|&index| samples[index] > 0);
        utterances.map(|index| index as u32).collect()
    };
    let total = |utterances: &[u32]| -> usize {
        utterances
            .iter()
            .map(|&index| samples[index as usize] as usize)
            .sum()
    };
    let usable: Vec<Vec<u32>> = parts.iter().map(usable).collect();
    let shares: f64 = parts.iter().filter_map(|part| part.share).sum();
    let all_shared = parts.iter().all(|part| part.share.is_some());
    let once = parts
        .iter()
        .zip(&usable)
        .filter(|(part, _)| all_shared || part.share.is_none());
    let once: usize = once.map(|(_, utterances)| total(utterances)).sum();
    let epoch = if all_shared {
        once as f64
    } else {
        once as f64 / (1.0 - shares)
    };

    let plan = |(part, mut utterances): (&Part, Vec<u32>)| {
        let drawn = part.share.map(|share| {
            let mean = total(&utterances) as f64 / utterances.len().max(1) as f64;
            (share * epoch / mean.max(1.0)).round().max(1.0) as usize
        });
        let archives = part.shards.as_ref().map(|shards| {
            let archive = |utterance: &u32| shards.of[*utterance as usize - part.range.start];
            utterances.sort_by_key(archive);
            let mut end = 0;
            let runs = utterances.chunk_by(|a, b| archive(a) == archive(b));
            runs.map(|run| {
                end += run.len();
                end - run.len()..end
            })
            .collect()
        });
        let buffer = part.shards.as_ref().map(|shards| shards.buffer_seconds);
        PartPlan {
            drawn,
            archives,
            buffer: buffer.unwrap_or(f64::INFINITY) * f64::from(sori::audio::SAMPLE_RATE),
            utterances,
        }
    };
    parts.iter().zip(usable).map(plan).collect()
}
