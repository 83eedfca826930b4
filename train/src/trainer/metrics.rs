//! Figures of a run: `metrics.jsonl`, one JSON object a line, and the same for TensorBoard.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::TrainError;
use super::tensorboard::EventFile;
use crate::evaluate::SpikeAgreement;

/// Figures by name; slashes part them into groups.
pub(super) type Figures = Vec<(String, f64)>;

/// The two shares of spikes that agree with the teacher's, [`SpikeAgreement::shares`].
pub(super) const SPIKE_SHARES: [&str; 2] = ["spikes_on_teachers_frame", "spikes_within_one_frame"];

/// The shares of spikes that agree, as figures of a group; none without spikes.
pub(super) fn shares(group: &str, agreement: SpikeAgreement) -> Figures {
    let shares = agreement.shares().into_iter().flatten();
    let names = SPIKE_SHARES.map(|name| format!("{group}/{name}"));
    names.into_iter().zip(shares).collect()
}

/// Where figures are written.
pub(super) struct Metrics {
    path: PathBuf,
    lines: File,
    events: EventFile,
}

impl Metrics {
    /// Goes on with a run's figures from `step`; what was written of later steps, before the run was
    /// cut off, is removed.
    pub(super) fn open(run: &Path, step: u64) -> Result<Self, TrainError> {
        let path = run.join("metrics.jsonl");
        let io = |reason| TrainError::Io {
            path: path.clone(),
            reason,
        };
        cut_after(&path, step).map_err(io)?;
        let lines = OpenOptions::new().create(true).append(true).open(&path);
        let lines = lines.map_err(io)?;
        let folder = run.join("tensorboard");
        let events = EventFile::create(&folder, step).map_err(|reason| TrainError::Io {
            path: folder.clone(),
            reason,
        })?;
        Ok(Self {
            path,
            lines,
            events,
        })
    }

    /// Writes figures of one step.
    pub(super) fn write(
        &mut self,
        step: u64,
        stage: &str,
        figures: &Figures,
    ) -> Result<(), TrainError> {
        let mut line = Map::new();
        line.insert("step".into(), step.into());
        line.insert("stage".into(), stage.into());
        line.extend(
            figures
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(*value))),
        );
        let text = Value::Object(line).to_string() + "\n";
        let written = self.lines.write_all(text.as_bytes());
        written
            .and_then(|()| self.events.scalars(step, figures))
            .map_err(|reason| TrainError::Io {
                path: self.path.clone(),
                reason,
            })
    }
}

fn cut_after(path: &Path, step: u64) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut kept = String::new();
    for line in BufReader::new(file).lines() {
        let line = line?;
        let of = serde_json::from_str::<Map<String, Value>>(&line)
            .ok()
            .and_then(|line| line.get("step")?.as_u64());
        if of.is_some_and(|of| of <= step) {
            kept += &line;
            kept.push('\n');
        }
    }
    let whole = path.with_extension("jsonl.part");
    fs::write(&whole, kept)?;
    fs::rename(whole, path)
}
