//! Finds the six in a graph, and writes the one in their place.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::OPERATOR;

/// Replaces the products that can be; how many there were.
pub(in crate::engine::tract) fn fuse(graph: &mut GraphProto) -> usize {
    let uses = Uses::new(graph);
    let products = 0..graph.node.len();
    let fused: Vec<Fused> = products
        .filter_map(|product| linear(&uses, product))
        .collect();
    let count = fused.len();
    let nodes = std::mem::take(&mut graph.node);
    let mut kept: Vec<Option<NodeProto>> = nodes.into_iter().map(Some).collect();
    for Fused { gone, last, linear } in fused {
        for node in gone {
            kept[node] = None;
        }
        kept[last] = Some(linear);
    }
    graph.node = kept.into_iter().flatten().collect();
    drop_unread_quantisers(graph);
    count
}

struct Fused {
    /// The positions of the nodes that go.
    gone: Vec<usize>,
    /// The position of the last of them, which made the result: all that it read is before.
    last: usize,
    linear: NodeProto,
}

/// Who makes and who reads the values of a graph.
struct Uses<'a> {
    graph: &'a GraphProto,
    constants: HashMap<&'a str, &'a TensorProto>,
    maker: HashMap<&'a str, usize>,
    readers: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Uses<'a> {
    fn new(graph: &'a GraphProto) -> Self {
        let (mut maker, mut readers) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for (position, node) in graph.node.iter().enumerate() {
            for output in &node.output {
                maker.insert(output.as_str(), position);
            }
            for input in &node.input {
                readers.entry(input.as_str()).or_default().push(position);
            }
        }
        let constants = graph.initializer.iter();
        Self {
            graph,
            constants: constants
                .map(|constant| (constant.name.as_str(), constant))
                .collect(),
            maker,
            readers,
        }
    }

    fn node(&self, position: usize) -> &'a NodeProto {
        &self.graph.node[position]
    }

    /// The node that makes a value, if it is a `kind`.
    fn maker(&self, value: &str, kind: &str) -> Option<usize> {
        let position = *self.maker.get(value)?;
        (self.node(position).op_type == kind).then_some(position)
    }

    /// The only reader of a value that is no output of the graph, if it is a `kind`.
    fn reader(&self, value: &str, kind: &str) -> Option<usize> {
        let [position] = self.readers.get(value)?[..] else {
            return None;
        };
        let inner = self.graph.output.iter().all(|output| output.name != value);
        (inner && self.node(position).op_type == kind).then_some(position)
    }

    /// The columns of a constant matrix of bytes.
    fn columns(&self, value: &str) -> Option<i64> {
        let constant = self.constants.get(value)?;
        let [rows, columns] = constant.dims[..] else {
            return None;
        };
        let bytes = constant.data_type == DataType::Int8 as i32;
        (bytes && rows > 0 && columns > 0).then_some(columns)
    }

    /// Whether a value is a constant with one float for each column.
    fn is_row(&self, value: &str, columns: i64) -> bool {
        self.constants.get(value).is_some_and(|constant| {
            constant.data_type == DataType::Float as i32 && constant.dims == [columns]
        })
    }
}

fn linear(uses: &Uses<'_>, product: usize) -> Option<Fused> {
    let node = uses.node(product);
    let [integers, weights, zero] = &node.input[..] else {
        return None;
    };
    if node.op_type != "MatMulInteger" {
        return None;
    }
    let columns = uses.columns(weights)?;
    let quantiser = uses.node(uses.maker(integers, "DynamicQuantizeLinear")?);
    if quantiser.output.len() != 3
        || quantiser.output[0] != *integers
        || quantiser.output[2] != *zero
    {
        return None;
    }
    let cast = uses.reader(&node.output[0], "Cast")?;
    let to = uses
        .node(cast)
        .attribute
        .iter()
        .find(|attribute| attribute.name == "to")?;
    if to.i != DataType::Float as i64 {
        return None;
    }
    let float = &uses.node(cast).output[0];
    let scaled = uses.reader(float, "Mul")?;
    let scale = other(uses.node(scaled), float)?;
    let scaling = uses
        .maker(scale, "Mul")
        .filter(|_| uses.reader(scale, "Mul").is_some())?;
    let scales = other(uses.node(scaling), &quantiser.output[1])?;
    if !uses.is_row(scales, columns) {
        return None;
    }
    let (mut gone, mut last) = (vec![product, cast, scaling, scaled], scaled);
    let mut input = vec![
        quantiser.input[0].clone(),
        weights.clone(),
        scales.to_owned(),
    ];
    let unbiased = &uses.node(scaled).output[0];
    if let Some(sum) = uses.reader(unbiased, "Add")
        && let Some(bias) = other(uses.node(sum), unbiased)
        && uses.is_row(bias, columns)
    {
        gone.push(sum);
        last = sum;
        input.push(bias.to_owned());
    }
    let output = &uses.node(last).output[0];
    let linear = NodeProto {
        op_type: OPERATOR.to_owned(),
        name: format!("{output}.linear"),
        input,
        output: vec![output.clone()],
        ..NodeProto::default()
    };
    Some(Fused { gone, last, linear })
}

/// The other of a node's two inputs.
fn other<'a>(node: &'a NodeProto, one: &str) -> Option<&'a str> {
    match &node.input[..] {
        [a, b] if a == one && b != one => Some(b),
        [a, b] if b == one && a != one => Some(a),
        _ => None,
    }
}

fn drop_unread_quantisers(graph: &mut GraphProto) {
    let read = graph.node.iter().flat_map(|node| node.input.iter());
    let outputs = graph.output.iter().map(|output| &output.name);
    let wanted: HashSet<String> = read.chain(outputs).cloned().collect();
    graph.node.retain(|node| {
        node.op_type != "DynamicQuantizeLinear"
            || node.output.iter().any(|value| wanted.contains(value))
    });
}
