use serde::{Serialize, Serializer};

use crate::decode::{Decoder, Hit};
use crate::model::{Calibration, Tokens, WORD_START};

/// A stretch of speech: an utterance, or what is known of one so far.
///
/// Times are seconds from the start of the stream. Confidences are between 0 and 1. A word's follows
/// from the geometric mean of the posteriors of its tokens, `exp(mean(log p))`, each taken at the frame
/// where it is highest, which does not fall with the length of a word as the product would; where the
/// package has a [`Calibration`], it is the share of such words that are right.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Segment {
    /// Start of the first word.
    #[serde(serialize_with = "milliseconds")]
    pub start: f64,
    /// End of the last word.
    #[serde(serialize_with = "milliseconds")]
    pub end: f64,
    /// The words, joined by single spaces.
    pub text: String,
    /// The mean of the words' confidences.
    #[serde(serialize_with = "four_places")]
    pub confidence: f32,
    /// In order of time.
    pub words: Vec<Word>,
    /// In order of time.
    pub tokens: Vec<TimedToken>,
    /// What else it may have been, best first, where alternatives were asked for: the segment's own
    /// text, word for word, is the first. A segment that was cut out of a long utterance has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// What was said word for word, where the text was made [prose](crate::Options::prose) of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_text: Option<String>,
    /// Somebody spoke, but said none of the grammar's sentences: there is a start and an end, and no
    /// word. Never without a grammar.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_grammar: bool,
}

impl Segment {
    /// What stands for it where people read: its text, or that it is none of a grammar's sentences.
    #[must_use]
    pub fn line(&self) -> &str {
        match self.out_of_grammar {
            true => "[out of grammar]",
            false => &self.text,
        }
    }

    /// Nothing was said, at `time`.
    pub(crate) fn empty(time: f64) -> Self {
        Self {
            start: time,
            end: time,
            text: String::new(),
            confidence: 0.0,
            words: Vec::new(),
            tokens: Vec::new(),
            alternatives: Vec::new(),
            raw_text: None,
            out_of_grammar: false,
        }
    }

    /// What remains of a segment that is none of a grammar's sentences.
    pub(crate) fn into_unmatched(self) -> Self {
        Self {
            end: self.end,
            out_of_grammar: true,
            ..Self::empty(self.start)
        }
    }
}

/// One of several hypotheses for a segment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternative {
    /// The words, joined by single spaces.
    pub text: String,
    /// Natural logarithm of its probability, with all bonuses: comparable within a segment only.
    #[serde(serialize_with = "four_places")]
    pub score: f32,
}

/// A word and when it was said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Word {
    /// Its spelling.
    pub word: String,
    /// Frame at which its first token peaks, in seconds.
    #[serde(serialize_with = "milliseconds")]
    pub start: f64,
    /// End of its last token's run, in seconds. CTC models fire in spikes: the sound itself may
    /// last a little longer.
    #[serde(serialize_with = "milliseconds")]
    pub end: f64,
    /// How sure it is that this was said.
    #[serde(serialize_with = "four_places")]
    pub confidence: f32,
}

/// A token and when it was said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimedToken {
    /// Its symbol, word-start mark included.
    pub token: String,
    /// Frame at which it peaks, in seconds.
    #[serde(serialize_with = "milliseconds")]
    pub start: f64,
    /// First frame at which it is the best token, in seconds: the time that sherpa-onnx gives.
    #[serde(serialize_with = "milliseconds")]
    pub onset: f64,
}

/// Seconds to the millisecond: more digits would say what a 40 ms frame cannot.
pub(crate) fn milliseconds<S: Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((seconds * 1e3).round() / 1e3)
}

fn four_places<S: Serializer>(confidence: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((f64::from(*confidence) * 1e4).round() / 1e4)
}

/// Turns output frames into seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Milliseconds per output frame.
    pub(crate) frame_ms: u64,
}

impl Clock {
    pub(crate) fn seconds(self, frame: u64) -> f64 {
        (frame * self.frame_ms) as f64 / 1000.0
    }
}

/// Indices of the hits that begin a word. The first hit always does.
pub(crate) fn word_starts<'a>(
    hits: &'a [Hit],
    tokens: &'a Tokens,
) -> impl DoubleEndedIterator<Item = usize> + 'a {
    (0..hits.len()).filter(move |index| *index == 0 || tokens.starts_word(hits[*index].token))
}

/// What turns tokens into words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speller<'a> {
    pub(crate) tokens: &'a Tokens,
    pub(crate) calibration: Calibration,
    pub(crate) clock: Clock,
    /// The end of what was given out before, in seconds. Once a beam changes its mind about what follows,
    /// its times may go back behind that.
    pub(crate) floor: f64,
    /// The end of the audio, in seconds: no time passes it.
    pub(crate) limit: f64,
}

impl Speller<'_> {
    fn seconds(self, frame: u64) -> f64 {
        self.clock.seconds(frame).max(self.floor).min(self.limit)
    }
}

