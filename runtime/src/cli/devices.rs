use std::io::{self, Write};

use clap::Args;
use serde_json::json;
use sori::audio::devices;

use super::Outcome;

/// List the microphones of this machine.
///
/// The first column is what `sori listen --device` takes; the default one is marked with a star.
#[derive(Args)]
pub(super) struct Devices {
    /// Print a line of JSON per microphone: {id, name, default, sample_rate, channels, sample_format}.
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let devices = devices()?;
        let mut out = io::stdout().lock();
        for device in &devices {
            let format = device.format.as_ref();
            if self.json {
                let line = json!({
                    "id": device.id,
                    "name": device.name,
                    "default": device.is_default,
                    "sample_rate": format.map(|format| format.sample_rate),
                    "channels": format.map(|format| format.channels),
                    "sample_format": format.map(|format| &format.sample_format),
                });
                writeln!(out, "{line}")?;
            } else {
                let star = if device.is_default { '*' } else { ' ' };
                let format =
                    format.map_or_else(|| "offers no sound now".to_owned(), ToString::to_string);
                writeln!(out, "{star} {:<32}  {} ({format})", device.id, device.name)?;
            }
        }
        if devices.is_empty() && !self.json {
            super::say(format_args!(
                "sori: no microphone found; check that one is connected and that this user may use it"
            ));
        }
        Ok(Outcome::Done)
    }
}
