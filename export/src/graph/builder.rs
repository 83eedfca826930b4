//! Collects the nodes and constants of a graph.

use tch::{Device, Kind, Tensor};
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, tensor_proto::DataType};

use super::weights::Affine;
use crate::onnx::{constant, float, integer, integers, node, value_info};

/// A graph in the making. Every node is named after the value that it gives, every constant after
/// the node that it belongs to.
///
/// Names are paths that follow the model's modules: `encoder.layers.0.self_attn.scores`.
#[derive(Default)]
pub(super) struct Builder {
    graph: GraphProto,
}

impl Builder {
    pub(super) fn input(&mut self, name: &str, kind: DataType, shape: &[i64]) {
        self.graph.input.push(value_info(name, kind, shape));
    }

    pub(super) fn output(&mut self, name: &str, kind: DataType, shape: &[i64]) {
        self.graph.output.push(value_info(name, kind, shape));
    }

    /// A constant of the tensor's shape, in float32.
    pub(super) fn float(&mut self, name: &str, values: &Tensor) -> String {
        let values = values
            .to_device(Device::Cpu)
            .to_kind(Kind::Float)
            .contiguous();
        let mut bytes = vec![0; values.numel() * Kind::Float.elt_size_in_bytes()];
        values.copy_data_u8(&mut bytes, values.numel());
        self.constant(name, DataType::Float, &values.size(), bytes)
    }

    pub(super) fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.shaped_integers(name, &[values.len() as i64], values)
    }

    pub(super) fn shaped_integers(&mut self, name: &str, shape: &[i64], values: &[i64]) -> String {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.constant(name, DataType::Int64, shape, bytes)
    }

    fn constant(&mut self, name: &str, kind: DataType, dims: &[i64], bytes: Vec<u8>) -> String {
        self.graph
            .initializer
            .push(constant(name, kind, dims, bytes));
        name.to_owned()
    }

    /// A node without attributes.
    pub(super) fn node(&mut self, operator: &str, name: &str, inputs: &[&str]) -> String {
        self.node_with(operator, name, inputs, Vec::new())
    }

    fn node_with(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        self.graph.node.push(NodeProto {
            attribute,
            ..node(operator, name, inputs)
        });
        name.to_owned()
    }

    /// `x` (rows, in) through an affine map, to (rows, out).
    pub(super) fn gemm(&mut self, name: &str, x: &str, map: &Affine) -> String {
        let weight = self.float(&format!("{name}.weight"), &map.weight);
        let bias = self.float(&format!("{name}.bias"), &map.bias);
        self.node("Gemm", name, &[x, &weight, &bias])
    }

    /// Normalises the last axis and scales it by the constant `scale`, then shifts it by another.
    pub(super) fn layer_norm(
        &mut self,
        name: &str,
        x: &str,
        scale: &str,
        shift: Option<&str>,
    ) -> String {
        let inputs: Vec<_> = [x, scale].into_iter().chain(shift).collect();
        let attributes = vec![integer("axis", -1), float("epsilon", 1e-5)];
        self.node_with("LayerNormalization", name, &inputs, attributes)
    }

    /// `x * sigmoid(x)`.
    pub(super) fn swish(&mut self, name: &str, x: &str) -> String {
        let gate = self.node("Sigmoid", &format!("{name}.sigmoid"), &[x]);
        self.node("Mul", name, &[x, &gate])
    }

    pub(super) fn softmax(&mut self, operator: &str, name: &str, x: &str) -> String {
        self.node_with(operator, name, &[x], vec![integer("axis", -1)])
    }

    /// A two-dimensional convolution without padding in time (the last axis but one).
    pub(super) fn convolution(&mut self, name: &str, x: &str, of: &Convolution<'_>) -> String {
        let weight = self.float(&format!("{name}.weight"), of.weight);
        let bias = of
            .bias
            .map(|bias| self.float(&format!("{name}.bias"), bias));
        let inputs: Vec<_> = [x, &weight].into_iter().chain(bias.as_deref()).collect();
        let attributes = vec![
            integers("kernel_shape", &of.weight.size()[2..]),
            integers("strides", &[of.stride, of.stride]),
            integers("pads", &of.padding),
            integer("group", of.groups),
        ];
        self.node_with("Conv", name, &inputs, attributes)
    }

    pub(super) fn reshape(&mut self, name: &str, x: &str, shape: &[i64]) -> String {
        let shape = self.integers(&format!("{name}.shape"), shape);
        self.node("Reshape", name, &[x, &shape])
    }

    pub(super) fn transpose(&mut self, name: &str, x: &str, order: &[i64]) -> String {
        self.node_with("Transpose", name, &[x], vec![integers("perm", order)])
    }

    pub(super) fn concat(&mut self, name: &str, axis: i64, parts: &[&str]) -> String {
        self.node_with("Concat", name, parts, vec![integer("axis", axis)])
    }

    /// Cuts `x` along `axis` into parts of the given sizes, named `name.0`, `name.1`, …
    pub(super) fn split(&mut self, name: &str, x: &str, axis: i64, sizes: &[i64]) -> Vec<String> {
        let parts: Vec<_> = (0..sizes.len()).map(|i| format!("{name}.{i}")).collect();
        let sizes = self.integers(&format!("{name}.sizes"), sizes);
        let attribute = vec![integer("axis", axis)];
        let output = parts.clone();
        self.graph.node.push(NodeProto {
            attribute,
            output,
            ..node("Split", name, &[x, &sizes])
        });
        parts
    }

    /// Keeps `[start, end)` of some axes, each given as (axis, start, end).
    pub(super) fn slice(&mut self, name: &str, x: &str, ranges: &[(i64, i64, i64)]) -> String {
        let mut column = |part: &str, of: fn(&(i64, i64, i64)) -> i64| {
            let values: Vec<_> = ranges.iter().map(of).collect();
            self.integers(&format!("{name}.{part}"), &values)
        };
        let starts = column("starts", |range| range.1);
        let ends = column("ends", |range| range.2);
        let axes = column("axes", |range| range.0);
        self.node("Slice", name, &[x, &starts, &ends, &axes])
    }

    pub(super) fn finish(self, name: &str) -> GraphProto {
        GraphProto {
            name: name.to_owned(),
            ..self.graph
        }
    }
}

/// What a convolution is made of.
pub(super) struct Convolution<'a> {
    /// (out, in / groups, kernel, kernel).
    pub(super) weight: &'a Tensor,
    pub(super) bias: Option<&'a Tensor>,
    pub(super) stride: i64,
    /// Zeros before each axis, then zeros after each.
    pub(super) padding: [i64; 4],
    pub(super) groups: i64,
}
