//! Weights stored in half the bytes.

use half::f16;
use tract_onnx::pb::{GraphProto, NodeProto, tensor_proto::DataType};

use crate::onnx::{constant, floats, integer, node};

/// The graph with its float constants of two or more dimensions in float16, each with a node that
/// widens it again. An engine does that once, when it loads the file, and computes in float32 as
/// before.
#[must_use]
pub fn f16_weights(graph: &GraphProto) -> GraphProto {
    let mut widen = Vec::new();
    let initializer = graph.initializer.iter().map(|weight| {
        let Some(values) = floats(weight).filter(|_| weight.dims.len() >= 2) else {
            return weight.clone();
        };
        let stored = format!("{}.f16", weight.name);
        let to_float = vec![integer("to", DataType::Float as i64)];
        widen.push(NodeProto {
            attribute: to_float,
            ..node("Cast", &weight.name, &[&stored])
        });
        let bytes = values
            .into_iter()
            .flat_map(|value| f16::from_f32(value).to_le_bytes())
            .collect();
        constant(&stored, DataType::Float16, &weight.dims, bytes)
    });
    let initializer = initializer.collect();
    widen.extend_from_slice(&graph.node);
    GraphProto {
        initializer,
        node: widen,
        ..graph.clone()
    }
}
