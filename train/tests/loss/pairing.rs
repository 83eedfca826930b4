//! Frames of a teacher beside those of a student: padding, lengths that differ, and what does not belong
//! together.

use sori_train::loss::{HeadMatching, LossError, ctc, feature, guided, sam, softmax};
use sori_train::model::Context;
use tch::{Device, Kind, Tensor};

use crate::support::random;
use crate::{BLANK, close, frames, random_log_probs, values};

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);

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
