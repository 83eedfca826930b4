use sori::decode::BeamOptions;
use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice};
use sori::model::Precision;
use sori::{EndpointRules, Options, Search};

use crate::status::Failure;

/// Values of SoriOptions.engine.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub enum SoriEngine {
    /// The faster one on this processor that can be used: tract, or ONNX Runtime if a fitting library is found.
    Auto = 0,
    /// ONNX Runtime, from a shared library found at run time.
    Ort = 1,
    /// tract, which is part of this library.
    Tract = 2,
}

/// Values of SoriOptions.precision and SoriPackage.precision.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub enum SoriPrecision {
    /// The faster one on the engine that runs.
    Auto = 0,
    /// 32-bit floats.
    Fp32 = 1,
    /// 8-bit integers in matrix products.
    Int8 = 2,
}

/// How a recognizer works. Set `size`, and leave at zero what shall be as usual:
/// `SoriOptions options = {.size = sizeof(SoriOptions)};`
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SoriOptions {
    /// sizeof(SoriOptions): tells the library which version of this struct the caller knows.
    pub size: usize,
    /// A SoriEngine.
    pub engine: u32,
    /// A SoriPrecision.
    pub precision: u32,
    /// Threads for one step; 0 is 1.
    pub threads: u32,
    /// Hypotheses that a beam search keeps; 0 searches greedily.
    pub beam: u32,
    /// Alternatives that a final event brings along at most; only a beam has any.
    pub alternatives: u32,
    /// 1 lets new streams ask the language model of the package, if it has one.
    pub language_model: u32,
    /// Streams that may be in a step at the same time; more of them wait for one another, and 0 is 1. On ONNX
    /// Runtime each costs a copy of the weights; on tract all may be, whatever this says.
    pub parallel: u32,
    /// Seconds of silence that end an utterance without a word: 0 is 2.4, below zero is never.
    pub endpoint_silence: f64,
    /// Seconds of silence after a word that end an utterance: 0 is 1.2, below zero is never.
    pub endpoint_silence_after_speech: f64,
    /// Seconds after which an utterance is cut: 0 is 20, below zero is never.
    pub endpoint_longest: f64,
}

/// Widest beam that is taken for one.
const WIDEST: u32 = 4096;
const MOST_ALTERNATIVES: u32 = 1000;
const MOST_THREADS: u32 = 256;
const MOST_PARALLEL: u32 = 256;

impl SoriOptions {
    pub(crate) fn check(&self) -> Result<Options, Failure> {
        if self.size != size_of::<Self>() {
            return Err(Failure::argument(format!(
                "options.size: {}, expected {}; set it to sizeof(SoriOptions) and use the header of this version",
                self.size,
                size_of::<Self>()
            )));
        }
        let engine = match self.engine {
            0 => EngineChoice::Auto,
            1 => EngineChoice::Ort,
            2 => EngineChoice::Tract,
            found => return Err(wrong("engine", "a SoriEngine", found)),
        };
        let precision = match self.precision {
            0 => PrecisionChoice::Auto,
            found => PrecisionChoice::Exactly(
                precision(found).ok_or_else(|| wrong("precision", "a SoriPrecision", found))?,
            ),
        };
        let language_model = match self.language_model {
            0 => false,
            1 => true,
            found => return Err(wrong("language_model", "0 or 1", found)),
        };
        let usual = EndpointRules::default();
        Ok(Options {
            engine: EngineOptions {
                engine,
                precision,
                threads: up_to("threads", MOST_THREADS, self.threads)?.max(1),
                parallel: up_to("parallel", MOST_PARALLEL, self.parallel)?.max(1),
                ..EngineOptions::default()
            },
            endpoint: EndpointRules {
                silence: seconds("endpoint_silence", self.endpoint_silence, usual.silence)?,
                silence_after_speech: seconds(
                    "endpoint_silence_after_speech",
                    self.endpoint_silence_after_speech,
                    usual.silence_after_speech,
                )?,
                longest: seconds("endpoint_longest", self.endpoint_longest, usual.longest)?,
            },
            search: match up_to("beam", WIDEST, self.beam)? {
                0 => Search::Greedy,
                width => Search::Beam(BeamOptions {
                    width,
                    ..BeamOptions::default()
                }),
            },
            alternatives: up_to("alternatives", MOST_ALTERNATIVES, self.alternatives)?,
            language_model,
            ..Options::default()
        })
    }
}

/// What a number of [`SoriPrecision`] stands for, if not for `Auto`.
pub(crate) fn precision(number: u32) -> Option<Precision> {
    match number {
        1 => Some(Precision::Fp32),
        2 => Some(Precision::Int8),
        _ => None,
    }
}

fn seconds(field: &str, found: f64, usual: f64) -> Result<f64, Failure> {
    match found {
        _ if found.is_nan() => Err(wrong(field, "seconds", found)),
        0.0 => Ok(usual),
        _ if found < 0.0 => Ok(f64::INFINITY),
        _ => Ok(found),
    }
}

fn up_to(field: &str, most: u32, found: u32) -> Result<usize, Failure> {
    if found > most {
        return Err(wrong(field, &format!("at most {most}"), found));
    }
    Ok(found as usize)
}

fn wrong(field: &str, expected: &str, found: impl std::fmt::Display) -> Failure {
    Failure::argument(format!(
        "options.{field}: expected {expected}, found {found}"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_the_usual_and_a_number_is_passed_on() {
        // SAFETY: numbers alone, of which zero is one.
        let mut options: SoriOptions = unsafe { std::mem::zeroed() };
        options.size = size_of::<SoriOptions>();
        let usual = options.check().unwrap();
        assert_eq!(usual.engine, EngineOptions::default());
        (options.parallel, options.threads) = (3, 2);
        let EngineOptions {
            parallel, threads, ..
        } = options.check().unwrap().engine;
        assert_eq!((parallel, threads), (3, 2));
    }
}
