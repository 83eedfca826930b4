//! Guided CTC: the student fires where the teacher fires.

use tch::Tensor;

use super::frames::Common;
use super::{Frames, LossError};

/// The guided CTC loss of each utterance (Kurata & Audhkhasi 2019, arXiv 1904.08311, section 3):
///
/// `M[t, k] = 1 if k = argmax P_T[t] and k is not blank, else 0`, and
/// `L = -sum_t sum_k M[t, k] P_S[t, k]`
///
/// with probabilities, not logs. Both arguments are log-probabilities (B, T, outputs). `delay`
/// shifts `M` by so many frames to the right, for a student with less look-ahead than its teacher.
///
/// # Errors
/// If the two have different outputs, or lengths that differ by more than one frame.
pub fn guided(
    teacher: Frames<'_>,
    student: Frames<'_>,
    blank: i64,
    delay: u32,
) -> Result<Tensor, LossError> {
    let common = Common::of(teacher, student, 1)?;
    let (of_teacher, of_student) = (teacher.values.size()[2], student.values.size()[2]);
    if of_teacher != of_student {
        return Err(LossError::Outputs {
            teacher: of_teacher,
            student: of_student,
        });
    }
    let delay = i64::from(delay).min(common.frames);
    let spikes = teacher
        .values
        .narrow(1, 0, common.frames)
        .argmax(2, false)
        .narrow(1, 0, common.frames - delay)
        .pad([delay, 0], "constant", blank as f64);
    let at_spikes = student
        .values
        .narrow(1, 0, common.frames)
        .gather(2, &spikes.unsqueeze(2), false)
        .squeeze_dim(2)
        .exp();
    Ok(-common.sum(&at_spikes.masked_fill(&spikes.eq(blank), 0.0)))
}
