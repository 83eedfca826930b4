//! Quantisation is ONNX Runtime's own, to the bit.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;

use prost::Message;
use sori_export::dynamic_int8;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto};
use tract_onnx::prelude::*;

const FLOAT: &[u8] = include_bytes!("golden/int8/float.onnx");
const INT8: &[u8] = include_bytes!("golden/int8/int8.onnx");

fn model(bytes: &[u8]) -> ModelProto {
    ModelProto::decode(bytes).unwrap()
}

fn ours() -> ModelProto {
    let model = model(FLOAT);
    let graph = dynamic_int8(model.graph.as_ref().unwrap());
    ModelProto {
        graph: Some(graph),
        ..model
    }
}

fn constants(graph: &GraphProto) -> HashMap<&str, &TensorProto> {
    graph
        .initializer
        .iter()
        .map(|constant| (constant.name.as_str(), constant))
        .collect()
}

/// The library keeps floats in another field of the message than we do.
fn float_bits(constant: &TensorProto) -> Vec<u32> {
    if constant.raw_data.is_empty() {
        return constant
            .float_data
            .iter()
            .map(|value| value.to_bits())
            .collect();
    }
    constant
        .raw_data
        .as_chunks()
        .0
        .iter()
        .map(|&bytes| u32::from_le_bytes(bytes))
        .collect()
}

#[test]
fn weights_and_scales_are_those_of_onnx_runtime() {
    let (ours, theirs) = (ours().graph.unwrap(), model(INT8).graph.unwrap());
    let (ours, theirs) = (constants(&ours), constants(&theirs));
    for name in ["first", "second", "third"] {
        let weight = format!("{name}.weight");
        let their_weight = theirs[format!("{weight}_quantized").as_str()];
        let our_weight = ours[weight.as_str()];
        assert_eq!(our_weight.data_type, their_weight.data_type, "{name}");
        assert_eq!(our_weight.dims, their_weight.dims, "{name}");
        assert_eq!(our_weight.raw_data, their_weight.raw_data, "{name}");
        let their_scale = float_bits(theirs[format!("{weight}_scale").as_str()]);
        assert_eq!(
            float_bits(ours[format!("{weight}.scale").as_str()]),
            their_scale,
            "{name}"
        );
        // Our graph has no zero points of weights: they are all zero.
        let their_zero_points = theirs[format!("{weight}_zero_point").as_str()];
        assert!(
            their_zero_points
                .int32_data
                .iter()
                .all(|&zero_point| zero_point == 0),
            "{name}"
        );
    }
}

#[test]
fn the_quantised_graph_computes_what_onnx_runtimes_does() {
    let run = |model: &ModelProto| {
        let plan = tract_onnx::onnx().model_for_proto_model(model).unwrap();
        let plan = plan.into_optimized().unwrap().into_runnable().unwrap();
        let x: Vec<f32> = (0..36).map(|i| (i as f32 * 0.7).sin()).collect();
        let x = Tensor::from_shape(&[3, 12], &x).unwrap();
        let result = plan.run(tvec![x.into_tvalue()]).unwrap();
        result[0]
            .try_as_plain_ram()
            .unwrap()
            .as_slice::<f32>()
            .unwrap()
            .to_vec()
    };
    let (ours, theirs) = (run(&ours()), run(&model(INT8)));
    assert_eq!(ours, theirs);
    // Quantisation does something: the float graph gives other numbers.
    assert_ne!(ours, run(&model(FLOAT)));
}
