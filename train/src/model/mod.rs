//! The acoustic models: one Conformer, of which teacher and student are configurations.
//!
//! Data flows through the modules in this order: log-mel frames are subsampled (`subsampling`), pass
//! the layers (`layer`: `feed_forward`, `attention` with `position` and `mask`, `convolution`) and
//! leave through the CTC head (`trunk`); all together are a [`Conformer`]. `student` runs the same layers chunk by chunk.
//! `checkpoint` keeps weights in files, [`average`] makes one of several; [`nemo`] and
//! [`whisper`] import others' models, and a [`Teacher`] is any of them.

mod attention;
mod average;
mod checkpoint;
mod config;
mod conformer;
mod convolution;
mod feed_forward;
pub(crate) mod fresh;
mod layer;
mod mask;
pub mod nemo;
mod pointwise;
mod position;
mod student;
mod subsampling;
mod teacher;
mod trunk;
mod weights;
pub mod whisper;

pub use average::average;
pub(crate) use checkpoint::{CONFIG as CONFORMER_KEY, restore};
pub use checkpoint::{CheckpointError, load, save};
pub use config::{ConfigError, ConformerConfig, ConvolutionNorm, SUBSAMPLING};
pub use conformer::{Conformer, Output, Pass};
pub use mask::{Context, real_frames, visible_keys};
pub use student::{StreamError, StreamState};
pub use teacher::{Teacher, TeacherError, TeacherOutput, TeacherSource};
pub use weights::WeightError;
