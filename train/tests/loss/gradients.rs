//! Gradients: by finite differences, and where there are none.

use std::collections::BTreeSet;

use sori_train::loss::{
    FeatureProjection, HeadMatching, LossError, ctc, feature, guided, sam, softmax,
};
use sori_train::model::{ConformerConfig, Context, Pass};
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

use crate::support::{largest_difference, model, random};
use crate::{BLANK, frames, random_log_probs, random_maps};

/// Compares the gradient of `loss` at `input` with central differences, value by value.
fn check_gradient(input: &Tensor, loss: impl Fn(&Tensor) -> Tensor) {
    let input = input.detach().copy().set_requires_grad(true);
    let total = |x: &Tensor| loss(x).sum(Kind::Double);
    total(&input).backward();
    let gradient = input.grad().flatten(0, -1);
    let flat = input.detach().flatten(0, -1);
    let step = 1e-5;
    let mut largest: f64 = 0.0;
    for i in 0..flat.numel() as i64 {
        let moved = |by: f64| {
            let moved = flat.copy();
            let _ = moved.get(i).g_add_scalar_(by);
            total(&moved.reshape(input.size())).double_value(&[])
        };
        let expected = (moved(step) - moved(-step)) / (2.0 * step);
        let found = gradient.double_value(&[i]);
        largest = largest.max(found.abs());
        assert!(
            (found - expected).abs() < 1e-6,
            "at {i}: {found}, by differences {expected}"
        );
    }
    assert!(largest > 1e-3, "the gradient vanishes everywhere");
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let lengths = [5, 3];
    let teacher = random_log_probs(1, 2, 5);
    let logits = random(10, &[2, 5, 4]);
    let posteriors = |x: &Tensor| x.log_softmax(-1, Kind::Double);
    check_gradient(&logits, |x| {
        let transcripts = [vec![0, 0, 2], vec![1]];
        ctc(frames(&posteriors(x), &lengths), &transcripts, BLANK).unwrap()
    });
    check_gradient(&logits, |x| {
        guided(
            frames(&teacher, &lengths),
            frames(&posteriors(x), &lengths),
            BLANK,
            1,
        )
        .unwrap()
    });
    check_gradient(&logits, |x| {
        softmax(frames(&teacher, &lengths), frames(&posteriors(x), &lengths)).unwrap()
    });
    let hidden = random(11, &[2, 5, 4]);
    check_gradient(&logits, |x| {
        feature(frames(&hidden, &lengths), frames(x, &lengths)).unwrap()
    });
    let maps = random_maps(2, 2, 4, 5);
    for (context, heads) in [
        (Context::Full, HeadMatching::Mean),
        (
            Context::Chunked { chunk: 2, left: 1 },
            HeadMatching::Grouped,
        ),
    ] {
        check_gradient(&random(12, &[2, 2, 5, 5]), |x| {
            let student = x.softmax(-1, Kind::Double);
            sam(
                frames(&maps, &lengths),
                frames(&student, &lengths),
                context,
                heads,
            )
            .unwrap()
        });
    }
}

#[test]
fn the_map_loss_leaves_what_comes_after_the_map_untouched() {
    let config = ConformerConfig {
        features: 16,
        vocabulary: 5,
        d_model: 16,
        layers: 2,
        heads: 2,
        feed_forward: 24,
        kernel: 3,
        subsampling_channels: 4,
        ..ConformerConfig::student()
    };
    let (store, student) = model(&config, 5);
    let before: Vec<_> = store
        .variables()
        .into_iter()
        .map(|(name, x)| (name, x.detach().copy()))
        .collect();
    let mut optimiser = nn::AdamW {
        wd: 0.1,
        ..Default::default()
    }
    .build(&store, 1e-2)
    .unwrap();
    let context = Context::Chunked { chunk: 4, left: 4 };
    let log_mel = random(16, &[2, 40, 16]).to_kind(Kind::Float);
    let teacher = random_maps(9, 2, 4, 10).to_kind(Kind::Float);
    for _ in 0..2 {
        let pass = Pass {
            context,
            train: true,
            attention: true,
        };
        let output = student.forward(&log_mel, &[40, 33], pass);
        let map = output.attention.unwrap();
        let lengths = &output.lengths;
        let mean = HeadMatching::Mean;
        let loss = sam(
            frames(&teacher, lengths),
            frames(&map, lengths),
            context,
            mean,
        )
        .unwrap();
        optimiser.backward_step(&loss.mean(Kind::Float));
    }

    let variables = store.variables();
    let untouched: BTreeSet<_> = before
        .iter()
        .filter(|(name, old)| largest_difference(&variables[name].detach(), old) == 0.0)
        .map(|(name, _)| name.as_str())
        .collect();
    let last = "encoder.layers.1.";
    let after_the_map = |name: &str| {
        name.starts_with("decoder.")
            || name.strip_prefix(last).is_some_and(|name| {
                [
                    "self_attn.linear_v",
                    "self_attn.linear_out",
                    "norm_conv",
                    "conv.",
                ]
                .into_iter()
                .chain(["norm_feed_forward2", "feed_forward2", "norm_out"])
                .any(|part| name.starts_with(part))
            })
    };
    let expected: BTreeSet<_> = before
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| after_the_map(name))
        .collect();
    assert_eq!(untouched, expected);
    for name in expected {
        assert!(!variables[name].grad().defined(), "{name} has a gradient");
    }
}

#[test]
fn the_projection_joins_different_widths() {
    let store = nn::VarStore::new(Device::Cpu);
    let projection = FeatureProjection::new(&store.root(), 3, 8);
    let (teacher, student) = (
        random(17, &[1, 4, 8]).to_kind(Kind::Float),
        random(18, &[1, 4, 3]).to_kind(Kind::Float),
    );
    let refused = feature(frames(&teacher, &[4]), frames(&student, &[4])).unwrap_err();
    assert!(matches!(
        refused,
        LossError::Shape {
            what: "student",
            ..
        }
    ));
    let projected = projection.forward(&student);
    let loss = feature(frames(&teacher, &[4]), frames(&projected, &[4])).unwrap();
    loss.mean(Kind::Float).backward();
    assert!(
        store
            .trainable_variables()
            .iter()
            .all(|variable| variable.grad().defined())
    );
}
