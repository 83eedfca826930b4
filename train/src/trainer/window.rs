//! Means over the steps since figures were last written.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::metrics::Figures;
use crate::data::Waiting;

/// What a step came to.
pub(super) struct Step {
    /// Each loss by name, and `loss`, their weighted sum.
    pub(super) losses: Vec<(&'static str, f64)>,
    /// Norm of all gradients before clipping.
    pub(super) gradient_norm: f64,
    /// Seconds of audio.
    pub(super) seconds: f64,
}

/// Steps since some moment.
pub(super) struct Window {
    started: Instant,
    waited: Duration,
    elapsed: Duration,
    sums: BTreeMap<&'static str, f64>,
    steps: u32,
    seconds: f64,
}

impl Window {
    pub(super) fn start(waiting: Waiting) -> Self {
        Self {
            started: Instant::now(),
            waited: waiting.waited,
            elapsed: waiting.elapsed,
            sums: BTreeMap::new(),
            steps: 0,
            seconds: 0.0,
        }
    }

    /// Adds a step that was not skipped.
    pub(super) fn add(&mut self, step: &Step) {
        for &(name, value) in &step.losses {
            *self.sums.entry(name).or_default() += value;
        }
        *self.sums.entry("gradient_norm").or_default() += step.gradient_norm;
        self.seconds += step.seconds;
        self.steps += 1;
    }

    /// The means, the speed, and the share of time spent waiting for data.
    pub(super) fn figures(&self, waiting: Waiting) -> Figures {
        let means = self
            .sums
            .iter()
            .map(|(name, sum)| (format!("train/{name}"), sum / f64::from(self.steps.max(1))));
        let speed = self.seconds / self.started.elapsed().as_secs_f64().max(1e-9);
        let waiting = Waiting {
            waited: waiting.waited.saturating_sub(self.waited),
            elapsed: waiting.elapsed.saturating_sub(self.elapsed),
        };
        let speeds = [
            ("speed/audio_seconds_per_second".to_owned(), speed),
            ("speed/waiting_share".to_owned(), waiting.share()),
        ];
        means.chain(speeds).collect()
    }
}
