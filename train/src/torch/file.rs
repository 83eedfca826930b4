//! Tensors into files.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, View};
use tch::{Device, Kind, Tensor};

use crate::whole_file;

/// Writes named tensors into a safetensors file, with text in its header: as float32, those in half
/// precision as float16. The folder is made if need be; the file appears whole, once all of it is on
/// the disk, or not at all.
///
/// # Errors
/// If the file system refuses.
pub fn write_safetensors(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
    header: HashMap<String, String>,
) -> io::Result<()> {
    let tensors = tensors
        .into_iter()
        .map(|(name, tensor)| (name, Stored::new(tensor)));
    whole_file::write(path, |part| {
        safetensors::serialize_to_file(tensors, Some(header), part).map_err(|error| match error {
            SafeTensorError::IoError(reason) => reason,
            other => io::Error::other(other),
        })
    })
}

/// A tensor on its way into a file.
struct Stored {
    tensor: Tensor,
    kind: Kind,
    shape: Vec<usize>,
}

impl Stored {
    fn new(tensor: Tensor) -> Self {
        let shape = tensor.size().iter().map(|&n| n as usize).collect();
        let kind = match tensor.kind() {
            Kind::Half => Kind::Half,
            _ => Kind::Float,
        };
        Self {
            tensor,
            kind,
            shape,
        }
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        match self.kind {
            Kind::Half => Dtype::F16,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.tensor.to_kind(self.kind).to_device(Device::Cpu);
        let tensor = tensor.contiguous();
        let mut bytes = vec![0; self.data_len()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.kind.elt_size_in_bytes()
    }
}
