use std::f32::consts::LN_10;
use std::sync::Arc;

use crate::lm::{History, LanguageModel, Letters, LmOptions, WordHash};
use crate::model::{TokenId, Tokens, WORD_START};

/// A language model at work in a [`Beam`](super::Beam), for the tokens of one acoustic model: shallow
/// fusion (Gulcehre et al. 2015, arXiv 1503.03535).
///
/// A word is scored when it ends, that is when a token begins the next one or the utterance is over:
/// `weight * ln p(word | words before)`, or `-unknown_penalty` if the model does not know it, and
/// `word_bonus`. So words are spelled freely, and a word that is only begun costs nothing yet.
/// Where tokens have only small letters and the model's words only capitals, or the other way round,
/// that difference is looked over.
///
/// # Examples
/// ```
/// # use std::path::Path;
/// # use std::sync::Arc;
/// # use sori::model::Tokens;
/// use sori::decode::{Beam, BeamOptions, Fusion};
/// use sori::lm::{LanguageModel, LmOptions};
///
/// # let tokens = Tokens::parse("▁an 0\nna 1\n▁b 2\no 3\nb 4\n<blk> 5\n", Path::new("tokens.txt"))?;
/// # let arpa = "\\data\\\nngram 1=1\n\n\\1-grams:\n-1 bob\n\n\\end\\\n";
/// # let model = LanguageModel::from_arpa(arpa.as_bytes(), "model.arpa")?;
/// let fusion = Fusion::new(Arc::new(model), LmOptions::default(), &tokens);
/// let mut beam = Beam::new(tokens.blank(), BeamOptions::default());
/// beam.set_language_model(Some(Arc::new(fusion)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Fusion {
    model: Arc<LanguageModel>,
    options: LmOptions,
    /// What each token adds to the spelling of a word, without the mark of a word start.
    spellings: Vec<u8>,
    /// A token's part of it ends here.
    ends: Vec<u32>,
    starts_word: Vec<bool>,
}

/// The words of a hypothesis.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    history: History,
    /// The word that is being spelled; empty between words.
    word: WordHash,
    score: f32,
}

impl State {
    pub(super) fn bonus(self) -> f32 {
        self.score
    }

    /// With so much less earned.
    pub(super) fn less(self, bonus: f32) -> Self {
        Self {
            score: self.score - bonus,
            ..self
        }
    }
}

impl Fusion {
    /// Puts a model to work for these tokens.
    #[must_use]
    pub fn new(model: Arc<LanguageModel>, options: LmOptions, tokens: &Tokens) -> Self {
        let symbols = || (0..tokens.blank()).map(|token| tokens.symbol(token));
        let respell = match (
            Letters::of(tokens.spelling().flat_map(str::chars)),
            model.letters(),
        ) {
            (Letters::Capital, Letters::Small) => str::to_lowercase,
            (Letters::Small, Letters::Capital) => str::to_uppercase,
            _ => str::to_owned,
        };
        let mut spellings = Vec::new();
        let ends = symbols().map(|symbol| {
            let letters = symbol.strip_prefix(WORD_START).unwrap_or(symbol);
            spellings.extend(respell(letters).into_bytes());
            spellings.len() as u32
        });
        Self {
            ends: ends.collect(),
            starts_word: symbols()
                .map(|symbol| symbol.starts_with(WORD_START))
                .collect(),
            spellings,
            model,
            options,
        }
    }

    /// Nothing is said yet.
    pub(super) fn begin(&self) -> State {
        State {
            history: self.model.begin(),
            ..State::default()
        }
    }

    /// As if what was said before were another sentence; its score stays.
    pub(super) fn begin_after(&self, state: State) -> State {
        State {
            score: state.score,
            ..self.begin()
        }
    }

    /// Tokens of the model that it was put to work for, without the blank.
    pub(crate) fn tokens(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn starts_word(&self, token: TokenId) -> bool {
        self.starts_word[token]
    }

    /// The word goes on with a token.
    pub(super) fn spell(&self, state: State, token: TokenId) -> State {
        let end = |token: usize| self.ends[token] as usize;
        let start = if token == 0 { 0 } else { end(token - 1) };
        State {
            word: state.word.then(&self.spellings[start..end(token)]),
            ..state
        }
    }

    /// The word is over, if there is one.
    pub(super) fn end_word(&self, state: State) -> State {
        if state.word == WordHash::EMPTY {
            return state;
        }
        let (earned, history) = match self.model.hashed(state.word) {
            Some(word) => {
                let (log10, history) = self.model.score(state.history, word);
                (self.options.weight * log10 * LN_10, history)
            }
            None => {
                let (_, history) = self.model.score_unknown(state.history);
                (-self.options.unknown_penalty, history)
            }
        };
        State {
            history,
            word: WordHash::EMPTY,
            score: state.score + earned + self.options.word_bonus,
        }
    }

    /// The utterance is over.
    pub(super) fn finish(&self, state: State) -> State {
        let mut state = self.end_word(state);
        if let Some(end) = self.model.end().filter(|_| self.options.end_weight != 0.0) {
            let (log10, _) = self.model.score(state.history, end);
            state.score += self.options.end_weight * log10 * LN_10;
        }
        state
    }
}
