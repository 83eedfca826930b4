//! A checkpoint's tensors, looked up by name and folded into what the graph needs.

use std::collections::HashMap;

use tch::{Device, Kind, Tensor};

use super::GraphError;

/// The parameters of a trained model, by the names that they have in its checkpoint.
#[derive(Debug)]
pub struct Weights {
    tensors: HashMap<String, Tensor>,
}

impl Weights {
    /// Takes the named tensors of a model.
    pub fn new(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        let ready = |tensor: Tensor| tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float);
        Self {
            tensors: tensors
                .into_iter()
                .map(|(name, tensor)| (name, ready(tensor)))
                .collect(),
        }
    }

    /// The tensor of that name, if it has that shape.
    pub(super) fn get(&self, name: &str, shape: &[i64]) -> Result<&Tensor, GraphError> {
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| GraphError::Missing { name: name.into() })?;
        if tensor.size() != shape {
            return Err(GraphError::Shape {
                name: name.into(),
                expected: shape.into(),
                found: tensor.size(),
            });
        }
        Ok(tensor)
    }

    /// A linear layer, (out, in) in the checkpoint.
    pub(super) fn linear(
        &self,
        path: &str,
        inputs: i64,
        outputs: i64,
    ) -> Result<Affine, GraphError> {
        self.map(path, &[outputs, inputs])
    }

    /// A convolution with a kernel of one frame, (out, in, 1) in the checkpoint.
    pub(super) fn pointwise(
        &self,
        path: &str,
        inputs: i64,
        outputs: i64,
    ) -> Result<Affine, GraphError> {
        self.map(path, &[outputs, inputs, 1])
    }

    /// Weights (out, ...) of `shape` and a bias for each output, as (in, out) and (out).
    fn map(&self, path: &str, shape: &[i64]) -> Result<Affine, GraphError> {
        let weight = self.get(&format!("{path}.weight"), shape)?;
        let bias = self.get(&format!("{path}.bias"), &shape[..1])?;
        Ok(Affine {
            weight: weight.flatten(1, -1).tr(),
            bias: bias.shallow_clone(),
        })
    }

    /// A layer norm's scale and shift.
    pub(super) fn norm(&self, path: &str, width: i64) -> Result<Affine, GraphError> {
        let part = |name: &str| self.get(&format!("{path}.{name}"), &[width]);
        Ok(Affine {
            weight: part("weight")?.shallow_clone(),
            bias: part("bias")?.shallow_clone(),
        })
    }
}

/// `x W + b`: the weight of a matrix product is (in, out).
#[derive(Debug)]
pub(super) struct Affine {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

impl Affine {
    /// The map whose result is so many times larger.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        Self {
            weight: &self.weight * factor,
            bias: &self.bias * factor,
        }
    }

    /// The map that does what this one does after `norm` has scaled and shifted its input.
    pub(super) fn after(&self, norm: &Self) -> Self {
        let double = |x: &Tensor| x.to_kind(Kind::Double);
        let (scale, shift) = (double(&norm.weight), double(&norm.bias));
        let weight = double(&self.weight);
        Self {
            bias: double(&self.bias) + weight.tr().mv(&shift),
            weight: weight * scale.unsqueeze(1),
        }
    }

    /// The map that gives the results of several, side by side.
    pub(super) fn beside(maps: &[&Self]) -> Self {
        let weights: Vec<_> = maps.iter().map(|map| &map.weight).collect();
        let biases: Vec<_> = maps.iter().map(|map| &map.bias).collect();
        Self {
            weight: Tensor::cat(&weights, 1),
            bias: Tensor::cat(&biases, 0),
        }
    }
}
