//! Connectionist temporal classification.

use tch::{Reduction, Tensor};

use super::{Frames, LossError};

/// The CTC loss of each utterance:
///
/// `L = -log sum over all paths that spell the transcript of prod_t P[t, path_t]`
///
/// (Graves et al. 2006, "Connectionist Temporal Classification", equation 8). `log_probs` is (B, T,
/// outputs); `transcripts` are token ids without blanks. An utterance with too few frames for its
/// transcript has no path; its loss and gradient are zero.
///
/// # Errors
/// If shapes and lengths do not belong together or a token is the blank or no output at all.
pub fn ctc(
    log_probs: Frames<'_>,
    transcripts: &[Vec<i64>],
    blank: i64,
) -> Result<Tensor, LossError> {
    log_probs.check("log-probs", 1)?;
    let size = log_probs.values.size();
    let count = transcripts.len();
    if count != log_probs.lengths.len() {
        return Err(LossError::shape(
            "log-probs",
            format!("({count}, T, outputs)"),
            &size,
        ));
    }
    let outputs = size[2];
    let targets: Vec<_> = transcripts.concat();
    let is_token = |token: &i64| (0..outputs).contains(token) && *token != blank;
    if let Some(stranger) = targets.iter().find(|token| !is_token(token)) {
        let expected = format!("tokens of {outputs} outputs without the blank {blank}");
        return Err(LossError::shape("transcripts", expected, &[*stranger]));
    }
    let lengths: Vec<_> = transcripts
        .iter()
        .map(|tokens| tokens.len() as i64)
        .collect();
    Ok(Tensor::ctc_loss(
        &log_probs.values.transpose(0, 1),
        &Tensor::from_slice(&targets).to_device(log_probs.values.device()),
        log_probs.lengths,
        lengths,
        blank,
        Reduction::None,
        true,
    ))
}
