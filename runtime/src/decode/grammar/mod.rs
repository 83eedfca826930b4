//! Grammars: the sentences that may be said, and nothing else.

mod automaton;
mod matcher;
mod syntax;

use std::io::Read;
use std::path::{Path, PathBuf};

use super::letters::Alphabet;
use crate::model::{TokenId, Tokens};
use automaton::{Automaton, Builder};
pub(crate) use matcher::Matcher;

/// The sentences of which an utterance has to be one: commands, digits, answers.
///
/// A list has a sentence per line. A grammar in JSGF (the Java Speech Grammar Format 1.0, its common
/// part) begins with `#JSGF` and has rules of words, `<rules>`, alternatives `|`, groups `( )`, optional
/// parts `[ ]` and repetitions `*` and `+`; what its public rules say is what may be said.
///
/// Once the utterance is over it is compared with what the model heard freely: when the grammar's best
/// sentence is much less probable, the utterance is none of its sentences
/// ([`Segment::out_of_grammar`](crate::Segment::out_of_grammar)), instead of the one that happens to be
/// nearest.
///
/// # Examples
/// ```
/// # use std::path::Path;
/// # use sori::model::Tokens;
/// use sori::decode::Grammar;
///
/// # let tokens = Tokens::parse("▁on 0\n▁o 1\nf 2\n<blk> 3\n", Path::new("tokens.txt"))?;
/// let grammar = "#JSGF V1.0; public <switch> = on | off;";
/// let grammar = Grammar::parse(grammar.as_bytes(), "switch.jsgf", &tokens)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Grammar {
    automaton: Automaton,
    tolerance: f32,
}

/// Where in the grammar a hypothesis stands; 0 where nothing is said yet.
pub(super) type State = u32;

/// What is wrong with a grammar.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The file cannot be read. Check path and permissions.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// A line is not what it should be, or has a word that the model cannot spell. Correct that line.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Expected and found.
        reason: String,
    },
    /// The grammar as a whole is too large, or says nothing. Make it smaller, or give it a sentence.
    #[error("{path}: {reason}")]
    Whole {
        /// The file.
        path: PathBuf,
        /// Expected and found.
        reason: String,
    },
}

/// What is wrong, and in which line if it is in one.
type Fault = (Option<usize>, String);

/// Most bytes of a grammar.
const LONGEST: u64 = 8 << 20;

impl Grammar {
    /// How much less probable than what was heard freely a sentence may be, in natural logarithms for
    /// each of its letters.
    pub const TOLERANCE: f32 = 0.5;

    /// Reads a list or a grammar in JSGF, UTF-8. `name` is only named in errors.
    ///
    /// # Errors
    /// [`GrammarError`] with the line for what is no grammar, or cannot be spelled with the model's
    /// tokens.
    pub fn parse(
        grammar: impl Read,
        name: impl AsRef<Path>,
        tokens: &Tokens,
    ) -> Result<Self, GrammarError> {
        let path = name.as_ref();
        let mut bytes = Vec::new();
        let mut grammar = grammar.take(LONGEST + 1);
        grammar
            .read_to_end(&mut bytes)
            .map_err(|reason| GrammarError::Io {
                path: path.into(),
                reason,
            })?;
        compile(&bytes, tokens).map_err(|(line, reason)| match line {
            Some(line) => GrammarError::Line {
                path: path.into(),
                line,
                reason,
            },
            None => GrammarError::Whole {
                path: path.into(),
                reason,
            },
        })
    }

    /// Reads a grammar from a file, as [`parse`](Self::parse) does.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); also if the file cannot be opened.
    pub fn open(path: impl AsRef<Path>, tokens: &Tokens) -> Result<Self, GrammarError> {
        let path = path.as_ref();
        let file = std::fs::File::open(path).map_err(|reason| GrammarError::Io {
            path: path.into(),
            reason,
        })?;
        Self::parse(file, path, tokens)
    }

    /// Accepts utterances whose sentence is at most so much less probable, for each letter, than what
    /// was heard freely; instead of [`TOLERANCE`](Self::TOLERANCE). With infinity any sentence that was said to its end
    /// will do, the nearest.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: f32) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Tokens of the model that it was made for, without the blank.
    pub(crate) fn tokens(&self) -> usize {
        self.automaton.spellings.tokens()
    }

    /// Where one more token leads, if it may be said.
    pub(super) fn advance(&self, state: State, token: TokenId) -> Option<State> {
        self.automaton.advance(state, token)
    }

    /// Whether a sentence may be over.
    pub(super) fn may_end(&self, state: State) -> bool {
        self.automaton.may_end(state)
    }

    /// Letters of a token.
    fn letters(&self, token: TokenId) -> usize {
        self.automaton.spellings.of(token).len()
    }
}

fn compile(bytes: &[u8], tokens: &Tokens) -> Result<Grammar, Fault> {
    if bytes.len() as u64 > LONGEST {
        return Err((None, format!("expected at most {LONGEST} bytes of grammar")));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        (Some(line), "expected UTF-8, found other bytes".to_owned())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let alphabet = Alphabet::of(tokens);
    let mut builder = Builder::new(&alphabet);
    if text.trim_start().starts_with("#JSGF") {
        let rules = syntax::parse(text)?;
        builder.add_rules(&rules)?;
    } else {
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                builder.add_sentence(line, number)?;
            }
        }
    }
    Ok(Grammar {
        automaton: builder.automaton()?,
        tolerance: Grammar::TOLERANCE,
    })
}
