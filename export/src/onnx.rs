//! Makes and reads the messages that an ONNX file is written in.

use tract_onnx::pb::{
    AttributeProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto, type_proto,
};

/// A node with one output, which has the node's name.
pub(crate) fn node(operator: &str, name: &str, inputs: &[&str]) -> NodeProto {
    NodeProto {
        name: name.to_owned(),
        op_type: operator.to_owned(),
        input: inputs.iter().copied().map(str::to_owned).collect(),
        output: vec![name.to_owned()],
        ..NodeProto::default()
    }
}

/// A constant of little-endian `bytes`.
pub(crate) fn constant(name: &str, kind: DataType, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: kind as i32,
        dims: dims.into(),
        raw_data: bytes,
        ..TensorProto::default()
    }
}

/// The values of a float32 constant; `None` for one of another type, or whose data is not raw.
pub(crate) fn floats(constant: &TensorProto) -> Option<Vec<f32>> {
    let count = constant.dims.iter().try_fold(1_usize, |count, &dim| {
        count.checked_mul(dim.try_into().ok()?)
    })?;
    let (values, rest) = constant.raw_data.as_chunks::<4>();
    let is_raw =
        constant.data_type == DataType::Float as i32 && rest.is_empty() && values.len() == count;
    is_raw.then(|| {
        values
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect()
    })
}

/// The name, type and shape of an input or output.
pub(crate) fn value_info(name: &str, kind: DataType, shape: &[i64]) -> ValueInfoProto {
    let dim = |&size: &i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(size)),
        ..tensor_shape_proto::Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: kind as i32,
        shape: Some(TensorShapeProto {
            dim: shape.iter().map(dim).collect(),
        }),
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

pub(crate) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

pub(crate) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Float as i32,
        f: value,
        ..AttributeProto::default()
    }
}

pub(crate) fn integers(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: values.into(),
        ..AttributeProto::default()
    }
}
