//! Graphs with attention in them as `sori-export` writes it, fused and not.

use tract_onnx::pb::GraphProto;

use super::{OPERATOR, fuse, register};
use crate::engine::tract::operators::sketch::{
    assert_same, integers, node, noisy, plan, value, with_integer, with_list,
};

const HEADS: usize = 2;
const WIDTH: usize = 12;

/// One layer's attention of so many streams, with a row of the cache before and after its own.
fn graph(batch: usize, queries: usize, past: usize) -> GraphProto {
    let (keys, distances) = (past + queries, past + 2 * queries - 1);
    let row = distances - 1;
    let number = |size: usize| size as i64;
    let new = [batch, HEADS, queries, WIDTH];
    let mut nodes = vec![
        with_integer(
            node(
                "Split",
                &["cache", "parts"],
                &["before", "pk", "pv", "after"],
            ),
            "axis",
            1,
        ),
        with_integer(node("Concat", &["pk", "k"], &["ks"]), "axis", 2),
        with_integer(node("Concat", &["pv", "v"], &["vs"]), "axis", 2),
        with_list(node("Transpose", &["ks"], &["kt"]), "perm", &[0, 1, 3, 2]),
        node("MatMul", &["q", "kt"], &["content"]),
        node("Add", &["q", "difference"], &["pq"]),
        node("MatMul", &["pq", "positions"], &["distance"]),
        node("Reshape", &["distance", "flat_shape"], &["flat"]),
        node("Slice", &["flat", "first", "last", "two"], &["shifted"]),
        node("Reshape", &["shifted", "rows_shape"], &["rows"]),
        node("Slice", &["rows", "zero", "keys", "three"], &["position"]),
        node("Sum", &["content", "position", "mask"], &["scores"]),
        with_integer(node("Softmax", &["scores"], &["map"]), "axis", -1),
        node("MatMul", &["map", "vs"], &["mixed"]),
        with_list(
            node("Transpose", &["mixed"], &["frames"]),
            "perm",
            &[0, 2, 1, 3],
        ),
        node("Reshape", &["frames", "out_shape"], &["y"]),
    ];
    if row == keys {
        nodes.remove(10);
        nodes[10].input[1] = "rows".to_owned();
    }
    GraphProto {
        node: nodes,
        initializer: vec![
            integers("parts", &[1, number(HEADS), number(HEADS), 1]),
            integers(
                "flat_shape",
                &[number(batch), number(HEADS), number(queries * distances)],
            ),
            integers("first", &[number(queries - 1)]),
            integers("last", &[number(queries - 1 + queries * row)]),
            integers("two", &[2]),
            integers("rows_shape", &[batch, HEADS, queries, row].map(number)),
            integers("zero", &[0]),
            integers("keys", &[number(keys)]),
            integers("three", &[3]),
            integers(
                "out_shape",
                &[number(batch * queries), number(HEADS * WIDTH)],
            ),
            noisy("positions", &[1, HEADS, WIDTH, distances], 5),
            noisy("difference", &[1, HEADS, 1, WIDTH], 6),
        ],
        input: vec![
            value("q", &new),
            value("k", &new),
            value("v", &new),
            value("cache", &[batch, 2 * HEADS + 2, past, WIDTH]),
            value("mask", &[batch, 1, 1, keys]),
        ],
        output: vec![value("y", &[batch * queries, HEADS * WIDTH])],
        ..GraphProto::default()
    }
}

#[test]
fn one_operator_gives_what_they_gave() {
    for (batch, queries, past) in [(1, 8, 24), (1, 2, 5), (3, 4, 9)] {
        let mut fused = graph(batch, queries, past);
        assert_eq!(fuse(&mut fused), 1, "{batch} {queries} {past}");
        let kinds: Vec<&str> = fused
            .node
            .iter()
            .map(|node| node.op_type.as_str())
            .collect();
        assert_eq!(kinds, [OPERATOR]);
        let new = [batch, HEADS, queries, WIDTH];
        let cache = [batch, 2 * HEADS + 2, past, WIDTH];
        let mask = [batch, 1, 1, past + queries];
        let inputs: [&[usize]; 5] = [&new, &new, &new, &cache, &mask];
        assert_same(fused, graph(batch, queries, past), register, &inputs);
    }
}

/// Anything of it may be otherwise in somebody else's file, which is then left as it is.
#[test]
fn what_is_not_quite_attention_stays() {
    type Change = fn(&mut GraphProto);
    let changes: [(&str, Change); 9] = [
        ("softmax over queries", |graph| {
            graph.node[12].attribute[0].i = 2;
        }),
        ("keys turned otherwise", |graph| {
            graph.node[3].attribute[0].ints = vec![0, 1, 2, 3];
        }),
        ("keys joined by head", |graph| {
            graph.node[1].attribute[0].i = 1;
        }),
        ("another shift", |graph| {
            graph.initializer[2] = integers("first", &[0]);
        }),
        ("other rows", |graph| {
            graph.initializer[9] = integers("out_shape", &[4, 48]);
        }),
        ("huge sizes", |graph| {
            graph.initializer[5] = integers("rows_shape", &[i64::MAX, 2, i64::MAX, i64::MAX]);
        }),
        ("other parts", |graph| {
            graph.initializer[0] = integers("parts", &[1, 1, 3, 1]);
        }),
        ("a map that is asked for", |graph| {
            graph.output.push(value("map", &[1, 2, 8, 32]));
        }),
        ("scores that are asked for", |graph| {
            graph.output.push(value("scores", &[1, 2, 8, 32]));
        }),
    ];
    for (what, change) in changes {
        let mut other = graph(1, 8, 24);
        change(&mut other);
        let before = other.clone();
        assert_eq!(fuse(&mut other), 0, "{what}");
        assert_eq!(other, before, "{what}");
    }
}

#[test]
fn a_file_with_the_operator_in_it_is_checked_when_it_is_loaded() {
    for (what, name, at) in [
        ("beyond the cache", "keys_at", 5),
        ("before it", "values_at", -1),
        ("out of all bounds", "keys_at", i64::MAX),
    ] {
        let mut wrong = graph(1, 8, 24);
        fuse(&mut wrong);
        for attribute in &mut wrong.node[0].attribute {
            if attribute.name == name {
                attribute.i = at;
            }
        }
        assert!(plan(wrong, register).is_err(), "{what}");
    }
    let mut wrong = graph(1, 8, 24);
    fuse(&mut wrong);
    wrong.initializer[10] = noisy("difference", &[1, HEADS, 1, WIDTH - 1], 6);
    let error = format!("{:#}", plan(wrong, register).unwrap_err());
    assert!(error.contains("shapes that do not fit"), "{error}");
}
