//! Nodes and constants of an ONNX graph, one after another.

use crate::tone::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto,
    type_proto,
};

/// Collects nodes and constants; each node is named after its first output.
pub(super) struct Builder {
    pub(super) streams: usize,
    graph: GraphProto,
}

impl Builder {
    /// For so many streams at once.
    pub(super) fn of(streams: usize) -> Self {
        Self {
            streams,
            graph: GraphProto::default(),
        }
    }

    pub(super) fn input(&mut self, name: &str, kind: DataType, shape: &[usize]) {
        self.graph.input.push(value_info(name, kind, shape));
    }

    pub(super) fn output(&mut self, name: &str, kind: DataType, shape: &[usize]) {
        self.graph.output.push(value_info(name, kind, shape));
    }

    pub(super) fn float(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.constant(name, DataType::Float, shape, bytes);
    }

    pub(super) fn int64(&mut self, name: &str, shape: &[usize], values: Vec<i64>) {
        let bytes = values.into_iter().flat_map(i64::to_le_bytes).collect();
        self.constant(name, DataType::Int64, shape, bytes);
    }

    pub(super) fn int8(&mut self, name: &str, shape: &[usize], values: &[i8]) {
        let bytes = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.constant(name, DataType::Int8, shape, bytes);
    }

    fn constant(&mut self, name: &str, kind: DataType, shape: &[usize], raw_data: Vec<u8>) {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            data_type: kind as i32,
            dims: shape.iter().map(|&dim| dim as i64).collect(),
            raw_data,
            ..TensorProto::default()
        });
    }

    pub(super) fn node(&mut self, operator: &str, inputs: &[&str], outputs: &[&str]) {
        self.node_with(operator, inputs, outputs, Vec::new());
    }

    pub(super) fn node_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) {
        self.graph.node.push(NodeProto {
            name: outputs[0].to_owned(),
            op_type: operator.to_owned(),
            input: inputs.iter().copied().map(str::to_owned).collect(),
            output: outputs.iter().copied().map(str::to_owned).collect(),
            attribute,
            ..NodeProto::default()
        });
    }

    pub(super) fn reshape(&mut self, input: &str, shape: &[usize], output: &str) {
        let name = format!("{output}_shape");
        self.int64(
            &name,
            &[shape.len()],
            shape.iter().map(|&dim| dim as i64).collect(),
        );
        self.node("Reshape", &[input, &name], &[output]);
    }

    /// A number for each stream, in a shape to be held against rows of it; one number is so already.
    pub(super) fn beside_rows(&mut self, numbers: &str) -> String {
        if self.streams == 1 {
            return numbers.to_owned();
        }
        let output = format!("{numbers}_beside_rows");
        self.reshape(numbers, &[self.streams, 1, 1], &output);
        output
    }

    pub(super) fn slice(
        &mut self,
        input: &str,
        axis: usize,
        range: std::ops::Range<usize>,
        output: &str,
    ) {
        let names = ["start", "end", "axis"].map(|part| format!("{output}_{part}"));
        for (name, value) in names.iter().zip([range.start, range.end, axis]) {
            self.int64(name, &[1], vec![value as i64]);
        }
        let [start, end, axis] = &names;
        self.node("Slice", &[input, start, end, axis], &[output]);
    }

    pub(super) fn concat(&mut self, inputs: &[&str], axis: usize, output: &str) {
        self.node_with("Concat", inputs, &[output], vec![integer("axis", axis)]);
    }

    /// Swaps the last two of three axes.
    pub(super) fn transpose(&mut self, input: &str, output: &str) {
        self.node_with(
            "Transpose",
            &[input],
            &[output],
            vec![integers("perm", &[0, 2, 1])],
        );
    }

    pub(super) fn finish(self, name: &str) -> GraphProto {
        GraphProto {
            name: name.to_owned(),
            ..self.graph
        }
    }
}

fn value_info(name: &str, kind: DataType, shape: &[usize]) -> ValueInfoProto {
    let dim = |&size: &usize| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(size as i64)),
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

pub(super) fn integer(name: &str, value: usize) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i: value as i64,
        ..AttributeProto::default()
    }
}

pub(super) fn integers(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Ints as i32,
        ints: values.iter().map(|&value| value as i64).collect(),
        ..AttributeProto::default()
    }
}
