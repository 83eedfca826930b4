//! Relative positions as in Transformer-XL (Dai et al. 2019, arXiv 1901.02860, section 3.3 and
//! appendix B).

use tch::{Device, Kind, Tensor};

/// Sinusoids of every distance that a query can have to a key, when the last query stands on the
/// last key: from `keys - 1` (the last query to the first key) down to `-(queries - 1)`.
///
/// Returns (1, queries + keys - 1, width); sines in the even columns, cosines in the odd ones.
pub(super) fn sinusoids(queries: i64, keys: i64, width: i64, device: Device) -> Tensor {
    let options = (Kind::Float, device);
    let distances = Tensor::arange_start_step(keys - 1, -queries, -1, options);
    let step = -(10_000_f64.ln() / width as f64);
    let rates = (Tensor::arange_start_step(0, width, 2, options) * step).exp();
    let angles = distances.unsqueeze(1) * rates;
    Tensor::stack(&[angles.sin(), angles.cos()], 2).reshape([1, -1, width])
}

/// Turns scores by distance into scores by key.
///
/// `by_distance` is (B, H, queries, queries + keys - 1) with distances ordered as in [`sinusoids`];
/// the result is (B, H, queries, keys). Row `i` starts `queries - 1 - i` distances later: one
/// column of padding and a reshape shift every row by one more than the row before it.
pub(super) fn relative_shift(by_distance: &Tensor, keys: i64) -> Tensor {
    let (batch, heads, queries, distances) = by_distance
        .size4()
        .expect("scores by distance have four dimensions");
    by_distance
        .constant_pad_nd([1, 0])
        .reshape([batch, heads, distances + 1, queries])
        .narrow(2, 1, distances)
        .reshape([batch, heads, queries, distances])
        .narrow(3, 0, keys)
}
