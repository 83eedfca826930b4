//! The C interface of Sori; `include/sori.h` is made of it, and says how to use it.
//!
//! The modules follow the header: a [`SoriRecognizer`] is a loaded model, a [`SoriStream`] one source of
//! audio, a [`SoriEvent`] what a stream has to say; each call returns a [`SoriStatus`]. From Rust, use the
//! crate `sori` instead. [`handles`] is for the other foreign interface, that of Android.

#![allow(
    clippy::doc_markdown,
    reason = "the items' docs become the header's, where names need no backticks"
)]

mod event;
pub mod handles;
mod options;
mod recognizer;
mod status;
mod stream;

pub use event::{
    SoriAlternative, SoriEndpointRule, SoriEvent, SoriEventKind, SoriWord, sori_event_free,
};
pub use options::{SoriEngine, SoriOptions, SoriPrecision};
pub use recognizer::{
    SoriPackage, SoriRecognizer, sori_recognizer_free, sori_recognizer_open,
    sori_recognizer_open_memory,
};
pub use status::{SoriStatus, sori_last_error, sori_version};
pub use stream::{
    SoriStream, sori_stream_accept, sori_stream_accept_i16, sori_stream_end_utterance,
    sori_stream_finish, sori_stream_free, sori_stream_next_event, sori_stream_open,
    sori_stream_reset, sori_stream_set_grammar, sori_stream_set_phrase_list,
    sori_stream_set_phrases,
};

// Its Rust program compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/embedding.md")]
mod embedding {}
