//! Holds what was written against the model that was trained.
//!
//! Every graph is loaded as any client would load it, in both engines, and run chunk by chunk over
//! real speech and over noise, until its caches have been filled and overwritten; libtorch runs the
//! trained model over the same chunks.

mod batched;
mod signal;

use serde::Serialize;
use sori::engine::{self, Engine, EngineChoice, EngineOptions, PrecisionChoice};
use sori::model::Package;
use sori_train::model::Conformer;
use tch::{Kind, Tensor, no_grad};

pub(crate) use batched::Batched;
pub(crate) use signal::Signal;

use crate::ExportError;
use crate::graph::Streaming;

/// How far a graph's results are from the trained model's.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// `fp32`, `int8` or `batched`.
    pub graph: &'static str,
    /// `ort` or `tract`.
    pub engine: &'static str,
    /// `speech` or `noise`.
    pub signal: &'static str,
    /// Chunks that it heard, one after another.
    pub chunks: usize,
    /// Largest difference of a log-probability; for one below -1, relative to its size.
    pub largest_difference: f64,
    /// Probability that lies on other tokens, averaged over frames: 0 to 1.
    pub moved: f64,
    /// Share of frames with the same best token.
    pub same_best: f64,
    /// Frames in which the best token of either is not the blank: what words are made of.
    pub spikes: usize,
    /// Those of them in which the other's best token is another one.
    pub other_spikes: usize,
}

/// What a comparison must satisfy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Tolerance {
    /// For the same arithmetic: on [`Comparison::largest_difference`].
    Largest(f64),
    /// For coarser arithmetic: on [`Comparison::moved`], and on the spikes, which are few and say
    /// all: at most a fifth of them are others, and two, as few frames tell no share.
    Moved(f64),
}

/// Spikes that may be others: a share of them, and a number on top.
const OTHER_SPIKES: (f64, f64) = (0.2, 2.0);

impl Comparison {
    pub(crate) fn check(&self, tolerance: Tolerance) -> Result<(), ExportError> {
        match tolerance {
            Tolerance::Largest(allowed) => {
                self.at_most("a log-probability", self.largest_difference, allowed)
            }
            Tolerance::Moved(allowed) => {
                self.at_most("a share of the probability", self.moved, allowed)?;
                let spikes = self.spikes.max(1) as f64;
                let (share, more) = OTHER_SPIKES;
                self.at_most(
                    "a share of the best tokens",
                    self.other_spikes as f64 / spikes,
                    share + more / spikes,
                )
            }
        }
    }

    fn at_most(&self, what: &'static str, found: f64, allowed: f64) -> Result<(), ExportError> {
        // Not `found > allowed`: a NaN is no good result.
        if found <= allowed {
            return Ok(());
        }
        let Self {
            graph,
            engine,
            signal,
            ..
        } = *self;
        Err(ExportError::Differs {
            graph,
            engine,
            signal,
            what,
            found,
            allowed,
        })
    }
}

/// Runs every graph of `package` in both engines over every signal.
pub(crate) fn compare_package(
    package: &Package,
    model: &Conformer,
    streaming: Streaming,
    signals: &[Signal],
) -> Result<Vec<Comparison>, ExportError> {
    let references = signals
        .iter()
        .map(|signal| reference(model, streaming, &signal.log_mel.unsqueeze(0)));
    let references: Vec<_> = references.collect::<Result<_, _>>()?;
    let mut comparisons = Vec::new();
    for precision in package.precisions() {
        for (choice, name) in [(EngineChoice::Ort, "ort"), (EngineChoice::Tract, "tract")] {
            let options = EngineOptions {
                engine: choice,
                precision: PrecisionChoice::Exactly(precision),
                ..EngineOptions::default()
            };
            let engine = engine::load(package, options)?;
            for (signal, reference) in signals.iter().zip(&references) {
                let found = stream(&*engine, streaming, &signal.log_mel)?;
                comparisons.push(compare(
                    precision.name(),
                    name,
                    signal.name,
                    reference,
                    &found,
                ));
            }
        }
    }
    Ok(comparisons)
}

/// What the trained model says about log-mel frames (B, chunks * window, features), chunk by chunk:
/// (chunks, B, frames, tokens).
fn reference(
    model: &Conformer,
    streaming: Streaming,
    log_mel: &Tensor,
) -> Result<Tensor, ExportError> {
    no_grad(|| {
        let mut state = model.start(streaming.batch(), streaming.chunk(), streaming.left())?;
        let chunks: Vec<_> = chunks(log_mel, streaming)
            .map(|chunk| model.step(&chunk, &mut state))
            .collect::<Result<_, _>>()?;
        Ok(Tensor::stack(&chunks, 0))
    })
}

/// What an engine says: (chunks, 1, frames, tokens).
fn stream(
    engine: &dyn Engine,
    streaming: Streaming,
    log_mel: &Tensor,
) -> Result<Tensor, ExportError> {
    let mut session = engine.session()?;
    let mut window = vec![0_f32; streaming.window() as usize * log_mel.size()[1] as usize];
    let mut results = Vec::new();
    for chunk in chunks(&log_mel.unsqueeze(0), streaming) {
        chunk.contiguous().copy_data(&mut window, chunk.numel());
        let log_probs = Tensor::from_slice(session.step(&window)?);
        results.push(log_probs.reshape([1, streaming.chunk(), -1]));
    }
    Ok(Tensor::stack(&results, 0))
}

/// The chunks of (B, chunks * window, features).
fn chunks(log_mel: &Tensor, streaming: Streaming) -> impl Iterator<Item = Tensor> {
    let window = streaming.window();
    (0..log_mel.size()[1] / window).map(move |i| log_mel.narrow(1, i * window, window))
}

fn compare(
    graph: &'static str,
    engine: &'static str,
    signal: &'static str,
    expected: &Tensor,
    found: &Tensor,
) -> Comparison {
    let mean = |of: Tensor| {
        of.to_kind(Kind::Double)
            .mean(Kind::Double)
            .double_value(&[])
    };
    let difference = (expected - found).abs() / expected.abs().clamp_min(1.0);
    let moved = (expected.exp() - found.exp())
        .abs()
        .sum_dim_intlist(-1, false, Kind::Double)
        / 2.0;
    let best = [expected, found].map(|log_probs| log_probs.argmax(-1, false));
    let same = best[0].eq_tensor(&best[1]);
    // The blank is the last token.
    let blank = expected.size().last().copied().unwrap_or(0) - 1;
    let spikes = best[0].ne(blank).logical_or(&best[1].ne(blank));
    // Where they differ, one of the two is no blank.
    let count = |of: &Tensor| of.sum(Kind::Int64).int64_value(&[]) as usize;
    Comparison {
        graph,
        engine,
        signal,
        chunks: expected.size()[0] as usize,
        largest_difference: difference.max().double_value(&[]),
        moved: mean(moved),
        spikes: count(&spikes),
        other_spikes: count(&same.logical_not()),
        same_best: mean(same),
    }
}
