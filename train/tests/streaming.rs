//! The student chunk by chunk equals the student in one pass under the same chunk mask.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use proptest::prelude::*;
use sori_train::model::{Conformer, ConformerConfig, Context, Pass, StreamError};
use support::{CPU, largest_difference, model, random_log_mel};
use tch::Tensor;

/// Feeds whole chunks, then what is left.
fn stream(model: &Conformer, log_mel: &Tensor, chunk: i64, left: i64) -> Tensor {
    let (batch, frames, _) = log_mel.size3().unwrap();
    let frames = frames / 4 * 4;
    let mut state = model.start(batch, chunk, left).unwrap();
    let chunks: Vec<_> = (0..frames)
        .step_by(4 * chunk as usize)
        .map(|at| log_mel.narrow(1, at, (4 * chunk).min(frames - at)))
        .map(|features| model.step(&features, &mut state).unwrap())
        .collect();
    Tensor::cat(&chunks, 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_equals_one_pass(
        seed in 0..1000_u64,
        // A layer norm over two channels is a step: it would blow rounding up.
        (heads, width) in (1..4_i64, 4..9_i64),
        layers in 1..4_i64,
        kernel in (0..8_i64).prop_map(|half| 2 * half + 1),
        features in 4..20_i64,
        channels in 1..6_i64,
        chunk in prop_oneof![Just(4_i64), Just(8), Just(16), 1..7_i64],
        left in 0..24_i64,
        frames in 4..300_i64,
        xscaling: bool,
    ) {
        let config = ConformerConfig {
            features, layers, heads, kernel, xscaling,
            vocabulary: 7,
            d_model: 2 * width * heads,
            feed_forward: 12,
            subsampling_channels: channels,
            ..ConformerConfig::student()
        };
        let (_store, model) = model(&config, seed);
        let log_mel = random_log_mel(seed, &[2, frames, features]);
        let context = Context::Chunked { chunk, left };
        let whole = model.forward(&log_mel, &[frames; 2], Pass { context, ..Pass::default() });
        let chunked = stream(&model, &log_mel, chunk, left);
        prop_assert!(largest_difference(&whole.log_probs, &chunked) < 1e-4);
    }
}

#[test]
fn the_student_streams_at_160_320_and_640_ms() {
    let (_store, model) = model(&ConformerConfig::student(), 1);
    let log_mel = random_log_mel(24, &[1, 1003, 80]);
    let by_chunk = [4, 8, 16].map(|chunk| {
        let context = Context::Chunked { chunk, left: 64 };
        let whole = model
            .forward(
                &log_mel,
                &[1003],
                Pass {
                    context,
                    ..Pass::default()
                },
            )
            .log_probs;
        let difference = largest_difference(&whole, &stream(&model, &log_mel, chunk, 64));
        assert!(difference < 1e-4, "chunk {chunk}: {difference}");
        whole
    });
    // The chunk matters: equality above is not that of a model deaf to its context.
    assert!(largest_difference(&by_chunk[0], &by_chunk[2]) > 1e-2);
}

#[test]
fn a_chunk_as_long_as_the_utterance_is_full_context() {
    let config = ConformerConfig {
        layers: 2,
        ..ConformerConfig::student()
    };
    let (_store, model) = model(&config, 2);
    let log_mel = random_log_mel(25, &[1, 203, 80]);
    let whole = model.forward(&log_mel, &[203], Pass::default()).log_probs;
    assert!(largest_difference(&whole, &stream(&model, &log_mel, 50, 3)) < 1e-4);
}

#[test]
fn a_chunk_of_the_wrong_size_is_refused_and_changes_nothing() {
    let config = ConformerConfig {
        layers: 1,
        ..ConformerConfig::student()
    };
    let (_store, model) = model(&config, 3);
    let log_mel = random_log_mel(26, &[1, 32, 80]);
    let mut state = model.start(1, 4, 8).unwrap();
    for size in [
        [1, 15, 80],
        [1, 20, 80],
        [2, 16, 80],
        [1, 16, 40],
        [1, 0, 80],
    ] {
        let error = model
            .step(&Tensor::zeros(size, CPU), &mut state)
            .unwrap_err();
        assert!(matches!(error, StreamError::Shape { .. }), "{error}");
    }
    let first = model.step(&log_mel.narrow(1, 0, 16), &mut state).unwrap();
    let second = model.step(&log_mel.narrow(1, 16, 16), &mut state).unwrap();
    let expected = stream(&model, &log_mel, 4, 8);
    assert!(largest_difference(&expected, &Tensor::cat(&[first, second], 1)) < 1e-6);
}

#[test]
fn only_a_causal_model_streams() {
    let teacher = ConformerConfig {
        layers: 1,
        d_model: 16,
        feed_forward: 16,
        subsampling_channels: 2,
        ..ConformerConfig::teacher()
    };
    let (_store, teacher) = model(&teacher, 4);
    assert_eq!(teacher.start(1, 4, 8).unwrap_err(), StreamError::NotCausal);
    let (_store, student) = model(&ConformerConfig::student(), 4);
    assert!(matches!(
        student.start(1, 0, 8),
        Err(StreamError::Context { .. })
    ));
    assert!(matches!(
        student.start(1, 4, -1),
        Err(StreamError::Context { .. })
    ));
}
