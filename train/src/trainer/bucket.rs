//! Tensors that travel together: one message for many.

use tch::{Device, Kind, TchError, Tensor};

/// Parts a list where the tensors of a part would have more than `most` numbers together. A larger one is a
/// part by itself.
pub(super) fn buckets<T>(list: &[T], most: i64, numbers: impl Fn(&T) -> i64) -> Vec<&[T]> {
    let mut buckets = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let mut size = 0;
        let fit = rest.iter().take_while(|item| {
            size += numbers(item);
            size <= most
        });
        let (bucket, others) = rest.split_at(fit.count().max(1));
        buckets.push(bucket);
        rest = others;
    }
    buckets
}

/// The numbers of tensors, one after the other, on a device.
pub(super) fn pack(tensors: &[Tensor], device: Device) -> Result<Tensor, TchError> {
    let flat = tensors.iter().map(|tensor| tensor.f_flatten(0, -1));
    let flat = flat.collect::<Result<Vec<_>, _>>()?;
    Tensor::f_cat(&flat, 0)?
        .f_to_kind(Kind::Float)?
        .f_to_device(device)
}

/// Tensors made of such numbers, of the shapes of those that were packed and where they are.
pub(super) fn unpack(packed: &Tensor, like: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
    let Some(first) = like.first() else {
        return Ok(Vec::new());
    };
    let counts: Vec<_> = like.iter().map(|tensor| tensor.numel() as i64).collect();
    let parts = packed
        .f_to_device(first.device())?
        .f_split_with_sizes(&counts, 0)?;
    let parts = parts.iter().zip(like);
    let shaped = parts.map(|(part, like)| {
        let shaped = part.f_view(&like.size()[..])?.f_to_kind(like.kind())?;
        match like.is_contiguous() {
            true => Ok(shaped),
            // The fused AdamW takes for granted that a gradient lies in memory as its parameter does.
            false => {
                let mut alike = like.f_empty_like()?;
                alike.f_copy_(&shaped)?;
                Ok(alike)
            }
        }
    });
    shaped.collect()
}
