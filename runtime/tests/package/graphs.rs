//! Graphs of another shape, that reach outside, or that are damaged.

use std::fs;

use prost::Message;
use serde_json::Value;
use sori::engine::{EngineChoice, EngineError, EngineOptions, PrecisionChoice, load};
use sori::model::{Package, Precision};
use sori_tests::tone::ToneModel;
use sori_tests::tone::pb::NodeProto;

use crate::{complaint, config, package};

#[test]
fn graphs_that_disagree_with_the_configuration() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 5] = [
        (
            |c| {
                c["geometry"]["window_size"] = 64.into();
                c["geometry"]["chunk_shift"] = 64.into();
                c["streaming"]["chunk_ms"] = 640.into();
            },
            "input 0 (audio_signal): expected f32 (1, 80, 64), found \"audio_signal\" f32 (1, 80, 32)",
        ),
        (
            |c| c["geometry"]["cache_last_channel"] = serde_json::json!([1, 3, 8]),
            "input 2 (cache_last_channel): expected f32 (1, 1, 3, 8)",
        ),
        (
            |c| c["geometry"]["cache_last_time"] = serde_json::json!([1, 80, 5]),
            "input 3 (cache_last_time): expected f32 (1, 1, 80, 5)",
        ),
        (
            |c| {
                c["geometry"]["subsampling_factor"] = 8.into();
            },
            "output 0 (logprobs): expected f32 (1, 4, 9), found \"logprobs\" f32 (1, 8, 9)",
        ),
        (
            |c| {
                c["tokens"]["count"] = 2.into();
                c["tokens"]["blank_id"] = 1.into();
            },
            "",
        ),
    ];
    for (change, expected) in cases {
        let found = config(change);
        if expected.is_empty() {
            assert_eq!(
                found,
                "tokens.txt: number of tokens: expected 2, as config.json says, found 9"
            );
        } else {
            assert!(
                found.starts_with(&format!("model.onnx: {expected}")),
                "expected {expected}\n   found {found}"
            );
        }
    }
}

#[test]
fn graphs_that_name_other_files_are_refused() {
    use prost::Message as _;
    use sori_tests::tone::pb::{AttributeProto, GraphProto, StringStringEntryProto, TensorProto};

    type Change = fn(&mut GraphProto, TensorProto);

    let outside = || TensorProto {
        external_data: vec![StringStringEntryProto {
            key: "location".into(),
            value: "../../etc/passwd".into(),
        }],
        data_location: Some(1),
        ..TensorProto::default()
    };
    let changes: [Change; 3] = [
        |graph, outside| graph.initializer.push(outside),
        |graph, outside| {
            graph.node[0].attribute.push(AttributeProto {
                t: Some(outside),
                ..AttributeProto::default()
            });
        },
        |graph, outside| {
            graph.node[0].attribute.push(AttributeProto {
                g: Some(GraphProto {
                    initializer: vec![outside],
                    ..GraphProto::default()
                }),
                ..AttributeProto::default()
            });
        },
    ];
    for change in changes {
        for partly in [false, true] {
            let found = complaint(|directory| {
                let mut model = ToneModel::default().graph(sori_tests::tone::Precision::Fp32);
                let mut outside = outside();
                if partly {
                    outside.data_location = None;
                }
                change(model.graph.as_mut().unwrap(), outside);
                fs::write(directory.join("model.onnx"), model.encode_to_vec()).unwrap();
            });
            assert_eq!(
                found,
                "model.onnx: a tensor: expected values in this file, found a reference to another file"
            );
        }
    }
}

#[test]
fn damaged_graphs_are_refused_and_never_panic() {
    let directory = package();
    let path = directory.path().join("model.onnx");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = Package::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("model.onnx: not a complete ONNX model ("),
        "{error}"
    );
    fs::write(&path, b"").unwrap();
    let error = Package::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "model.onnx: not a complete ONNX model (no graph in it); copy the package again"
        ),
        "{error}"
    );

    // Every other byte in turn, on both engines: refused or run, but no panic and no wrong shape.
    let (mut refused, mut ran) = (0, 0);
    for position in (0..whole.len()).step_by(31) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x55;
        fs::write(&path, &damaged).unwrap();
        let Ok(package) = Package::open(directory.path()) else {
            refused += 1;
            continue;
        };
        for engine in [EngineChoice::Ort, EngineChoice::Tract] {
            let precision = PrecisionChoice::Exactly(Precision::Fp32);
            let window = vec![0.0; 32 * 80];
            let loaded = load(
                &package,
                EngineOptions {
                    engine,
                    precision,
                    ..EngineOptions::default()
                },
            );
            match loaded.and_then(|engine| engine.session()?.step(&window).map(<[f32]>::len)) {
                Ok(length) => {
                    assert_eq!(length, 8 * 9);
                    ran += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 0 && ran > 0, "{refused} refused, {ran} ran");
}

#[test]
fn a_graph_that_divides_by_zero_fails_in_its_step_and_ends_nothing() {
    let directory = package();
    let mut model = ToneModel::default().graph(sori_tests::tone::Precision::Fp32);
    let graph = model.graph.as_mut().unwrap();
    let lengths = graph
        .node
        .iter_mut()
        .find(|node| node.output == ["encoded_lengths"])
        .unwrap();
    lengths.output = vec!["lengths".into()];
    // Nothing is in the cache at first.
    graph.node.push(NodeProto {
        input: vec!["lengths".into(), "cache_last_channel_len".into()],
        output: vec!["encoded_lengths".into()],
        op_type: "Div".into(),
        name: "share".into(),
        ..NodeProto::default()
    });
    fs::write(directory.path().join("model.onnx"), model.encode_to_vec()).unwrap();
    let package = Package::open(directory.path()).unwrap();
    let options = EngineOptions {
        engine: EngineChoice::Tract,
        precision: PrecisionChoice::Exactly(Precision::Fp32),
        ..EngineOptions::default()
    };
    let engine = load(&package, options).unwrap();
    let mut session = engine.session().unwrap();
    for _ in 0..2 {
        let error = session.step(&[0.0; 32 * 80]).unwrap_err();
        assert!(matches!(error, EngineError::Run { .. }), "{error}");
        session.reset();
    }
}
