//! What was said, as people write it: numbers in digits, capitals, full stops.

use std::borrow::Cow;

use text2num::{Language, Token, find_numbers};

use crate::segment::{Segment, Word};

/// Makes prose of segments, by rules of a language; see [`Options::prose`](crate::Options::prose).
///
/// Numbers from ten on, decimals and what stands in a row with other numbers are written in digits; in
/// English also years, percentages, dollars and euros. A sentence ends where an utterance does: it
/// begins with a capital and ends with a full stop. Which words are names the rules do not know.
///
/// Words that become one keep the start of the first and the end of the last; their confidence is the
/// least. What was said stays in [`Segment::raw_text`].
pub struct Prose {
    language: Language,
    english: bool,
    /// The utterance was cut: the next segment goes on with its sentence.
    mid_sentence: bool,
}

/// Numbers below this stand as words when they stand alone.
const LEAST_DIGITS: f64 = 10.0;

/// Silence between two words, in seconds, that parts two numbers.
const PAUSE: f64 = 0.6;

impl Prose {
    /// Rules for a language tag (BCP 47); `None` if there are none for that language.
    #[must_use]
    pub fn new(language: &str) -> Option<Self> {
        let primary = language.split(['-', '_']).next()?.to_lowercase();
        Some(Self {
            language: text2num::get_interpreter_for(&primary)?,
            english: primary == "en",
            mid_sentence: false,
        })
    }

    /// Makes prose of a final segment. `cut` says that its sentence goes on in the next.
    pub fn write(&mut self, segment: &mut Segment, cut: bool) {
        if segment.words.is_empty() {
            return;
        }
        let raw = std::mem::take(&mut segment.text);
        // Models that know capitals only say nothing by them.
        if raw.chars().all(|letter| !letter.is_lowercase()) {
            for word in &mut segment.words {
                word.word = word.word.to_lowercase();
            }
        }
        self.write_numbers(&mut segment.words);
        for word in &mut segment.words {
            if self.english && (word.word == "i" || word.word.starts_with("i'")) {
                word.word.replace_range(..1, "I");
            }
        }
        if let Some(first) = segment.words.first_mut()
            && !self.mid_sentence
        {
            first.word = capitalised(&first.word);
        }
        if let Some(last) = segment.words.last_mut()
            && !cut
        {
            last.word.push('.');
        }
        self.mid_sentence = cut;
        let words: Vec<_> = segment
            .words
            .iter()
            .map(|word| word.word.as_str())
            .collect();
        segment.text = words.join(" ");
        segment.raw_text = Some(raw);
    }

    /// The next segment begins a sentence.
    pub fn reset(&mut self) {
        self.mid_sentence = false;
    }

    fn write_numbers(&self, words: &mut Vec<Word>) {
        for number in self.numbers(words).into_iter().rev() {
            let said = &words[number.start..number.end];
            let confidence = said.iter().map(|word| word.confidence);
            let word = Word {
                word: number.text,
                start: said[0].start,
                end: said[said.len() - 1].end,
                confidence: confidence.fold(1.0, f32::min),
            };
            words.splice(number.start..number.end, [word]);
        }
    }

    /// What is to be written in digits, in order.
    fn numbers(&self, words: &[Word]) -> Vec<Number> {
        let spoken: Vec<_> = words.iter().map(Spoken).collect();
        let found = find_numbers(spoken.iter(), &self.language, 0.0);
        let mut numbers: Vec<Number> = Vec::new();
        for (index, number) in found.iter().enumerate() {
            let in_a_row = index > 0 && found[index - 1].end == number.start
                || found
                    .get(index + 1)
                    .is_some_and(|next| next.start == number.end);
            let large = number.value >= LEAST_DIGITS || number.value.fract() != 0.0;
            let mut number = Number {
                start: number.start,
                end: number.end,
                text: number.text.clone(),
                value: (!number.is_ordinal).then_some(number.value),
            };
            if self.english {
                if let Some(before) = numbers.last_mut()
                    && before.is_century_of(&number)
                    && !spoken[number.start].follows_a_pause(&spoken[before.end - 1])
                {
                    before.text.push_str(&number.text);
                    before.end = number.end;
                    before.value = None;
                    continue;
                }
                if number.add_unit(words) {
                    numbers.push(number);
                    continue;
                }
            }
            if large || in_a_row {
                numbers.push(number);
            }
        }
        numbers
    }
}

/// Words that are written as a number.
struct Number {
    start: usize,
    end: usize,
    text: String,
    /// Of a cardinal number.
    value: Option<f64>,
}

impl Number {
    /// Whether the two are a year, as in nineteen eighty-four.
    fn is_century_of(&self, next: &Self) -> bool {
        let between = |number: &Self, low, high| {
            let value = number.value.filter(|value| value.fract() == 0.0);
            value.is_some_and(|value| (low..=high).contains(&value))
        };
        self.end == next.start && between(self, 11.0, 20.0) && between(next, 10.0, 99.0)
    }

