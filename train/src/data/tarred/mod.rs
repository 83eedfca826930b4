//! Audio in tar archives: few large files instead of millions of small ones, as network file systems
//! and object storage want them.
//!
//! The layout is that of NeMo's tarred datasets: archives `audio_0.tar`, `audio_1.tar` ... of audio
//! files, and a manifest, `tarred_audio_manifest.json`, whose lines have the name of a member as
//! `audio_filepath` and the archive's number as `shard_id`. A member and its line have the same name up to
//! its first dot, as WebDataset has it.
//!
//! What follows what is planned from the manifest alone ([`Sampler`](super::Sampler)), so that order does
//! not depend on archives, processes or time. A thread of each process reads the archives in that order, from
//! end to end, and keeps the members that its own batches want until these are made.
//!
//! Archives are not trusted. Nothing of them is ever written to disk, so a member's name is only ever
//! compared; names, members and all that waits in memory are bounded in size.

mod buffer;
mod pattern;
mod reader;
mod writer;

pub(super) use buffer::Buffer;
pub(super) use pattern::Tars;
pub(super) use reader::Reader;
pub use writer::{Sharding, Written, write};
