//! The learning rate over the steps of a stage.

use crate::config::{Decay, Optimiser, Stage};

/// How the learning rate of one stage goes up and down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    peak: f64,
    warm_up: u64,
    steps: u64,
    decay: Decay,
    final_share: f64,
}

impl Schedule {
    pub(super) fn new(optimiser: &Optimiser, stage: &Stage) -> Self {
        Self {
            peak: stage
                .peak_learning_rate
                .unwrap_or(optimiser.peak_learning_rate),
            warm_up: stage.warm_up_steps.unwrap_or(optimiser.warm_up_steps),
            steps: stage.steps,
            decay: stage.decay.unwrap_or(optimiser.decay),
            final_share: optimiser.final_share,
        }
    }

    /// The learning rate of a step, counted from 0. It rises in a straight line and is at its peak
    /// when the warm-up's last step is done.
    pub(super) fn rate(&self, step: u64) -> f64 {
        let done = (step + 1) as f64;
        let warm_up = self.warm_up as f64;
        if done < warm_up {
            return self.peak * done / warm_up;
        }
        let falling = (self.steps as f64 - warm_up).max(1.0);
        let progress = ((done - warm_up) / falling).min(1.0);
        let between = |share: f64| self.final_share + (1.0 - self.final_share) * share;
        self.peak
            * match self.decay {
                Decay::Cosine => between(0.5 + 0.5 * (std::f64::consts::PI * progress).cos()),
                Decay::Linear => between(1.0 - progress),
                Decay::InverseSqrt => (warm_up.max(1.0) / done).sqrt(),
                Decay::Constant => 1.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay) -> Schedule {
        Schedule {
            peak: 2.0,
            warm_up: 100,
            steps: 500,
            decay,
            final_share: 0.1,
        }
    }

    #[test]
    fn rises_to_the_peak_and_falls_to_its_share() {
        for (decay, middle, end) in [
            (Decay::Cosine, 1.1, 0.2),
            (Decay::Linear, 1.1, 0.2),
            (
                Decay::InverseSqrt,
                2.0 * (100_f64 / 300.0).sqrt(),
                2.0 * (0.2_f64).sqrt(),
            ),
            (Decay::Constant, 2.0, 2.0),
        ] {
            let schedule = schedule(decay);
            for (step, expected) in [(0, 0.02), (49, 1.0), (99, 2.0), (299, middle), (499, end)] {
                let found = schedule.rate(step);
                assert!((found - expected).abs() < 1e-9, "{decay:?} {step}: {found}");
            }
        }
    }

    #[test]
    fn needs_no_warm_up() {
        let schedule = Schedule {
            warm_up: 0,
            ..schedule(Decay::InverseSqrt)
        };
        assert!((schedule.rate(0) - 2.0).abs() < 1e-9);
    }
}
