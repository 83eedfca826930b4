//! Whether an ONNX file wants values from other files, which engines would read for it.

use super::wire::{self, Value};

/// Messages of `onnx.proto` that tensors are in, or are in one that is in them.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

impl Message {
    /// What the field of that number holds, if tensors may be in it.
    fn field(self, number: u64) -> Option<Self> {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Some(Self::Graph),
            (Self::Model, 25) => Some(Self::Function),
            (Self::Graph, 1) | (Self::Function, 7) => Some(Self::Node),
            (Self::Node, 5) | (Self::Function, 11) => Some(Self::Attribute),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Some(Self::SparseTensor),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => {
                Some(Self::Tensor)
            }
            _ => None,
        }
    }
}

/// Graphs in attributes of nodes of graphs: protobuf's own limit.
const DEEPEST: usize = 100;

/// Whether a tensor anywhere in a model lies in another file. Walks over the bytes and allocates
/// nothing.
///
/// # Errors
/// When the bytes are no protobuf message, or one nested too deep.
pub(super) fn wants_other_files(onnx: &[u8]) -> Result<bool, &'static str> {
    search(onnx, Message::Model, 0)
}

fn search(mut bytes: &[u8], message: Message, depth: usize) -> Result<bool, &'static str> {
    if depth > DEEPEST {
        return Err("messages nested too deep");
    }
    while !bytes.is_empty() {
        let field = wire::field(&mut bytes)?;
        match (message, field.number, field.value) {
            // `external_data`, and `data_location`, of which 0 is this file.
            (Message::Tensor, 13, Value::Bytes(_)) => return Ok(true),
            (Message::Tensor, 14, Value::Number(place)) if place != 0 => return Ok(true),
            (_, number, Value::Bytes(content)) => {
                if let Some(inner) = message.field(number)
                    && search(content, inner, depth + 1)?
                {
                    return Ok(true);
                }
            }
            _ => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes, its key written out.
    fn field(key: &[u8], content: &[u8]) -> Vec<u8> {
        [key, &[content.len() as u8], content].concat()
    }

    #[test]
    fn a_tensor_in_another_file_is_found_wherever_tensors_are() {
        // `external_data`, a field of bytes with number 13.
        let tensor = field(&[13 << 3 | 2], b"x");
        let attribute = field(&[5 << 3 | 2], &tensor);
        let initializer = field(&[7 << 3 | 2], &field(&[5 << 3 | 2], &tensor));
        // 25 does not fit into one byte of a key.
        let function = field(&[0xca, 0x01], &field(&[11 << 3 | 2], &attribute));
        for model in [initializer, function] {
            assert_eq!(wants_other_files(&model), Ok(true), "{model:02x?}");
        }
        assert_eq!(wants_other_files(&field(&[7 << 3 | 2], b"")), Ok(false));
    }

    #[test]
    fn a_key_that_some_readers_would_cut_to_another_is_refused() {
        // 13 << 3 | 2, and a bit far above it.
        let tensor = field(&[0xea, 0x80, 0x80, 0x80, 0x10], b"x");
        let model = field(&[7 << 3 | 2], &field(&[5 << 3 | 2], &tensor));
        assert!(wants_other_files(&model).is_err());
    }
}
