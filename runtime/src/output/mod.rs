//! Finished segments to the formats that people and programs read.
//!
//! | format | what is written |
//! |---|---|
//! | [`Format::Text`] | one line per segment |
//! | [`Format::Json`] | one object per file, on one line: `{file, duration, text, segments}` |
//! | [`Format::Jsonl`] | one object per segment, on one line, as soon as it is final: `{file, …segment}` |
//! | [`Format::Srt`] | `SubRip` subtitles |
//! | [`Format::Vtt`] | `WebVTT` subtitles |
//!
//! A segment in JSON is `{start, end, text, confidence, words: [{word, start, end, confidence}],
//! tokens: [{token, start, onset}]}`, with `raw_text` beside a text that was made prose, and
//! `out_of_grammar: true` and no words where a grammar has no such
//! sentence: times in seconds to the millisecond, confidences to four places. These
//! shapes are stable: fields are added, never renamed or removed, within a major version.

mod subtitles;

use std::io::{self, Write};

use serde::Serialize;

use crate::segment::Segment;

/// How to write segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One line per segment.
    #[default]
    Text,
    /// One JSON object per file.
    Json,
    /// One JSON object per segment.
    Jsonl,
    /// `SubRip` subtitles.
    Srt,
    /// `WebVTT` subtitles.
    Vtt,
}

impl Format {
    /// The usual file name extension, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Srt => "srt",
            Self::Vtt => "vtt",
        }
    }
}

/// Writes the segments of one file as they become final.
///
/// # Examples
/// ```
/// use sori::output::{Format, TranscriptWriter};
///
/// let mut out = Vec::new();
/// let writer = TranscriptWriter::new(Format::Vtt, "talk.wav", &mut out)?;
/// writer.finish(12.5)?;
/// assert_eq!(out, b"WEBVTT\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct TranscriptWriter<'a, W: Write> {
    format: Format,
    file: &'a str,
    out: W,
    /// Only JSON, whose object holds them all, has to keep them.
    segments: Vec<Segment>,
    cues: usize,
    /// The last cue, whose end depends on when the next one begins.
    last: Option<subtitles::Cue>,
}

#[derive(Serialize)]
struct Transcript<'a> {
    file: &'a str,
    #[serde(serialize_with = "crate::segment::milliseconds")]
    duration: f64,
    text: String,
    segments: &'a [Segment],
}

#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    #[serde(flatten)]
    segment: &'a Segment,
}

impl<'a, W: Write> TranscriptWriter<'a, W> {
    /// Begins a transcript of `file`, a name that JSON repeats.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    pub fn new(format: Format, file: &'a str, mut out: W) -> io::Result<Self> {
        if format == Format::Vtt {
            out.write_all(b"WEBVTT\n")?;
        }
        Ok(Self {
            format,
            file,
            out,
            segments: Vec::new(),
            cues: 0,
            last: None,
        })
    }

    /// Writes a final segment; the last of its subtitles waits for what follows.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn segment(&mut self, segment: Segment) -> io::Result<()> {
        match self.format {
            Format::Text => writeln!(self.out, "{}", segment.line())?,
            Format::Json => self.segments.push(segment),
            Format::Jsonl => {
                serde_json::to_writer(
                    &mut self.out,
                    &Line {
                        file: self.file,
                        segment: &segment,
                    },
                )?;
                self.out.write_all(b"\n")?;
            }
            Format::Srt | Format::Vtt => {
                for cue in subtitles::cues(&segment.words) {
                    let start = cue.start();
                    if let Some(before) = self.last.replace(cue) {
                        self.cue(before, start)?;
                    }
                }
            }
        }
        self.out.flush()
    }

    /// Writes a cue, before the one that begins at `next`, or before the end.
    fn cue(&mut self, mut cue: subtitles::Cue, next: f64) -> io::Result<()> {
        cue.linger(next);
        self.cues += 1;
        match self.format {
            Format::Srt => subtitles::srt(&mut self.out, self.cues, &cue),
            _ => subtitles::vtt(&mut self.out, &cue),
        }
    }

    /// Ends the transcript of a file that lasts `duration` seconds.
    ///
    /// # Errors
    /// When the output cannot be written to.
    pub fn finish(mut self, duration: f64) -> io::Result<()> {
        if let Some(last) = self.last.take() {
            self.cue(last, duration)?;
        }
        if self.format == Format::Json {
            let text: Vec<&str> = self
                .segments
                .iter()
                .map(|segment| segment.text.as_str())
                .filter(|text| !text.is_empty())
                .collect();
            let transcript = Transcript {
                file: self.file,
                duration,
                text: text.join(" "),
                segments: &self.segments,
            };
            serde_json::to_writer(&mut self.out, &transcript)?;
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::segment::Word;

    /// A long utterance that was cut between two words, and silence after that.
    fn cut() -> [Segment; 2] {
        [("before", 19.0), ("after", 19.75)].map(|(word, start)| Segment {
            start,
            end: start + 0.5,
            text: word.to_owned(),
            confidence: 1.0,
            words: vec![Word {
                word: word.to_owned(),
                start,
                end: start + 0.5,
                confidence: 1.0,
            }],
            tokens: Vec::new(),
            alternatives: Vec::new(),
            raw_text: None,
            out_of_grammar: false,
        })
    }

    #[test]
    fn no_cue_stays_up_beside_the_first_of_the_next_segment() {
        let mut out = Vec::new();
        let mut writer = TranscriptWriter::new(Format::Srt, "talk.wav", &mut out).unwrap();
        for segment in cut() {
            writer.segment(segment).unwrap();
        }
        writer.finish(30.0).unwrap();
        let lines =
            "1\n00:00:19,000 --> 00:00:19,750\nbefore\n\n2\n00:00:19,750 --> 00:00:20,850\nafter\n";
        assert_eq!(String::from_utf8(out).unwrap(), lines);
    }
}
