//! From a trained checkpoint to a streaming model package that was verified.
//!
//! ```no_run
//! use std::path::Path;
//! use sori_export::{Options, export};
//!
//! let options = Options { int8: true, ..Options::default() };
//! let exported = export(Path::new("student.safetensors"), Path::new("sori-en-5m"), &options)?;
//! println!("{} parameters", exported.parameters);
//! # Ok::<(), sori_export::ExportError>(())
//! ```
//!
//! Data flows one way through the modules: `checkpoint` reads what was trained, [`graph`] writes it
//! as ONNX, [`dynamic_int8`] and [`f16_weights`] make smaller graphs of that one, `verify` holds all
//! of them against the trained model, and [`export`] puts the package together. [`inspect`] counts
//! what is in any graph, [`calibrate`] teaches a package how sure it may be, and [`tune`] gives it a language
//! model.

#![forbid(unsafe_code)]

mod calibrate;
mod checkpoint;
mod config_file;
mod error;
pub mod graph;
mod half;
mod hearing;
mod inspect;
mod onnx;
mod package;
mod quantize;
mod tune;
mod verify;

pub use crate::half::f16_weights;
pub use calibrate::{CalibrateError, Calibrated, Reliability, calibrate};
pub use error::ExportError;
pub use inspect::{InspectError, Inspection, inspect};
pub use package::{About, Exported, Options, WrittenGraph, export};
pub use quantize::dynamic_int8;
pub use tune::{TuneError, Tuned, tune};
pub use verify::Comparison;
