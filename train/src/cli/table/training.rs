//! Runs that are not finished are checked, all of them, and trained.

use std::ops::ControlFlow;

use anyhow::Context as _;
use sori_train::trainer::{self, Outcome, Standing};
use tch::Device;

use super::plan::{Method, Run};
use crate::cli::interrupt;

/// Checks all that has still to be trained, before any of it is.
pub(super) fn check(methods: &[Method], device: Device) -> anyhow::Result<()> {
    for method in methods {
        let mut runs = method.runs.iter();
        // Runs of a recipe differ in their seeds only.
        if let Some(run) = runs.find(|run| !matches!(run.standing, Standing::Finished(_))) {
            trainer::check(&run.recipe, device)
                .with_context(|| format!("{} cannot be trained", method.path.display()))?;
        }
    }
    Ok(())
}

/// Trains a run to its end, unless it is finished; breaks off if it is stopped.
pub(super) fn train(
    method: &str,
    run: &mut Run,
    device: Device,
) -> anyhow::Result<ControlFlow<()>> {
    let seed = run.seed;
    match run.standing {
        Standing::Finished(_) => return Ok(ControlFlow::Continue(())),
        _ if interrupt::stopped() => return Ok(ControlFlow::Break(())),
        Standing::Unbegun => eprintln!("sori-train: {method}, seed {seed}: training"),
        Standing::Begun => eprintln!("sori-train: {method}, seed {seed}: training goes on"),
    }
    let options = trainer::Options {
        run: &run.folder,
        resume: true,
        device,
        stop: &interrupt::STOP,
        peers: &trainer::Peers::none(),
    };
    let outcome = trainer::train(&run.recipe, options)
        .with_context(|| format!("{method}, seed {seed}: training failed"))?;
    Ok(match outcome {
        Outcome::Finished(trained) => {
            run.standing = Standing::Finished(trained);
            ControlFlow::Continue(())
        }
        Outcome::Stopped(checkpoint) => {
            eprintln!("sori-train: state saved in {}", checkpoint.display());
            ControlFlow::Break(())
        }
    })
}
