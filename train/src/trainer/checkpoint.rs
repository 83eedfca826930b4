//! The state of a run in one file, written whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use super::error::TrainError;
use super::peers::Peers;
use super::student::Named;
use crate::data::Position;
use crate::torch::write_safetensors;

/// The header's key for [`State`], in JSON.
const STATE: &str = "state";

/// Changes when older files can no longer be understood.
const VERSION: u32 = 1;

const PREFIX: &str = "step-";
const SUFFIX: &str = ".safetensors";

/// Where a run stands, besides its tensors. All random numbers follow from the seed and the step, so
/// there is no generator's state to keep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) version: u32,
    /// Steps over all stages so far, skipped ones included.
    pub(super) step: u64,
    /// The stage that the next step belongs to.
    pub(super) stage: usize,
    /// Steps of this stage so far.
    pub(super) stage_step: u64,
    /// Steps of this stage that moved the parameters.
    pub(super) updates: u64,
    /// Steps that were skipped.
    pub(super) skipped: u64,
    /// Seconds of audio heard so far.
    pub(super) seconds: f64,
    /// The place in the data.
    pub(super) position: Position,
    /// The recipe, in TOML.
    pub(super) recipe: String,
}

impl State {
    pub(super) fn start(recipe: String) -> Self {
        Self {
            version: VERSION,
            step: 0,
            stage: 0,
            stage_step: 0,
            updates: 0,
            skipped: 0,
            seconds: 0.0,
            position: Position::start_of(0),
            recipe,
        }
    }

    /// Where the process that leads stands.
    pub(super) fn of_the_first(self, peers: &Peers) -> Result<Self, TrainError> {
        let place = Path::new("the first process's state");
        let taken = peers.take_first_bytes(to_json(place, &self)?.into_bytes())?;
        serde_json::from_slice(&taken).map_err(|reason| TrainError::Io {
            path: place.into(),
            reason: reason.into(),
        })
    }
}

/// The folder of a run's checkpoints.
pub(super) fn folder(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// The checkpoints of a run, oldest first.
pub(super) fn list(run: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let folder = folder(run);
    let io = |reason| TrainError::Io {
        path: folder.clone(),
        reason,
    };
    let mut found = BTreeMap::new();
    let files = match fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io)?,
    };
    for file in files {
        let file = file.map_err(io)?;
        let name = file.file_name();
        let step = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX))
            .and_then(|step| step.parse::<u64>().ok());
        if let Some(step) = step {
            found.insert(step, file.path());
        }
    }
    Ok(found.into_values().collect())
}

/// The file of a run's state.
pub(super) fn file(run: &Path, state: &State) -> PathBuf {
    folder(run).join(format!("{PREFIX}{:08}{SUFFIX}", state.step))
}

/// Writes a run's state, with what else its header says, and removes all but the `keep` newest
/// checkpoints.
pub(super) fn save(
    run: &Path,
    state: &State,
    tensors: Named,
    mut header: HashMap<String, String>,
    keep: usize,
) -> Result<PathBuf, TrainError> {
    let path = file(run, state);
    header.insert(STATE.to_owned(), to_json(&path, state)?);
    write_safetensors(&path, tensors, header).map_err(|reason| TrainError::Io {
        path: path.clone(),
        reason,
    })?;
    let mut all = list(run)?;
    // A damaged one that claims to be newer is no reason to lose this.
    all.retain(|other| *other != path);
    for old in all.iter().take((all.len() + 1).saturating_sub(keep)) {
        fs::remove_file(old).map_err(|reason| TrainError::Io {
            path: old.clone(),
            reason,
        })?;
    }
    Ok(path)
}

/// A checkpoint's bytes, checked as far as they describe themselves: a file that was cut short is found.
pub(super) struct Checkpoint {
    path: PathBuf,
    bytes: Vec<u8>,
    pub(super) state: State,
}

impl Checkpoint {
    pub(super) fn read(path: &Path) -> Result<Self, TrainError> {
        let bytes = fs::read(path).map_err(|reason| TrainError::Io {
            path: path.into(),
            reason,
        })?;
        let bad = |reason: String| TrainError::Checkpoint {
            path: path.into(),
            reason,
        };
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .and_then(|header| SafeTensors::deserialize(&bytes).map(|_| header))
            .map_err(|error| bad(format!("no valid safetensors file: {error}")))?;
        let json = header
            .metadata()
            .as_ref()
            .and_then(|header| header.get(STATE));
        let json = json.ok_or_else(|| bad(format!("no \"{STATE}\" in its header")))?;
        let state: State = serde_json::from_str(json)
            .map_err(|error| bad(format!("\"{STATE}\" in its header: {error}")))?;
        if state.version != VERSION {
            let reason = format!("expected version {VERSION}, found {}", state.version);
            return Err(bad(reason));
        }
        Ok(Self {
            path: path.into(),
            bytes,
            state,
        })
    }

    /// Copies the file's values into tensors of the same names and shapes.
    pub(super) fn restore(&self, targets: &[(String, Tensor)]) -> Result<(), TrainError> {
        let file = self.tensors()?;
        for (name, target) in targets {
            let source = self.tensor(&file, name)?;
            if source.size() != target.size() {
                let (expected, found) = (target.size(), source.size());
                let reason = format!("tensor {name}: expected {expected:?}, found {found:?}");
                return Err(self.bad(reason));
            }
            no_grad(|| target.shallow_clone().copy_(&source));
        }
        Ok(())
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, TrainError> {
        SafeTensors::deserialize(&self.bytes)
            .map_err(|error| self.bad(format!("no valid safetensors file: {error}")))
    }

    fn tensor(&self, file: &SafeTensors<'_>, name: &str) -> Result<Tensor, TrainError> {
        let view = file
            .tensor(name)
            .map_err(|_| self.bad(format!("tensor {name} is missing")))?;
        if view.dtype() != Dtype::F32 {
            return Err(self.bad(format!(
                "tensor {name}: expected F32, found {:?}",
                view.dtype()
            )));
        }
        // The reader has checked that shape and data agree.
        let shape: Vec<_> = view.shape().iter().map(|&n| n as i64).collect();
        let tensor = Tensor::from_data_size(view.data(), &shape, Kind::Float);
        if bool::try_from(tensor.isfinite().all()).unwrap_or(false) {
            Ok(tensor)
        } else {
            Err(self.bad(format!("tensor {name} holds values that are not finite")))
        }
    }

    fn bad(&self, reason: String) -> TrainError {
        TrainError::Checkpoint {
            path: self.path.clone(),
            reason,
        }
    }
}

/// JSON for a file's header.
pub(super) fn to_json(path: &Path, value: &impl Serialize) -> Result<String, TrainError> {
    serde_json::to_string(value).map_err(|reason| TrainError::Io {
        path: path.into(),
        reason: reason.into(),
    })
}
