//! Values that were computed by hand.

use sori_train::loss::{HeadMatching, LossError, consistency, ctc, feature, guided, sam, softmax};
use sori_train::model::Context;
use tch::{Device, Kind, Tensor};

use crate::support::random;
use crate::{BLANK, close, frames, log_probs, random_log_probs, random_maps, values};

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
fn consistency_is_half_of_both_divergences() {
    let one = log_probs(&[[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]]);
    let other = log_probs(&[[0.1, 0.7, 0.1, 0.1], [0.1, 0.2, 0.3, 0.4]]);
    // (p - q) (log p - log q), summed, is the sum of both divergences.
    let first = 2.0 * 0.6 * 7_f64.ln();
    let second: f64 = [0.1, 0.2, 0.3, 0.4]
        .iter()
        .map(|p| (0.25 - p) * (0.25_f64 / p).ln())
        .sum();
    let loss = |a: &Tensor, b: &Tensor| consistency(frames(a, &[2]), frames(b, &[2])).unwrap();
    close(&loss(&one, &other), &[(first + second) / 2.0]);
    close(&loss(&other, &one), &[(first + second) / 2.0]);
    close(&loss(&one, &one), &[0.0]);
}

#[test]
fn each_view_moves_towards_what_the_other_is() {
    let lengths = [5, 3];
    let leaf = |seed| random_log_probs(seed, 2, 5).set_requires_grad(true);
    let (one, other) = (leaf(1), leaf(2));
    let gradient = |total: &Tensor, of: &Tensor| {
        values(&Tensor::run_backward(&[total], &[of], true, false)[0].view(-1))
    };
    let agree = consistency(frames(&one, &lengths), frames(&other, &lengths)).unwrap();
    let agree = agree.sum(Kind::Double);
    for (learner, model) in [(&one, &other), (&other, &one)] {
        let alone = softmax(frames(model, &lengths), frames(learner, &lengths)).unwrap();
        let alone = gradient(&(alone.sum(Kind::Double) * 0.5), learner);
        assert!(alone.iter().any(|slope| slope.abs() > 1e-3));
        assert_eq!(gradient(&agree, learner), alone);
    }
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
