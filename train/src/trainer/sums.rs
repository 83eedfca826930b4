//! What the batches of one step come to.

use super::error::TrainError;
use super::objective::Objective;

/// Sums over the utterances of a step, first of this process, then of all.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Each loss by name, `loss`, their weighted sum, first.
    losses: Vec<(&'static str, f64)>,
    pub(super) utterances: f64,
    /// Seconds of audio.
    pub(super) seconds: f64,
    /// Processes that were asked to stop.
    pub(super) stops: f64,
}

impl Sums {
    /// Adds a batch.
    pub(super) fn add(&mut self, objective: &Objective, utterances: f64, seconds: f64) {
        let total = ("loss", objective.total.double_value(&[]));
        let terms = objective.terms.iter();
        let terms = terms.map(|(name, term)| (*name, term.double_value(&[])));
        for (index, (name, mean)) in [total].into_iter().chain(terms).enumerate() {
            if index == self.losses.len() {
                self.losses.push((name, 0.0));
            }
            self.losses[index].1 += mean * utterances;
        }
        self.utterances += utterances;
        self.seconds += seconds;
    }

    /// Has all numbers changed into those of all processes.
    pub(super) fn exchange(
        &mut self,
        add_up: impl FnOnce(&mut [f64]) -> Result<(), TrainError>,
    ) -> Result<(), TrainError> {
        let mut numbers: Vec<f64> = self.losses.iter().map(|(_, sum)| *sum).collect();
        numbers.extend([self.utterances, self.seconds, self.stops]);
        add_up(&mut numbers)?;
        let (losses, rest) = numbers.split_at(self.losses.len());
        for ((_, sum), &all) in self.losses.iter_mut().zip(losses) {
            *sum = all;
        }
        [self.utterances, self.seconds, self.stops] = [rest[0], rest[1], rest[2]];
        Ok(())
    }

    /// Each loss as a mean over all utterances.
    pub(super) fn means(&self) -> Vec<(&'static str, f64)> {
        let losses = self.losses.iter();
        losses
            .map(|&(name, sum)| (name, sum / self.utterances))
            .collect()
    }
}
