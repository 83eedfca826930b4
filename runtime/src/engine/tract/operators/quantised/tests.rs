//! Graphs with the six in them, fused and not.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto};
use tract_onnx::tract_hir::internal::*;

use super::{OPERATOR, fuse, register};
use crate::engine::tract::operators::processor::Avx2;
use crate::engine::tract::operators::sketch::{constant, node, plan, value};

const ROWS: usize = 6;
const INNER: usize = 24;
const OUTER: usize = 20;

fn cast(input: &str, output: &str) -> NodeProto {
    let to = AttributeProto {
        name: "to".to_owned(),
        r#type: attribute_proto::AttributeType::Int as i32,
        i: DataType::Float as i64,
        ..AttributeProto::default()
    };
    NodeProto {
        attribute: vec![to],
        ..node("Cast", &[input], &[output])
    }
}

fn floats(name: &str) -> TensorProto {
    let bytes = (0..OUTER).flat_map(|n| (0.01 + n as f32 * 0.003).to_le_bytes());
    constant(name, DataType::Float, &[OUTER], bytes.collect())
}

/// One activation, quantised once, times two matrices: with a bias, and without.
fn graph() -> GraphProto {
    let bytes = |seed: usize| (0..INNER * OUTER).map(|n| (n * 37 + seed) as u8).collect();
    let weights = |name, seed| constant(name, DataType::Int8, &[INNER, OUTER], bytes(seed));
    GraphProto {
        node: vec![
            node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"]),
            node("MatMulInteger", &["q", "w", "z"], &["i"]),
            cast("i", "f"),
            node("Mul", &["s", "ws"], &["p"]),
            node("Mul", &["f", "p"], &["u"]),
            node("Add", &["u", "b"], &["y"]),
            node("MatMulInteger", &["q", "w2", "z"], &["i2"]),
            cast("i2", "f2"),
            node("Mul", &["ws", "s"], &["p2"]),
            node("Mul", &["p2", "f2"], &["y2"]),
        ],
        initializer: vec![weights("w", 1), weights("w2", 2), floats("ws"), floats("b")],
        input: vec![value("x", &[1, ROWS, INNER])],
        output: vec![
            value("y", &[1, ROWS, OUTER]),
            value("y2", &[1, ROWS, OUTER]),
        ],
        ..GraphProto::default()
    }
}

fn run(graph: GraphProto) -> Vec<Tensor> {
    let x: Vec<f32> = (0..ROWS * INNER).map(|n| (n as f32 * 1.7).sin()).collect();
    let x = Tensor::from_shape(&[1, ROWS, INNER], &x).unwrap();
    let outputs = plan(graph, register).unwrap().run(tvec![x.into_tvalue()]);
    let outputs = outputs.unwrap();
    outputs.into_iter().map(TValue::into_tensor).collect()
}

#[test]
fn one_operator_gives_what_six_gave() {
    if Avx2::detect().is_none() {
        sori_tests::not_for_this_machine("this processor has no AVX2");
        return;
    }
    let mut fused = graph();
    assert_eq!(fuse(&mut fused), 2);
    let kinds: Vec<&str> = fused
        .node
        .iter()
        .map(|node| node.op_type.as_str())
        .collect();
    assert_eq!(kinds, [OPERATOR, OPERATOR]);
    for (ours, theirs) in run(fused).iter().zip(run(graph())) {
        ours.close_enough(&theirs, Approximation::Exact).unwrap();
    }
}

#[test]
fn what_somebody_else_reads_stays() {
    // The integers are an output of the graph; the second product is not touched by that.
    let mut shared = graph();
    shared.output.push(value("i", &[1, ROWS, OUTER]));
    assert_eq!(fuse(&mut shared), 1);
    assert_eq!(shared.node.len(), 7);

    let mut shared = graph();
    shared.node.push(node("Relu", &["p"], &["r"]));
    assert_eq!(fuse(&mut shared), 1);

    // A bias of one value is left to tract, the product is ours.
    let mut scalar = graph();
    scalar.initializer.last_mut().unwrap().dims.clear();
    assert_eq!(fuse(&mut scalar), 2);
    assert!(scalar.node.iter().any(|node| node.op_type == "Add"));

    // Weights with one scale in all are left to tract, which spreads it over the columns.
    let mut one = graph();
    one.initializer[2] = constant("ws", DataType::Float, &[1], 0.01_f32.to_le_bytes().into());
    assert_eq!(fuse(&mut one), 0);
    assert_eq!(one, {
        let mut same = graph();
        same.initializer[2] = one.initializer[2].clone();
        same
    });
    assert_eq!(run(one).len(), 2);
}

#[test]
fn a_file_with_the_operator_in_it_is_checked_when_it_is_loaded() {
    if Avx2::detect().is_none() {
        sori_tests::not_for_this_machine("this processor has no AVX2");
        return;
    }
    for wrong in [
        constant("ws", DataType::Float, &[1], 0.01_f32.to_le_bytes().into()),
        constant("ws", DataType::Int8, &[OUTER], vec![1; OUTER]),
    ] {
        let mut graph = graph();
        graph.node = vec![node(OPERATOR, &["x", "w", "ws"], &["y"])];
        graph.output.pop();
        let load = |mut graph: GraphProto| {
            assert_eq!(fuse(&mut graph), 0);
            plan(graph, register)
        };
        assert!(load(graph.clone()).is_ok());
        graph.initializer[2] = wrong;
        let error = format!("{:#}", load(graph).unwrap_err());
        assert!(error.contains("expected 20 floats"), "{error}");
    }
}
