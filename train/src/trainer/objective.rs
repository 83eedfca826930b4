//! What a stage minimises, over one batch.

use tch::{Kind, Tensor};

use crate::config::Stage;
use crate::loss::{self, FeatureProjection, Frames, LossError};
use crate::model::{Context, Output, TeacherOutput};

/// The losses of a batch, each the mean over its utterances.
pub(super) struct Objective {
    /// The weighted sum, with gradient.
    pub(super) total: Tensor,
    /// Each loss without its weight.
    pub(super) terms: Vec<(&'static str, Tensor)>,
}

/// Everything that a batch is judged by.
pub(super) struct Comparison<'a> {
    pub(super) student: &'a Output,
    /// What it says of another view of the same, where stages make it agree with itself.
    pub(super) other_view: Option<&'a Output>,
    pub(super) transcripts: &'a [Vec<i64>],
    pub(super) blank: i64,
    pub(super) context: Context,
    /// Empty without a teacher.
    pub(super) teacher: Option<&'a TeacherOutput>,
    pub(super) projection: Option<&'a FeatureProjection>,
}

impl Objective {
    /// Compares the student with the transcripts and the teacher. A loss whose teacher's part is
    /// missing is left out: what a stage needs is checked before training.
    pub(super) fn of(stage: &Stage, compared: &Comparison<'_>) -> Result<Self, LossError> {
        let mut terms = Vec::new();
        let mut total = Tensor::zeros([], (Kind::Float, compared.student.log_probs.device()));
        for (name, weight) in stage.loss.by_name() {
            if weight > 0.0
                && let Some(by_utterance) = compared.loss(name, stage)?
            {
                let mean = by_utterance.mean(Kind::Float);
                total += &mean * weight;
                terms.push((name, mean.detach()));
            }
        }
        Ok(Self { total, terms })
    }
}

impl Comparison<'_> {
    /// A loss, the mean of both views where there are two.
    fn loss(&self, name: &str, stage: &Stage) -> Result<Option<Tensor>, LossError> {
        let Some(other) = self.other_view else {
            return self.of_view(self.student, name, stage);
        };
        if name == "consistency" {
            return loss::consistency(posteriors(self.student), posteriors(other)).map(Some);
        }
        let views = [self.student, other].map(|view| self.of_view(view, name, stage));
        let [one, other] = views;
        Ok(one?.zip(other?).map(|(one, other)| (one + other) * 0.5))
    }

    fn of_view(
        &self,
        view: &Output,
        name: &str,
        stage: &Stage,
    ) -> Result<Option<Tensor>, LossError> {
        let student = |values| Frames {
            values,
            lengths: &view.lengths,
        };
        let log_probs = posteriors(view);
        if name == "ctc" {
            return loss::ctc(log_probs, self.transcripts, self.blank).map(Some);
        }
        let Some(teacher) = self.teacher else {
            return Ok(None);
        };
        let of_teacher = |values| Frames {
            values,
            lengths: &teacher.lengths,
        };
        match (
            name,
            &teacher.log_probs,
            &teacher.attention,
            &teacher.hidden,
        ) {
            ("guided", Some(posteriors), _, _) => loss::guided(
                of_teacher(posteriors),
                log_probs,
                self.blank,
                stage.guide_delay,
            )
            .map(Some),
            ("softmax", Some(posteriors), _, _) => {
                loss::softmax(of_teacher(posteriors), log_probs).map(Some)
            }
            ("sam", _, Some(map), _) => match &view.attention {
                Some(own) => {
                    loss::sam(of_teacher(map), student(own), self.context, stage.heads).map(Some)
                }
                None => Ok(None),
            },
            ("feature", _, _, Some(hidden)) => match self.projection {
                Some(projection) => {
                    let own = projection.forward(&view.hidden.to_kind(Kind::Float));
                    let hidden = hidden.to_kind(Kind::Float);
                    loss::feature(of_teacher(&hidden), student(&own)).map(Some)
                }
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

fn posteriors(view: &Output) -> Frames<'_> {
    Frames {
        values: &view.log_probs,
        lengths: &view.lengths,
    }
}
