//! A stage of training: for how long, and what is minimised.

use serde::{Deserialize, Serialize};

use super::error::{RecipeError, require};
use super::optimiser::{Decay, positive};
use crate::loss::HeadMatching;

/// `[[stage]]`: steps with the same losses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name in progress and metrics.
    pub name: String,
    /// Steps of the optimiser.
    pub steps: u64,
    /// What is minimised.
    pub loss: LossWeights,
    /// Output frames by which the student may fire later than the teacher ([`crate::loss::guided`]).
    #[serde(default)]
    pub guide_delay: u32,
    /// How attention maps with different numbers of heads are compared ([`crate::loss::sam`]).
    #[serde(default)]
    pub heads: HeadMatching,
    /// Another peak learning rate than `optimiser.peak_learning_rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_learning_rate: Option<f64>,
    /// Another warm-up than `optimiser.warm_up_steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up_steps: Option<u64>,
    /// Another way down than `optimiser.decay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<Decay>,
}

/// The weight of each loss; those of weight zero are not computed.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossWeights {
    /// [`crate::loss::ctc`].
    pub ctc: f64,
    /// [`crate::loss::consistency`]: every utterance is then heard twice, in two timbres and with two masks.
    pub consistency: f64,
    /// [`crate::loss::guided`].
    pub guided: f64,
    /// [`crate::loss::sam`].
    pub sam: f64,
    /// [`crate::loss::softmax`].
    pub softmax: f64,
    /// [`crate::loss::feature`].
    pub feature: f64,
}

impl LossWeights {
    /// Every loss with its weight.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, f64); 6] {
        [
            ("ctc", self.ctc),
            ("consistency", self.consistency),
            ("guided", self.guided),
            ("sam", self.sam),
            ("softmax", self.softmax),
            ("feature", self.feature),
        ]
    }

    /// Whether any of them compares the student with a teacher.
    #[must_use]
    pub fn need_teacher(&self) -> bool {
        self.by_name()[2..].iter().any(|(_, weight)| *weight > 0.0)
    }
}

impl Stage {
    pub(super) fn validate(&self, index: usize) -> Result<(), RecipeError> {
        let field = |name: &str| format!("stage.{index}.{name}");
        require(field("name"), "a name", "none", !self.name.is_empty())?;
        require(field("steps"), "at least 1", self.steps, self.steps >= 1)?;
        for (name, weight) in self.loss.by_name() {
            let holds = weight >= 0.0 && weight.is_finite();
            require(field(&format!("loss.{name}")), "at least 0", weight, holds)?;
        }
        let others = LossWeights {
            consistency: 0.0,
            ..self.loss
        };
        let any = others.by_name().iter().any(|(_, weight)| *weight > 0.0);
        let expected = match self.loss.consistency > 0.0 {
            // Who always says the same agrees with itself.
            true => "at least one weight above 0 beside consistency",
            false => "at least one weight above 0",
        };
        require(field("loss"), expected, "none", any)?;
        require(
            field("guide_delay"),
            "0 without guided CTC, which alone knows it",
            self.guide_delay,
            self.guide_delay == 0 || self.loss.guided > 0.0,
        )?;
        if let Some(rate) = self.peak_learning_rate {
            positive(field("peak_learning_rate"), rate)?;
        }
        Ok(())
    }
}
