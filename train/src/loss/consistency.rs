//! Agreement between two hearings of one utterance.

use tch::Tensor;

use super::{Frames, LossError, softmax};

/// How far a student's posteriors over two views of an utterance, each in another timbre and with
/// other parts hidden, lie from each other:
///
/// `L = 1/2 sum_t (KL(P_a[t] || P_b[t]) + KL(P_b[t] || P_a[t]))`
///
/// where what each is compared with has no gradient (Yao et al. 2024, "CR-CTC: Consistency
/// regularization on CTC for improved speech recognition", arXiv 2410.05101, equation 3). Both arguments are
/// log-probabilities (B, T, outputs). Each view teaches the other, so that a student learns less by heart.
///
/// # Errors
/// If the two have different outputs, or lengths that differ by more than one frame.
pub fn consistency(one: Frames<'_>, other: Frames<'_>) -> Result<Tensor, LossError> {
    Ok((softmax(one, other)? + softmax(other, one)?) * 0.5)
}
