//! What leads a search besides the sound: phrases, a language model, a grammar.

use std::sync::Arc;

use super::{Fusion, Grammar, Phrases, fusion, grammar, phrases};
use crate::model::TokenId;

/// All that leads the hypotheses of a search.
#[derive(Debug, Default)]
pub(super) struct Guides {
    pub(super) phrases: Option<Arc<Phrases>>,
    pub(super) fusion: Option<Arc<Fusion>>,
    pub(super) grammar: Option<Arc<Grammar>>,
}

/// Where a hypothesis stands with each of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Led {
    pub(super) phrase: phrases::State,
    pub(super) words: fusion::State,
    pub(super) sentence: grammar::State,
}

impl Led {
    /// What they add to its log-score.
    pub(super) fn bonus(self) -> f32 {
        self.phrase.bonus() + self.words.bonus()
    }

    /// What they add more than to another hypothesis.
    pub(super) fn over(self, other: Self) -> Self {
        Self {
            phrase: self.phrase.less(other.phrase.bonus()),
            words: self.words.less(other.words.bonus()),
            ..self
        }
    }
}

/// The words of a hypothesis once the last of them is over, found out when it is first asked for: the same for all
/// tokens that begin a word.
#[derive(Default)]
pub(super) struct Ended(Option<fusion::State>);

impl Guides {
    /// At the start of an utterance.
    pub(super) fn begin(&self) -> Led {
        let words = self.fusion.as_ref().map(|fusion| fusion.begin());
        Led {
            words: words.unwrap_or_default(),
            ..Led::default()
        }
    }

    /// A hypothesis says one more token, if it may be said.
    pub(super) fn advance(&self, led: Led, ended: &mut Ended, token: TokenId) -> Option<Led> {
        let sentence = match &self.grammar {
            Some(grammar) => grammar.advance(led.sentence, token)?,
            None => led.sentence,
        };
        let advance = |phrases: &Arc<Phrases>| phrases.advance(led.phrase, token);
        let before = self.before(led, ended, token);
        let spell = |fusion: &Arc<Fusion>| fusion.spell(before, token);
        Some(Led {
            phrase: self.phrases.as_ref().map_or(led.phrase, advance),
            words: self.fusion.as_ref().map_or(before, spell),
            sentence,
        })
    }

    /// No less than its bonus then.
    pub(super) fn at_most(&self, led: Led, ended: &mut Ended, token: TokenId) -> f32 {
        let at_most = |phrases: &Arc<Phrases>| phrases.at_most(led.phrase, token);
        let earned = self.phrases.as_ref().map_or(0.0, at_most);
        led.phrase.bonus() + earned + self.before(led, ended, token).bonus()
    }

    /// The words of a hypothesis before a token is spelled.
    fn before(&self, led: Led, ended: &mut Ended, token: TokenId) -> fusion::State {
        match &self.fusion {
            Some(fusion) if fusion.starts_word(token) => {
                *ended.0.get_or_insert_with(|| fusion.end_word(led.words))
            }
            _ => led.words,
        }
    }

    /// Nothing more is said: phrases that are only begun lose what they were lent, the language model hears the last
    /// word.
    pub(super) fn finish(&self, led: Led) -> Led {
        let finish = |phrases: &Arc<Phrases>| phrases.finish(led.phrase);
        let end = |fusion: &Arc<Fusion>| fusion.finish(led.words);
        Led {
            phrase: self.phrases.as_ref().map_or(led.phrase, finish),
            words: self.fusion.as_ref().map_or(led.words, end),
            ..led
        }
    }

    /// Whether a hypothesis can be the whole utterance.
    pub(super) fn may_end(&self, led: Led) -> bool {
        let may_end = |grammar: &Arc<Grammar>| grammar.may_end(led.sentence);
        self.grammar.as_ref().is_none_or(may_end)
    }
}
