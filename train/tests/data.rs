//! From manifests to batches, as a trainer and a user of the command meet them. All audio is made
//! here.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "data/sound.rs"]
mod sound;

#[path = "data/augmentation.rs"]
mod augmentation;
#[path = "data/batches.rs"]
mod batches;
#[path = "data/commands.rs"]
mod commands;
#[path = "data/manifests.rs"]
mod manifests;
#[path = "data/planning.rs"]
mod planning;
#[path = "data/tarred.rs"]
mod tarred;
#[path = "data/tokens.rs"]
mod tokens;
