//! An operator of ours, as tract reads and runs it.

use std::fmt::Debug;

use tract_onnx::tract_hir::internal::*;

/// What an operator computes: of some tensors, one of floats.
pub(super) trait Operator: Debug + Clone + PartialEq + Eq + Send + Sync + 'static {
    const NAME: &'static str;

    /// The shape of the result.
    ///
    /// # Errors
    /// What is wrong with the shapes of the inputs: a file may have the operator in it, with anything as its inputs.
    fn shape(&self, inputs: &[Dims]) -> TractResult<Dims>;

    /// Computes the result.
    ///
    /// # Errors
    /// If one of them is not there in memory as plain floats.
    fn compute(&self, inputs: TVec<TValue>) -> TractResult<Tensor>;
}

pub(super) type Dims = TVec<usize>;

/// The operator as it is in the file.
pub(super) fn written(operator: impl Operator) -> Box<dyn InferenceOp> {
    expand(Written(operator))
}

#[derive(Debug, Clone)]
struct Written<O>(O);

impl<O: Operator> Expansion for Written<O> {
    fn name(&self) -> StaticName {
        O::NAME.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, f32::datum_type())?;
        let shapes = inputs.iter().map(|input| &input.shape);
        solver.given_all(shapes, move |solver, shapes: Vec<TVec<TDim>>| {
            let dims = |shape: &TVec<TDim>| shape.iter().map(|dim| Ok(dim.to_usize()?)).collect();
            let shapes: Vec<Dims> = shapes.iter().map(dims).collect::<TractResult<_>>()?;
            let shape = self.0.shape(&shapes).context(O::NAME)?;
            let shape: TVec<TDim> = shape.iter().map(ToDim::to_dim).collect();
            solver.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mut shapes = TVec::new();
        for &input in inputs {
            let fact = model.outlet_fact(input)?;
            let shape = fact.shape.as_concrete();
            let shape: Dims = shape.context("a shape that is not fixed")?.into();
            let (kind, count) = (fact.datum_type, shape.iter().product::<usize>());
            ensure!(
                kind == f32::datum_type(),
                "{}: expected {count} floats, found {kind:?}",
                O::NAME
            );
            shapes.push(shape);
        }
        let shape = self.0.shape(&shapes).context(O::NAME)?;
        let operator = self.0.clone();
        model.wire_node(prefix, Running { operator, shape }, inputs)
    }
}

/// The operator as it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running<O> {
    operator: O,
    shape: Dims,
}

impl<O: Operator> Op for Running<O> {
    fn name(&self) -> StaticName {
        O::NAME.into()
    }

    op_as_typed_op!();
}

impl<O: Operator> EvalOp for Running<O> {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(self.operator.compute(inputs)?.into_tvalue()))
    }
}

impl<O: Operator> TypedOp for Running<O> {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }

    as_op!();
}

/// The values of a tensor of floats.
pub(super) fn floats(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}
