use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use sori::model::{GraphSource, Package};

use super::Outcome;

/// Check a model package and say what is in it.
#[derive(Args)]
pub(super) struct Info {
    /// Model package: the directory that holds config.json.
    #[arg(value_name = "PACKAGE")]
    package: PathBuf,
    /// Print its configuration as JSON.
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let package = Package::open(&self.package)?;
        package.verify()?;
        let config = package.config();
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, config)?;
            writeln!(out)?;
            return Ok(Outcome::Done);
        }
        let mut line = |name: &str, value: String| {
            if value.is_empty() {
                Ok(())
            } else {
                // What a package says of itself is not for the terminal to obey.
                let shown: String = value
                    .chars()
                    .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                    .collect();
                writeln!(out, "{name:<14}{shown}")
            }
        };
        line("name", config.name.clone())?;
        line("language", config.language.clone())?;
        line("description", config.description.clone())?;
        line("licence", config.license.clone())?;
        line("tokens", config.tokens.count.to_string())?;
        line("chunk", format!("{} ms", config.streaming.chunk_ms))?;
        line(
            "left context",
            format!("{} ms", config.streaming.left_context_ms),
        )?;
        for precision in package.precisions() {
            if let Some(GraphSource::File(path)) = package.source(precision) {
                let size = path.metadata()?.len() as f64 / 1e6;
                line(
                    precision.name(),
                    format!("{} ({size:.1} MB)", path.display()),
                )?;
            }
        }
        if let Some(streams) = package.batched() {
            line("batched", format!("{streams} streams in one run"))?;
        }
        for (key, value) in &config.training {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), ToOwned::to_owned);
            // A recipe, which is many lines, is for `--json`.
            if !value.contains('\n') {
                line(key, value)?;
            }
        }
        for measured in &config.measured {
            let chunk = measured
                .chunk_ms
                .map_or_else(|| "full context".to_owned(), |ms| format!("{ms} ms"));
            let precision = measured.precision.as_deref().unwrap_or("fp32");
            line(
                "WER",
                format!(
                    "{:.1} % on {} ({chunk}, {precision})",
                    measured.wer, measured.set
                ),
            )?;
        }
        Ok(Outcome::Done)
    }
}
