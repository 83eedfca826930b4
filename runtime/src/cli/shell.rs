use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Outcome, Sori};

/// Print the completions of a shell.
///
/// For bash: sori completions bash > ~/.local/share/bash-completion/completions/sori
#[derive(Args)]
pub(super) struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Sori::command(), "sori", &mut script);
        io::stdout().write_all(&script)?;
        Ok(Outcome::Done)
    }
}

/// Write the manual pages into a directory.
#[derive(Args)]
pub(super) struct Man {
    /// Where to write sori.1 and a page per subcommand.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> anyhow::Result<Outcome> {
        std::fs::create_dir_all(&self.directory)
            .and_then(|()| clap_mangen::generate_to(Sori::command(), &self.directory))
            .with_context(|| {
                format!(
                    "{}: cannot write the manual pages",
                    self.directory.display()
                )
            })?;
        Ok(Outcome::Done)
    }
}
