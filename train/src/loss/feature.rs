//! Matching of hidden vectors: a baseline.

use tch::Tensor;
use tch::nn::{self, Module};

use super::frames::Common;
use super::{Frames, LossError};
use crate::model::fresh;

/// A learned linear map from the student's hidden vectors to the width of the teacher's. It is
/// trained with the student and thrown away after.
#[derive(Debug)]
pub struct FeatureProjection(nn::Linear);

impl FeatureProjection {
    /// A fresh projection under `path`.
    #[must_use]
    pub fn new(path: &nn::Path<'_>, student: i64, teacher: i64) -> Self {
        Self(fresh::linear(path.clone(), student, teacher))
    }

    /// (B, T, student's width) to (B, T, teacher's width).
    pub fn forward(&self, hidden: &Tensor) -> Tensor {
        self.0.forward(hidden)
    }
}

/// The mean squared distance of each utterance's hidden vectors:
///
/// `L = (1/T) sum_t (1/D) ||h_T[t] - W h_S[t]||^2`
///
/// (FitNets, Romero et al. 2015, arXiv 1412.6550, equation 3). Both arguments are the output of the
/// last layer, (B, T, D), the student's after its [`FeatureProjection`]. A baseline: the student
/// tends to collapse onto the teacher's values and to learn nothing useful.
///
/// # Errors
/// If widths differ, or lengths by more than one frame.
pub fn feature(teacher: Frames<'_>, student: Frames<'_>) -> Result<Tensor, LossError> {
    let common = Common::of(teacher, student, 1)?;
    let (size, width) = (student.values.size(), teacher.values.size()[2]);
    if size[2] != width {
        return Err(LossError::shape(
            "student",
            format!("projected to width {width}"),
            &size,
        ));
    }
    let teacher = teacher.values.detach().narrow(1, 0, common.frames);
    let difference = teacher - student.values.narrow(1, 0, common.frames);
    let by_frame = (&difference * &difference).mean_dim(-1, false, difference.kind());
    Ok(common.mean(&by_frame))
}
