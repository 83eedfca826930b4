//! Finds the six in a graph, and writes the one in their place.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto};

use super::OPERATOR;
use crate::engine::tract::operators::pattern::{
    Group, Uses, drop_unread, embed, integer, ours, output, replace,
};

/// Replaces the products that can be; how many there were.
pub(in crate::engine::tract::operators) fn fuse(graph: &mut GraphProto) -> usize {
    let count = replace(graph, linear);
    drop_unread(graph, "DynamicQuantizeLinear");
    embed(graph, OPERATOR);
    count
}

/// The columns of a constant matrix of bytes.
fn columns(uses: &Uses<'_>, value: &str) -> Option<i64> {
    match uses.constant(value, DataType::Int8)?.dims[..] {
        [rows, columns] if rows > 0 && columns > 0 => Some(columns),
        _ => None,
    }
}

/// Whether a value is a constant with one float for each column.
fn is_row(uses: &Uses<'_>, value: &str, columns: i64) -> bool {
    uses.constant(value, DataType::Float)
        .is_some_and(|constant| constant.dims == [columns])
}

fn linear(uses: &Uses<'_>, product: usize) -> Option<Group> {
    let node = uses.node(product);
    let [integers, weights, zero] = &node.input[..] else {
        return None;
    };
    if node.op_type != "MatMulInteger" {
        return None;
    }
    let columns = columns(uses, weights)?;
    let quantiser = uses.node(uses.maker(integers, "DynamicQuantizeLinear")?);
    if quantiser.output.len() != 3
        || quantiser.output[0] != *integers
        || quantiser.output[2] != *zero
    {
        return None;
    }
    let cast = uses.reader(output(node)?, "Cast")?;
    if integer(uses.node(cast), "to")? != DataType::Float as i64 {
        return None;
    }
    let float = output(uses.node(cast))?;
    let scaled = uses.reader(float, "Mul")?;
    let scale = other(uses.node(scaled), float)?;
    let scaling = uses.private_maker(scale, "Mul")?;
    let scales = other(uses.node(scaling), &quantiser.output[1])?;
    if !is_row(uses, scales, columns) {
        return None;
    }
    let (mut gone, mut last) = (vec![product, cast, scaling, scaled], scaled);
    let mut input = vec![
        quantiser.input.first()?.clone(),
        weights.clone(),
        scales.to_owned(),
    ];
    let unbiased = output(uses.node(scaled))?;
    if let Some(sum) = uses.reader(unbiased, "Add")
        && let Some(bias) = other(uses.node(sum), unbiased)
        && is_row(uses, bias, columns)
    {
        gone.push(sum);
        last = sum;
        input.push(bias.to_owned());
    }
    let node = ours(OPERATOR, output(uses.node(last))?, input, &[]);
    Some(Group { gone, node })
}

/// The other of a node's two inputs.
fn other<'a>(node: &'a NodeProto, one: &str) -> Option<&'a str> {
    match &node.input[..] {
        [a, b] if a == one && b != one => Some(b),
        [a, b] if b == one && a != one => Some(a),
        _ => None,
    }
}
