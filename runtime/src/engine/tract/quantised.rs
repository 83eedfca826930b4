//! One operator in place of the six in which ONNX writes a product by an 8-bit matrix.
//!
//! tract spells them out, each with all that the general case needs: the file's 774 nodes cost more than
//! the products themselves. [`fuse`] finds
//!
//! ```text
//! x ─ DynamicQuantizeLinear ─┬─ MatMulInteger(weights) ─ Cast ─ Mul ─ (Add bias)
//!                            └─ Mul(weights' scales) ────────────┘
//! ```
//!
//! and writes a `QuantisedLinear` there, which [`register`] teaches tract. The result is the same to the bit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};
use tract_onnx::tract_hir::internal::*;

use super::int8::{Avx2, Weights};

const OPERATOR: &str = "QuantisedLinear";

/// Replaces the products that can be; how many there were.
pub(super) fn fuse(graph: &mut GraphProto) -> usize {
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

/// Teaches tract the operator that [`fuse`] writes.
pub(super) fn register(operators: &mut OnnxOpRegister) {
    operators.insert(OPERATOR, |_: &ParsingContext<'_>, node: &NodeProto| {
        let avx2 = Avx2::detect().context("no AVX2")?;
        let biased = node.input.len() == 4;
        Ok((expand(Written { avx2, biased }), vec![]))
    });
}

/// The operator as it is in the file: x, weights, scales and perhaps a bias.
#[derive(Debug, Clone)]
struct Written {
    avx2: Avx2,
    biased: bool,
}

impl Expansion for Written {
    fn name(&self) -> StaticName {
        OPERATOR.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 3 + usize::from(self.biased))?;
        check_output_arity(outputs, 1)?;
        solver.equals(&inputs[0].datum_type, f32::datum_type())?;
        solver.equals(&outputs[0].datum_type, f32::datum_type())?;
        solver.equals(&inputs[0].rank, &outputs[0].rank)?;
        solver.given_2(
            &inputs[0].shape,
            &inputs[1].shape,
            move |solver, mut shape, weights| {
                let (Some(last), [_, outputs_of_weights]) = (shape.last_mut(), &weights[..]) else {
                    bail!("{OPERATOR}: a product by something else than a matrix");
                };
                *last = outputs_of_weights.clone();
                solver.equals(&outputs[0].shape, shape)
            },
        )
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let weights = model
            .outlet_fact(inputs[1])?
            .konst
            .clone()
            .context("weights that are constant")?;
        let [inner, outer] = weights.shape()[..] else {
            bail!("{OPERATOR}: weights that are no matrix");
        };
        ensure!(inner > 0 && outer > 0, "{OPERATOR}: weights of no value");
        // A file may have the operator in it, with anything as its scales: steps rely on them.
        for &row in &inputs[2..] {
            let fact = model.outlet_fact(row)?;
            let is_row = fact.datum_type == f32::datum_type() && *fact.shape == [outer.to_dim()];
            ensure!(
                is_row,
                "{OPERATOR}: expected {outer} floats, found {fact:?}"
            );
        }
        let packed = Weights::new(weights.try_as_plain_ram()?.as_slice::<i8>()?, inner, outer);
        let linear = QuantisedLinear {
            avx2: self.avx2,
            weights: Arc::new(packed),
        };
        let mut read = TVec::from_slice(inputs);
        read.remove(1);
        model.wire_node(prefix, linear, &read)
    }
}

/// The operator as it runs: x, scales and perhaps a bias.
#[derive(Debug, Clone, PartialEq, Eq)]
struct QuantisedLinear {
    avx2: Avx2,
    weights: Arc<Weights>,
}

impl Op for QuantisedLinear {
    fn name(&self) -> StaticName {
        OPERATOR.into()
    }

    op_as_typed_op!();
}

impl EvalOp for QuantisedLinear {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut shape: TVec<usize> = inputs[0].shape().into();
        let last = shape.last_mut().context("a product of a number")?;
        ensure!(
            *last == self.weights.inputs(),
            "rows of {last} values, weights for {}",
            self.weights.inputs()
        );
        *last = self.weights.outputs();
        let scales = inputs[1].try_as_plain_ram()?;
        let bias = inputs
            .get(2)
            .map(|bias| bias.try_as_plain_ram())
            .transpose()?;
        let bias = bias.as_ref().map(PlainView::as_slice::<f32>).transpose()?;
        let mut out = Tensor::zero::<f32>(&shape)?;
        self.weights.product(
            self.avx2,
            inputs[0].try_as_plain_ram()?.as_slice::<f32>()?,
            scales.as_slice::<f32>()?,
            bias,
            out.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?,
        );
        Ok(tvec!(out.into_tvalue()))
    }
}

impl TypedOp for QuantisedLinear {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut shape = inputs[0].shape.to_tvec();
        *shape.last_mut().context("a product of a number")? = self.weights.outputs().to_dim();
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
    use tract_onnx::pb::{
        AttributeProto, ModelProto, OperatorSetIdProto, TensorShapeProto, TypeProto,
        ValueInfoProto, attribute_proto, type_proto,
    };
    use tract_onnx::prelude::*;

    use super::*;

    const ROWS: usize = 6;
    const INNER: usize = 24;
    const OUTER: usize = 20;

    fn node(op_type: &str, input: &[&str], output: &[&str]) -> NodeProto {
        NodeProto {
            op_type: op_type.to_owned(),
            name: output[0].to_owned(),
            input: input.iter().map(|&name| name.to_owned()).collect(),
            output: output.iter().map(|&name| name.to_owned()).collect(),
            ..NodeProto::default()
        }
    }

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

    fn value(name: &str, dims: &[usize]) -> ValueInfoProto {
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

    fn constant(name: &str, data_type: DataType, dims: &[usize], raw_data: Vec<u8>) -> TensorProto {
        TensorProto {
            name: name.to_owned(),
            data_type: data_type as i32,
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            raw_data,
            ..TensorProto::default()
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

    fn plan(graph: GraphProto) -> TractResult<Arc<TypedRunnableModel>> {
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

    fn run(graph: GraphProto) -> Vec<Tensor> {
        let x: Vec<f32> = (0..ROWS * INNER).map(|n| (n as f32 * 1.7).sin()).collect();
        let x = Tensor::from_shape(&[1, ROWS, INNER], &x).unwrap();
        let outputs = plan(graph).unwrap().run(tvec![x.into_tvalue()]);
        let outputs = outputs.unwrap();
        outputs.into_iter().map(TValue::into_tensor).collect()
    }

    #[test]
    fn one_operator_gives_what_six_gave() {
        if Avx2::detect().is_none() {
            println!("skipped: this processor has no AVX2");
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
            println!("skipped: this processor has no AVX2");
            return;
        }
        for wrong in [
            constant("ws", DataType::Float, &[1], 0.01_f32.to_le_bytes().into()),
            constant("ws", DataType::Int8, &[OUTER], vec![1; OUTER]),
        ] {
            let mut graph = graph();
            graph.node = vec![node(OPERATOR, &["x", "w", "ws"], &["y"])];
            graph.output.pop();
            assert!(plan(graph.clone()).is_ok());
            graph.initializer[2] = wrong;
            let error = format!("{:#}", plan(graph).unwrap_err());
            assert!(error.contains("expected 20 floats"), "{error}");
        }
    }
}
