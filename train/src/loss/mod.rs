//! What training minimises: one file, one formula, one reference for each loss.
//!
//! [`ctc`] compares the student with the transcript, [`consistency`] with itself; the others compare it with a teacher:
//! [`sam`] its attention map, [`guided`] the places of its spikes, and, as baselines that are known
//! to work badly for CTC, [`softmax`] its posteriors and [`feature`] its hidden vectors.
//!
//! Every loss returns one value per utterance, (B), and counts real frames only, so that a batch
//! mate changes nothing. The trainer averages over utterances and weighs the sum.

mod consistency;
mod ctc;
mod error;
mod feature;
mod frames;
mod guided;
mod sam;
mod softmax;

pub use consistency::consistency;
pub use ctc::ctc;
pub use error::LossError;
pub use feature::{FeatureProjection, feature};
pub use frames::Frames;
pub use guided::guided;
pub use sam::{HeadMatching, sam};
pub use softmax::softmax;
