//! The small operators: what each stands for, against tract's own.

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, attribute_proto};

use super::sketch::{assert_same, integers, node, noisy, value, with_integer};
use super::{fuse, layer_norm, slide};

fn slice(past: &[usize], new: &[usize], start: i64, end: i64) -> GraphProto {
    GraphProto {
        node: vec![
            with_integer(node("Concat", &["past", "new"], &["all"]), "axis", 2),
            node("Slice", &["all", "start", "end", "axis"], &["next"]),
        ],
        initializer: vec![
            integers("start", &[start]),
            integers("end", &[end]),
            integers("axis", &[2]),
        ],
        input: vec![value("past", past), value("new", new)],
        output: vec![value("next", past)],
        ..GraphProto::default()
    }
}

#[test]
fn a_cache_slides() {
    // As many new frames as there are places, fewer, more, and more than go.
    for (past, new, start) in [(4, 4, 4), (5, 2, 2), (1, 8, 8), (4, 3, 1), (4, 3, 0)] {
        let (past, new) = ([2, 3, past, 4], [2, 3, new, 4]);
        let plain = slice(&past, &new, start, start + past[2] as i64);
        let mut fused = plain.clone();
        assert_eq!(slide::fuse(&mut fused), 1);
        assert_eq!(fused.node.len(), 1);
        assert_same(fused, plain, slide::register, &[&past, &new]);
    }
    let mut shorter = slice(&[2, 3, 4, 4], &[2, 3, 2, 4], 3, 6);
    shorter.output = vec![value("next", &[2, 3, 3, 4])];
    assert_eq!(slide::fuse(&mut shorter), 0);
}

#[test]
fn layer_norms_are_those_of_the_definition() {
    for rows in [&["scale", "shift"][..], &["scale"]] {
        let inputs: Vec<&str> = ["x"].iter().chain(rows).copied().collect();
        let epsilon = AttributeProto {
            name: "epsilon".to_owned(),
            r#type: attribute_proto::AttributeType::Float as i32,
            f: 1e-3,
            ..AttributeProto::default()
        };
        let mut norm = with_integer(node("LayerNormalization", &inputs, &["y"]), "axis", -1);
        norm.attribute.push(epsilon);
        let plain = GraphProto {
            node: vec![norm],
            initializer: vec![noisy("scale", &[21], 1), noisy("shift", &[21], 2)],
            input: vec![value("x", &[5, 21])],
            output: vec![value("y", &[5, 21])],
            ..GraphProto::default()
        };
        let mut fused = plain.clone();
        assert_eq!(layer_norm::fuse(&mut fused), 1);
        assert_same(fused, plain, layer_norm::register, &[&[5, 21]]);
    }
}

/// A file may say anything.
#[test]
fn nodes_without_inputs_or_outputs_do_no_harm() {
    let kinds = [
        "Softmax",
        "Sum",
        "MatMul",
        "Slice",
        "Concat",
        "Split",
        "LayerNormalization",
        "Gemm",
        "MatMulInteger",
        "DynamicQuantizeLinear",
        "Cast",
    ];
    let with = |inputs: &[&str], outputs: &[&str]| GraphProto {
        node: kinds.map(|kind| with_axis(kind, inputs, outputs)).into(),
        input: vec![value("x", &[1, 2, 3, 4])],
        ..GraphProto::default()
    };
    for inputs in [&[][..], &["x"], &["x", "x"], &["x", "x", "x"]] {
        for outputs in [&[][..], &["x"], &["x", "y", "z"]] {
            fuse(&mut with(inputs, outputs), &mut tract_onnx::onnx());
        }
    }
}

fn with_axis(kind: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let mut node = with_integer(node("", inputs, &["n"]), "axis", -1);
    node.op_type = kind.to_owned();
    node.output = outputs.iter().map(|&output| output.to_owned()).collect();
    node
}
