//! Named tensors from a file into a model's variables, each one checked.

use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor, nn, no_grad};

/// Why the tensors of a file are not the weights of a model. `name` is the tensor's, as in the
/// file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// The model has a parameter that the file lacks: it belongs to another geometry, or the file
    /// was cut. Check the configuration beside it.
    #[error("tensor {name} is missing")]
    Missing {
        /// The tensor.
        name: String,
    },
    /// The file has a tensor that the model lacks: it belongs to another geometry. Check the
    /// configuration beside it.
    #[error("tensor {name} belongs to no parameter of the model")]
    Unknown {
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than the parameter. Check the configuration beside it.
    #[error("tensor {name}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The parameter's shape.
        expected: Vec<i64>,
        /// The tensor's shape.
        found: Vec<i64>,
    },
    /// A tensor holds a NaN or an infinity: the training that wrote it diverged, or the file is
    /// damaged. Take an earlier checkpoint.
    #[error("tensor {name} holds values that are not finite")]
    NotFinite {
        /// The tensor.
        name: String,
    },
    /// A tensor's element type is none that weights are kept in. Save it as float32, float16 or
    /// bfloat16.
    #[error("tensor {name}: expected float32, float16, bfloat16 or float64, found {found}")]
    Type {
        /// The tensor.
        name: String,
        /// The element type that was found.
        found: String,
    },
    /// A tensor's description or data is damaged.
    #[error("tensor {name} cannot be read: {reason}")]
    Unreadable {
        /// The tensor.
        name: String,
        /// Where and why.
        reason: String,
    },
    /// A tensor's data has another size than its shape and type say. The file is damaged.
    #[error("tensor {name}: expected {expected} bytes of data, found {found}")]
    Size {
        /// The tensor.
        name: String,
        /// Bytes that shape and type ask for.
        expected: usize,
        /// Bytes in the file.
        found: usize,
    },
}

/// Copies a tensor into every variable of `store`; `find` looks one up by name.
///
/// # Errors
/// The first tensor that is missing or unfit. The store is then partly filled: drop it.
pub(super) fn fill(
    store: &nn::VarStore,
    mut find: impl FnMut(&str) -> Result<Option<Tensor>, WeightError>,
) -> Result<(), WeightError> {
    let mut variables: Vec<_> = store.variables().into_iter().collect();
    variables.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (name, mut variable) in variables {
        let Some(tensor) = find(&name)? else {
            return Err(WeightError::Missing { name });
        };
        if tensor.size() != variable.size() {
            let (expected, found) = (variable.size(), tensor.size());
            return Err(WeightError::Shape {
                name,
                expected,
                found,
            });
        }
        if !bool::try_from(tensor.isfinite().all()).unwrap_or(false) {
            return Err(WeightError::NotFinite { name });
        }
        no_grad(|| variable.copy_(&tensor));
    }
    Ok(())
}

/// A float tensor of little-endian `data`.
pub(super) fn tensor(
    name: &str,
    data: &[u8],
    shape: &[i64],
    kind: Kind,
) -> Result<Tensor, WeightError> {
    let expected = shape
        .iter()
        .try_fold(kind.elt_size_in_bytes(), |bytes, &n| {
            bytes.checked_mul(n.try_into().ok()?)
        })
        .unwrap_or(usize::MAX);
    if expected != data.len() {
        return Err(WeightError::Size {
            name: name.into(),
            expected,
            found: data.len(),
        });
    }
    Ok(Tensor::from_data_size(data, shape, kind).to_kind(Kind::Float))
}

/// The tensor of that name in a safetensors file, if there is one.
pub(super) fn stored(file: &SafeTensors<'_>, name: &str) -> Result<Option<Tensor>, WeightError> {
    let Ok(view) = file.tensor(name) else {
        return Ok(None);
    };
    tensor(
        name,
        view.data(),
        &shape(view.shape()),
        kind(name, view.dtype())?,
    )
    .map(Some)
}

/// A safetensors shape as torch counts.
pub(super) fn shape(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&n| n as i64).collect()
}

fn kind(name: &str, dtype: Dtype) -> Result<Kind, WeightError> {
    match dtype {
        Dtype::F32 => Ok(Kind::Float),
        Dtype::F16 => Ok(Kind::Half),
        Dtype::BF16 => Ok(Kind::BFloat16),
        Dtype::F64 => Ok(Kind::Double),
        other => Err(WeightError::Type {
            name: name.into(),
            found: format!("{other:?}"),
        }),
    }
}
