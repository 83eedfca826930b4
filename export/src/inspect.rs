//! What is in a graph, and how much work a chunk is.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use prost::Message;
use serde::Serialize;
use tract_onnx::pb::{ModelProto, TensorProto, tensor_proto::DataType};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::DimLike;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::Conv;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::konst::Const;
use tract_onnx::tract_core::ops::source::TypedSource;

/// What is in a graph. All of it is counted from the file, nothing is measured: it tells what a
/// machine must do at least, against which a benchmark can be held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// Nodes in the file, by operator.
    pub operators: BTreeMap<String, usize>,
    /// Values of the constants that are weights or tables: floats, and 8-bit integers.
    pub parameters: u64,
    /// Audio that one chunk covers, ms, if the file says so.
    pub chunk_ms: Option<u32>,
    /// Multiplications with addition in matrix products and convolutions, for one chunk.
    pub multiply_adds: u64,
    /// Bytes of constants that a chunk reads.
    pub constant_bytes: u64,
    /// Bytes of inputs read and outputs written: almost all of it is the caches.
    pub cache_bytes: u64,
    /// Bytes of results between nodes, written once and read once.
    pub activation_bytes: u64,
}

/// Why a graph cannot be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The file cannot be read. Check the path and the permissions.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The file is not ONNX, or was cut. Copy it again.
    #[error("{path}: not a complete ONNX model ({reason})")]
    Onnx {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        reason: prost::DecodeError,
    },
    /// The graph cannot be analysed: its shapes are not fixed, or an operator is unknown.
    #[error("{path}: cannot be analysed: {reason}")]
    Graph {
        /// The file.
        path: PathBuf,
        /// The analyser's reason.
        reason: String,
    },
}

/// Looks into an ONNX file.
///
/// # Errors
/// [`InspectError`] if the file cannot be read or understood.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let bytes = std::fs::read(path).map_err(|reason| InspectError::Io {
        path: path.into(),
        reason,
    })?;
    let model = ModelProto::decode(&*bytes).map_err(|reason| InspectError::Onnx {
        path: path.into(),
        reason,
    })?;
    let refuse = |reason| InspectError::Graph {
        path: path.into(),
        reason,
    };
    // The file is not trusted, and the analyser was not made for such.
    let work = catch_unwind(AssertUnwindSafe(|| Work::of(&model)))
        .map_err(|_| refuse("the analyser gave up".to_owned()))?
        .map_err(|error| refuse(format!("{error:#}")))?;

    let mut operators = BTreeMap::new();
    let graph = model.graph.unwrap_or_default();
    for node in &graph.node {
        *operators.entry(node.op_type.clone()).or_default() += 1;
    }
    let shift = model
        .metadata_props
        .iter()
        .find(|entry| entry.key == "chunk_shift");
    let frames = shift.and_then(|entry| entry.value.parse::<u32>().ok());
    Ok(Inspection {
        operators,
        parameters: graph.initializer.iter().map(parameters).sum(),
        chunk_ms: frames
            .and_then(|frames| frames.checked_mul(10))
            .filter(|&ms| ms > 0),
        multiply_adds: work.multiply_adds,
        constant_bytes: work.constant_bytes,
        cache_bytes: work.cache_bytes,
        activation_bytes: work.activation_bytes,
    })
}

fn parameters(constant: &TensorProto) -> u64 {
    let weights = [
        DataType::Float,
        DataType::Float16,
        DataType::Int8,
        DataType::Uint8,
    ];
    if !weights
        .iter()
        .any(|&kind| kind as i32 == constant.data_type)
    {
        return 0;
    }
    constant.dims.iter().map(|&dim| dim.max(0) as u64).product()
}

/// The work in a graph, once its constants are folded.
#[derive(Default)]
struct Work {
    multiply_adds: u64,
    constant_bytes: u64,
    cache_bytes: u64,
    activation_bytes: u64,
}

impl Work {
    fn of(model: &ModelProto) -> TractResult<Self> {
        let model = tract_onnx::onnx()
            .model_for_proto_model(model)?
            .into_typed()?
            .into_decluttered()?;
        let mut work = Self::default();
        for outlet in &model.outputs {
            work.cache_bytes += bytes(model.outlet_fact(*outlet)?)?;
        }
        for node in &model.nodes {
            let inputs = model.node_input_facts(node.id)?;
            if node.op_is::<EinSum>() || node.op_is::<Conv>() {
                for (_, count) in node.op.cost(&inputs)? {
                    work.multiply_adds += count.to_usize()? as u64;
                }
            }
            let written: u64 = node
                .outputs
                .iter()
                .map(|output| bytes(&output.fact))
                .sum::<TractResult<_>>()?;
            if node.op_is::<Const>() {
                work.constant_bytes += written;
            } else if node.op_is::<TypedSource>() {
                work.cache_bytes += written;
            // Only the shape changes.
            } else if !node.op_is::<AxisOp>() {
                work.activation_bytes += 2 * written;
            }
        }
        Ok(work)
    }
}

fn bytes(fact: &TypedFact) -> TractResult<u64> {
    Ok((fact.shape.volume().to_usize()? * fact.datum_type.size_of()) as u64)
}
