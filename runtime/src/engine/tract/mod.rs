//! tract: the graph in pure Rust.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use tract_onnx::data_resolver::ModelDataResolver;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{
    EvalContext, OpState, SessionId, TractErrorContext, anyhow, ensure,
};

use super::{
    CacheValues, CachedEngine, CachedSession, Engine, EngineError, Session, said, transpose,
};
use crate::model::{Config, Graph, GraphBytes, Precision};

mod operators;

const NAME: &str = "tract";

pub(super) use operators::{is_fast_on_int8, is_faster_than_ort};

struct TractEngine {
    plan: Arc<TypedRunnableModel>,
    /// The session in whose name all streams compute, and what it belongs to. Matrix products keep room by session in
    /// each thread that computes, until the session is dropped *there*: sessions of streams that go from thread to
    /// thread would leave it behind.
    session: SessionId,
    _owner: Mutex<TypedSimpleState>,
    shapes: [Vec<usize>; 3],
    description: String,
}

pub(super) fn load(
    config: &Config,
    graph: &Graph,
    precision: Precision,
) -> Result<Arc<dyn CachedEngine>, EngineError> {
    let refuse = |error: &dyn std::fmt::Display| EngineError::Load {
        engine: NAME,
        path: graph.path.display().to_string(),
        reason: error.to_string(),
    };
    let bytes = graph.bytes()?;
    let plan = inference_model(bytes, graph)
        .and_then(InferenceModelExt::into_optimized)
        .and_then(TypedRunnableModel::new)
        .map_err(|error| refuse(&format!("{error:#}")))?;

    let streams = graph.streams;
    let cache = |dims: [usize; 3]| vec![streams, dims[0], dims[1], dims[2]];
    let shapes = [
        vec![
            streams,
            config.features.mel_bins,
            config.geometry.window_size,
        ],
        cache(config.geometry.cache_last_channel),
        cache(config.geometry.cache_last_time),
    ];
    let (session, owner) = plan
        .spawn()
        .and_then(|mut owner| Ok((session_of(&mut owner, &shapes)?, owner)))
        .map_err(|error| refuse(&format!("{error:#}")))?;
    Ok(Arc::new(TractEngine {
        plan,
        session,
        _owner: Mutex::new(owner),
        shapes,
        description: format!("tract {VERSION}, {precision}, 1 thread"),
    }))
}

/// The session of a state, which only an operator in evaluation is told: the first one tells, and then it is enough.
fn session_of(state: &mut TypedSimpleState, shapes: &[Vec<usize>; 3]) -> TractResult<SessionId> {
    let [signal, channel, time] = shapes;
    let lengths = || Tensor::zero::<i64>(&signal[..1]).map(IntoTValue::into_tvalue);
    let inputs = tvec![
        Tensor::zero::<f32>(signal)?.into_tvalue(),
        lengths()?,
        Tensor::zero::<f32>(channel)?.into_tvalue(),
        Tensor::zero::<f32>(time)?.into_tvalue(),
        lengths()?,
    ];
    let mut session = None;
    let asked = state.run_plan_with_eval(inputs, |context, _, _, _| {
        session = Some(context.session);
        Err(anyhow!("that was all"))
    });
    session.ok_or_else(|| match asked {
        Err(error) => error,
        Ok(_) => anyhow!("a graph without operators"),
    })
}

/// Evaluates an operator in the name of a session that is not its state's own.
fn eval_in(
    session: SessionId,
    context: &EvalContext<'_>,
    state: Option<&mut (dyn OpState + 'static)>,
    node: &TypedNode,
    inputs: TVec<TValue>,
) -> TractResult<TVec<TValue>> {
    let context = EvalContext {
        session,
        ..*context
    };
    match state {
        Some(state) => state.eval(&context, node.op(), inputs),
        None => node.op().eval(&context, inputs),
    }
    .with_context(|| format!("in {node}"))
}

/// The graph of a file, with operators of ours in it.
fn inference_model(bytes: GraphBytes, graph: &Graph) -> TractResult<InferenceModel> {
    let mut onnx = tract_onnx::onnx();
    // The message would hold all weights beside what is made of them.
    let outline = graph.outline(&bytes);
    let mut proto = match &outline {
        Some((_, outline)) => onnx.proto_model_for_read(&mut outline.as_slice())?,
        None => onnx.proto_model_for_read(&mut &*bytes)?,
    };
    if let Some(graph) = &mut proto.graph {
        operators::fuse(graph, &mut onnx);
    }
    onnx.provider = Arc::new(Weights(bytes));
    let directory = outline.as_ref().map(|(directory, _)| directory.as_str());
    let parsed = onnx.parse(&proto, directory)?;
    let unknown = &parsed.unresolved_inputs;
    ensure!(unknown.is_empty(), "inputs of no node: {unknown:?}");
    Ok(parsed.model)
}

/// Where an outline's tensors are, in the one file that it names.
struct Weights(GraphBytes);

impl ModelDataResolver for Weights {
    fn read_bytes_from_path(
        &self,
        buffer: &mut Vec<u8>,
        _: &Path,
        offset: usize,
        length: Option<usize>,
    ) -> TractResult<()> {
        let rest = self.0.get(offset..).unwrap_or_default();
        buffer.extend(rest.get(..length.unwrap_or(rest.len())).unwrap_or_default());
        Ok(())
    }
}

/// The version this crate is pinned to; see the workspace's Cargo.toml.
const VERSION: &str = "0.23";

impl Engine for TractEngine {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(CachedEngine::open(self)?)
    }

    fn description(&self) -> &str {
        &self.description
    }
}

