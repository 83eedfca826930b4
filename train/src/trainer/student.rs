//! The model in training, and the running average of its weights.

use std::path::Path;

use tch::nn::VarStore;
use tch::{Device, TchError, Tensor};

use super::error::TrainError;
use super::network::{Architecture, Model};
use crate::loss::FeatureProjection;
use crate::model::{self, ConfigError};
use crate::torch;

/// Named tensors, by name.
pub(super) type Named = Vec<(String, Tensor)>;

/// A model with its weights.
pub(super) struct Weighted {
    pub(super) store: VarStore,
    pub(super) model: Model,
}

impl Weighted {
    fn new(architecture: &Architecture, device: Device) -> Result<Self, ConfigError> {
        let store = VarStore::new(device);
        let model = architecture.build(&store)?;
        Ok(Self { store, model })
    }

    /// All weights and statistics.
    pub(super) fn variables(&self) -> Named {
        by_name(self.store.variables(), "")
    }
}

/// The student: what is trained, and what becomes of it.
pub(super) struct Student {
    pub(super) raw: Weighted,
    /// The running average, if there is one.
    average: Option<Weighted>,
    average_decay: f64,
    /// Tensors of the average and of the model, in one order.
    averaged: [Vec<Tensor>; 2],
    projection_store: VarStore,
    /// To the width of the teacher's hidden vectors, if a stage compares them.
    pub(super) projection: Option<FeatureProjection>,
}

impl Student {
    /// A student with the weights in the file `init`, or with fresh ones from torch's random numbers.
    pub(super) fn new(
        architecture: &Architecture,
        init: Option<&Path>,
        projection_width: Option<i64>,
        average_decay: f64,
        device: Device,
    ) -> Result<Self, TrainError> {
        let raw = Weighted::new(architecture, device)?;
        if let Some(init) = init {
            model::restore(init, &raw.store)?;
        }
        let projection_store = VarStore::new(device);
        let projection = projection_width
            .map(|theirs| (architecture.width(), theirs))
            .map(|(own, theirs)| FeatureProjection::new(&projection_store.root(), own, theirs));
        let average = if average_decay > 0.0 {
            let mut average = Weighted::new(architecture, device)?;
            average.store.freeze();
            Some(average)
        } else {
            None
        };
        let tensors = |of: &Weighted| {
            of.variables()
                .into_iter()
                .map(|(_, tensor)| tensor)
                .collect()
        };
        let averaged = match &average {
            Some(average) => [tensors(average), tensors(&raw)],
            None => [Vec::new(), Vec::new()],
        };
        torch::lerp(&averaged[0], &averaged[1], 1.0)?;
        Ok(Self {
            raw,
            average,
            average_decay,
            averaged,
            projection_store,
            projection,
        })
    }

    /// What an optimiser moves, by name.
    pub(super) fn parameters(&self) -> Named {
        let mut parameters = self.raw.variables();
        parameters.retain(|(_, variable)| variable.requires_grad());
        parameters.extend(by_name(self.projection_store.variables(), "projection."));
        parameters
    }

    /// Moves the running average after an update, of which there were `updates` in this stage. Early
    /// ones count more, so that a stage's average does not keep its start.
    pub(super) fn update_average(&self, updates: u64) -> Result<(), TchError> {
        let early = (1.0 + updates as f64) / (10.0 + updates as f64);
        let decay = self.average_decay.min(early);
        let [targets, sources] = &self.averaged;
        torch::lerp(targets, sources, 1.0 - decay)
    }

    /// What is evaluated and kept: the average, or the weights themselves.
    pub(super) fn best(&self) -> &Weighted {
        self.average.as_ref().unwrap_or(&self.raw)
    }

    /// The tensors of a checkpoint: `model/NAME`, `average/NAME`, `projection/NAME`.
    pub(super) fn state(&self) -> Named {
        let mut state = by_name(self.raw.store.variables(), "model/");
        if let Some(average) = &self.average {
            state.extend(by_name(average.store.variables(), "average/"));
        }
        state.extend(by_name(self.projection_store.variables(), "projection/"));
        state
    }

    /// The names in a checkpoint of what [`best`](Self::best) holds.
    pub(super) fn best_prefix(&self) -> &'static str {
        if self.average.is_some() {
            "average/"
        } else {
            "model/"
        }
    }
}

fn by_name(variables: std::collections::HashMap<String, Tensor>, prefix: &str) -> Named {
    let mut named: Vec<_> = variables
        .into_iter()
        .map(|(name, tensor)| (format!("{prefix}{name}"), tensor))
        .collect();
    named.sort_by(|(a, _), (b, _)| a.cmp(b));
    named
}
