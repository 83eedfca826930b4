//! The losses against hand-computed values, finite differences, padding and each other's masks.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeSet;

use sori_train::loss::{
    FeatureProjection, Frames, HeadMatching, LossError, ctc, feature, guided, sam, softmax,
};
use sori_train::model::{ConformerConfig, Context, Pass};
use support::{largest_difference, model, random};
use tch::nn::{self, OptimizerConfig};
use tch::{Device, Kind, Tensor};

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);
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
fn ctc_sums_over_all_paths() {
    let p = [[0.5, 0.2, 0.1, 0.2], [0.3, 0.3, 0.2, 0.2]];
    let log_probs = log_probs(&p);
    let loss =
        |transcript: &[i64]| ctc(frames(&log_probs, &[2]), &[transcript.to_vec()], BLANK).unwrap();
    // "a" in two frames: aa, a-, -a.
    let a = 0.5 * 0.3 + 0.5 * 0.2 + 0.2 * 0.3;
    close(&loss(&[0]), &[-f64::ln(a)]);
    // "ab": one path; "": two blanks; "aa" needs three frames.
    close(&loss(&[0, 1]), &[-f64::ln(0.5 * 0.3)]);
    close(&loss(&[]), &[-f64::ln(0.2 * 0.2)]);
    close(&loss(&[0, 0]), &[0.0]);
}

#[test]
fn guided_adds_the_students_probability_at_the_teachers_spikes() {
    let teacher = log_probs(&[
        [0.6, 0.2, 0.1, 0.1],
        [0.1, 0.1, 0.1, 0.7],
        [0.1, 0.1, 0.5, 0.3],
        [0.1, 0.5, 0.1, 0.3],
    ]);
    let student = log_probs(&[
        [0.4, 0.3, 0.2, 0.1],
        [0.9, 0.0, 0.05, 0.05],
        [0.2, 0.1, 0.3, 0.4],
        [0.1, 0.25, 0.35, 0.3],
    ]);
    let loss = |length: i64, delay| {
        let lengths = [length];
        guided(
            frames(&teacher, &lengths),
            frames(&student, &lengths),
            BLANK,
            delay,
        )
        .unwrap()
    };
    close(&loss(4, 0), &[-(0.4 + 0.3 + 0.25)]);
    close(&loss(3, 0), &[-(0.4 + 0.3)]);
    // One frame later: token 0 at frame 1, token 2 at frame 3; the last spike falls off.
    close(&loss(4, 1), &[-(0.9 + 0.35)]);
    close(&loss(4, 9), &[0.0]);
}

