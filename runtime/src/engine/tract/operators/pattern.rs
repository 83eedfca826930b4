//! Groups of nodes of a file, found and replaced.

use std::collections::{HashMap, HashSet};

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto, type_proto,
};
use tract_onnx::tensor::load_tensor;
use tract_onnx::tract_hir::internal::*;

/// A group of nodes that one node can stand for.
pub(super) struct Group {
    /// The positions of the nodes that go. The one in their place stands where the last of them was: all that it
    /// reads is before.
    pub(super) gone: Vec<usize>,
    pub(super) node: NodeProto,
}

/// Replaces the groups that `find` finds, asked about each node; how many there were.
pub(super) fn replace(
    graph: &mut GraphProto,
    find: impl Fn(&Uses<'_>, usize) -> Option<Group>,
) -> usize {
    let uses = Uses::new(graph);
    let groups = (0..graph.node.len()).filter_map(|position| find(&uses, position));
    let groups: Vec<Group> = groups.collect();
    let count = groups.len();
    let nodes = std::mem::take(&mut graph.node);
    let mut kept: Vec<Option<NodeProto>> = nodes.into_iter().map(Some).collect();
    for Group { gone, node } in groups {
        let last = gone.iter().copied().max();
        for node in gone {
            kept[node] = None;
        }
        if let Some(last) = last {
            kept[last] = Some(node);
        }
    }
    graph.node = kept.into_iter().flatten().collect();
    count
}

/// The values that a node reads or that are asked of the graph.
fn read(graph: &GraphProto) -> HashSet<String> {
    let inputs = graph.node.iter().flat_map(|node| node.input.iter());
    let outputs = graph.output.iter().map(|output| &output.name);
    inputs.chain(outputs).cloned().collect()
}

/// Drops the nodes of that kind of which nobody reads a result.
pub(super) fn drop_unread(graph: &mut GraphProto, kind: &str) {
    let wanted = read(graph);
    graph.node.retain(|node| {
        node.op_type != kind || node.output.iter().any(|value| wanted.contains(value))
    });
}

/// The attribute that [`embed`] writes.
const CONSTANT: &str = "constant";

/// Moves the constants that nodes of a kind read as their second input into the nodes: tract would hold them beside
/// what the operators make of them.
pub(super) fn embed(graph: &mut GraphProto, kind: &str) {
    if graph.node.iter().all(|node| node.op_type != kind) {
        return;
    }
    // Of those that made floats of halves.
    drop_unread(graph, "Cast");
    let mut places = HashMap::<String, Vec<usize>>::new();
    for (position, node) in graph.node.iter_mut().enumerate() {
        if node.op_type == kind && node.input.len() > 1 {
            places
                .entry(node.input.remove(1))
                .or_default()
                .push(position);
        }
    }
    let read = read(graph);
    let nodes = &mut graph.node;
    graph.initializer.retain(|constant| {
        let Some(readers) = places.get(&constant.name) else {
            return true;
        };
        for &reader in readers {
            nodes[reader].attribute.push(AttributeProto {
                name: CONSTANT.to_owned(),
                r#type: attribute_proto::AttributeType::Tensor as i32,
                t: Some(constant.clone()),
                ..AttributeProto::default()
            });
        }
        read.contains(&constant.name)
    });
}

/// The constant that [`embed`] moved into a node.
///
/// # Errors
/// What is wrong with it, or that there is none.
pub(super) fn embedded(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Tensor> {
    let constant = attribute(node, CONSTANT).and_then(|attribute| attribute.t.as_ref());
    let constant = constant.context("its second input is no constant of the file")?;
    load_tensor(&*context.framework.provider, constant, context.model_dir)
}

/// [`embedded`], if it is a matrix with something in it; and its rows and columns.
#[cfg(target_arch = "x86_64")]
pub(super) fn embedded_matrix(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Tensor, [usize; 2])> {
    let matrix = embedded(context, node)?;
    match *matrix.shape() {
        [rows, columns] if rows > 0 && columns > 0 => Ok((matrix, [rows, columns])),
        _ => bail!("expected a matrix, found {matrix:?}"),
    }
}

/// Who makes and who reads the values of a graph.
pub(super) struct Uses<'a> {
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

    pub(super) fn node(&self, position: usize) -> &'a NodeProto {
        &self.graph.node[position]
    }

    /// The node that makes a value, if it is a `kind`.
    pub(super) fn maker(&self, value: &str, kind: &str) -> Option<usize> {
        let position = *self.maker.get(value)?;
        (self.node(position).op_type == kind).then_some(position)
    }

    /// The only reader of a value that is no output of the graph.
    fn only_reader(&self, value: &str) -> Option<usize> {
        let [position] = self.readers.get(value)?[..] else {
            return None;
        };
        let inner = self.graph.output.iter().all(|output| output.name != value);
        inner.then_some(position)
    }

    /// The only reader of a value that is no output of the graph, if it is a `kind`.
    pub(super) fn reader(&self, value: &str, kind: &str) -> Option<usize> {
        let position = self.only_reader(value)?;
        (self.node(position).op_type == kind).then_some(position)
    }

    /// The node that makes a value which nobody but one node reads, if it is a `kind`.
    pub(super) fn private_maker(&self, value: &str, kind: &str) -> Option<usize> {
        self.only_reader(value)?;
        self.maker(value, kind)
    }

    /// A constant of that kind.
    pub(super) fn constant(&self, value: &str, kind: DataType) -> Option<&'a TensorProto> {
        let constant = self.constants.get(value)?;
        (constant.data_type == kind as i32).then_some(*constant)
    }

    /// The dimensions of a constant of floats, which may be written in halves.
    pub(super) fn float_dims(&self, value: &str) -> Option<&'a [i64]> {
        Some(&self.floats(value)?.dims)
    }

    /// A constant of floats, which may be written in halves.
    pub(super) fn floats(&self, value: &str) -> Option<&'a TensorProto> {
        self.constant(value, DataType::Float).or_else(|| {
            let cast = self.node(self.maker(value, "Cast")?);
            let to_float = integer(cast, "to") == Some(DataType::Float as i64);
            self.constant(cast.input.first()?, DataType::Float16)
                .filter(|_| to_float)
        })
    }

    /// The dimensions of an input of the graph, if it is one of floats with a fixed shape.
    pub(super) fn dims_of_input(&self, value: &str) -> Option<Vec<i64>> {
        let mut inputs = self.graph.input.iter();
        let input = inputs.find(|input| input.name == value)?;
        let kind = input.r#type.as_ref()?.value.as_ref()?;
        let type_proto::Value::TensorType(tensor) = kind;
        let dims = tensor.shape.as_ref()?.dim.iter();
        let dims = dims.map(|dim| match dim.value {
            Some(dimension::Value::DimValue(size)) => Some(size),
            _ => None,
        });
        (tensor.elem_type == DataType::Float as i32)
            .then(|| dims.collect())
            .flatten()
    }

    /// The values of a constant of integers, which are in the file's graph itself.
    pub(super) fn integers(&self, value: &str) -> Option<Vec<i64>> {
        let constant = self.constant(value, DataType::Int64)?;
        if constant.raw_data.is_empty() {
            return Some(constant.int64_data.clone());
        }
        let (words, []) = constant.raw_data.as_chunks::<8>() else {
            return None;
        };
        Some(words.iter().map(|&word| i64::from_le_bytes(word)).collect())
    }
}

pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == name)
}

/// An attribute that is an integer.
pub(super) fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).map(|attribute| attribute.i)
}

/// An attribute that counts something.
///
/// # Errors
/// Which one is missing or negative.
pub(super) fn count(node: &NodeProto, name: &str) -> TractResult<usize> {
    let number = integer(node, name).with_context(|| format!("no attribute {name}"))?;
    usize::try_from(number).with_context(|| format!("attribute {name} is {number}"))
}

/// An attribute that is a list of integers; empty without.
pub(super) fn list<'a>(node: &'a NodeProto, name: &str) -> &'a [i64] {
    attribute(node, name).map_or(&[], |attribute| &attribute.ints)
}

/// A node's one output.
pub(super) fn output(node: &NodeProto) -> Option<&str> {
    match &node.output[..] {
        [output] => Some(output),
        _ => None,
    }
}

/// A node's inputs, if it has so many.
pub(super) fn inputs<const N: usize>(node: &NodeProto) -> Option<[&str; N]> {
    let inputs: [&String; N] = node.input.iter().collect::<Vec<_>>().try_into().ok()?;
    Some(inputs.map(String::as_str))
}

/// Axis, start and end of a slice of one axis in steps of one.
pub(super) fn range(uses: &Uses<'_>, slice: &NodeProto) -> Option<[i64; 3]> {
    let [_, starts, ends, axes] = inputs(slice)?;
    let one = |value: &str| match uses.integers(value)?[..] {
        [number] => Some(number),
        _ => None,
    };
    Some([one(axes)?, one(starts)?, one(ends)?])
}

/// A node of ours, which makes what a group made.
pub(super) fn ours(
    kind: &str,
    output: &str,
    input: Vec<String>,
    attributes: &[(&str, i64)],
) -> NodeProto {
    let attribute = |&(name, i): &(&str, i64)| AttributeProto {
        name: name.to_owned(),
        r#type: attribute_proto::AttributeType::Int as i32,
        i,
        ..AttributeProto::default()
    };
    NodeProto {
        op_type: kind.to_owned(),
        name: format!("{output}.{kind}"),
        input,
        output: vec![output.to_owned()],
        attribute: attributes.iter().map(attribute).collect(),
        ..NodeProto::default()
    }
}
