//! An ONNX file without its weights.
//!
//! An engine that is given a whole file holds all weights at least twice while it loads them: in the parsed message
//! and in its own tensors. From an outline, in which each large tensor says where in that same file its values are,
//! it can map them.

use std::ops::Range;

use prost::Message;

use super::graph::pb::StringPair;
use super::wire::{self, Value};

/// Tensors of fewer bytes stay: engines want to see the constants that shapes come from.
const LARGE: usize = 4096;

/// What is added to a tensor, of `onnx.proto`.
#[derive(Clone, PartialEq, prost::Message)]
struct Elsewhere {
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<StringPair>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

/// Writes the model in the file `onnx` anew, with the values of large initializers replaced by where they are in
/// the file, which is called `file`.
///
/// # Errors
/// When the bytes are no protobuf message.
pub(super) fn outline(onnx: &[u8], file: &str) -> Result<Vec<u8>, &'static str> {
    let place = |content: &[u8]| {
        let start = content.as_ptr().addr() - onnx.as_ptr().addr();
        start..start + content.len()
    };
    let graph = |graph: &[u8]| {
        rewrite(graph, 5, |tensor| match raw_data(tensor)? {
            Some(raw) if raw.len() >= LARGE => elsewhere(tensor, file, place(raw)).map(Some),
            _ => Ok(None),
        })
        .map(Some)
    };
    rewrite(onnx, 7, graph)
}

/// Copies a message, but for fields of that number that `change` has something else for.
fn rewrite(
    mut message: &[u8],
    number: u64,
    change: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, &'static str>,
) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    while !message.is_empty() {
        let field = wire::field(&mut message)?;
        let changed = match field.value {
            Value::Bytes(content) if field.number == number => change(content)?,
            _ => None,
        };
        match changed {
            Some(content) => {
                prost::encoding::encode_varint(number << 3 | 2, &mut out);
                prost::encoding::encode_varint(content.len() as u64, &mut out);
                out.extend(content);
            }
            None => out.extend(field.whole),
        }
    }
    Ok(out)
}

/// The `raw_data` of a tensor; of two, protobuf takes the last.
fn raw_data(mut tensor: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    let mut raw = None;
    while !tensor.is_empty() {
        let field = wire::field(&mut tensor)?;
        if let (9, Value::Bytes(content)) = (field.number, field.value) {
            raw = Some(content);
        }
    }
    Ok(raw)
}

/// The tensor with its values in that part of that file.
fn elsewhere(mut tensor: &[u8], file: &str, place: Range<usize>) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    while !tensor.is_empty() {
        let field = wire::field(&mut tensor)?;
        if field.number != 9 {
            out.extend(field.whole);
        }
    }
    let entry = |key: &str, value: String| StringPair {
        key: key.to_owned(),
        value,
    };
    let external = Elsewhere {
        external_data: vec![
            entry("location", file.to_owned()),
            entry("offset", place.start.to_string()),
            entry("length", place.len().to_string()),
        ],
        data_location: 1,
    };
    out.extend(external.encode_to_vec());
    Ok(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What the tests read and write of a model.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Model {
        #[prost(message, optional, tag = "7")]
        graph: Option<Graph>,
        #[prost(string, tag = "2")]
        producer: String,
        #[prost(fixed64, tag = "99")]
        unknown: u64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Graph {
        #[prost(bytes = "vec", repeated, tag = "1")]
        nodes: Vec<Vec<u8>>,
        #[prost(message, repeated, tag = "5")]
        tensors: Vec<Tensor>,
        #[prost(string, tag = "10")]
        doc: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Tensor {
        #[prost(int64, repeated, tag = "1")]
        dims: Vec<i64>,
        #[prost(string, tag = "8")]
        name: String,
        #[prost(bytes = "vec", tag = "9")]
        raw_data: Vec<u8>,
        #[prost(message, repeated, tag = "13")]
        external_data: Vec<StringPair>,
        #[prost(int32, tag = "14")]
        data_location: i32,
    }

    fn model() -> Model {
        let tensor = |name: &str, length: usize| Tensor {
            dims: vec![length as i64],
            name: name.to_owned(),
            raw_data: (0..length).map(|byte| (byte * length) as u8).collect(),
            ..Tensor::default()
        };
        let graph = Graph {
            nodes: vec![vec![9; 5000], vec![]],
            tensors: vec![
                tensor("large", 5003),
                tensor("small", LARGE - 1),
                tensor("just large", LARGE),
            ],
            doc: "a graph".to_owned(),
        };
        Model {
            graph: Some(graph),
            producer: "a test".to_owned(),
            unknown: 7,
        }
    }

    #[test]
    fn large_tensors_say_where_their_values_are_and_all_else_stays() {
        let whole = model();
        let bytes = whole.encode_to_vec();
        let outline = outline(&bytes, "model.onnx").unwrap();
        assert!(outline.len() < bytes.len() - 8900);
        let mut outline = Model::decode(&*outline).unwrap();
        let tensors = &mut outline.graph.as_mut().unwrap().tensors;
        for (index, tensor) in tensors.iter_mut().enumerate() {
            if index == 1 {
                assert!(tensor.external_data.is_empty());
                continue;
            }
            let entries = std::mem::take(&mut tensor.external_data);
            let [location, offset, length] = entries.try_into().unwrap();
            let keys = [&location.key, &offset.key, &length.key];
            assert_eq!(keys, ["location", "offset", "length"]);
            assert_eq!(location.value, "model.onnx");
            assert_eq!(std::mem::take(&mut tensor.data_location), 1);
            let offset: usize = offset.value.parse().unwrap();
            let length: usize = length.value.parse().unwrap();
            tensor.raw_data = bytes[offset..][..length].to_vec();
        }
        assert_eq!(outline, whole);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let bytes = model().encode_to_vec();
        for length in (1..bytes.len()).step_by(7) {
            // A cut between two fields of the model leaves a model.
            if let Ok(outline) = outline(&bytes[..length], "model.onnx") {
                assert!(Model::decode(&*outline).is_ok());
                assert!(Model::decode(&bytes[..length]).is_ok());
            }
        }
    }
}
