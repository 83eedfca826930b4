//! Result rows: a model on a set of utterances with one chunk size.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::decode::{Decoding, Heard, Recogniser};
use super::diagnostics::{Collapse, SpikeAgreement};
use super::error::EvaluateError;
use super::wer::{ErrorCounts, character_errors, word_errors};
use crate::config::{Chunk, Contexts, FRAME_MS};
use crate::data::manifest::Entry;
use crate::data::{DataError, Strictness};
use crate::model::Teacher;

/// How a model is evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Chunk sizes and left context; every utterance is decoded with each chunk size.
    pub contexts: Contexts,
    /// Longer utterances are left out, in seconds: attention takes memory that grows with the square
    /// of the length. Default: 60.
    pub longest: f64,
    /// Most seconds of audio in a batch, padding included; at least one utterance. Default: 120.
    pub batch_seconds: f64,
    /// What to do about broken audio.
    pub strictness: Strictness,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            contexts: Contexts::default(),
            longest: 60.0,
            batch_seconds: 120.0,
            strictness: Strictness::default(),
        }
    }
}

/// Utterances to evaluate on.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    /// Its name in results.
    pub name: &'a str,
    /// The utterances.
    pub entries: &'a [Entry],
}

/// A result: what a model heard of a set with one chunk size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The set.
    pub set: String,
    /// The chunk size.
    pub chunk_ms: Chunk,
    /// Utterances that were heard.
    pub utterances: usize,
    /// Hours of them.
    pub hours: f64,
    /// Utterances that were not heard as their audio is broken.
    pub unreadable: usize,
    /// Utterances that were not heard as they are longer than [`Settings::longest`].
    pub too_long: usize,
    /// Errors in words.
    pub words: ErrorCounts,
    /// Errors in characters.
    pub characters: ErrorCounts,
    /// The model's spikes compared with those of a teacher, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spikes: Option<SpikeAgreement>,
    /// How alike the model's hidden vectors are, over all frames of the set that it heard; `None` for
    /// fewer than two frames, or if they are not finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Collapse>,
}

/// An utterance, what the model heard with one chunk size, and what is wrong with it.
#[derive(Debug)]
pub struct Scored<'a> {
    /// The utterance, with its reference.
    pub entry: &'a Entry,
    /// The chunk size.
    pub chunk_ms: Chunk,
    /// What was heard.
    pub hypothesis: &'a str,
    /// Errors in words.
    pub words: ErrorCounts,
}

/// Decodes a set with each chunk size and counts the errors: a row for each. `each` is told of every
/// utterance with every chunk size, and may break off.
///
/// # Errors
/// If a setting is out of bounds, the teacher does not fit the model, no utterance can be heard, or,
/// as [`Settings::strictness`] says, one of them cannot be read; [`EvaluateError::Stopped`] if `each`
/// breaks off.
pub fn evaluate(
    recogniser: Recogniser<'_>,
    set: Set<'_>,
    settings: &Settings,
    teacher: Option<&Teacher>,
    each: &mut dyn FnMut(Scored<'_>) -> ControlFlow<()>,
) -> Result<Vec<Row>, EvaluateError> {
    settings.validate(recogniser.is_causal())?;
    let chunks = &settings.contexts.chunks_ms;
    let mut rows: Vec<_> = chunks
        .iter()
        .map(|&chunk| Row::empty(set.name, chunk))
        .collect();
    let decoding = Decoding {
        contexts: settings.contexts.contexts(),
        longest: settings.longest,
        batch_seconds: settings.batch_seconds,
        strictness: settings.strictness,
    };
    let mut count = |heard: Heard<'_>| {
        let (entry, row) = (heard.entry, &mut rows[heard.context]);
        let words = word_errors(&entry.text, &heard.text);
        row.utterances += 1;
        row.hours += entry.duration / 3600.0;
        row.words += words;
        row.characters += character_errors(&entry.text, &heard.text);
        each(Scored {
            entry,
            chunk_ms: row.chunk_ms,
            hypothesis: &heard.text,
            words,
        })
    };
    let (missing, diagnoses) = recogniser.decode(set.entries, &decoding, teacher, &mut count)?;
    if rows.iter().all(|row| row.utterances == 0) {
        let reason = format!(
            "of {}, {} cannot be read, {} are too long",
            set.entries.len(),
            missing.unreadable,
            missing.too_long
        );
        let what = set.name.to_owned();
        return Err(DataError::Nothing { what, reason }.into());
    }
    for (row, diagnosis) in rows.iter_mut().zip(diagnoses) {
        row.unreadable = missing.unreadable;
        row.too_long = missing.too_long;
        row.spikes = teacher.map(|_| diagnosis.spikes);
        let hidden = diagnosis.hidden.collapse();
        row.hidden = hidden.filter(|of| of.deviation.is_finite() && of.cosine.is_finite());
    }
    Ok(rows)
}

impl Row {
    fn empty(set: &str, chunk_ms: Chunk) -> Self {
        Self {
            set: set.to_owned(),
            chunk_ms,
            utterances: 0,
            hours: 0.0,
            unreadable: 0,
            too_long: 0,
            words: ErrorCounts::default(),
            characters: ErrorCounts::default(),
            spikes: None,
            hidden: None,
        }
    }

    /// What was not heard and why, in words; `None` if all of it was. `bad_lines` of the manifest say
    /// nothing.
    #[must_use]
    pub fn missing(&self, bad_lines: usize) -> Option<String> {
        let missing = self.unreadable + self.too_long + bad_lines;
        (missing > 0).then(|| {
            format!(
                "{}: {missing} utterances are missing: {bad_lines} bad lines, {} with broken audio, \
                 {} too long",
                self.set, self.unreadable, self.too_long
            )
        })
    }
}

impl Settings {
    /// Longest chunk, in milliseconds: chunks are padded, so that a batch could otherwise become as
    /// large as one likes.
    const LONGEST_CHUNK: u32 = 10_000;

    /// Checks the settings for a model that can stream, or cannot.
    ///
    /// # Errors
    /// Names the first setting that is out of bounds.
    pub fn validate(&self, causal: bool) -> Result<(), EvaluateError> {
        let frames = |ms: u32| ms.is_multiple_of(FRAME_MS);
        for chunk in &self.contexts.chunks_ms {
            let Chunk::Ms(chunk_ms) = *chunk else {
                continue;
            };
            let holds = frames(chunk_ms) && (FRAME_MS..=Self::LONGEST_CHUNK).contains(&chunk_ms);
            let expected = format!(
                "\"full\" or {FRAME_MS} to {} in steps of {FRAME_MS}",
                Self::LONGEST_CHUNK
            );
            require("the chunk in milliseconds", expected, chunk_ms, holds)?;
            if !causal {
                return Err(EvaluateError::NotCausal { chunk_ms });
            }
        }
        let left = self.contexts.left_ms;
        let expected = format!("a multiple of {FRAME_MS}");
        require(
            "the left context in milliseconds",
            expected,
            left,
            frames(left),
        )?;
        for (field, seconds) in [
            ("the longest utterance in seconds", self.longest),
            ("seconds in a batch", self.batch_seconds),
        ] {
            let holds = seconds > 0.0 && seconds <= 100_000.0;
            require(field, "above 0 and at most 100000".into(), seconds, holds)?;
        }
        Ok(())
    }
}

fn require(
    field: &'static str,
    expected: String,
    found: impl std::fmt::Display,
    holds: bool,
) -> Result<(), EvaluateError> {
    if holds {
        return Ok(());
    }
    Err(EvaluateError::Setting {
        field,
        expected,
        found: found.to_string(),
    })
}
