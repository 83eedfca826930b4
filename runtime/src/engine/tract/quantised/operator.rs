//! The operator, as tract reads and runs it.

use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::OPERATOR;
use crate::engine::tract::int8::{Avx2, Weights};

/// Teaches tract the operator that [`fuse`](super::fuse) writes.
pub(in crate::engine::tract) fn register(operators: &mut OnnxOpRegister) {
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
