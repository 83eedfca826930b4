//! What holds for every Conformer: its size, its masks, its attention maps, its checkpoints.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use proptest::prelude::*;
use sori_train::model::{
    ConfigError, Conformer, ConformerConfig, Context, ConvolutionNorm, Output, Pass,
};
use support::{largest_difference, model, random_log_mel, tiny_student, tiny_teacher};
use tch::{Kind, Tensor, nn};

fn total(config: &ConformerConfig) -> i64 {
    config.parameters().iter().map(|(_, count)| count).sum()
}

#[test]
fn the_teacher_has_as_many_parameters_as_nemo_conformer_ctc_large() {
    // Counted over the parameters of NeMo 3.0.0's own ConformerEncoder and ConvASRDecoder, built
    // with the values of conformer_ctc_bpe.yaml for "Large" and a vocabulary of 128.
    assert_eq!(total(&ConformerConfig::teacher()), 121_501_313);
}

#[test]
fn the_student_has_five_million_parameters() {
    for vocabulary in [128, 256] {
        let count = total(&ConformerConfig {
            vocabulary,
            ..ConformerConfig::student()
        });
        assert!((4_750_000..=5_250_000).contains(&count), "{count}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counted_parameters_are_those_of_the_built_model(
        (heads, width) in (1..4_i64, 1..5_i64),
        layers in 1..3_i64,
        feed_forward in 1..20_i64,
        kernel in (0..5_i64).prop_map(|half| 2 * half + 1),
        features in 4..20_i64,
        subsampling_channels in 1..6_i64,
        vocabulary in 1..9_i64,
        causal: bool,
    ) {
        let base = if causal { ConformerConfig::student() } else { ConformerConfig::teacher() };
        let config = ConformerConfig {
            features, vocabulary, layers, heads, feed_forward, kernel, subsampling_channels,
            d_model: 2 * width * heads,
            ..base
        };
        let (store, _) = model(&config, 1);
        let built: usize = store.trainable_variables().iter().map(Tensor::numel).sum();
        prop_assert_eq!(built as i64, total(&config));
    }
}

#[test]
fn impossible_configurations_name_the_field() {
    let good = ConformerConfig::student;
    for (config, field) in [
        (
            ConformerConfig {
                d_model: 161,
                ..good()
            },
            "d_model",
        ),
        (ConformerConfig { heads: 7, ..good() }, "d_model"),
        (ConformerConfig { heads: 0, ..good() }, "heads"),
        (
            ConformerConfig {
                kernel: 8,
                ..good()
            },
            "kernel",
        ),
        (
            ConformerConfig {
                layers: i64::MAX,
                ..good()
            },
            "layers",
        ),
        (
            ConformerConfig {
                vocabulary: -1,
                ..good()
            },
            "vocabulary",
        ),
        (
            ConformerConfig {
                dropout: f64::NAN,
                ..good()
            },
            "dropout",
        ),
        (
            ConformerConfig {
                norm: ConvolutionNorm::Batch,
                ..good()
            },
            "norm",
        ),
    ] {
        let Err(ConfigError::Field { field: named, .. }) = config.validate() else {
            panic!("{config:?} was accepted")
        };
        assert_eq!(named, field);
    }
}

/// Runs two utterances of 61 and 90 frames together and the shorter one alone.
fn together_and_alone(model: &Conformer, context: Context) -> (Output, Output) {
    let log_mel = random_log_mel(19, &[2, 90, 16]);
    let pass = Pass {
        context,
        attention: true,
        ..Pass::default()
    };
    let alone = log_mel.narrow(0, 0, 1).narrow(1, 0, 61);
    (
        model.forward(&log_mel, &[61, 90], pass),
        model.forward(&alone, &[61], pass),
    )
}

#[test]
fn a_longer_batch_mate_changes_nothing() {
    for (config, context, expected) in [
        (tiny_teacher(), Context::Full, 16),
        (tiny_student(), Context::Full, 15),
        (tiny_student(), Context::Chunked { chunk: 4, left: 6 }, 15),
    ] {
        let (_store, model) = model(&config, 1);
        let (together, alone) = together_and_alone(&model, context);
        assert_eq!(
            (together.lengths[0], alone.lengths[0]),
            (expected, expected)
        );
        let of_first = |x: &Tensor| x.narrow(0, 0, 1).narrow(1, 0, expected);
        assert!(largest_difference(&of_first(&together.log_probs), &alone.log_probs) < 1e-5);
        assert!(largest_difference(&of_first(&together.hidden), &alone.hidden) < 1e-5);
        let map = together.attention.unwrap().narrow(0, 0, 1);
        let inside = map.narrow(2, 0, expected).narrow(3, 0, expected);
        assert!(largest_difference(&inside, &alone.attention.unwrap()) < 1e-6);
        let of_padding = map.narrow(2, expected, map.size()[2] - expected);
        assert_eq!(
            f64::try_from(of_padding.abs().sum(Kind::Float)).unwrap(),
            0.0
        );
    }
}

#[test]
fn batch_statistics_ignore_padding() {
    let config = ConformerConfig {
        dropout: 0.0,
        dropout_attention: 0.0,
        ..tiny_teacher()
    };
    let log_mel = random_log_mel(20, &[2, 64, 16]);
    let padded = log_mel.constant_pad_nd([0, 0, 0, 40]);
    let statistics = |features: &Tensor| {
        let (store, model) = model(&config, 1);
        let output = model.forward(
            features,
            &[64, 64],
            Pass {
                train: true,
                ..Pass::default()
            },
        );
        let name = "encoder.layers.1.conv.batch_norm.running_var";
        (
            output.log_probs.narrow(1, 0, 16),
            store.variables()[name].shallow_clone(),
        )
    };
    let (expected, expected_variance) = statistics(&log_mel);
    let (found, found_variance) = statistics(&padded);
    assert!(largest_difference(&expected_variance, &found_variance) < 1e-5);
    assert!(largest_difference(&expected, &found) < 1e-4);
}

#[test]
fn stochastic_depth_leaves_modules_out_of_whole_utterances_in_training_only() {
    let config = ConformerConfig {
        dropout: 0.0,
        dropout_attention: 0.0,
        layers: 1,
        ..tiny_student()
    };
    let deep = ConformerConfig {
        stochastic_depth: 0.3,
        ..config.clone()
    };
    let (_kept, whole) = model(&config, 1);
    let (_store, model) = model(&deep, 1);
    let log_mel = random_log_mel(23, &[1, 64, 16]).repeat([64, 1, 1]);
    let say = |model: &Conformer, train| {
        let pass = Pass {
            train,
            ..Pass::default()
        };
        model.forward(&log_mel, &[64; 64], pass).log_probs
    };
    let expected = say(&whole, false);
    assert!(largest_difference(&say(&model, false), &expected) < 1e-6);
    tch::manual_seed(5);
    let heard = say(&model, true);
    // Four modules, each there or not: sixteen ways to say it, of which some are rare.
    let mut ways = Vec::<Tensor>::new();
    for row in heard.unbind(0) {
        if ways.iter().all(|way| largest_difference(way, &row) > 1e-5) {
            ways.push(row);
        }
    }
    assert!((8..=16).contains(&ways.len()), "{} ways", ways.len());
    tch::manual_seed(5);
    assert!(largest_difference(&say(&model, true), &heard) < 1e-6);
}

#[test]
fn attention_maps_are_distributions_over_visible_keys() {
    let (_store, model) = model(&tiny_student(), 1);
    let log_mel = random_log_mel(21, &[1, 64, 16]);
    let context = Context::Chunked { chunk: 4, left: 5 };
    let pass = Pass {
        context,
        attention: true,
        ..Pass::default()
    };
    let map = model.forward(&log_mel, &[64], pass).attention.unwrap();
    assert_eq!(map.size(), [1, 3, 16, 16]);
    let sums = map.sum_dim_intlist(-1, false, Kind::Float);
    assert!(largest_difference(&sums, &sums.ones_like()) < 1e-6);
    let seen = |query: i64, key: i64| map.double_value(&[0, 0, query, key]) > 0.0;
    // Frame 9 lies in the chunk 8..12 and sees five frames before it.
    let visible: Vec<_> = (0..16).filter(|&key| seen(9, key)).collect();
    assert_eq!(visible, (3..12).collect::<Vec<_>>());
    // The map is there only when asked for.
    assert!(
        model
            .forward(&log_mel, &[64], Pass::default())
            .attention
            .is_none()
    );
}

#[test]
fn attention_follows_its_formula() {
    // One head of width two over three frames, written out: scores of Transformer-XL, section 3.3.
    let config = ConformerConfig {
        features: 4,
        feature_mean: 0.0,
        feature_deviation: 1.0,
        vocabulary: 1,
        d_model: 2,
        layers: 1,
        heads: 1,
        feed_forward: 1,
        kernel: 1,
        subsampling_channels: 1,
        causal: true,
        norm: ConvolutionNorm::Layer,
        xscaling: false,
        dropout: 0.0,
        dropout_attention: 0.0,
        stochastic_depth: 0.0,
    };
    let (store, model) = model(&config, 1);
    let w = |name: &str| {
        let name = format!("encoder.layers.0.{name}");
        Vec::<f64>::try_from(
            store.variables()[&name]
                .flatten(0, -1)
                .to_kind(Kind::Double),
        )
        .unwrap()
    };
    // Silences the first feed-forward module, so that attention sees what subsampling gives.
    tch::no_grad(|| {
        for name in ["feed_forward1.linear2.weight", "feed_forward1.linear2.bias"] {
            let _ = store.variables()[&format!("encoder.layers.0.{name}")]
                .shallow_clone()
                .zero_();
        }
    });
    let log_mel = random_log_mel(22, &[1, 12, 4]);
    let map = model
        .forward(
            &log_mel,
            &[12],
            Pass {
                attention: true,
                ..Pass::default()
            },
        )
        .attention
        .unwrap();

    // Layer norm of two channels: the mean leaves (h, -h), which is scaled to almost one.
    let frames = subsampled(&store, &log_mel);
    let (scale, shift) = (w("norm_self_att.weight"), w("norm_self_att.bias"));
    let normalised = frames.map(|[a, b]| {
        let half = (a - b) / 2.0;
        let s = half / (half * half + 1e-5).sqrt();
        [s * scale[0] + shift[0], -s * scale[1] + shift[1]]
    });
    let (wq, bq) = (w("self_attn.linear_q.weight"), w("self_attn.linear_q.bias"));
    let (wk, bk) = (w("self_attn.linear_k.weight"), w("self_attn.linear_k.bias"));
    let wp = w("self_attn.linear_pos.weight");
    let (u, v) = (w("self_attn.pos_bias_u"), w("self_attn.pos_bias_v"));
    let apply = |m: &[f64], x: [f64; 2]| [m[0] * x[0] + m[1] * x[1], m[2] * x[0] + m[3] * x[1]];
    let plus = |a: [f64; 2], b: &[f64]| [a[0] + b[0], a[1] + b[1]];
    let dot = |a: [f64; 2], b: [f64; 2]| a[0] * b[0] + a[1] * b[1];
    for i in 0..3 {
        let q = plus(apply(&wq, normalised[i]), &bq);
        let scores: Vec<_> = (0..3)
            .map(|j| {
                let k = plus(apply(&wk, normalised[j]), &bk);
                let distance = i as f64 - j as f64;
                let r = apply(&wp, [distance.sin(), distance.cos()]);
                ((dot(plus(q, &u), k) + dot(plus(q, &v), r)) / 2_f64.sqrt()).exp()
            })
            .collect();
        let sum: f64 = scores.iter().sum();
        for (j, score) in scores.iter().enumerate() {
            let found = map.double_value(&[0, 0, i as i64, j as i64]);
            assert!(
                (found - score / sum).abs() < 1e-5,
                "{i} to {j}: {found}, {}",
                score / sum
            );
        }
    }
}

/// The frames that enter the first layer, by torch's own operators.
fn subsampled(store: &nn::VarStore, log_mel: &Tensor) -> [[f64; 2]; 3] {
    let v = |name: &str| store.variables()[&format!("encoder.pre_encode.{name}")].shallow_clone();
    let convolve = |x: &Tensor, i: usize| {
        x.constant_pad_nd([1, 1, 1, 0])
            .conv2d(
                &v(&format!("conv.{i}.weight")),
                Some(v(&format!("conv.{i}.bias"))),
                2,
                0,
                1,
                1,
            )
            .relu()
    };
    let x = convolve(&convolve(&log_mel.unsqueeze(1), 0), 2);
    let x = x
        .transpose(1, 2)
        .flatten(2, 3)
        .linear(&v("out.weight"), Some(v("out.bias")));
    [0, 1, 2].map(|t| [0, 1].map(|c| x.double_value(&[0, t, c])))
}
