//! Tensors over time with the length of each utterance, and what two of them have in common.

use tch::Tensor;

use super::LossError;
use crate::model::real_frames;

/// A batch over time: a tensor whose padding is known.
#[derive(Debug, Clone, Copy)]
pub struct Frames<'a> {
    /// (B, T, ...), or (B, heads, T, T) for attention maps.
    pub values: &'a Tensor,
    /// Real frames of each utterance, none above T.
    pub lengths: &'a [i64],
}

/// The frames that teacher and student both have.
pub(super) struct Common {
    pub(super) lengths: Vec<i64>,
    /// The longest of `lengths`.
    pub(super) frames: i64,
}

impl Common {
    /// Compares the lengths; with time in dimension `time` of both tensors.
    pub(super) fn of(
        teacher: Frames<'_>,
        student: Frames<'_>,
        time: usize,
    ) -> Result<Self, LossError> {
        teacher.check("teacher", time)?;
        student.check("student", time)?;
        let (t, s) = (teacher.lengths, student.lengths);
        if t.len() != s.len() {
            let expected = format!("{} utterances as in the student", s.len());
            return Err(LossError::shape(
                "teacher",
                expected,
                &teacher.values.size(),
            ));
        }
        let apart = |(t, s): (&i64, &i64)| t.abs_diff(*s) > 1;
        if let Some(utterance) = t.iter().zip(s).position(apart) {
            let (teacher, student) = (t[utterance], s[utterance]);
            return Err(LossError::Frames {
                utterance,
                teacher,
                student,
            });
        }
        let lengths: Vec<_> = t.iter().zip(s).map(|(t, s)| *t.min(s)).collect();
        let frames = lengths.iter().copied().max().unwrap_or(0);
        Ok(Self { lengths, frames })
    }

    /// Sums (B, frames) over each utterance's common frames: (B).
    pub(super) fn sum(&self, by_frame: &Tensor) -> Tensor {
        let real = real_frames(&self.lengths, self.frames, by_frame.device());
        let zero = by_frame.zeros_like();
        by_frame
            .where_self(&real, &zero)
            .sum_dim_intlist(1, false, by_frame.kind())
    }

    /// Averages (B, frames) over each utterance's common frames: (B); zero where there are none.
    pub(super) fn mean(&self, by_frame: &Tensor) -> Tensor {
        let counts: Vec<_> = self.lengths.iter().map(|&n| n.max(1)).collect();
        self.sum(by_frame) / Tensor::from_slice(&counts).to_device(by_frame.device())
    }
}

impl Frames<'_> {
    /// That the tensor is (B, T, last), or has T in dimensions 2 and 3 if `time` is 2.
    pub(super) fn check(&self, what: &'static str, time: usize) -> Result<(), LossError> {
        let size = self.values.size();
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let shaped = match size[..] {
            [batch, frames, _] if time == 1 => (batch, frames),
            [batch, _, frames, keys] if time == 2 && frames == keys => (batch, frames),
            _ => (-1, -1),
        };
        if shaped.0 == self.lengths.len() as i64 && longest <= shaped.1 {
            return Ok(());
        }
        let batch = self.lengths.len();
        let expected = match time {
            1 => format!("({batch}, at least {longest}, width)"),
            _ => format!("({batch}, heads, T, T) with T at least {longest}"),
        };
        Err(LossError::shape(what, expected, &size))
    }
}
