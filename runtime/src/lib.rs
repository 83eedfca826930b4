//! Streaming speech recognition on the device: audio in, words with times out.

pub mod audio;
pub mod engine;
pub mod features;
pub mod model;
