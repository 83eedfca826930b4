//! What is counted, as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the lag's buckets, in seconds.
const BUCKETS: [f64; 8] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Counters of one server, from its start.
#[derive(Default)]
pub(crate) struct Metrics {
    open: AtomicU64,
    streams: Family,
    refused: Family,
    errors: Family,
    audio: Seconds,
    cpu: Seconds,
    lag: Seconds,
    lags: [AtomicU64; BUCKETS.len() + 1],
}

/// One counter for each value of a label. The values are the program's own, so there are few.
#[derive(Default)]
struct Family(Mutex<BTreeMap<&'static str, u64>>);

/// A sum of times, in microseconds.
#[derive(Default)]
struct Seconds(AtomicU64);

impl Family {
    fn count(&self, value: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(value).or_default() += 1;
    }

    fn write(&self, out: &mut String, name: &str, label: &str) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .iter()
            .try_for_each(|(value, count)| writeln!(out, "{name}{{{label}=\"{value}\"}} {count}"))
    }
}

impl Seconds {
    fn add(&self, time: Duration) {
        self.0.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e6
    }
}

/// A stream counts as open for as long as this lives.
pub(crate) struct OpenStream(std::sync::Arc<Metrics>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// A stream of `protocol` begins.
    pub(crate) fn stream(self: &std::sync::Arc<Self>, protocol: &'static str) -> OpenStream {
        self.streams.count(protocol);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenStream(self.clone())
    }

    /// A client got nothing, or no more.
    pub(crate) fn refused(&self, code: &'static str) {
        self.refused.count(code);
    }

    /// A stream or a file that was begun ended in an error, of which the client was told this `code`.
    pub(crate) fn error(&self, code: &'static str) {
        self.errors.count(code);
    }

    /// `audio` seconds were heard, `lag` after they had come, which took a thread `cpu`.
    pub(crate) fn heard(&self, audio: f64, cpu: Duration, lag: Duration) {
        self.audio.add(Duration::from_secs_f64(audio.max(0.0)));
        self.cpu.add(cpu);
        self.lag.add(lag);
        let bucket = BUCKETS.partition_point(|bound| *bound < lag.as_secs_f64());
        self.lags[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// All of it, in Prometheus' text format; the engine has counted the `batched` steps.
    pub(crate) fn text(&self, batched: u64) -> String {
        let mut out = String::new();
        // Writing into a string does not fail.
        let _ = self.write(&mut out, batched);
        out
    }

    fn write(&self, out: &mut String, batched: u64) -> fmt::Result {
        let open = self.open.load(Ordering::Relaxed);
        head(
            out,
            "sori_streams_open",
            "gauge",
            "Streams and files being heard.",
        )?;
        writeln!(out, "sori_streams_open {open}")?;
        for (name, label, family, help) in [
            (
                "sori_streams_total",
                "protocol",
                &self.streams,
                "Streams and files begun.",
            ),
            (
                "sori_refused_total",
                "reason",
                &self.refused,
                "Clients turned away.",
            ),
            (
                "sori_errors_total",
                "code",
                &self.errors,
                "Streams and files that ended in an error.",
            ),
        ] {
            head(out, name, "counter", help)?;
            family.write(out, name, label)?;
        }
        for (name, seconds, help) in [
            ("sori_audio_seconds_total", &self.audio, "Sound heard."),
            (
                "sori_cpu_seconds_total",
                &self.cpu,
                "CPU time of the threads that recognise.",
            ),
        ] {
            head(out, name, "counter", help)?;
            writeln!(out, "{name} {}", seconds.get())?;
        }
        let help = "Chunks that were computed together with those of other streams.";
        head(out, "sori_batched_steps_total", "counter", help)?;
        writeln!(out, "sori_batched_steps_total {batched}")?;
        let help = "From a piece of sound to its words: waiting for a thread, and its work.";
        head(out, "sori_lag_seconds", "histogram", help)?;
        let mut below = 0;
        for (bucket, count) in self.lags.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            let bound = BUCKETS
                .get(bucket)
                .map_or("+Inf".to_owned(), f64::to_string);
            writeln!(out, "sori_lag_seconds_bucket{{le=\"{bound}\"}} {below}")?;
        }
        writeln!(out, "sori_lag_seconds_sum {}", self.lag.get())?;
        writeln!(out, "sori_lag_seconds_count {below}")
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}
