//! The precision that a device is good at.

use tch::Device;

use super::error::TrainError;
use crate::config::Precision;
use crate::torch::{Autocast, has_bf16};

/// The precision asked for; float32 instead of bfloat16 on a processor that would emulate it, which is
/// as right and has been seen to be fifty times slower.
pub(super) fn suited(asked: Precision, device: Device) -> Precision {
    if asked == Precision::Bf16 && !has_bf16(device) {
        tracing::warn!("this processor has no bfloat16 arithmetic: computing in fp32");
        return Precision::Fp32;
    }
    asked
}

/// What follows is computed in a precision while the guard lives.
pub(super) fn begin(precision: Precision, device: Device) -> Result<Option<Autocast>, TrainError> {
    Ok(match precision {
        Precision::Fp32 => None,
        Precision::Bf16 => Some(Autocast::begin(device)?),
    })
}
