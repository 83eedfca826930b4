//! Frame-wise distillation of posteriors: a baseline.

use tch::Tensor;

use super::frames::Common;
use super::{Frames, LossError};

/// The Kullback-Leibler divergence of each utterance's posteriors, summed over frames:
///
/// `L = sum_t sum_k P_T[t, k] (log P_T[t, k] - log P_S[t, k])`
///
/// (knowledge distillation, Hinton et al. 2015, arXiv 1503.02531, at temperature 1). Both arguments
/// are log-probabilities (B, T, outputs). A baseline: CTC posteriors are nearly one-hot and two
/// models' spikes stand on different frames, so that this makes a CTC student worse.
///
/// # Errors
/// If the two have different outputs, or lengths that differ by more than one frame.
pub fn softmax(teacher: Frames<'_>, student: Frames<'_>) -> Result<Tensor, LossError> {
    let common = Common::of(teacher, student, 1)?;
    let (of_teacher, of_student) = (teacher.values.size()[2], student.values.size()[2]);
    if of_teacher != of_student {
        return Err(LossError::Outputs {
            teacher: of_teacher,
            student: of_student,
        });
    }
    let teacher = teacher.values.detach().narrow(1, 0, common.frames);
    let student = student.values.narrow(1, 0, common.frames);
    let by_output = teacher.exp() * (teacher - student);
    Ok(common.sum(&by_output.sum_dim_intlist(-1, false, by_output.kind())))
}
