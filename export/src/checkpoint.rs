//! A checkpoint, with what it says of its training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sori_train::config::Chunk;
use sori_train::model::{self, Conformer};
use sori_train::trainer::Provenance;
use tch::Device;

use crate::ExportError;
use crate::graph::Weights;

/// A trained model, as libtorch runs it and as the graph is made of it.
pub(crate) struct Checkpoint {
    pub(crate) path: PathBuf,
    pub(crate) model: Conformer,
    pub(crate) weights: Weights,
    /// `None` for a checkpoint that says nothing of its training.
    provenance: Option<Provenance>,
}

impl Checkpoint {
    /// Reads a file that `sori-train` wrote. It need not be trusted.
    pub(crate) fn open(path: &Path) -> Result<Self, ExportError> {
        let (store, model) = model::load(path, Device::Cpu)?;
        let provenance = Provenance::read(path).map_err(|reason| ExportError::Io {
            path: path.into(),
            reason,
        })?;
        Ok(Self {
            path: path.into(),
            model,
            weights: Weights::new(store.variables()),
            provenance,
        })
    }

    /// The chunks that the model was trained with, if this is none of them.
    pub(crate) fn chunks_other_than(&self, chunk_ms: u32) -> Option<Vec<Chunk>> {
        let trained = &self.provenance.as_ref()?.chunks_ms;
        (!trained.contains(&Chunk::Ms(chunk_ms))).then(|| trained.clone())
    }

    /// The left context that the model was trained with, ms.
    pub(crate) fn left_ms(&self) -> Option<u32> {
        Some(self.provenance.as_ref()?.left_ms)
    }

    /// The text of a `tokens.txt`.
    pub(crate) fn tokens(&self) -> Option<String> {
        let tokens = &self.provenance.as_ref()?.tokens;
        let symbols = tokens.iter().map(String::as_str).chain(["<blk>"]);
        Some(
            symbols
                .enumerate()
                .map(|(id, symbol)| format!("{symbol} {id}\n"))
                .collect(),
        )
    }

    /// What the checkpoint says of its training, for people. The tokens have a file of their own.
    pub(crate) fn facts(&self) -> BTreeMap<String, Value> {
        let facts = serde_json::to_value(&self.provenance);
        let Ok(Value::Object(facts)) = facts else {
            return BTreeMap::new();
        };
        facts
            .into_iter()
            .filter(|(key, value)| key != "tokens" && !value.is_null())
            .collect()
    }
}
