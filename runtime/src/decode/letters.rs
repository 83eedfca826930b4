//! How tokens spell: what phrases and grammars are written in.

use std::collections::HashMap;

use crate::model::{TokenId, Tokens, WORD_START};

/// A letter's place in the alphabet that the tokens spell with; the first is the mark of a word start.
pub(super) type Letter = u16;

pub(super) const BOUNDARY: Letter = 0;

/// The letters that tokens spell with.
pub(super) struct Alphabet<'a> {
    tokens: &'a Tokens,
    letters: HashMap<char, Letter>,
    has_capitals: bool,
}

impl<'a> Alphabet<'a> {
    pub(super) fn of(tokens: &'a Tokens) -> Self {
        let mut letters = HashMap::from([(WORD_START, BOUNDARY)]);
        for token in 0..tokens.blank() {
            for letter in tokens.symbol(token).chars() {
                let next = Letter::try_from(letters.len()).unwrap_or(Letter::MAX);
                letters.entry(letter).or_insert(next);
            }
        }
        Self {
            has_capitals: tokens
                .spelling()
                .any(|symbol| symbol.contains(char::is_uppercase)),
            letters,
            tokens,
        }
    }

    /// A word as letters, without boundaries. Capitals become small where the model has none.
    pub(super) fn spell(&self, word: &str) -> Result<Vec<Letter>, String> {
        let letter = |letter: char| {
            let small = letter.to_lowercase().next().filter(|_| !self.has_capitals);
            let letter = small.unwrap_or(letter);
            match self.letters.get(&letter) {
                Some(&known) if known != BOUNDARY => Ok(known),
                _ => Err(format!(
                    "the model's tokens have no {letter:?}, so it cannot say {word:?}"
                )),
            }
        };
        word.chars().map(letter).collect()
    }

    /// What each token spells.
    pub(super) fn spellings(&self) -> Spellings {
        let mut spellings = Spellings::default();
        for token in 0..self.tokens.blank() {
            let symbol = self.tokens.symbol(token).chars();
            let known = symbol.filter_map(|letter| self.letters.get(&letter));
            spellings.letters.extend(known);
            spellings.ends.push(spellings.letters.len() as u32);
        }
        spellings
    }
}

/// The letters of all tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct Spellings {
    letters: Vec<Letter>,
    /// Where those of each token end.
    ends: Vec<u32>,
}

impl Spellings {
    /// Tokens without the blank.
    pub(super) fn tokens(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn of(&self, token: TokenId) -> &[Letter] {
        let end = |token: usize| self.ends[token] as usize;
        let start = if token == 0 { 0 } else { end(token - 1) };
        &self.letters[start..end(token)]
    }
}
