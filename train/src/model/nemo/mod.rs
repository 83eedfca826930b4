//! Import of `.nemo` files: the published Conformer-CTC models of NVIDIA NeMo as teachers.
//!
//! A `.nemo` file is a tar archive of a configuration in YAML, a PyTorch checkpoint and the
//! tokenizer's files. None of it is trusted: no pickled code runs, and memory stays in proportion to
//! the model that the configuration describes.

mod archive;
mod config;
mod error;
mod pickle;
mod torch_file;

use std::path::Path;
use std::sync::Arc;

use tch::{Device, nn};

use super::conformer::Conformer;
use super::weights::{self, WeightError};
use crate::front_end::{FrontEnd, NemoFeatures};
use config::NemoConfig;
use torch_file::TorchFile;

pub use error::{NemoError, NemoErrorKind};

const CONFIG: &str = "model_config.yaml";
const CONFIG_LIMIT: u64 = 16 << 20;
const WEIGHTS: &str = "model_weights.ckpt";
const TOKENIZER: &str = "tokenizer.model";
const TOKENIZER_LIMIT: u64 = 16 << 20;

/// An imported model with all that is needed to use it.
#[derive(Debug)]
pub struct NemoModel {
    /// The model; its outputs are the tokens and the blank.
    pub model: Conformer,
    /// Owns the model's weights.
    pub store: nn::VarStore,
    /// The tokens in the order of the outputs, without the blank.
    pub tokens: Vec<String>,
    /// What the model hears.
    pub front_end: FrontEnd,
}

/// Imports a `.nemo` file.
///
/// # Errors
/// If the file is damaged or no Conformer-CTC model that the [`Conformer`] here can be.
pub fn load(path: &Path, device: Device) -> Result<NemoModel, NemoError> {
    import(path, device).map_err(|kind| NemoError {
        path: path.into(),
        kind,
    })
}

/// Reads the `SentencePiece` model of a `.nemo` file's tokens, for
/// [`Tokenizer::from_sentencepiece`](crate::data::Tokenizer::from_sentencepiece).
///
/// # Errors
/// If the file is damaged, or its model writes characters instead of pieces.
pub fn tokenizer(path: &Path) -> Result<Vec<u8>, NemoError> {
    archive::read(path, TOKENIZER, TOKENIZER_LIMIT).map_err(|kind| NemoError {
        path: path.into(),
        kind,
    })
}

fn import(path: &Path, device: Device) -> Result<NemoModel, NemoErrorKind> {
    let nemo = NemoConfig::parse(&archive::read(path, CONFIG, CONFIG_LIMIT)?)?;
    let config = nemo.conformer()?;
    nemo.check_front_end()?;

    // Room for float64 and for the tensors that are not needed.
    let parameters: i64 = config.parameters().iter().map(|(_, count)| count).sum();
    let limit = (64 << 20) + 16 * parameters.unsigned_abs();
    let bytes = archive::read(path, WEIGHTS, limit)?;
    let mut file = TorchFile::open(&bytes)?;
    if (bytes.len() as i64) < parameters {
        let reason = format!("{} bytes for {parameters} parameters", bytes.len());
        return Err(NemoErrorKind::Checkpoint { reason });
    }

    let store = nn::VarStore::new(device);
    let model = Conformer::new(&store.root(), &config)?;
    let variables = store.variables();
    if let Some(name) = file
        .names()
        .find(|name| !variables.contains_key(*name) && !idle(name))
    {
        return Err(WeightError::Unknown { name: name.into() }.into());
    }
    weights::fill(&store, |name| file.tensor(name))?;
    let features = NemoFeatures::new(config.features as usize);
    let front_end = FrontEnd::Nemo(Arc::new(features));
    Ok(NemoModel {
        model,
        store,
        tokens: nemo.into_tokens(),
        front_end,
    })
}

/// Tensors that play no part in using a model: the front-end's constants, which are computed here,
/// and counters of training steps.
fn idle(name: &str) -> bool {
    name.starts_with("preprocessor.") || name.ends_with(".num_batches_tracked")
}
