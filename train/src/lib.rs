//! Training of Sori's recognisers: a teacher, a streaming student, and the distillation of the
//! teacher's self-attention maps and CTC spikes into the student.
//!
//! The crate needs libtorch; see the repository's README for how to get it.

#![deny(unsafe_code)]

pub mod config;
pub mod data;
pub mod evaluate;
pub mod front_end;
pub mod loss;
pub mod model;
pub mod table;
#[allow(unsafe_code, reason = "libtorch is C++")]
pub mod torch;
pub mod trainer;
pub mod whole_file;
