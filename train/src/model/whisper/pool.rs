//! From 50 to 25 frames a second, pair by pair.

use tch::Tensor;

use crate::model::mask::real_frames;

/// Frames left of so many; an odd last one stays alone.
fn halved(frames: i64) -> i64 {
    (frames + 1) / 2
}

/// Real frames left of each utterance.
pub(super) fn lengths(lengths: &[i64]) -> Vec<i64> {
    lengths.iter().map(|&length| halved(length)).collect()
}

/// An attention map (B, heads, T, T): queries are averaged, keys summed.
pub(super) fn map(map: &Tensor, lengths: &[i64]) -> Tensor {
    sum(&average(map, 2, lengths), 3)
}

/// Averages neighbours along `dim` of a batch whose padding is zero; a frame without a real
/// neighbour stays as it is.
pub(super) fn average(x: &Tensor, dim: i64, lengths: &[i64]) -> Tensor {
    let real = real_frames(lengths, x.size()[dim as usize], x.device()).to_kind(x.kind());
    let count = sum(&real, 1).clamp_min(1.0);
    let mut shape = vec![1; x.dim()];
    shape[0] = lengths.len() as i64;
    shape[dim as usize] = -1;
    sum(x, dim) / count.reshape(shape)
}

/// Adds neighbours along `dim`.
fn sum(x: &Tensor, dim: i64) -> Tensor {
    let frames = x.size()[dim as usize];
    let mut padding = vec![0; 2 * (x.dim() - dim as usize)];
    if let Some(last) = padding.last_mut() {
        *last = frames % 2;
    }
    x.constant_pad_nd(padding)
        .unflatten(dim, [halved(frames), 2])
        .sum_dim_intlist(dim + 1, false, x.kind())
}
