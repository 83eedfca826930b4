//! From manifests to batches.
//!
//! A [`Corpus`] is read from [`manifest`]s, whose transcripts are spelled by the rules of [`text`]. A
//! [`Tokenizer`] splits them into tokens. A [`Sampler`] plans which utterances make a batch; the
//! threads of a [`Loader`] read their [`audio`], change it ([`Augmentation`]), compute log-mel
//! features, give these another [`Timbre`] and hide parts of them ([`SpecAugment`]) for the student, and put
//! them together to a [`Batch`].
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//! use sori_train::data::{
//!     Corpus, Loader, LoaderConfig, Position, Shard, Source, Strictness, Tokenizer,
//! };
//!
//! let strictness = Strictness::Lenient;
//! let corpus = Corpus::read(&[Source::once("data/train-clean-100.jsonl")], strictness)?;
//! let tokenizer = Arc::new(Tokenizer::load(Path::new("data/tokenizer"))?);
//! let config = LoaderConfig::default();
//! let start = Position::start_of(0);
//! let loader = Loader::start(&corpus, tokenizer, &config, strictness, Shard::WHOLE, start)?;
//! for batch in loader {
//!     let batch = batch?;
//!     println!("{:?} {:?}", batch.features.size(), batch.frames);
//! }
//! # Ok::<(), sori_train::data::DataError>(())
//! ```
//!
//! Manifests, audio and tokenizers are not trusted: a bad line or broken audio is named with its
//! line's number, and skipped and counted or fatal, as [`Strictness`] says.

pub mod audio;
mod augment;
mod batch;
mod batching;
mod chance;
mod corpus;
mod error;
pub mod librispeech;
mod loader;
pub mod manifest;
mod part_plan;
mod sampler;
mod sentencepiece;
mod spec_augment;
pub mod tarred;
pub mod text;
mod timbre;
mod tokenizer;
mod worker;

pub use augment::{Augmentation, Augmenter, Gain, Noise, Quiet, Room, Speed, Stretch, Telephone};
pub use batch::{Batch, Clean, KeptSpeech};
pub use batching::Batching;
pub use chance::Hearing;
pub use corpus::{Corpus, Source};
pub use error::{AudioFault, DataError, LineFault, Strictness};
pub use loader::{Broken, Loader, LoaderConfig, Waiting};
pub use sampler::{BatchPlan, LeftOut, Position, Sampler, Shard};
pub use spec_augment::SpecAugment;
pub use timbre::Timbre;
pub use tokenizer::{Tokenizer, TokenizerKind};
