//! What one sees of a run while it goes on.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Without a terminal, a line is written this often.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// A bar on a terminal, now and then a line in a log.
pub(super) struct Progress {
    bar: ProgressBar,
    shown: bool,
    started: Instant,
    last_line: Option<Instant>,
    /// Audio seconds and steps since the start.
    heard: f64,
    steps: u64,
}

impl Progress {
    /// Progress over `total` steps of which `done` were made earlier; seen only where it is shown.
    pub(super) fn new(total: u64, done: u64, shown: bool) -> Self {
        let bar = ProgressBar::new(total);
        if !shown {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_position(done);
        bar.reset_eta();
        let template = "{prefix} {bar:30} {pos}/{len} {msg}, {eta} left";
        // The template is a constant; were it wrong, the default style would do.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar,
            shown,
            started: Instant::now(),
            last_line: None,
            heard: 0.0,
            steps: 0,
        }
    }

    /// A step of `stage` was made over so many seconds of audio. `waiting` is the share of time that
    /// the trainer waited for data.
    pub(super) fn step(&mut self, stage: &str, loss: f64, seconds: f64, waiting: f64) {
        self.heard += seconds;
        self.steps += 1;
        let message = format!(
            "loss {loss:.4}, {:.0} audio-s/s, {:.1} % waiting for data",
            self.speed(),
            100.0 * waiting
        );
        self.bar.set_prefix(stage.to_owned());
        self.bar.set_message(message.clone());
        self.bar.inc(1);
        if self.shown
            && self.bar.is_hidden()
            && self
                .last_line
                .is_none_or(|last| last.elapsed() >= LINE_EVERY)
        {
            self.last_line = Some(Instant::now());
            tracing::info!(
                "{stage}: step {} of {}, {message}, {} s left",
                self.bar.position(),
                self.bar.length().unwrap_or(0),
                self.left().as_secs()
            );
        }
    }

    /// Seconds of audio that a second of training gets through.
    fn speed(&self) -> f64 {
        self.heard / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    fn left(&self) -> Duration {
        let left = self
            .bar
            .length()
            .unwrap_or(0)
            .saturating_sub(self.bar.position());
        self.started
            .elapsed()
            .div_f64(self.steps.max(1) as f64)
            .mul_f64(left as f64)
    }

    /// Writes a warning without damage to the bar.
    pub(super) fn warn(&self, message: &str) {
        self.bar.suspend(|| tracing::warn!("{message}"));
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
