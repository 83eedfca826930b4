//! The small operators: what each stands for, against tract's own.

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, attribute_proto};

use super::sketch::{
    assert_same, integers, node, noisy, noisy_halves, value, with_integer, with_list,
};
use super::{depthwise, fuse, layer_norm, slide};

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

fn convolution(batch: usize, kept: usize) -> GraphProto {
    let (taps, cast) = noisy_halves("taps", &[12, 1, 1, 5], 1);
    let convolution = node("Conv", &["turned", "taps", "bias"], &["by_channel"]);
    let convolution = with_list(convolution, "kernel_shape", &[1, 5]);
    GraphProto {
        node: vec![
            cast,
            with_list(
                node("Transpose", &["x"], &["turned"]),
                "perm",
                &[0, 3, 1, 2],
            ),
            with_integer(convolution, "group", 12),
            with_list(
                node("Transpose", &["by_channel"], &["y"]),
                "perm",
                &[0, 2, 3, 1],
            ),
        ],
        initializer: vec![taps, noisy("bias", &[12], 2)],
        input: vec![value("x", &[batch, 1, kept + 4, 12])],
        output: vec![value("y", &[batch, 1, kept, 12])],
        ..GraphProto::default()
    }
}

#[test]
fn a_convolution_takes_frames_as_they_come() {
    for (batch, kept) in [(1, 8), (3, 1), (2, 7)] {
        let plain = convolution(batch, kept);
        let mut fused = plain.clone();
        assert_eq!(depthwise::fuse(&mut fused), 1);
        assert_eq!(fused.node.len(), 1);
        assert_same(
            fused,
            plain,
            depthwise::register,
            &[&[batch, 1, kept + 4, 12]],
        );
    }
}

#[test]
fn what_is_not_quite_that_convolution_stays() {
    type Change = fn(&mut GraphProto);
    let changes: [(&str, Change); 6] = [
        ("two steps at a time", |graph| {
            let convolution = graph.node[2].clone();
            graph.node[2] = with_list(convolution, "strides", &[1, 2]);
        }),
        ("padded", |graph| {
            let convolution = graph.node[2].clone();
            graph.node[2] = with_list(convolution, "pads", &[0, 4, 0, 0]);
        }),
        ("channels mixed", |graph| graph.node[2].attribute[1].i = 6),
        ("turned otherwise", |graph| {
            graph.node[3].attribute[0].ints = vec![0, 3, 2, 1];
        }),
        ("somebody else reads it", |graph| {
            graph.output.push(value("by_channel", &[1, 12, 1, 8]));
        }),
        ("no bias", |graph| {
            graph.node[2].input.pop();
        }),
    ];
    for (what, change) in changes {
        let mut graph = convolution(1, 8);
        change(&mut graph);
        assert_eq!(depthwise::fuse(&mut graph), 0, "{what}");
        assert_eq!(graph.node.len(), 4, "{what}");
    }
}

/// What a graph within it reads is not looked for.
#[test]
fn a_graph_with_a_graph_in_it_stays() {
    let mut within = convolution(1, 8);
    within.node[0].attribute.push(AttributeProto {
        name: "then_branch".to_owned(),
        r#type: attribute_proto::AttributeType::Graph as i32,
        g: Some(GraphProto::default()),
        ..AttributeProto::default()
    });
    let before = within.clone();
    fuse(&mut within, &mut tract_onnx::onnx());
    assert_eq!(within, before);
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
        "Conv",
        "Transpose",
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
