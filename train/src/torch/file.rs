//! Tensors into files.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, View};
use tch::{Device, Kind, Tensor};

/// Writes named tensors as float32 into a safetensors file, with text in its header. The folder is
/// made if need be; the file appears whole, once all of it is on the disk, or not at all.
///
/// # Errors
/// If the file system refuses.
pub fn write_safetensors(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
    header: HashMap<String, String>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let part = path.with_added_extension("part");
    let tensors = tensors
        .into_iter()
        .map(|(name, tensor)| (name, Stored::new(tensor)));
    safetensors::serialize_to_file(tensors, Some(header), &part).map_err(|error| match error {
        SafeTensorError::IoError(reason) => reason,
        other => io::Error::other(other),
    })?;
    File::open(&part)?.sync_all()?;
    fs::rename(&part, path)?;
    // The new name is on the disk when the folder is.
    File::open(folder)?.sync_all()
}

/// A tensor on its way into a file, as float32.
struct Stored {
    tensor: Tensor,
    shape: Vec<usize>,
}

impl Stored {
    fn new(tensor: Tensor) -> Self {
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        Self { tensor, shape }
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.tensor.to_kind(Kind::Float).to_device(Device::Cpu);
        let tensor = tensor.contiguous();
        let mut bytes = vec![0; self.data_len()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * Kind::Float.elt_size_in_bytes()
    }
}
