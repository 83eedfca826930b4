//! Protobuf's wire format, as far as it takes to find a way through an ONNX file without copying it.

/// A field of a message.
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) value: Value<'a>,
    /// All of it: key, length and content.
    #[cfg_attr(
        not(any(feature = "ort", feature = "ort-download", feature = "tract")),
        allow(dead_code, reason = "only an outline for an engine is made of it")
    )]
    pub(super) whole: &'a [u8],
}

pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes.
    Fixed,
}

/// Takes the first field off a message.
///
/// # Errors
/// When the bytes are no protobuf message.
pub(super) fn field<'a>(bytes: &mut &'a [u8]) -> Result<Field<'a>, &'static str> {
    let before = *bytes;
    let key = varint(bytes)?;
    // Longer keys are none, but a reader that keeps the low half only would take one for another field.
    if key > u64::from(u32::MAX) {
        return Err("a field with a number of more than 32 bits");
    }
    let value = match key & 7 {
        0 => Value::Number(varint(bytes)?),
        1 => take(bytes, 8).map(|_| Value::Fixed)?,
        2 => {
            let length = varint(bytes)?;
            Value::Bytes(take(bytes, usize::try_from(length).unwrap_or(usize::MAX))?)
        }
        5 => take(bytes, 4).map(|_| Value::Fixed)?,
        _ => return Err("a field of a type that ONNX does not have"),
    };
    Ok(Field {
        number: key >> 3,
        value,
        whole: &before[..before.len() - bytes.len()],
    })
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
