//! The machine that a table is made on.

use std::fs;
use std::thread;

use serde::{Deserialize, Serialize};

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name; where the system does not tell it, its architecture.
    pub cpu: String,
    /// Cores that the program may use.
    pub cores: usize,
    /// Where the models are computed: `cpu` or `cuda:N`.
    pub device: String,
}

impl Machine {
    /// This machine, with the models on `device`.
    #[must_use]
    pub fn this(device: tch::Device) -> Self {
        Self {
            cpu: cpu().unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            device: match device {
                tch::Device::Cuda(index) => format!("cuda:{index}"),
                other => format!("{other:?}").to_lowercase(),
            },
        }
    }
}

/// As Linux tells it.
fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned())
}
