//! What shows early that distillation goes wrong, or works.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::loss::Frames;
use crate::model::real_frames;

/// How alike the hidden vectors of different frames are. A student that collapses gives nearly the
/// same vector for every frame.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Collapse {
    /// Standard deviation over frames, averaged over dimensions.
    pub deviation: f64,
    /// Cosine between two frames, averaged over all pairs of different frames.
    pub cosine: f64,
}

impl Collapse {
    /// Below this deviation a student has collapsed. The last layer ends in a norm, after which the
    /// vectors of a healthy student vary by about one.
    pub const LEAST_DEVIATION: f64 = 0.1;
    /// Above this cosine a student has collapsed.
    pub const MOST_COSINE: f64 = 0.95;

    /// Whether training should be looked at.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        !(self.deviation >= Self::LEAST_DEVIATION && self.cosine <= Self::MOST_COSINE)
    }
}

/// Measures the real frames of hidden vectors (B, T, D); `None` for fewer than two frames.
#[must_use]
pub fn collapse(hidden: Frames<'_>) -> Option<Collapse> {
    let mut frames = HiddenFrames::default();
    frames.add(hidden);
    frames.collapse()
}

/// The hidden vectors of any number of batches, as far as their [`Collapse`] needs them: three sums
/// over frames, each of the vectors' width.
///
/// The mean cosine needs no pairs: with unit vectors `u`, it is `(||sum u||^2 - n) / (n (n - 1))`.
#[derive(Debug, Default)]
pub struct HiddenFrames {
    count: f64,
    sums: Option<Sums>,
}

#[derive(Debug)]
struct Sums {
    vectors: Tensor,
    squares: Tensor,
    units: Tensor,
}

impl HiddenFrames {
    /// Adds the real frames of hidden vectors (B, T, D), of one width D in all batches.
    pub fn add(&mut self, hidden: Frames<'_>) {
        let size = hidden.values.size();
        let real = real_frames(hidden.lengths, size[1], hidden.values.device());
        let frames = hidden
            .values
            .detach()
            .index(&[Some(real)])
            .to_kind(Kind::Double);
        let norms = frames.norm_scalaropt_dim(2, [1], true).clamp_min(1e-12);
        let sum = |of: &Tensor| of.sum_dim_intlist(0, false, Kind::Double);
        let new = Sums {
            vectors: sum(&frames),
            squares: sum(&(&frames * &frames)),
            units: sum(&(&frames / norms)),
        };
        self.count += frames.size()[0] as f64;
        self.sums = Some(match self.sums.take() {
            None => new,
            Some(sums) => Sums {
                vectors: sums.vectors + new.vectors,
                squares: sums.squares + new.squares,
                units: sums.units + new.units,
            },
        });
    }

    /// How alike they are; `None` for fewer than two frames.
    #[must_use]
    pub fn collapse(&self) -> Option<Collapse> {
        let (count, sums) = (self.count, self.sums.as_ref()?);
        if count < 2.0 {
            return None;
        }
        let variance = (&sums.squares - &sums.vectors * &sums.vectors / count) / (count - 1.0);
        let squared = value(&(&sums.units * &sums.units).sum(Kind::Double));
        Some(Collapse {
            // Rounding may leave a little less than nothing.
            deviation: value(&variance.clamp_min(0.0).sqrt().mean(Kind::Double)),
            cosine: (squared - count) / (count * (count - 1.0)),
        })
    }
}

/// Where the spikes of a student stand, compared with those of its teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpikeAgreement {
    /// Spikes of the student.
    pub spikes: i64,
    /// Those of them that the teacher has on the same frame.
    pub same_frame: i64,
    /// Those that the teacher has on the same frame or on one beside it.
    pub within_one: i64,
}

impl SpikeAgreement {
    /// Shares of the student's spikes on the teacher's frame, and within one frame of it; `None`
    /// without spikes.
    #[must_use]
    pub fn shares(&self) -> Option<[f64; 2]> {
        let share = |count: i64| count as f64 / self.spikes as f64;
        (self.spikes > 0).then(|| [share(self.same_frame), share(self.within_one)])
    }
}

impl std::ops::AddAssign for SpikeAgreement {
    fn add_assign(&mut self, other: Self) {
        self.spikes += other.spikes;
        self.same_frame += other.same_frame;
        self.within_one += other.within_one;
    }
}

