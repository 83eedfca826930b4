//! Muon (Keller Jordan, 2024): steps along the nearest matrix with orthonormal rows.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};

use super::error::TrainError;
use super::peers::Peers;
use crate::torch;

/// Decay of Muon's running mean.
const MOMENTUM: f64 = 0.95;
/// Length of Muon's steps for each of a matrix's rows or columns, whichever are more, after its square
/// root: that of AdamW's.
const MUON_SCALE: f64 = 0.2;
/// Coefficients of the polynomial that brings singular values towards one, and how often it is applied.
const NEWTON_SCHULZ: [f64; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;

/// What is to be moved, with its running mean.
pub(super) struct Matrix {
    pub(super) parameter: Tensor,
    pub(super) mean: Tensor,
    pub(super) gradient: Tensor,
}

/// A direction, (rows, columns) with no more rows than columns, and whether that is upside down.
struct Flat {
    direction: Tensor,
    turned: bool,
}

/// Moves matrices. On a processor, where that takes a third as long as the gradients of half a minute of speech, the
/// processes of a job share the work; a GPU is done sooner than the numbers would travel.
pub(super) fn step(
    matrices: &[Matrix],
    rate: f64,
    weight_decay: f64,
    peers: &Peers,
) -> Result<(), TrainError> {
    let flats = matrices.iter().map(Matrix::ahead);
    let flats = flats.collect::<Result<Vec<_>, _>>()?;
    let shares = matches!(flats.first(), Some(flat) if !flat.direction.device().is_cuda());
    let shard = peers.shard();

    // Those of one shape are worked on together, and each process has its part of them.
    let mut shapes = BTreeMap::<Vec<i64>, Vec<usize>>::new();
    for (index, flat) in flats.iter().enumerate() {
        shapes.entry(flat.direction.size()).or_default().push(index);
    }
    let mut steps: Vec<_> = flats.iter().map(|_| None).collect();
    for all in shapes.values() {
        let mine = all
            .iter()
            .enumerate()
            .filter(|(place, _)| !shares || place % shard.world == shard.rank);
        let mine: Vec<_> = mine.map(|(_, &index)| index).collect();
        if mine.is_empty() {
            continue;
        }
        let stack: Vec<_> = mine.iter().map(|&index| &flats[index].direction).collect();
        let orthogonal = orthogonal(&Tensor::f_stack(&stack, 0)?)?;
        for (index, step) in mine.into_iter().zip(orthogonal.f_unbind(0)?) {
            steps[index] = Some(step);
        }
    }
    let steps = steps
        .into_iter()
        .zip(&flats)
        .map(|(step, flat)| match step {
            Some(step) => Ok(step),
            None => flat.direction.f_zeros_like(),
        });
    let mut steps = steps.collect::<Result<Vec<_>, TchError>>()?;
    if shares {
        steps = peers.sum(steps)?;
    }

    for ((matrix, flat), step) in matrices.iter().zip(&flats).zip(steps) {
        let mut parameter = matrix.parameter.shallow_clone();
        let longer = step.size()[1] as f64;
        let step = if flat.turned { step.f_tr()? } else { step };
        let step = step.f_reshape(parameter.size())?;
        let _ = parameter.f_mul_scalar_(1.0 - rate * weight_decay)?;
        let _ = parameter.f_add_(&(step * (-rate * MUON_SCALE * longer.sqrt())))?;
    }
    Ok(())
}

impl Matrix {
    /// Takes the gradient into the mean. The direction is Nesterov's, where the gradient counts once more.
    fn ahead(&self) -> Result<Flat, TchError> {
        let mut mean = self.mean.shallow_clone();
        let _ = mean.f_lerp_(&self.gradient, 1.0 - MOMENTUM)?;
        let ahead = self.gradient.f_lerp(&mean, MOMENTUM)?.f_flatten(1, -1)?;
        let size = ahead.size();
        let turned = size[0] > size[1];
        let direction = if turned { ahead.f_tr()? } else { ahead };
        Ok(Flat { direction, turned })
    }
}

/// For each of a stack of matrices, (N, rows, columns) with no more rows than columns, about the nearest one with
/// orthonormal rows, by Newton-Schulz iteration.
fn orthogonal(stack: &Tensor) -> Result<Tensor, TchError> {
    let [a, b, c] = NEWTON_SCHULZ;
    let norms = stack
        .f_norm_scalaropt_dim(2.0, [-2_i64, -1].as_slice(), true)?
        .f_clamp_min(1e-12)?;
    // What bfloat16 loses is less than what the iteration leaves.
    let kind = match torch::has_bf16(stack.device()) {
        true => Kind::BFloat16,
        false => Kind::Float,
    };
    let mut x = stack.f_div(&norms)?.f_to_kind(kind)?;
    for _ in 0..ITERATIONS {
        let square = x.f_bmm(&x.f_mt()?)?;
        let polynomial = square.f_baddbmm(&square, &square, b, c)?;
        x = x.f_baddbmm(&polynomial, &x, a, 1.0)?;
    }
    x.f_to_kind(Kind::Float)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tch::{Device, no_grad};

    use super::super::peers::meet;
    use super::*;

    /// Three of one shape, one of them upright; one of another; a convolution over one frame.
    fn matrices() -> Vec<Matrix> {
        let shapes: [&[i64]; 5] = [&[4, 6], &[6, 4], &[4, 6], &[5, 5], &[3, 7, 1]];
        let numbers = |shape: &[i64], phase: f64| {
            let count: i64 = shape.iter().product();
            let values = Tensor::arange(count, (Kind::Float, Device::Cpu)) * 1.3 + phase;
            values.sin().reshape(shape)
        };
        let matrix = |(number, shape): (usize, &&[i64])| Matrix {
            parameter: numbers(shape, number as f64),
            mean: numbers(shape, number as f64 + 0.3),
            gradient: numbers(shape, number as f64 + 0.7),
        };
        shapes.iter().enumerate().map(matrix).collect()
    }

    /// The parameters after two steps.
    fn moved(peers: &Peers) -> Vec<Tensor> {
        let matrices = matrices();
        for _ in 0..2 {
            no_grad(|| step(&matrices, 0.1, 0.01, peers)).unwrap();
        }
        matrices
            .into_iter()
            .map(|matrix| matrix.parameter)
            .collect()
    }

    #[test]
    fn processes_that_share_the_work_move_as_one_alone() {
        let alone = moved(&Peers::none());
        let before = matrices();
        for (moved, matrix) in alone.iter().zip(before) {
            let distance = f64::try_from((moved - matrix.parameter).abs().max()).unwrap();
            assert!(distance > 0.01, "{distance}");
        }
        for world in [2, 3] {
            for (rank, moved) in meet(world, |peers| moved(&peers)).into_iter().enumerate() {
                for (alone, shared) in alone.iter().zip(moved) {
                    let distance = f64::try_from((alone - shared).abs().max()).unwrap();
                    assert!(distance < 1e-5, "process {rank} of {world}: {distance}");
                }
            }
        }
    }
}
