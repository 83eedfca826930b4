//! Reads just enough of an ONNX file to hold it against `config.json`: names, types and shapes of
//! inputs and outputs, and the metadata. Nodes and weights are skipped, so a damaged or foreign
//! file is refused here, in words, before an engine meets it.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;

use super::{Config, Geometry, PackageError, external};

/// Inputs of the streaming graph in order. They are bound by position: the names follow NeMo.
pub const CONTRACT_INPUTS: [&str; 5] = [
    "audio_signal",
    "length",
    "cache_last_channel",
    "cache_last_time",
    "cache_last_channel_len",
];

/// Outputs of the streaming graph in order. They are bound by position: the names follow NeMo.
pub const CONTRACT_OUTPUTS: [&str; 5] = [
    "logprobs",
    "encoded_lengths",
    "cache_last_channel_next",
    "cache_last_time_next",
    "cache_last_channel_next_len",
];

/// The parts of `onnx.proto` that are read; field numbers are those of the ONNX specification.
pub(super) mod pb {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Model {
        #[prost(message, optional, tag = "7")]
        pub(super) graph: Option<Graph>,
        #[prost(message, repeated, tag = "14")]
        pub(super) metadata: Vec<StringPair>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(in crate::model) struct StringPair {
        #[prost(string, tag = "1")]
        pub(in crate::model) key: String,
        #[prost(string, tag = "2")]
        pub(in crate::model) value: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Graph {
        #[prost(message, repeated, tag = "11")]
        pub(super) inputs: Vec<ValueInfo>,
        #[prost(message, repeated, tag = "12")]
        pub(super) outputs: Vec<ValueInfo>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ValueInfo {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(message, optional, tag = "2")]
        pub(super) r#type: Option<Type>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Type {
        #[prost(message, optional, tag = "1")]
        pub(super) tensor: Option<Tensor>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Tensor {
        #[prost(int32, tag = "1")]
        pub(super) elem_type: i32,
        #[prost(message, optional, tag = "2")]
        pub(super) shape: Option<Shape>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Shape {
        #[prost(message, repeated, tag = "1")]
        pub(super) dims: Vec<Dim>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Dim {
        #[prost(int64, optional, tag = "1")]
        pub(super) value: Option<i64>,
        #[prost(string, optional, tag = "2")]
        pub(super) name: Option<String>,
    }
}

/// What a graph says of itself, once it has been found to obey the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Input names in contract order.
    pub(crate) inputs: [String; 5],
    /// Output names in contract order.
    pub(crate) outputs: [String; 5],
    /// Output frames per step T'.
    pub(crate) frames: usize,
}

const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Holds an ONNX file for so many streams at once against its configuration.
pub(crate) fn check(
    onnx: &[u8],
    config: &Config,
    streams: usize,
    path: &Path,
) -> Result<Signature, PackageError> {
    let onnx_error = |reason: String| PackageError::Onnx {
        path: path.to_owned(),
        reason,
    };
    let model = pb::Model::decode(onnx).map_err(|error| onnx_error(error.to_string()))?;
    let graph = model
        .graph
        .ok_or_else(|| onnx_error("no graph in it".to_owned()))?;

    // Engines would open whatever path the graph names.
    if external::wants_other_files(onnx).map_err(|reason| onnx_error(reason.to_owned()))? {
        return Err(PackageError::Field {
            path: path.to_owned(),
            field: "a tensor".to_owned(),
            expected: "values in this file".to_owned(),
            found: "a reference to another file".to_owned(),
        });
    }

    let Geometry {
        window_size,
        chunk_shift,
        subsampling_factor,
        cache_last_channel,
        cache_last_time,
    } = &config.geometry;
    let cache = |dims: &[usize; 3]| [streams, dims[0], dims[1], dims[2]];
    let (channel, time) = (cache(cache_last_channel), cache(cache_last_time));
    let mel_bins = config.features.mel_bins;
    let inputs: [(i32, &[usize]); 5] = [
        (FLOAT, &[streams, mel_bins, *window_size]),
        (INT64, &[streams]),
        (FLOAT, &channel),
        (FLOAT, &time),
        (INT64, &[streams]),
    ];
    let inputs = bind(&graph.inputs, "input", &CONTRACT_INPUTS, &inputs, path)?;

    let frames = chunk_shift / subsampling_factor;
    let outputs: [(i32, &[usize]); 5] = [
        (FLOAT, &[streams, frames, config.tokens.count]),
        (INT64, &[streams]),
        (FLOAT, &channel),
        (FLOAT, &time),
        (INT64, &[streams]),
    ];
    let outputs = bind(&graph.outputs, "output", &CONTRACT_OUTPUTS, &outputs, path)?;

    check_metadata(&model.metadata, config, path)?;
    Ok(Signature {
        inputs,
        outputs,
        frames,
    })
}

fn bind(
    values: &[pb::ValueInfo],
    side: &str,
    names: &[&str; 5],
    expected: &[(i32, &[usize]); 5],
    path: &Path,
) -> Result<[String; 5], PackageError> {
    let error = |field: String, expected: String, found: String| PackageError::Field {
        path: path.to_owned(),
        field,
        expected,
        found,
    };
    let values: &[pb::ValueInfo; 5] = values.try_into().map_err(|_| {
        error(
            format!("{side}s"),
            format!("5: {}", names.join(", ")),
            format!("{} of them", values.len()),
        )
    })?;
    for (index, (value, (elem_type, shape))) in values.iter().zip(expected).enumerate() {
        let same_type = tensor(value).is_some_and(|tensor| tensor.elem_type == *elem_type);
        let same_shape = dims(Some(value))
            .is_some_and(|dims| dims.iter().copied().eq(shape.iter().copied().map(Some)));
        if !(same_type && same_shape) {
            let found = describe(value);
            let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
            let expected = format!("{} ({})", type_name(*elem_type), shape.join(", "));
            return Err(error(
                format!("{side} {index} ({})", names[index]),
                expected,
                found,
            ));
        }
    }
    Ok(values.each_ref().map(|value| value.name.clone()))
}

/// The numbers that other clients of the contract read; where present they must agree with
/// `config.json`, for a package in which two places disagree has been put together wrongly.
fn check_metadata(
    metadata: &[pb::StringPair],
    config: &Config,
    path: &Path,
) -> Result<(), PackageError> {
    let found: BTreeMap<&str, &str> = metadata
        .iter()
        .map(|pair| (pair.key.as_str(), pair.value.as_str()))
        .collect();
    let Geometry {
        window_size,
        chunk_shift,
        subsampling_factor,
        cache_last_channel,
        cache_last_time,
    } = config.geometry;
    let [channel1, channel2, channel3] = cache_last_channel;
    let [time1, time2, time3] = cache_last_time;
    let expected = [
        ("window_size", window_size),
        ("chunk_shift", chunk_shift),
        ("subsampling_factor", subsampling_factor),
        ("vocab_size", config.tokens.blank_id),
        ("cache_last_channel_dim1", channel1),
        ("cache_last_channel_dim2", channel2),
        ("cache_last_channel_dim3", channel3),
        ("cache_last_time_dim1", time1),
        ("cache_last_time_dim2", time2),
        ("cache_last_time_dim3", time3),
    ];
    for (key, expected) in expected {
        let Some(found) = found.get(key) else {
            continue;
        };
        if found.parse() != Ok(expected) {
            return Err(PackageError::Field {
                path: path.to_owned(),
                field: format!("metadata {key}"),
                expected: format!("{expected}, as config.json says"),
                found: format!("{found:?}"),
            });
        }
    }
    Ok(())
}

fn tensor(value: &pb::ValueInfo) -> Option<&pb::Tensor> {
    value.r#type.as_ref()?.tensor.as_ref()
}

/// Sizes of a value's dimensions; `None` for one that is not a fixed number.
fn dims(value: Option<&pb::ValueInfo>) -> Option<Vec<Option<usize>>> {
    let shape = tensor(value?)?.shape.as_ref()?;
    Some(
        shape
            .dims
            .iter()
            .map(|dim| dim.value.and_then(|value| usize::try_from(value).ok()))
            .collect(),
    )
}

fn describe(value: &pb::ValueInfo) -> String {
    let Some(tensor) = tensor(value) else {
        return format!("{:?}, which is no tensor", value.name);
    };
    let dims: Vec<String> = tensor
        .shape
        .iter()
        .flat_map(|shape| &shape.dims)
        .map(|dim| match (dim.value, &dim.name) {
            (Some(value), _) => value.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => "?".to_owned(),
        })
        .collect();
    format!(
        "{:?} {} ({})",
        value.name,
        type_name(tensor.elem_type),
        dims.join(", ")
    )
}

fn type_name(elem_type: i32) -> String {
    match elem_type {
        FLOAT => "f32".to_owned(),
        INT64 => "i64".to_owned(),
        10 => "f16".to_owned(),
        11 => "f64".to_owned(),
        other => format!("ONNX type {other}"),
    }
}