impl CachedEngine for TractEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn open(&self) -> Result<Box<dyn CachedSession>, EngineError> {
        self.stream()
            .map(|stream| Box::new(stream) as Box<dyn CachedSession>)
            .map_err(|error| run_error(&error))
    }
}

impl TractEngine {
    fn stream(&self) -> TractResult<TractStream> {
        let [signal, channel, time] = &self.shapes;
        let lengths = vec![signal[2] as i64; signal[0]];
        Ok(TractStream {
            state: self.plan.spawn()?,
            session: self.session,
            window: [signal[1], signal[2]],
            signal: Tensor::zero::<f32>(signal)?,
            lengths: tensor1(&lengths).into_tvalue(),
            caches: zeros(channel, time)?,
            log_probs: Tensor::zero::<f32>(&[0])?.into_tvalue(),
            cache_shapes: [channel.clone(), time.clone()],
        })
    }
}

/// The caches of streams that have heard nothing.
fn zeros(channel: &[usize], time: &[usize]) -> TractResult<TVec<Tensor>> {
    Ok(tvec![
        Tensor::zero::<f32>(channel)?,
        Tensor::zero::<f32>(time)?,
        Tensor::zero::<i64>(&channel[..1])?,
    ])
}

/// The values of a cache, to be read and changed.
fn values<T: Datum>(cache: &mut Tensor) -> Result<&mut [T], EngineError> {
    let view = cache.to_plain_array_view_mut::<T>();
    let values = view.map_err(|error| run_error(&error))?.into_slice();
    values.ok_or_else(|| run_error(&anyhow!("a cache that is in pieces")))
}

struct TractStream {
    state: TypedSimpleState,
    session: SessionId,
    /// Bins and frames of a window.
    window: [usize; 2],
    signal: Tensor,
    /// Frames of each stream's window that are real: all.
    lengths: TValue,
    caches: TVec<Tensor>,
    log_probs: TValue,
    cache_shapes: [Vec<usize>; 2],
}

impl TractStream {
    fn run(&mut self, windows: &[f32]) -> TractResult<()> {
        transpose(
            windows,
            self.window,
            self.signal.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?,
        );
        let mut inputs = tvec![self.signal.clone().into_tvalue(), self.lengths.clone()];
        inputs.extend(self.caches.drain(..).map(IntoTValue::into_tvalue));
        let session = self.session;
        let mut outputs = self
            .state
            .run_plan_with_eval(inputs, |context, state, node, inputs| {
                eval_in(session, context, state, node, inputs)
            })?;
        self.caches
            .extend(outputs.drain(2..5).map(IntoTensor::into_tensor));
        self.log_probs = outputs.swap_remove(0);
        Ok(())
    }
}

impl CachedSession for TractStream {
    fn caches(&mut self) -> Result<CacheValues<'_>, EngineError> {
        match &mut self.caches[..] {
            [channel, time, channel_len] => Ok(CacheValues {
                channel: values(channel)?,
                time: values(time)?,
                channel_len: values(channel_len)?,
            }),
            // A step failed, and nobody has reset the stream.
            _ => Err(run_error(&anyhow!("its caches are lost"))),
        }
    }
}

impl Session for TractStream {
    fn step(&mut self, window: &[f32]) -> Result<&[f32], EngineError> {
        // What a graph from outside makes an operator do is the graph's fault, a panic like any other.
        catch_unwind(AssertUnwindSafe(|| self.run(window)))
            .unwrap_or_else(|panic| Err(anyhow!(said(&*panic))))
            .and_then(|()| self.log_probs.try_as_plain_ram()?.as_slice::<f32>())
            .map_err(|error| run_error(&error))
    }

    fn reset(&mut self) {
        let [channel, time] = &self.cache_shapes;
        // Shapes that could be allocated when the stream was opened.
        self.caches = zeros(channel, time).unwrap_or_default();
    }
}

fn run_error(error: &TractError) -> EngineError {
    EngineError::Run {
        engine: NAME,
        reason: format!("{error:#}"),
    }
}