    /// Takes in the unit that follows a cardinal number, if there is one.
    fn add_unit(&mut self, words: &[Word]) -> bool {
        if self.value.is_none() {
            return false;
        }
        let word = |at: usize| words.get(at).map(|word| word.word.as_str());
        let (text, count) = match (word(self.end), word(self.end + 1)) {
            (Some("percent"), _) => (format!("{}%", self.text), 1),
            (Some("per"), Some("cent")) => (format!("{}%", self.text), 2),
            (Some("dollar" | "dollars"), _) => (format!("${}", self.text), 1),
            (Some("euro" | "euros"), _) => (format!("€{}", self.text), 1),
            _ => return false,
        };
        (self.text, self.end) = (text, self.end + count);
        true
    }
}

struct Spoken<'a>(&'a Word);

impl Spoken<'_> {
    fn follows_a_pause(&self, previous: &Self) -> bool {
        self.0.start - previous.0.end > PAUSE
    }
}

impl Token for &Spoken<'_> {
    fn text(&self) -> Cow<'_, str> {
        self.0.word.as_str().into()
    }

    fn text_lowercase(&self) -> Cow<'_, str> {
        self.0.word.to_lowercase().into()
    }

    fn nt_separated(&self, previous: &Self) -> bool {
        self.follows_a_pause(previous)
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Words of half a second each; `,` is a pause.
    fn segment(text: &str) -> Segment {
        let mut words = Vec::new();
        let mut time = 0.0;
        for word in text.split_whitespace() {
            if word == "," {
                time += 1.0;
                continue;
            }
            words.push(Word {
                word: word.to_owned(),
                start: time,
                end: time + 0.5,
                confidence: 1.0 - time as f32 / 100.0,
            });
            time += 0.5;
        }
        Segment {
            start: 0.0,
            end: time,
            text: text.replace(", ", ""),
            confidence: 1.0,
            words,
            tokens: Vec::new(),
            alternatives: Vec::new(),
            out_of_grammar: false,
            raw_text: None,
        }
    }

    fn written(language: &str, text: &str) -> String {
        let mut segment = segment(text);
        Prose::new(language).unwrap().write(&mut segment, false);
        segment.text
    }

    #[test]
    fn english_as_it_is_written() {
        for (said, expected) in [
            ("hello", "Hello."),
            (
                "i think i'm fine and he said it",
                "I think I'm fine and he said it.",
            ),
            ("two of them", "Two of them."),
            ("twenty one of them", "21 of them."),
            ("one hundred and five men", "105 men."),
            ("three point one four", "3.14."),
            ("in nineteen eighty four", "In 1984."),
            ("by twenty twenty six", "By 2026."),
            ("twelve hundred", "1200."),
            ("twelve , thirty", "12 30."),
            ("the twenty first day", "The 21st day."),
            ("five percent or twenty per cent", "5% or 20%."),
            ("it costs twenty dollars", "It costs $20."),
            ("call five five five one two", "Call 5 5 5 1 2."),
            ("no one came", "No one came."),
            ("A SHOUT", "A shout."),
        ] {
            assert_eq!(written("en-GB", said), expected);
        }
    }

    #[test]
    fn other_languages_have_numbers_and_sentences() {
        assert_eq!(written("de", "es sind einundzwanzig"), "Es sind 21.");
        assert_eq!(written("fr_FR", "quatre-vingt-dix francs"), "90 francs.");
        assert!(Prose::new("ko").is_none());
        assert!(Prose::new("").is_none());
    }

    #[test]
    fn a_sentence_goes_on_across_a_cut() {
        let mut prose = Prose::new("en").unwrap();
        let mut write = |text, cut| {
            let mut segment = segment(text);
            prose.write(&mut segment, cut);
            segment.text
        };
        assert_eq!(write("it was so", true), "It was so");
        assert_eq!(write("long that it", true), "long that it");
        assert_eq!(write("was cut", false), "was cut.");
        assert_eq!(write("twice", false), "Twice.");
    }

    #[test]
    fn words_that_become_one_keep_their_times_and_what_was_said() {
        let mut segment = segment("about twenty one percent of it");
        let raw = segment.text.clone();
        Prose::new("en").unwrap().write(&mut segment, false);
        assert_eq!(segment.raw_text, Some(raw));
        let words: Vec<_> = segment
            .words
            .iter()
            .map(|word| word.word.as_str())
            .collect();
        assert_eq!(words, ["About", "21%", "of", "it."]);
        let number = &segment.words[1];
        assert_eq!((number.start, number.end), (0.5, 2.0));
        assert!((number.confidence - 0.985).abs() < 1e-6);
        let mut nothing = super::tests::segment("");
        let before = nothing.clone();
        Prose::new("en").unwrap().write(&mut nothing, false);
        assert_eq!(nothing, before);
    }
}
