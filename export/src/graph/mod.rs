//! The streaming graph in ONNX, node by node.
//!
//! One file per module of the model, in the order of the data: `subsampling`, then in every layer
//! `feed_forward`, `attention` (with `position`) and `convolution`, then `head`. `cache` packs what
//! a stream remembers, `weights` finds a checkpoint's tensors, `builder` owns nodes and constants.
//!
//! A chunk of a small model costs time per node as much as per multiplication, so whatever is known
//! beforehand is folded into the weights: scales, halves, biases, projected positions.

mod attention;
mod builder;
mod cache;
mod convolution;
mod error;
mod feed_forward;
mod head;
mod position;
mod streaming;
mod subsampling;
mod weights;

use sori::model::{CONTRACT_INPUTS, CONTRACT_OUTPUTS};
use sori_train::model::{ConformerConfig, SUBSAMPLING};
use tch::{Device, Kind, Tensor};
use tract_onnx::pb::{GraphProto, tensor_proto::DataType};

use builder::Builder;
use cache::Next;
pub use error::{GraphError, StreamingError};
pub use streaming::Streaming;
use weights::Affine;
pub use weights::Weights;

/// The operator set that the nodes are from.
pub const OPSET: i64 = 17;

/// The constant of ones that a layer norm needs whose scale lies in the map after it.
const UNSCALED: &str = "encoder.unscaled";

/// What the modules write with.
struct Writer<'a> {
    graph: Builder,
    weights: &'a Weights,
    config: &'a ConformerConfig,
    streaming: Streaming,
}

/// The graph of a model that runs chunk by chunk: the contract of [`sori::model`].
///
/// # Errors
/// [`GraphError`] if the model cannot stream, or a tensor is missing or has another shape.
pub fn build(
    config: &ConformerConfig,
    weights: &Weights,
    streaming: Streaming,
) -> Result<GraphProto, GraphError> {
    config.validate()?;
    if !config.causal {
        return Err(GraphError::NotCausal);
    }
    let mut writer = Writer {
        graph: Builder::default(),
        weights,
        config,
        streaming,
    };
    writer.declare();
    writer.model()?;
    Ok(writer.graph.finish("sori"))
}

impl Writer<'_> {
    fn declare(&mut self) {
        let Self {
            config, streaming, ..
        } = *self;
        let batch = streaming.batch;
        let cache = |[dim1, dim2, dim3]: [i64; 3]| vec![batch, dim1, dim2, dim3];
        let channel = cache(streaming.cache_last_channel(config));
        let time = cache(streaming.cache_last_time(config));
        let (float, integer) = (DataType::Float, DataType::Int64);

        let signal = vec![batch, config.features, streaming.window()];
        let inputs = [
            (float, &signal),
            (integer, &vec![batch]),
            (float, &channel),
            (float, &time),
            (integer, &vec![batch]),
        ];
        for (name, (kind, shape)) in CONTRACT_INPUTS.iter().zip(inputs) {
            self.graph.input(name, kind, shape);
        }
        let log_probs = vec![batch, streaming.chunk, config.outputs()];
        let outputs = [
            (float, &log_probs),
            (integer, &vec![batch]),
            (float, &channel),
            (float, &time),
            (integer, &vec![batch]),
        ];
        for (name, (kind, shape)) in CONTRACT_OUTPUTS.iter().zip(outputs) {
            self.graph.output(name, kind, shape);
        }
    }

    fn model(&mut self) -> Result<(), GraphError> {
        let [signal, length, channel, time, cached] = CONTRACT_INPUTS;
        let [log_probs, lengths, channel_next, time_next, cached_next] = CONTRACT_OUTPUTS;

        let ones = Tensor::ones([self.config.d_model], (Kind::Float, Device::Cpu));
        self.graph.float(UNSCALED, &ones);
        let past = self.read_caches(channel, time);
        let mask = self.mask(cached);
        let (mut x, log_mel) = self.subsampling(signal, &past.log_mel)?;
        let mut next = Next {
            log_mel,
            ..Next::default()
        };
        for (i, attended) in past.attention.iter().enumerate() {
            let path = format!("encoder.layers.{i}");
            x = self.feed_forward(&path, 1, &x)?;
            let (y, keys_and_values) = self.attention(&path, &x, attended, &mask)?;
            let (y, gated) =
                self.convolution(&path, &y, past.convolution.get(i).map(String::as_str))?;
            x = self.feed_forward(&path, 2, &y)?;
            x = self.norm(&format!("{path}.norm_out"), &x)?;
            next.attention.push(keys_and_values);
            next.convolution.push(gated);
        }
        self.head(&x, log_probs)?;
        self.write_caches(channel, &next, channel_next, time_next);

        let subsampling = self.graph.integers("subsampling", &[SUBSAMPLING]);
        self.graph.node("Div", lengths, &[length, &subsampling]);
        let chunk = self.graph.integers("cache.chunk", &[self.streaming.chunk]);
        let left = self.graph.integers("cache.left", &[self.streaming.left]);
        let grown = self.graph.node("Add", "cache.grown", &[cached, &chunk]);
        self.graph.node("Min", cached_next, &[&grown, &left]);
        Ok(())
    }

    /// A layer norm over the model's width.
    fn norm(&mut self, path: &str, x: &str) -> Result<String, GraphError> {
        let norm = self.weights.norm(path, self.config.d_model)?;
        let scale = self.graph.float(&format!("{path}.weight"), &norm.weight);
        let shift = self.graph.float(&format!("{path}.bias"), &norm.bias);
        Ok(self.graph.layer_norm(path, x, &scale, Some(&shift)))
    }

    /// A layer norm over the model's width, and an affine map that takes over its scale and shift.
    fn norm_and_map(
        &mut self,
        norm: &str,
        map: &str,
        x: &str,
        affine: &Affine,
    ) -> Result<String, GraphError> {
        let affine = affine.after(&self.weights.norm(norm, self.config.d_model)?);
        let y = self.graph.layer_norm(norm, x, UNSCALED, None);
        Ok(self.graph.gemm(map, &y, &affine))
    }
}