#[test]
fn softmax_is_the_divergence_of_the_posteriors() {
    let teacher = log_probs(&[[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]);
    let student = log_probs(&[[0.1, 0.7, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]]);
    let first = 0.7 * 7_f64.ln() - 0.1 * 7_f64.ln();
    let second: f64 = [0.1, 0.2, 0.3, 0.4]
        .iter()
        .map(|p| 0.25 * (0.25_f64 / p).ln())
        .sum();
    let loss = |a: &Tensor, b: &Tensor| softmax(frames(a, &[2]), frames(b, &[2])).unwrap();
    close(&loss(&teacher, &student), &[first + second]);
    close(&loss(&teacher, &teacher), &[0.0]);
}

#[test]
fn feature_is_the_mean_squared_distance() {
    let teacher = Tensor::from_slice(&[1.0, 2.0, 3.0, 4.0]).reshape([1, 2, 2]);
    let student = Tensor::from_slice(&[1.0, 0.0, 0.0, 5.0]).reshape([1, 2, 2]);
    let loss = feature(frames(&teacher, &[2]), frames(&student, &[2])).unwrap();
    close(
        &loss,
        &[(f64::from(2 * 2) / 2.0 + f64::from(9 + 1) / 2.0) / 2.0],
    );
}

#[test]
fn sam_is_the_mean_squared_distance_of_rows() {
    let map = |rows: [f64; 4]| Tensor::from_slice(&rows).reshape([1, 1, 2, 2]);
    let teacher = map([0.9, 0.1, 0.5, 0.5]);
    let student = map([0.6, 0.4, 0.2, 0.8]);
    let (full, mean) = (Context::Full, HeadMatching::Mean);
    let loss = sam(frames(&teacher, &[2]), frames(&student, &[2]), full, mean).unwrap();
    close(&loss, &[(2.0 * 0.3 * 0.3 + 2.0 * 0.3 * 0.3) / 2.0]);
    // Only the first frame is real: its row, scaled to the one key left, is [1].
    let loss = sam(frames(&teacher, &[1]), frames(&student, &[1]), full, mean).unwrap();
    close(&loss, &[(1.0 - 0.6_f64).powi(2)]);
}

#[test]
fn sam_asks_only_for_what_the_student_can_see() {
    let context = Context::Chunked { chunk: 2, left: 1 };
    let teacher = random_maps(3, 1, 4, 7);
    let lengths = [7];
    let visible = context.visible(7, Device::Cpu);
    // A student that looks where the teacher looks, as far as it can, has nothing to learn.
    let restricted = teacher.mean_dim(1, true, Kind::Double) * visible.to_kind(Kind::Double);
    let student = &restricted / restricted.sum_dim_intlist(-1, true, Kind::Double);
    let mean = HeadMatching::Mean;
    let loss = sam(
        frames(&teacher, &lengths),
        frames(&student, &lengths),
        context,
        mean,
    )
    .unwrap();
    close(&loss, &[0.0]);
    let full = sam(
        frames(&teacher, &lengths),
        frames(&student, &lengths),
        Context::Full,
        mean,
    );
    assert!(full.unwrap().double_value(&[0]) > 0.01);
}

#[test]
fn rows_that_look_only_at_the_invisible_do_not_count() {
    // Frame 0 attends to frame 1 alone, which a student with chunks of one frame cannot see.
    let teacher = Tensor::from_slice(&[0.0, 1.0, 0.5, 0.5]).reshape([1, 1, 2, 2]);
    let student = Tensor::from_slice(&[1.0, 0.0, 0.0, 1.0]).reshape([1, 1, 2, 2]);
    let context = Context::Chunked { chunk: 1, left: 1 };
    let mean = HeadMatching::Mean;
    let loss = sam(
        frames(&teacher, &[2]),
        frames(&student, &[2]),
        context,
        mean,
    )
    .unwrap();
    close(&loss, &[(0.25 + 0.25) / 2.0]);
}

#[test]
fn heads_are_averaged_or_grouped() {
    let lengths = [5];
    let student = random_maps(4, 1, 2, 5);
    // Heads 0 and 1 of the teacher average to the student's first head, 2 and 3 to its second.
    let apart = random(13, &[1, 2, 5, 5]) * 0.01;
    let teacher = Tensor::stack(&[&student + &apart, &student - &apart], 2).flatten(1, 2);
    let loss = |student: &Tensor, heads| {
        sam(
            frames(&teacher, &lengths),
            frames(student, &lengths),
            Context::Full,
            heads,
        )
        .unwrap()
    };
    close(&loss(&student, HeadMatching::Grouped), &[0.0]);
    close(&loss(&student, HeadMatching::Mean), &[0.0]);
    // Swapped heads keep the average but not the groups.
    let swapped = student.flip([1]);
    close(&loss(&swapped, HeadMatching::Mean), &[0.0]);
    assert!(loss(&swapped, HeadMatching::Grouped).double_value(&[0]) > 0.01);

    let three = random_maps(5, 1, 3, 5);
    let refused = sam(
        frames(&teacher, &lengths),
        frames(&three, &lengths),
        Context::Full,
        HeadMatching::Grouped,
    );
    assert_eq!(
        refused.unwrap_err(),
        LossError::Heads {
            teacher: 4,
            student: 3
        }
    );
}

/// Every distillation loss on the same two utterances, as (B) values.
fn all(teacher_length: &[i64], student_length: &[i64], t: i64, s: i64) -> Vec<Tensor> {
    let cut = |x: Tensor, frames: i64| x.narrow(1, 0, frames);
    let (teacher, student) = (random_log_probs(6, 2, 12), random_log_probs(7, 2, 12));
    let (of_teacher, of_student) = (random(14, &[2, 4, 12, 12]), random(15, &[2, 2, 12, 12]));
    let map = |scores: &Tensor, frames: i64, lengths: &[i64]| {
        let real = sori_train::model::visible_keys(Context::Full, lengths, frames, Device::Cpu);
        let hidden = real.unsqueeze(1).logical_not();
        let scores = scores.narrow(2, 0, frames).narrow(3, 0, frames);
        scores
            .masked_fill(&hidden, -1e4)
            .softmax(-1, Kind::Double)
            .masked_fill(&hidden, 0.0)
    };
    let teacher_map = map(&of_teacher, t, teacher_length);
    let student_map = map(&of_student, s, student_length);
    let (teacher, student) = (cut(teacher, t), cut(student, s));
    let pair = (
        frames(&teacher, teacher_length),
        frames(&student, student_length),
    );
    let maps = (
        frames(&teacher_map, teacher_length),
        frames(&student_map, student_length),
    );
    let context = Context::Chunked { chunk: 4, left: 4 };
    vec![
        ctc(pair.1, &[vec![1], vec![0, 2]], BLANK).unwrap(),
        guided(pair.0, pair.1, BLANK, 0).unwrap(),
        softmax(pair.0, pair.1).unwrap(),
        feature(pair.0, pair.1).unwrap(),
        sam(maps.0, maps.1, context, HeadMatching::Mean).unwrap(),
        sam(maps.0, maps.1, context, HeadMatching::Grouped).unwrap(),
    ]
}

#[test]
fn a_longer_batch_mate_changes_no_loss() {
    let short = all(&[6, 5], &[6, 5], 6, 6);
    let beside_long = all(&[6, 12], &[6, 12], 12, 12);
    for (i, (a, b)) in short.iter().zip(&beside_long).enumerate() {
        assert!(a.double_value(&[0]).abs() > 1e-6, "loss {i} is zero");
        close(&a.get(0).reshape([1]), &values(&b.get(0).reshape([1])));
    }
}

#[test]
fn one_frame_more_on_either_side_is_cropped() {
    let [same, teacher_longer, student_longer] = [
        (&[7, 8], &[7, 8], 8, 8),
        (&[8, 9], &[7, 8], 9, 8),
        (&[7, 8], &[8, 9], 8, 9),
    ]
    .map(|(a, b, t, s)| all(a, b, t, s));
    for i in 1..4 {
        close(&teacher_longer[i], &values(&same[i]));
        close(&student_longer[i], &values(&same[i]));
    }
    // A map's rows are spread over one key more.
    for losses in [&teacher_longer[4], &student_longer[5]] {
        assert!(
            values(losses).iter().all(|loss| (0.0..0.5).contains(loss)),
            "{losses:?}"
        );
    }
}

#[test]
fn a_teachers_last_key_that_the_student_lacks_is_taken_out_of_its_rows() {
    let scores = random(90, &[1, 1, 6, 6]);
    let teacher = scores.softmax(-1, Kind::Double);
    let student = scores
        .narrow(2, 0, 5)
        .narrow(3, 0, 5)
        .softmax(-1, Kind::Double);
    let mean = HeadMatching::Mean;
    let loss = sam(
        frames(&teacher, &[6]),
        frames(&student, &[5]),
        Context::Full,
        mean,
    )
    .unwrap();
    close(&loss, &[0.0]);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let x = random_log_probs(8, 1, 6);
    let lengths_apart = guided(frames(&x, &[6]), frames(&x, &[4]), BLANK, 0).unwrap_err();
    assert_eq!(
        lengths_apart,
        LossError::Frames {
            utterance: 0,
            teacher: 6,
            student: 4
        }
    );
    let other = Tensor::zeros([1, 6, 9], DOUBLE);
    let vocabulary = softmax(frames(&other, &[6]), frames(&x, &[6])).unwrap_err();
    assert_eq!(
        vocabulary,
        LossError::Outputs {
            teacher: 9,
            student: 4
        }
    );
    let too_long = feature(frames(&x, &[7]), frames(&x, &[6])).unwrap_err();
    assert!(
        matches!(
            too_long,
            LossError::Shape {
                what: "teacher",
                ..
            }
        ),
        "{too_long}"
    );
    for stranger in [BLANK, 4, -1] {
        let error = ctc(frames(&x, &[6]), &[vec![0, stranger]], BLANK).unwrap_err();
        assert!(
            matches!(
                error,
                LossError::Shape {
                    what: "transcripts",
                    ..
                }
            ),
            "{error}"
        );
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
