//! What the Kotlin library `ai.sori` calls: the native methods of its object `Native`.
//!
//! Kotlin holds handles, which are looked up and never followed ([`sori_capi::handles`]): closing what
//! another thread uses is safe, and a closed handle throws. Errors become Java exceptions of a class
//! each (`failure`), a panic too. The library also exports the C interface of `sori-capi`, for apps
//! with C or C++ parts.

mod events;
mod failure;
mod model;
mod stream;

pub use model::{
    close_model, engine, open_model, open_stream, package_from_directory, package_from_files,
};
pub use stream::{
    accept_floats, accept_shorts, close_stream, end_utterance, finish, reset, set_grammar,
    set_phrases,
};
