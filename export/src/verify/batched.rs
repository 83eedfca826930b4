//! A graph for several streams at once, with all its places taken: the runtime takes no more of them than streams wait.

use std::io::Cursor;

use tract_onnx::prelude::*;

use super::{Comparison, Signal, chunks, compare, reference};
use crate::ExportError;
use crate::graph::Streaming;
use sori_train::model::{Conformer, ConformerConfig};

/// A batched graph, run by tract.
pub(crate) struct Batched {
    plan: Arc<TypedRunnableModel>,
    streaming: Streaming,
}

impl Batched {
    pub(crate) fn load(onnx: &[u8], streaming: Streaming) -> Result<Self, ExportError> {
        let plan = tract_onnx::onnx()
            .model_for_read(&mut Cursor::new(onnx))
            .and_then(InferenceModelExt::into_optimized)
            .and_then(TypedModel::into_runnable)
            .map_err(|error| failed(&error))?;
        Ok(Self { plan, streaming })
    }

    /// Lets every stream begin at another chunk of the signal.
    pub(crate) fn compare(
        &self,
        model: &Conformer,
        signal: &Signal,
    ) -> Result<Comparison, ExportError> {
        let window = self.streaming.window();
        let streams: Vec<_> = (0..self.streaming.batch())
            .map(|i| signal.log_mel.roll([-i * window], [0]))
            .collect();
        let log_mel = tch::Tensor::stack(&streams, 0);
        let found = self
            .stream(model.config(), &log_mel)
            .map_err(|error| failed(&error))?;
        let expected = reference(model, self.streaming, &log_mel)?;
        Ok(compare("batched", "tract", signal.name, &expected, &found))
    }

    fn stream(&self, config: &ConformerConfig, log_mel: &tch::Tensor) -> TractResult<tch::Tensor> {
        let batch = self.streaming.batch() as usize;
        let cache = |dims: [i64; 3]| {
            let [dim1, dim2, dim3] = dims.map(|dim| dim as usize);
            Tensor::zero::<f32>(&[batch, dim1, dim2, dim3]).map(IntoTValue::into_tvalue)
        };
        let mut caches = tvec![
            cache(self.streaming.cache_last_channel(config))?,
            cache(self.streaming.cache_last_time(config))?,
            Tensor::zero::<i64>(&[batch])?.into_tvalue(),
        ];
        let mut results = Vec::new();
        for chunk in chunks(log_mel, self.streaming) {
            let chunk = chunk.transpose(1, 2).contiguous();
            let mut values = vec![0_f32; chunk.numel()];
            chunk.copy_data(&mut values, chunk.numel());
            let shape: Vec<_> = chunk.size().iter().map(|&dim| dim as usize).collect();
            let lengths = vec![self.streaming.window(); batch];
            let mut inputs = tvec![
                Tensor::from_shape(&shape, &values)?.into_tvalue(),
                Tensor::from_shape(&[batch], &lengths)?.into_tvalue(),
            ];
            inputs.append(&mut caches);
            let mut outputs = self.plan.run(inputs)?;
            caches.extend(outputs.drain(2..5));
            let log_probs =
                tch::Tensor::from_slice(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?);
            results.push(log_probs.reshape([batch as i64, self.streaming.chunk(), -1]));
        }
        Ok(tch::Tensor::stack(&results, 0))
    }
}

fn failed(error: &TractError) -> ExportError {
    ExportError::Batched {
        reason: format!("{error:#}"),
    }
}
