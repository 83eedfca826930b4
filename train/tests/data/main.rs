//! From manifests to batches, as a trainer and a user of the command meet them. All audio is made
//! here.
#![allow(clippy::unwrap_used, missing_docs)]

mod sound;

mod augmentation;
mod batches;
mod commands;
mod crafted;
mod manifests;
mod planning;
mod tarred;
mod tokens;
