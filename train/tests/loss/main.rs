//! The losses against hand-computed values, finite differences, padding and each other's masks.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod by_hand;
mod gradients;
mod pairing;

use sori_train::loss::Frames;
use support::random;
use tch::{Kind, Tensor};

const BLANK: i64 = 3;

fn frames<'a>(values: &'a Tensor, lengths: &'a [i64]) -> Frames<'a> {
    Frames { values, lengths }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
}

fn close(found: &Tensor, expected: &[f64]) {
    let found = values(found);
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!(
            (f - e).abs() < 1e-5,
            "found {found:?}, expected {expected:?}"
        );
    }
}

/// (B, T, V) posteriors given row by row, as log-probabilities.
fn log_probs(rows: &[[f64; 4]]) -> Tensor {
    Tensor::from_slice(&rows.concat())
        .reshape([1, rows.len() as i64, 4])
        .log()
}

fn random_log_probs(seed: u64, batch: i64, frames: i64) -> Tensor {
    random(seed, &[batch, frames, 4]).log_softmax(-1, Kind::Double)
}

fn random_maps(seed: u64, batch: i64, heads: i64, frames: i64) -> Tensor {
    random(seed, &[batch, heads, frames, frames]).softmax(-1, Kind::Double)
}
