//! A PyTorch checkpoint: a zip archive of an index (`data.pkl`) and one file for each storage.

use std::io::{Cursor, Read};

use tch::{Kind, Tensor};
use zip::ZipArchive;

use super::error::NemoErrorKind;
use super::pickle::{self, Entry, Tensors};
use crate::model::weights::{self, WeightError};

/// The index of the largest published models has about a megabyte.
const INDEX_LIMIT: u64 = 8 << 20;

/// Tensors by name, read when asked for.
pub(super) struct TorchFile<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// The folder that all members lie in.
    folder: String,
    entries: Tensors,
    /// No storage is larger than the whole, as nothing in it is compressed.
    limit: u64,
}

impl<'a> TorchFile<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, NemoErrorKind> {
        let fail = |reason| NemoErrorKind::Checkpoint { reason };
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| {
            fail(format!(
                "{error}; checkpoints from before PyTorch 1.6 are not supported"
            ))
        })?;
        let index = (0..zip.len())
            .filter_map(|i| Some(zip.name_for_index(i)?.ok()?.into_owned()))
            .find_map(|name| name.strip_suffix("data.pkl").map(str::to_owned));
        let folder = index.ok_or_else(|| fail("holds no data.pkl".into()))?;
        let pickle = member(&mut zip, &format!("{folder}data.pkl"), INDEX_LIMIT).map_err(fail)?;
        let entries = pickle::read(&pickle).map_err(fail)?;
        Ok(Self {
            zip,
            folder,
            entries,
            limit: bytes.len() as u64,
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(AsRef::as_ref)
    }

    /// The tensor of that name, if there is one.
    pub(super) fn tensor(&mut self, name: &str) -> Result<Option<Tensor>, WeightError> {
        let Some(entry) = self.entries.get(name) else {
            return Ok(None);
        };
        if entry.kind == Kind::Int64 {
            return Err(WeightError::Type {
                name: name.into(),
                found: "int64".into(),
            });
        }
        let unreadable = |reason| WeightError::Unreadable {
            name: name.into(),
            reason,
        };
        let values = values(entry).ok_or_else(|| unreadable("its shape is impossible".into()))?;
        let bytes = entry.kind.elt_size_in_bytes() as u64;
        let file = format!("{}data/{}", self.folder, entry.storage);
        let data = member(&mut self.zip, &file, self.limit).map_err(unreadable)?;
        let count = data.len() as u64 / bytes;
        if values > count {
            let reason = format!("it needs {values} values of a storage of {count}");
            return Err(unreadable(reason));
        }
        let storage = weights::tensor(name, &data, &[count as i64], entry.kind)?;
        let tensor = storage.f_as_strided(&entry.size, &entry.stride, entry.offset);
        tensor
            .map(|tensor| Some(tensor.contiguous()))
            .map_err(|error| unreadable(error.to_string()))
    }
}

/// How many values a storage needs for a tensor to lie in it. `None` for numbers that no tensor has,
/// and for one that would grow when read since its values overlap.
fn values(entry: &Entry) -> Option<u64> {
    if entry.size.len() != entry.stride.len() || entry.offset < 0 {
        return None;
    }
    let (mut count, mut last) = (1_i64, entry.offset);
    for (&size, &stride) in entry.size.iter().zip(&entry.stride) {
        if size < 1 || stride < 0 {
            return None;
        }
        count = count.checked_mul(size)?;
        last = last.checked_add((size - 1).checked_mul(stride)?)?;
    }
    let needed = last.checked_add(1)?;
    (count <= needed).then_some(needed as u64)
}

fn member(zip: &mut ZipArchive<Cursor<&[u8]>>, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let file = zip
        .by_name(name)
        .map_err(|error| format!("{name}: {error}"))?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{name}: {error}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("{name} is larger than {limit} bytes"));
    }
    Ok(bytes)
}