/// Compares the spikes of two models' log-probabilities, (B, T, outputs), over the frames that both
/// have. A spike is the first frame of a run in which one token, not the blank, is the most probable;
/// it agrees with a spike of the same token.
#[must_use]
pub fn spike_agreement(teacher: Frames<'_>, student: Frames<'_>, blank: i64) -> SpikeAgreement {
    let lengths: Vec<_> = teacher
        .lengths
        .iter()
        .zip(student.lengths)
        .map(|(a, b)| *a.min(b))
        .collect();
    let frames = lengths.iter().copied().max().unwrap_or(0);
    if frames == 0 {
        return SpikeAgreement::default();
    }
    let real = real_frames(&lengths, frames, student.values.device());
    let spikes = |of: Frames<'_>| {
        let tokens = of.values.detach().narrow(1, 0, frames).argmax(2, false);
        let before = tokens
            .narrow(1, 0, frames - 1)
            .pad([1, 0], "constant", blank as f64);
        tokens
            .masked_fill(&tokens.eq_tensor(&before), blank)
            .masked_fill(&real.logical_not(), blank)
    };
    let (of_teacher, of_student) = (spikes(teacher), spikes(student));
    let any = of_student.ne(blank);
    // The teacher's spikes, moved by a frame in each direction.
    let padded = of_teacher.pad([1, 1], "constant", blank as f64);
    let agrees = |shift: i64| {
        of_student
            .eq_tensor(&padded.narrow(1, shift, frames))
            .logical_and(&any)
    };
    let near = agrees(0).logical_or(&agrees(1)).logical_or(&agrees(2));
    let count = |mask: &Tensor| value(&mask.sum(Kind::Double)) as i64;
    SpikeAgreement {
        spikes: count(&any),
        same_frame: count(&agrees(1)),
        within_one: count(&near),
    }
}

/// The value of a tensor that holds one.
fn value(of: &Tensor) -> f64 {
    of.double_value(&[])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn collapse_is_the_mean_over_pairs_of_real_frames() {
        // The last frame is padding.
        let values = Tensor::from_slice(&[3.0_f32, 0.0, 0.0, 2.0, 1.0, 1.0, 9.0, 9.0]);
        let values = values.reshape([1, 4, 2]);
        let found = collapse(Frames {
            values: &values,
            lengths: &[3],
        })
        .unwrap();
        // Pairs: at right angles, 45 degrees, 45 degrees.
        let expected = (0.0 + 0.5_f64.sqrt() + 0.5_f64.sqrt()) / 3.0;
        assert!((found.cosine - expected).abs() < 1e-6, "{found:?}");
        // Deviations of 3, 0, 1 and of 0, 2, 1.
        let expected = ((7.0_f64 / 3.0).sqrt() + 1.0) / 2.0;
        assert!((found.deviation - expected).abs() < 1e-6, "{found:?}");
        assert!(!found.is_alarming());

        // Batch by batch it is the same.
        let mut frames = HiddenFrames::default();
        for (start, count) in [(0, 1), (1, 2)] {
            frames.add(Frames {
                values: &values.narrow(1, start, count),
                lengths: &[count],
            });
        }
        let apart = frames.collapse().unwrap();
        assert!((apart.deviation - found.deviation).abs() < 1e-12);
        assert!((apart.cosine - found.cosine).abs() < 1e-12);

        let same = Tensor::ones([2, 5, 3], (Kind::Float, tch::Device::Cpu));
        let found = collapse(Frames {
            values: &same,
            lengths: &[5, 2],
        });
        assert!(found.unwrap().is_alarming());
    }

    /// Log-probabilities whose most probable tokens are these.
    fn posteriors(tokens: &[&[i64]]) -> Tensor {
        let rows: Vec<_> = tokens.iter().map(|row| Tensor::from_slice(row)).collect();
        Tensor::stack(&rows, 0).one_hot(4).to_kind(Kind::Float)
    }

    #[test]
    fn spikes_agree_with_those_of_the_same_token() {
        let blank = 3;
        let teacher = posteriors(&[&[3, 0, 3, 1, 1, 3, 2, 3], &[0, 3, 3, 3, 3, 3, 3, 0]]);
        let student = posteriors(&[&[3, 0, 0, 3, 1, 3, 3, 0], &[3, 0, 3, 3, 3, 3, 3, 0]]);
        let found = spike_agreement(
            Frames {
                values: &teacher,
                lengths: &[8, 7],
            },
            Frames {
                values: &student,
                lengths: &[8, 8],
            },
            blank,
        );
        // First: 0 on its frame, 1 a frame late, 0 nowhere near. Second: 0 a frame late; the last
        // spike lies behind the teacher's length.
        let expected = SpikeAgreement {
            spikes: 4,
            same_frame: 1,
            within_one: 3,
        };
        assert_eq!(found, expected);
        assert_eq!(found.shares(), Some([0.25, 0.75]));
    }
}
