//! tract: the graph in pure Rust.

use std::io::{BufReader, Read};
use std::sync::Arc;

use tract_onnx::prelude::*;

use super::{Engine, EngineError, Session, transpose};
use crate::model::{GraphSource, Package, Precision};

#[cfg(target_arch = "x86_64")]
mod int8;
#[cfg(target_arch = "x86_64")]
mod quantised;

const NAME: &str = "tract";

/// Whether this processor has the products by bytes that make int8 the faster precision.
pub(super) fn is_fast_on_int8() -> bool {
    #[cfg(target_arch = "x86_64")]
    return int8::Avx2::detect().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

struct TractEngine {
    plan: Arc<TypedRunnableModel>,
    /// Frames of a window.
    frames: usize,
    shapes: [Vec<usize>; 3],
    description: String,
}

pub(super) fn load(
    package: &Package,
    precision: Precision,
    threads: usize,
) -> Result<Arc<dyn Engine>, EngineError> {
    let graph = package.graph(precision)?;
    let config = package.config();
    let refuse = |error: &dyn std::fmt::Display| EngineError::Load {
        engine: NAME,
        path: graph.path.display().to_string(),
        reason: error.to_string(),
    };
    let mut reader: Box<dyn Read + '_> = match &graph.source {
        GraphSource::File(path) => Box::new(BufReader::new(
            std::fs::File::open(path).map_err(|error| refuse(&error))?,
        )),
        GraphSource::Memory(bytes) => Box::new(&**bytes),
    };
    let executor = match threads {
        0 | 1 => multithread::Executor::SingleThread,
        more => multithread::Executor::multithread(more),
    };
    let options = RunOptions {
        executor: Some(executor),
        ..RunOptions::default()
    };
    let plan = inference_model(&mut reader)
        .and_then(InferenceModelExt::into_optimized)
        .and_then(|model| TypedRunnableModel::new_with_options(model, &options))
        .map_err(|error| refuse(&format!("{error:#}")))?;

    let cache = |dims: [usize; 3]| vec![1, dims[0], dims[1], dims[2]];
    let frames = config.geometry.window_size;
    Ok(Arc::new(TractEngine {
        plan,
        frames,
        shapes: [
            vec![1, config.features.mel_bins, frames],
            cache(config.geometry.cache_last_channel),
            cache(config.geometry.cache_last_time),
        ],
        description: format!("tract {VERSION}, {precision}, {threads} thread(s)"),
    }))
}

/// The graph of a file, with products by bytes as one operator of ours where the processor can do it.
fn inference_model(reader: &mut dyn Read) -> TractResult<InferenceModel> {
    #[allow(unused_mut, reason = "only x86-64 has such an operator")]
    let mut onnx = tract_onnx::onnx();
    #[allow(unused_mut, reason = "only x86-64 has such an operator")]
    let mut proto = onnx.proto_model_for_read(reader)?;
    #[cfg(target_arch = "x86_64")]
    if int8::Avx2::detect().is_some()
        && let Some(graph) = &mut proto.graph
    {
        let count = quantised::fuse(graph);
        log::debug!("tract: {count} products of bytes are computed by Sori's own operator");
        quantised::register(&mut onnx.op_register);
    }
    onnx.model_for_proto_model(&proto)
}

/// The version this crate is pinned to; see the workspace's Cargo.toml.
const VERSION: &str = "0.23";

impl Engine for TractEngine {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        let open = || -> TractResult<TractStream> {
            let zeros = |shape: &[usize]| Tensor::zero::<f32>(shape);
            let [signal, channel, time] = &self.shapes;
            Ok(TractStream {
                state: self.plan.spawn()?,
                frames: self.frames,
                signal: zeros(signal)?,
                caches: tvec![
                    zeros(channel)?.into_tvalue(),
                    zeros(time)?.into_tvalue(),
                    Tensor::zero::<i64>(&[1])?.into_tvalue(),
                ],
                log_probs: Tensor::zero::<f32>(&[0])?.into_tvalue(),
                cache_shapes: [channel.clone(), time.clone()],
            })
        };
        open()
            .map(|stream| Box::new(stream) as Box<dyn Session>)
            .map_err(|error| run_error(&error))
    }

    fn description(&self) -> &str {
        &self.description
    }
}

struct TractStream {
    state: TypedSimpleState,
    frames: usize,
    signal: Tensor,
    caches: TVec<TValue>,
    log_probs: TValue,
    cache_shapes: [Vec<usize>; 2],
}

impl TractStream {
    fn run(&mut self, window: &[f32]) -> TractResult<&[f32]> {
        transpose(
            window,
            self.frames,
            self.signal.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?,
        );
        let mut inputs = tvec![
            self.signal.clone().into_tvalue(),
            tensor1(&[self.frames as i64]).into_tvalue()
        ];
        inputs.append(&mut self.caches);
        let mut outputs = self.state.run(inputs)?;
        self.caches.extend(outputs.drain(2..5));
        self.log_probs = outputs.swap_remove(0);
        self.log_probs.try_as_plain_ram()?.as_slice::<f32>()
    }
}

impl Session for TractStream {
    fn step(&mut self, window: &[f32]) -> Result<&[f32], EngineError> {
        self.run(window).map_err(|error| run_error(&error))
    }

    fn reset(&mut self) {
        self.caches.clear();
        for shape in &self.cache_shapes {
            // A shape that could be allocated when the stream was opened.
            if let Ok(zeros) = Tensor::zero::<f32>(shape) {
                self.caches.push(zeros.into_tvalue());
            }
        }
        self.caches.push(tensor1(&[0_i64]).into_tvalue());
    }
}

fn run_error(error: &TractError) -> EngineError {
    EngineError::Run {
        engine: NAME,
        reason: format!("{error:#}"),
    }
}
