//! Dynamic quantisation: products by constant matrices in 8-bit integers.
//!
//! The activations are quantised chunk by chunk as they come (`DynamicQuantizeLinear`), the weights
//! once, here: symmetrically, each output channel with a scale of its own, in seven bits, which is what
//! ONNX Runtime's `quantize_dynamic(per_channel=True, reduce_range=True)` does, to the bit. On processors
//! with AVX2 and without VNNI that library adds two products in 16 bits, which overflow with weights of
//! eight: nearly all sums were then wrong, by a fifth of their deviation. Convolutions stay in float: they
//! are a small part of the work, and the part that quantisation hurts most.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

use crate::onnx::{constant, floats, integer, node};

/// A matrix (in, out) in integers: `value ≈ scale[out] * integer`, the zero point is 0.
struct Quantized {
    /// In the order of the values.
    integers: Vec<i8>,
    /// One for every output channel.
    scales: Vec<f32>,
}

/// Quantises a row-major matrix whose rows hold `outputs` values.
///
/// The largest magnitude of a column becomes 64; a column of zeros, or of numbers so small that
/// the scale would be subnormal, becomes zeros with a scale of 1.
fn quantize(values: &[f32], outputs: usize) -> Quantized {
    let mut largest = vec![0_f32; outputs];
    for row in values.chunks_exact(outputs) {
        for (largest, value) in largest.iter_mut().zip(row) {
            *largest = largest.max(value.abs());
        }
    }
    let scale = |&largest: &f32| {
        let scale = 2.0 * f64::from(largest) / 128.0;
        if scale < f64::from(f32::MIN_POSITIVE) {
            1.0
        } else {
            scale as f32
        }
    };
    let scales: Vec<_> = largest.iter().map(scale).collect();
    let integers = values
        .chunks_exact(outputs)
        .flat_map(|row| row.iter().zip(&scales))
        .map(|(value, scale)| (value / scale).round_ties_even() as i8)
        .collect();
    Quantized { integers, scales }
}

/// The graph with every product by a constant matrix (`Gemm`, or `MatMul` by a matrix of two
/// dimensions) in integers.
#[must_use]
pub fn dynamic_int8(graph: &GraphProto) -> GraphProto {
    let constants: HashMap<_, _> = graph
        .initializer
        .iter()
        .map(|constant| (constant.name.as_str(), constant))
        .collect();
    let mut nodes = Vec::new();
    let mut integers = HashMap::new();
    let mut quantized_inputs = HashSet::new();
    for node in &graph.node {
        let weight = node
            .input
            .get(1)
            .and_then(|name| constants.get(name.as_str()));
        match weight.and_then(|weight| Some((weight, matrix(node, weight)?))) {
            None => nodes.push(node.clone()),
            Some((weight, values)) => {
                if quantized_inputs.insert(node.input[0].clone()) {
                    nodes.push(quantize_linear(&node.input[0]));
                }
                nodes.extend(product(node));
                integers.insert(weight.name.clone(), constants_of(weight, &values));
            }
        }
    }
    let initializer = graph.initializer.iter().flat_map(|constant| {
        integers
            .remove(&constant.name)
            .unwrap_or_else(|| vec![constant.clone()])
    });
    GraphProto {
        initializer: initializer.collect(),
        node: nodes,
        ..graph.clone()
    }
}

/// The values of `weight` if `node` is a product by it that integers can do.
fn matrix(node: &NodeProto, weight: &TensorProto) -> Option<Vec<f32>> {
    let plain = match node.op_type.as_str() {
        "MatMul" => true,
        "Gemm" => node.attribute.is_empty() && node.input.len() == 3,
        _ => false,
    };
    let is_matrix = weight.dims.len() == 2 && weight.dims.iter().all(|&dim| dim > 0);
    (plain && is_matrix && node.output.len() == 1)
        .then(|| floats(weight))
        .flatten()
}

fn quantize_linear(input: &str) -> NodeProto {
    let outputs =
        ["uint8", "uint8_scale", "uint8_zero_point"].map(|part| format!("{input}.{part}"));
    NodeProto {
        output: outputs.into(),
        ..node(
            "DynamicQuantizeLinear",
            &format!("{input}.quantized"),
            &[input],
        )
    }
}

/// The nodes that give what `of` gives, under the same name.
fn product(of: &NodeProto) -> Vec<NodeProto> {
    let (input, weight, output) = (&of.input[0], &of.input[1], &of.output[0]);
    let name = |part: &str| format!("{output}.{part}");
    let scaled = if of.input.len() == 3 {
        name("unbiased")
    } else {
        output.clone()
    };
    let integers = [
        format!("{input}.uint8"),
        weight.clone(),
        format!("{input}.uint8_zero_point"),
    ];
    let mut nodes = vec![
        node(
            "MatMulInteger",
            &name("int32"),
            &integers.each_ref().map(String::as_str),
        ),
        NodeProto {
            attribute: vec![integer("to", DataType::Float as i64)],
            ..node("Cast", &name("float32"), &[&name("int32")])
        },
        node(
            "Mul",
            &name("product_scale"),
            &[&format!("{input}.uint8_scale"), &format!("{weight}.scale")],
        ),
        node("Mul", &scaled, &[&name("float32"), &name("product_scale")]),
    ];
    if let Some(bias) = of.input.get(2) {
        nodes.push(node("Add", output, &[&scaled, bias]));
    }
    nodes
}

fn constants_of(weight: &TensorProto, values: &[f32]) -> Vec<TensorProto> {
    let outputs = weight.dims.last().map_or(1, |&dim| dim as usize);
    let Quantized { integers, scales } = quantize(values, outputs);
    let integers = integers.into_iter().map(|integer| integer as u8).collect();
    let scales = scales.into_iter().flat_map(f32::to_le_bytes).collect();
    vec![
        constant(&weight.name, DataType::Int8, &weight.dims, integers),
        constant(
            &format!("{}.scale", weight.name),
            DataType::Float,
            &[outputs as i64],
            scales,
        ),
    ]
}
