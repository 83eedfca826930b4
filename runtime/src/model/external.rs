//! Whether an ONNX file wants values from other files, which engines would read for it.

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
            (Self::Node, 5) => Some(Self::Attribute),
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
        let key = varint(&mut bytes)?;
        let number = key >> 3;
        let content = match key & 7 {
            0 => {
                // `data_location`, of which 0 is this file.
                let value = varint(&mut bytes)?;
                if matches!((message, number), (Message::Tensor, 14)) && value != 0 {
                    return Ok(true);
                }
                continue;
            }
            1 => take(&mut bytes, 8)?,
            2 => {
                let length = varint(&mut bytes)?;
                take(&mut bytes, usize::try_from(length).unwrap_or(usize::MAX))?
            }
            5 => take(&mut bytes, 4)?,
            _ => return Err("a field of a type that ONNX does not have"),
        };
        // `external_data`
        if matches!((message, number), (Message::Tensor, 13)) {
            return Ok(true);
        }
        if let Some(inner) = message.field(number)
            && search(content, inner, depth + 1)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], &'static str> {
    let (content, rest) = bytes
        .split_at_checked(count)
        .ok_or("it ends within a field")?;
    *bytes = rest;
    Ok(content)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number of more than 64 bits")
}
