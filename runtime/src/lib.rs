//! Streaming speech recognition on the device: audio in, words with times out.
//!
//! ```no_run
//! use sori::audio::AudioFile;
//! use sori::{Event, Recognizer};
//!
//! let recognizer = Recognizer::open("models/sori-en-5m")?;
//! let mut stream = recognizer.stream()?;
//! let mut file = AudioFile::open("talk.mp3")?;
//! let mut samples = Vec::new();
//! let print = |event| {
//!     if let Event::Final(said) = event {
//!         println!("{:.2} {}", said.start, said.text);
//!     }
//! };
//! while file.read(&mut samples)? {
//!     stream.accept(file.sample_rate(), &samples)?.for_each(print);
//!     samples.clear();
//! }
//! // What was said last.
//! stream.finish()?.for_each(print);
//! # Ok::<(), sori::Error>(())
//! ```
//!
//! Data flows one way through the modules: [`audio`] gives samples, [`features`] turns them into
//! log-mel frames, an [`engine`] runs the graph of a [`model`] package over them, [`decode`] finds
//! tokens, led by an [`lm`] where there is one, [`segment`] makes words and utterances of them (and [`Prose`], if it is asked for), and
//! [`output`] writes those down. [`Recognizer`] and [`Stream`] tie them together.
//!
//! # Cargo features
//! | feature | default | what for |
//! |---|---|---|
//! | `ort` | yes | ONNX Runtime, from a shared library found at run time |
//! | `ort-download` | no | ONNX Runtime, linked in: the build downloads it; instead of `ort` |
//! | `tract` | yes | the pure Rust engine |
//! | `files` | yes | [`audio::AudioFile`] |
//! | `microphone` | yes | [`audio::Microphone`]; needs the system's sound library |
//! | `cli` | yes | the `sori` command |
//! | `serve` | yes | `sori serve`, in that command; nothing in this library |

#![deny(unsafe_code)]

pub mod audio;
pub mod decode;
pub mod engine;
mod error;
pub mod features;
pub mod lm;
mod mapped;
pub mod model;
mod options;
pub mod output;
mod prose;
mod recognizer;
pub mod segment;
mod stream;

pub use error::Error;
pub use options::{Options, Search};
pub use prose::Prose;
pub use recognizer::Recognizer;
pub use segment::{Alternative, Endpoint, EndpointRule, EndpointRules, Segment, TimedToken, Word};
pub use stream::{Event, Events, Stream};
