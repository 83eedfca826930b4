//! Small graphs for tests, and plans of them.

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto, type_proto,
};
use tract_onnx::tract_hir::internal::*;

pub(super) fn node(op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        name: output[0].to_owned(),
        input: input.iter().map(|&name| name.to_owned()).collect(),
        output: output.iter().map(|&name| name.to_owned()).collect(),
        ..NodeProto::default()
    }
}

pub(super) fn value(name: &str, dims: &[usize]) -> ValueInfoProto {
    let dim = dims
        .iter()
        .map(|&dim| Dimension {
            value: Some(dimension::Value::DimValue(dim as i64)),
            ..Dimension::default()
        })
        .collect();
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim }),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

pub(super) fn constant(
    name: &str,
    data_type: DataType,
    dims: &[usize],
    raw_data: Vec<u8>,
) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: data_type as i32,
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        raw_data,
        ..TensorProto::default()
    }
}

/// The node with a list of integers.
pub(super) fn with_list(node: NodeProto, name: &str, ints: &[i64]) -> NodeProto {
    let list = AttributeProto {
        name: name.to_owned(),
        r#type: attribute_proto::AttributeType::Ints as i32,
        ints: ints.to_vec(),
        ..AttributeProto::default()
    };
    let attribute = node.attribute.into_iter().chain([list]).collect();
    NodeProto { attribute, ..node }
}

/// The node with an integer.
pub(super) fn with_integer(node: NodeProto, name: &str, i: i64) -> NodeProto {
    let integer = AttributeProto {
        name: name.to_owned(),
        r#type: attribute_proto::AttributeType::Int as i32,
        i,
        ..AttributeProto::default()
    };
    let attribute = node.attribute.into_iter().chain([integer]).collect();
    NodeProto { attribute, ..node }
}

pub(super) fn integers(name: &str, values: &[i64]) -> TensorProto {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    constant(name, DataType::Int64, &[values.len()], bytes.collect())
}

/// Numbers between -1 and 1.
pub(super) fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as i32 as f32 / 2_147_483_648.0
    };
    (0..count).map(next).collect()
}

/// The constant of that name with noise as its values.
pub(super) fn noisy(name: &str, dims: &[usize], seed: u32) -> TensorProto {
    let values = noise(dims.iter().product(), seed).into_iter();
    let bytes = values.flat_map(f32::to_le_bytes).collect();
    constant(name, DataType::Float, dims, bytes)
}

/// The same noise in halves, under another name, and the node that makes floats of them.
pub(super) fn noisy_halves(name: &str, dims: &[usize], seed: u32) -> (TensorProto, NodeProto) {
    let values = noise(dims.iter().product(), seed).into_iter();
    let bytes = values.flat_map(|value| f16::from_f32(value).to_le_bytes());
    let stored = format!("{name}.f16");
    let cast = node("Cast", &[&stored], &[name]);
    (
        constant(&stored, DataType::Float16, dims, bytes.collect()),
        with_integer(cast, "to", DataType::Float as i64),
    )
}

pub(super) fn plan(
    graph: GraphProto,
    register: impl Fn(&mut OnnxOpRegister),
) -> TractResult<Arc<TypedRunnableModel>> {
    let mut onnx = tract_onnx::onnx();
    register(&mut onnx.op_register);
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            version: 17,
            ..OperatorSetIdProto::default()
        }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    onnx.model_for_proto_model(&model)?
        .into_optimized()?
        .into_runnable()
}

/// Says that a graph with its operators gives what it gave without, for inputs of these shapes.
pub(super) fn assert_same(
    fused: GraphProto,
    plain: GraphProto,
    register: impl Fn(&mut OnnxOpRegister),
    inputs: &[&[usize]],
) {
    let inputs = || {
        let input = |(dims, seed): (&&[usize], u32)| {
            let values = noise(dims.iter().product(), seed);
            Tensor::from_shape(dims, &values).unwrap().into_tvalue()
        };
        inputs.iter().zip(1..).map(input).collect::<TVec<_>>()
    };
    let ours = plan(fused, register).unwrap().run(inputs()).unwrap();
    let theirs = plan(plain, |_| ()).unwrap().run(inputs()).unwrap();
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        // Sums of floats in another order.
        let close = Approximation::Custom(1e-6, 1e-5, 0.0);
        ours.close_enough(&theirs, close).unwrap();
    }
}
