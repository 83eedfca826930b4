//! Self-attention-map distillation: the student relates frames as the teacher does.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::frames::Common;
use super::{Frames, LossError};
use crate::model::{Context, visible_keys};

/// How maps with different numbers of heads are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadMatching {
    /// The average over the teacher's heads with the average over the student's.
    #[default]
    Mean,
    /// The teacher's heads are averaged in as many groups of neighbours as the student has heads;
    /// each group is compared with one head.
    Grouped,
}

/// Visible mass below this says nothing about where in the visible part the teacher looks.
const NO_MASS: f64 = 1e-6;

/// The attention-map loss of each utterance:
///
/// `L = (1/T) sum_t ||a_T[t, :] - a_S[t, :]||^2`
///
/// between the last layers' maps after softmax, (B, heads, T, T), rows over keys; averaged over
/// head groups. The sum over keys keeps the scale when utterances grow. (L2 between attention maps
/// of teacher and student follows Zagoruyko & Komodakis 2017, arXiv 1612.03928; for self-attention
/// see Jiao et al. 2020, arXiv 1909.10351, equation 7.)
///
/// A teacher sees the whole utterance, a streaming student only `context`. The teacher's rows are
/// therefore restricted to the keys that the student may see and scaled to sum to one again: no
/// student could reach any other target. Rows of which nothing is left do not count.
///
/// # Errors
/// If lengths differ by more than one frame, or heads cannot be grouped.
pub fn sam(
    teacher: Frames<'_>,
    student: Frames<'_>,
    context: Context,
    heads: HeadMatching,
) -> Result<Tensor, LossError> {
    let common = Common::of(teacher, student, 2)?;
    let (of_teacher, of_student) = (teacher.values.size()[1], student.values.size()[1]);
    let groups = match heads {
        HeadMatching::Mean => 1,
        HeadMatching::Grouped if of_student > 0 && of_teacher % of_student == 0 => of_student,
        HeadMatching::Grouped => {
            return Err(LossError::Heads {
                teacher: of_teacher,
                student: of_student,
            });
        }
    };
    let device = student.values.device();
    let visible = visible_keys(context, &common.lengths, common.frames, device).unsqueeze(1);
    let grouped = |maps: &Tensor| {
        maps.narrow(2, 0, common.frames)
            .narrow(3, 0, common.frames)
            .unflatten(1, [groups, -1])
            .mean_dim(2, false, maps.kind())
            .masked_fill(&visible.logical_not(), 0.0)
    };
    let target = grouped(&teacher.values.detach());
    let mass = target.sum_dim_intlist(-1, true, target.kind());
    let difference = &target / mass.clamp_min(NO_MASS) - grouped(student.values);
    let by_row = (&difference * &difference).sum_dim_intlist(-1, false, difference.kind());
    let by_row = by_row.masked_fill(&mass.squeeze_dim(-1).lt(NO_MASS), 0.0);
    Ok(common.mean(&by_row.mean_dim(1, false, difference.kind())))
}
