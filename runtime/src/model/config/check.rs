//! What a configuration must not say.

use std::path::Path;

use super::{BatchedGraph, BundledLm, Calibration, Config, Features, Geometry, TokenFacts};
use crate::model::PackageError;

/// Largest number of feature frames in a step: a minute of audio.
const MAX_WINDOW: usize = 6_000;
/// Largest number of elements of a cache (256 MB of floats).
const MAX_CACHE: usize = 1 << 26;
/// Most streams in one run.
const MAX_STREAMS: usize = 1_024;
/// Largest token inventory.
const MAX_TOKENS: usize = 1 << 17;
/// Largest number of log-probabilities that a step gives (256 MB of floats).
const MAX_OUTPUT: usize = 1 << 26;

impl Config {
    /// Refuses values that cannot be used.
    pub(super) fn check(&self, path: &Path) -> Result<(), PackageError> {
        let check = |ok: bool, field: &str, expected: String, found: String| {
            if ok {
                return Ok(());
            }
            Err(PackageError::Field {
                path: path.to_owned(),
                field: field.to_owned(),
                expected,
                found,
            })
        };
        let Features {
            kind,
            sample_rate,
            mel_bins,
            frame_length_ms,
            frame_shift_ms,
        } = &self.features;
        check(
            kind == "slaney-log-mel",
            "features.kind",
            "slaney-log-mel".into(),
            format!("{kind:?}"),
        )?;
        check(
            *sample_rate == 16_000,
            "features.sample_rate",
            "16000".into(),
            sample_rate.to_string(),
        )?;
        check(
            *mel_bins == 80,
            "features.mel_bins",
            "80".into(),
            mel_bins.to_string(),
        )?;
        check(
            *frame_length_ms == 25,
            "features.frame_length_ms",
            "25".into(),
            frame_length_ms.to_string(),
        )?;
        check(
            *frame_shift_ms == 10,
            "features.frame_shift_ms",
            "10".into(),
            frame_shift_ms.to_string(),
        )?;

        let Geometry {
            window_size,
            chunk_shift,
            subsampling_factor,
            cache_last_channel,
            cache_last_time,
        } = &self.geometry;
        check(
            (1..=MAX_WINDOW).contains(window_size),
            "geometry.window_size",
            format!("1 to {MAX_WINDOW} frames"),
            window_size.to_string(),
        )?;
        check(
            (1..=*window_size).contains(chunk_shift),
            "geometry.chunk_shift",
            format!("1 to window_size ({window_size}) frames"),
            chunk_shift.to_string(),
        )?;
        check(
            *subsampling_factor >= 1 && chunk_shift.is_multiple_of(*subsampling_factor),
            "geometry.subsampling_factor",
            format!("a divisor of chunk_shift ({chunk_shift})"),
            subsampling_factor.to_string(),
        )?;
        for (field, dims) in [
            ("geometry.cache_last_channel", cache_last_channel),
            ("geometry.cache_last_time", cache_last_time),
        ] {
            let size = dims
                .iter()
                .try_fold(1_usize, |size, dim| size.checked_mul(*dim));
            check(
                size.is_some_and(|size| (1..=MAX_CACHE).contains(&size)),
                field,
                format!("three sizes of at least 1 whose product is at most {MAX_CACHE}"),
                format!("{dims:?}"),
            )?;
        }

        let chunk_ms = *chunk_shift as u64 * u64::from(*frame_shift_ms);
        check(
            u64::from(self.streaming.chunk_ms) == chunk_ms,
            "streaming.chunk_ms",
            format!("{chunk_ms} (chunk_shift x frame_shift_ms)"),
            self.streaming.chunk_ms.to_string(),
        )?;

        let TokenFacts {
            file,
            sha256: _,
            count,
            blank_id,
        } = &self.tokens;
        check_file_name(file, "tokens.file", path)?;
        check(
            (2..=MAX_TOKENS).contains(count),
            "tokens.count",
            format!("2 to {MAX_TOKENS}"),
            count.to_string(),
        )?;
        check(
            window_size.div_ceil(*subsampling_factor) * count <= MAX_OUTPUT,
            "tokens.count",
            format!(
                "at most {MAX_OUTPUT} log-probabilities of a step (window_size / subsampling_factor x count)"
            ),
            count.to_string(),
        )?;
        check(
            *blank_id == *count - 1,
            "tokens.blank_id",
            format!("the last id, {}", count - 1),
            blank_id.to_string(),
        )?;

        check(
            self.graphs.fp32.is_some() || self.graphs.int8.is_some(),
            "graphs",
            "\"fp32\", \"int8\" or both".into(),
            "neither".into(),
        )?;
        for (field, graph) in [
            ("graphs.fp32.file", &self.graphs.fp32),
            ("graphs.int8.file", &self.graphs.int8),
        ] {
            if let Some(graph) = graph {
                check_file_name(&graph.file, field, path)?;
            }
        }
        if let Some(BatchedGraph { file, streams, .. }) = &self.batched {
            check_file_name(file, "batched.file", path)?;
            let channel = cache_last_channel.iter().product();
            let time = cache_last_time.iter().product();
            let outputs = window_size.div_ceil(*subsampling_factor) * count;
            let largest = (window_size * mel_bins).max(channel).max(time).max(outputs);
            let most = MAX_STREAMS.min(MAX_CACHE / largest);
            check(
                (1..=most).contains(streams),
                "batched.streams",
                format!("1 to {most} (inputs and outputs of at most {MAX_CACHE} values)"),
                streams.to_string(),
            )?;
        }

        if let Some(lm) = &self.language_model {
            check_file_name(&lm.file, "language_model.file", path)?;
            for (field, value, range) in [
                ("language_model.weight", lm.weight, BundledLm::WEIGHTS),
                (
                    "language_model.word_bonus",
                    lm.word_bonus,
                    BundledLm::WORD_BONUSES,
                ),
                (
                    "language_model.unknown_penalty",
                    lm.unknown_penalty,
                    BundledLm::UNKNOWN_PENALTIES,
                ),
            ] {
                if let Some(value) = value {
                    check(
                        range.contains(&value),
                        field,
                        format!("{} to {}", range.start(), range.end()),
                        value.to_string(),
                    )?;
                }
            }
        }
        if let Some(Calibration { slope, offset }) = self.confidence {
            for (field, value, least) in [
                ("confidence.slope", slope, 0.0),
                ("confidence.offset", offset, -100.0),
            ] {
                check(
                    (least..=100.0).contains(&value),
                    field,
                    format!("{least} to 100"),
                    value.to_string(),
                )?;
            }
        }
        Ok(())
    }
}

/// A package names files beside its `config.json` only: a path could reach outside the package.
fn check_file_name(name: &str, field: &str, path: &Path) -> Result<(), PackageError> {
    if !name.is_empty() && !name.contains(['/', '\\', '\0']) && name != "." && name != ".." {
        return Ok(());
    }
    Err(PackageError::Field {
        path: path.to_owned(),
        field: field.to_owned(),
        expected: "a file name without folders".to_owned(),
        found: format!("{name:?}"),
    })
}