/// Builds the segment of `hits`; `None` when they spell nothing.
pub(crate) fn segment(hits: &[Hit], speller: Speller<'_>) -> Option<Segment> {
    let tokens = speller.tokens;
    if hits.is_empty() {
        return None;
    }
    let bounds: Vec<usize> = word_starts(hits, tokens).chain([hits.len()]).collect();
    let words: Vec<Word> = bounds
        .windows(2)
        .flat_map(|bound| words(&hits[bound[0]..bound[1]], speller))
        .collect();
    let (first, last) = (words.first()?, words.last()?);
    Some(Segment {
        start: first.start,
        end: last.end,
        text: words
            .iter()
            .map(|word| word.word.as_str())
            .collect::<Vec<_>>()
            .join(" "),
        confidence: words.iter().map(|word| word.confidence).sum::<f32>() / words.len() as f32,
        tokens: hits
            .iter()
            .map(|hit| TimedToken {
                token: tokens.symbol(hit.token).to_owned(),
                start: speller.seconds(hit.frame),
                onset: speller.seconds(hit.onset),
            })
            .collect(),
        words,
        alternatives: Vec::new(),
        raw_text: None,
        out_of_grammar: false,
    })
}

/// The best hypotheses that spell something different, with their scores.
pub(crate) fn alternatives(decoder: &Decoder, count: usize, tokens: &Tokens) -> Vec<Alternative> {
    let mut found: Vec<Alternative> = Vec::new();
    decoder.alternatives(usize::MAX, |hits, score| {
        let text: String = hits.iter().map(|hit| tokens.symbol(hit.token)).collect();
        let text = split(&text).collect::<Vec<_>>().join(" ");
        if found.len() < count && found.iter().all(|known| known.text != text) {
            found.push(Alternative { text, score });
        }
    });
    found
}

/// The word of `hits`; none for a word-start mark alone, and several, at the same time, where tokens go beyond a word.
fn words(hits: &[Hit], speller: Speller<'_>) -> Vec<Word> {
    let Speller {
        tokens,
        calibration,
        ..
    } = speller;
    let (Some(first), Some(last)) = (hits.first(), hits.last()) else {
        return Vec::new();
    };
    let spelling: String = hits.iter().map(|hit| tokens.symbol(hit.token)).collect();
    split(&spelling)
        .map(|word| Word {
            word: word.to_owned(),
            start: speller.seconds(first.frame),
            end: speller.seconds(last.end),
            confidence: calibration.confidence(posterior(hits)),
        })
        .collect()
}

/// The words that symbols spell; a mark alone is none.
fn split(spelling: &str) -> impl Iterator<Item = &str> {
    spelling.split(WORD_START).filter(|word| !word.is_empty())
}

/// Geometric mean of the posteriors.
fn posterior(hits: &[Hit]) -> f32 {
    let sum: f32 = hits.iter().map(|hit| hit.log_prob).sum();
    (sum / hits.len().max(1) as f32).exp().clamp(0.0, 1.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::decode::{Beam, BeamOptions};

    #[test]
    fn tokens_that_go_beyond_a_word_are_written_as_words() {
        let text = "\u{2581}and\u{2581}so 0\ny\u{2581} 1\n<blk> 2\n";
        let tokens = Tokens::parse(text, Path::new("tokens.txt")).unwrap();
        let mut beam = Beam::new(tokens.blank(), BeamOptions::default());
        beam.accept(&[-0.1, -9.0, -9.0, -9.0, -0.1, -9.0]);
        let said = segment(
            beam.hits(),
            Speller {
                tokens: &tokens,
                calibration: Calibration::NONE,
                clock: Clock { frame_ms: 40 },
                floor: 0.0,
                limit: 1.0,
            },
        );
        let said = said.unwrap();
        assert_eq!(said.text, "and soy");
        let words: Vec<_> = said.words.iter().map(|word| word.word.as_str()).collect();
        assert_eq!(words, ["and", "soy"]);
    }

    #[test]
    fn a_mark_alone_makes_no_other_alternative() {
        let text = "\u{2581} 0\n\u{2581}the 1\n\u{2581}of 2\n<blk> 3\n";
        let tokens = Tokens::parse(text, Path::new("tokens.txt")).unwrap();
        let mut beam = Beam::new(tokens.blank(), BeamOptions::default());
        // "the", then perhaps a mark alone, then "of" or "the".
        for row in [
            [-9.0, -0.1, -9.0, -3.0],
            [-0.5, -9.0, -9.0, -1.0],
            [-9.0, -1.5, -0.3, -9.0],
        ] {
            beam.accept(&row);
        }
        let found = alternatives(&Decoder::Beam(Box::new(beam)), 9, &tokens);
        let texts: Vec<_> = found.iter().map(|found| found.text.as_str()).collect();
        assert_eq!(texts[..2], ["the of", "the the"], "{texts:?}");
        assert!(texts.iter().all(|text| !text.contains("  ")), "{texts:?}");
        assert_eq!(texts.iter().filter(|text| **text == "the of").count(), 1);
    }
}
