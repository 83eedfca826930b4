//! Against the definition.

use tract_onnx::pb::tensor_proto::DataType;

use super::kernel::Weights;
use super::*;
use crate::engine::tract::operators::sketch::{
    assert_same, constant, node, noise, noisy, noisy_halves, plan, value,
};

#[test]
fn products_are_those_of_the_definition() {
    let Some(fma) = Fma::detect() else {
        sori_tests::not_for_this_machine("this processor has no FMA");
        return;
    };
    // Rows, inputs and outputs that fill tiles, and that do not.
    for (rows, inner, outer) in [(8, 160, 592), (4, 24, 24), (1, 1, 1), (7, 3, 49), (0, 5, 5)] {
        let (x, matrix, bias) = (
            noise(rows * inner, 1),
            noise(inner * outer, 2),
            noise(outer, 3),
        );
        let halves: Vec<f16> = matrix.iter().copied().map(f16::from_f32).collect();
        let widened: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
        for (weights, matrix) in [
            (Weights::new(&matrix, outer), &matrix),
            (Weights::new(&halves, outer), &widened),
        ] {
            let mut out = vec![f32::NAN; rows * outer];
            weights.product(fma, &x, &bias, &mut out);
            for (place, found) in out.iter().enumerate() {
                let (row, column) = (place / outer, place % outer);
                let products = (0..inner)
                    .map(|k| f64::from(x[row * inner + k]) * f64::from(matrix[k * outer + column]));
                let expected = products.sum::<f64>() + f64::from(bias[column]);
                assert!(
                    (f64::from(*found) - expected).abs() < 1e-5,
                    "{rows} {inner} {outer}: {found} {expected}"
                );
            }
        }
    }
}

const ROWS: usize = 5;
const INNER: usize = 24;
const OUTER: usize = 20;

/// Two products with the same matrix, which is written in halves, and one with another.
fn graph() -> GraphProto {
    let (weights, cast) = noisy_halves("w", &[INNER, OUTER], 2);
    GraphProto {
        node: vec![
            cast,
            node("Gemm", &["x", "w", "b"], &["y"]),
            node("Gemm", &["x", "w", "b"], &["y2"]),
            node("Gemm", &["x", "w3", "b"], &["y3"]),
        ],
        initializer: vec![
            weights,
            noisy("w3", &[INNER, OUTER], 3),
            noisy("b", &[OUTER], 4),
        ],
        input: vec![value("x", &[ROWS, INNER])],
        output: ["y", "y2", "y3"].map(|y| value(y, &[ROWS, OUTER])).into(),
        ..GraphProto::default()
    }
}

#[test]
fn matrices_go_into_the_operators() {
    if Fma::detect().is_none() {
        sori_tests::not_for_this_machine("this processor has no FMA");
        return;
    }
    let mut fused = graph();
    assert_eq!(fuse(&mut fused), 3);
    let kinds = fused.node.iter().map(|node| node.op_type.as_str());
    assert_eq!(kinds.collect::<Vec<_>>(), [OPERATOR; 3]);
    let left = fused.initializer.iter().map(|left| left.name.as_str());
    assert_eq!(left.collect::<Vec<_>>(), ["b"]);
    assert_same(fused, graph(), register, &[&[ROWS, INNER]]);

    // One that somebody else reads is there for them, too.
    let mut shared = graph();
    shared.output.push(value("w3", &[INNER, OUTER]));
    let plain = shared.clone();
    assert_eq!(fuse(&mut shared), 3);
    assert_eq!(shared.initializer.len(), 2);
    assert_same(shared, plain, register, &[&[ROWS, INNER]]);
}

#[test]
fn a_file_with_the_operator_in_it_is_checked_when_it_is_loaded() {
    if Fma::detect().is_none() {
        sori_tests::not_for_this_machine("this processor has no FMA");
        return;
    }
    let with = |weights: tract_onnx::pb::TensorProto| {
        let mut graph = graph();
        graph.node = vec![node(OPERATOR, &["x", "w3", "b"], &["y"])];
        graph.output.truncate(1);
        graph.initializer[1] = weights;
        assert_eq!(fuse(&mut graph), 0);
        plan(graph, register)
    };
    assert!(with(noisy("w3", &[INNER, OUTER], 3)).is_ok());
    for wrong in [
        noisy("w3", &[INNER], 3),
        noisy("w3", &[OUTER, INNER], 3),
        noisy("w3", &[INNER, 0], 3),
        noisy("another", &[INNER, OUTER], 3),
        constant(
            "w3",
            DataType::Int8,
            &[INNER, OUTER],
            vec![1; INNER * OUTER],
        ),
    ] {
        assert!(
            with(wrong.clone()).is_err(),
            "{:?} {:?}",
            wrong.name,
            wrong.dims
        );
    }
}
