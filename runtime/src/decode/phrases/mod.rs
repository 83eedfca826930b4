mod trie;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::letters::{Alphabet, BOUNDARY, Letter, Spellings};

use crate::model::{TokenId, Tokens};
use trie::{Trie, spelled};

/// Phrases that are expected - names, commands, contacts - and by how much to prefer them.
///
/// Every letter of a phrase lends its hypothesis a bonus. Said to its end, from word start to word
/// end, the phrase keeps it; otherwise it is given back. Phrases live in one trie over letters with the
/// failure links of Aho and Corasick (1975), so that a phrase is found within another and however the
/// model splits it into tokens.
///
/// # Examples
/// ```
/// # use std::path::Path;
/// # use sori::model::Tokens;
/// use sori::decode::Phrases;
///
/// # let tokens = Tokens::parse("▁an 0\nna 1\n▁b 2\no 3\nb 4\n<blk> 5\n", Path::new("tokens.txt"))?;
/// let phrases = Phrases::parse("anna\nbob 1.5\n".as_bytes(), "names.txt", &tokens)?;
/// assert_eq!(phrases.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Phrases {
    nodes: Vec<Node>,
    /// Children of all nodes, those of one node together and in the order of their letters.
    children: Vec<(Letter, u32)>,
    spellings: Spellings,
    /// Tokens that go on with a phrase, those of one node together, and what they earn.
    continuations: Vec<(u32, f32)>,
    /// The most that each token can earn, from a node that gives nothing back.
    most: Vec<f32>,
    count: usize,
}

#[derive(Debug, Clone, Default)]
struct Node {
    children: (u32, u32),
    continuations: (u32, u32),
    /// The longest proper suffix that is in the trie.
    fail: u32,
    /// Bonus of the letters since the last phrase on the way here ended.
    lent: f32,
    /// Bonus of phrases that ended within the way here, as suffixes of it.
    within: f32,
    /// What the letters since then earn if a phrase ends here.
    earns: Option<f32>,
    /// The most that is won by a step back from here.
    back: f32,
}

impl Node {
    /// What a hypothesis has been lent that stands here.
    fn lent(&self) -> f32 {
        if self.earns.is_some() { 0.0 } else { self.lent }
    }

    /// Of two nodes on the way back, the bonus is higher at that with the higher worth, by the difference.
    fn worth(&self) -> f32 {
        self.lent() - self.within
    }
}

/// Where a hypothesis stands.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct State {
    node: u32,
    earned: f32,
    lent: f32,
}

impl State {
    pub(super) fn bonus(self) -> f32 {
        self.earned + self.lent
    }

    /// With so much less earned.
    pub(super) fn less(self, bonus: f32) -> Self {
        Self {
            earned: self.earned - bonus,
            ..self
        }
    }

    /// Without what was only lent.
    pub(super) fn settled(self) -> Self {
        Self {
            earned: self.earned,
            ..Self::default()
        }
    }
}

/// What is wrong with a list of phrases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhraseError {
    /// The list cannot be read. Check path and permissions.
    #[error("{path}: {reason}")]
    Io {
        /// The list.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// A line is no phrase, or one that the model cannot spell. Correct or remove that line.
    #[error("{path}:{line}: {reason}")]
    Line {
        /// The list.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Expected and found.
        reason: String,
    },
    /// A phrase has a boost that is out of bounds, or is one too many. Correct or remove it.
    #[error("phrase {number}: {reason}")]
    Phrase {
        /// Counted from 1.
        number: usize,
        /// Expected and found.
        reason: String,
    },
}

/// Most bytes of a line, and of a phrase.
const LONGEST_LINE: u64 = 1_000;

impl Phrases {
    /// What a letter of a phrase without a boost of its own adds to a hypothesis's log-probability.
    /// Much more than 1 makes the model hear phrases in silence.
    pub const BOOST: f32 = 0.5;

    /// Reads a list: a phrase per line, UTF-8, with a number behind it if its letters are to add
    /// another boost than [`BOOST`](Self::BOOST); above 2 it needs a point, so that "maroon 5" is no boost. Empty lines and lines that begin with `#` are
    /// left out. Capitals become small where the model has none. `name` is only named in errors.
    ///
    /// # Errors
    /// [`PhraseError`] with the line for what is no phrase, cannot be spelled with the model's tokens,
    /// or is too much.
    pub fn parse(
        list: impl Read,
        name: impl AsRef<Path>,
        tokens: &Tokens,
    ) -> Result<Self, PhraseError> {
        let path = name.as_ref();
        let alphabet = Alphabet::of(tokens);
        let mut trie = Trie::new();
        let mut list = BufReader::new(list);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = list
                .by_ref()
                .take(LONGEST_LINE + 1)
                .read_until(b'\n', &mut line);
            let read = read.map_err(|reason| PhraseError::Io {
                path: path.into(),
                reason,
            })?;
            if read == 0 {
                break;
            }
            trie.add_line(&line, &alphabet)
                .map_err(|reason| PhraseError::Line {
                    path: path.into(),
                    line: number,
                    reason,
                })?;
        }
        Ok(trie.link(&alphabet))
    }

    /// Takes phrases with their boosts, [`BOOST`](Self::BOOST) as a rule. A text is taken as it is: no number or comment is
    /// looked for. What the model cannot say is left out, and comes back by its place in the list: phrases that are empty,
    /// longer than 1000 bytes, or not to be spelled with the model's tokens.
    ///
    /// # Errors
    /// [`PhraseError::Phrase`] for a boost beyond -20 to 20, or what is too much.
    ///
    /// # Examples
    /// ```
    /// # use std::path::Path;
    /// # use sori::model::Tokens;
    /// use sori::decode::Phrases;
    ///
    /// # let tokens = Tokens::parse("▁an 0\nna 1\n▁b 2\no 3\nb 4\n<blk> 5\n", Path::new("tokens.txt"))?;
    /// let contacts = ["Anna", "Zoë", "Bob"].map(|name| (name, Phrases::BOOST));
    /// let (phrases, left_out) = Phrases::of(contacts, &tokens)?;
    /// assert_eq!((phrases.len(), left_out), (2, vec![1]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of<'a>(
        phrases: impl IntoIterator<Item = (&'a str, f32)>,
        tokens: &Tokens,
    ) -> Result<(Self, Vec<usize>), PhraseError> {
        let alphabet = Alphabet::of(tokens);
        let mut trie = Trie::new();
        let mut left_out = Vec::new();
        for (place, (text, boost)) in phrases.into_iter().enumerate() {
            let fits = text.len() as u64 <= LONGEST_LINE && !text.trim().is_empty();
            match fits.then(|| spelled(text, &alphabet)) {
                Some(Ok(letters)) => {
                    trie.add(&letters, boost)
                        .map_err(|reason| PhraseError::Phrase {
                            number: place + 1,
                            reason,
                        })?;
                }
                _ => left_out.push(place),
            }
        }
        Ok((trie.link(&alphabet), left_out))
    }

    /// Reads a list from a file, as [`parse`](Self::parse) does.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); also if the file cannot be opened.
    pub fn open(path: impl AsRef<Path>, tokens: &Tokens) -> Result<Self, PhraseError> {
        let path = path.as_ref();
        let file = std::fs::File::open(path).map_err(|reason| PhraseError::Io {
            path: path.into(),
            reason,
        })?;
        Self::parse(file, path, tokens)
    }

    /// Number of different phrases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no phrase.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Tokens of the model that they were made for, without the blank.
    pub(crate) fn tokens(&self) -> usize {
        self.spellings.tokens()
    }

    /// A hypothesis says one more token.
    pub(super) fn advance(&self, state: State, token: TokenId) -> State {
        self.spellings
            .of(token)
            .iter()
            .fold(state, |state, &letter| self.letter(state, letter))
    }

    /// Nothing more is said: the last word is over.
    pub(super) fn finish(&self, state: State) -> State {
        self.letter(state, BOUNDARY).settled()
    }

    /// Tokens that begin a phrase, and the most that each can earn.
    pub(super) fn beginnings(&self) -> impl Iterator<Item = (TokenId, f32)> + '_ {
        let of = self.leading_on(0).iter();
        of.map(|&(token, earns)| (token as TokenId, earns))
    }

    /// Tokens that go on with what `state` has begun, and the most that each can earn; none if nothing is begun.
    pub(super) fn continuations(&self, state: State) -> impl Iterator<Item = (TokenId, f32)> + '_ {
        let begun = (state.node != 0).then(|| self.leading_on(state.node));
        let of = begun.into_iter().flatten();
        of.map(|&(token, earns)| (token as TokenId, earns))
    }

    /// Whether a token is among these.
    pub(super) fn goes_on(&self, state: State, token: TokenId) -> bool {
        let known = |&(known, _): &(u32, f32)| known;
        state.node != 0
            && self
                .leading_on(state.node)
                .binary_search_by_key(&(token as u32), known)
                .is_ok()
    }

    /// No less than what a token adds to the bonus of `state`.
    pub(super) fn at_most(&self, state: State, token: TokenId) -> f32 {
        self.nodes[state.node as usize].back + self.most[token]
    }

    fn leading_on(&self, node: u32) -> &[(u32, f32)] {
        let (start, end) = self.nodes[node as usize].continuations;
        &self.continuations[start as usize..end as usize]
    }

    /// What the longest phrase earns that ends at a node or at a suffix of it.
    fn ended(&self, mut node: u32) -> f32 {
        while node != 0 {
            let here = &self.nodes[node as usize];
            if let Some(earns) = here.earns {
                return earns;
            }
            node = here.fail;
        }
        0.0
    }

    /// Notes for every node which tokens lead on from it without a step back.
    fn find_continuations(&mut self) {
        let tokens = self.spellings.tokens();
        let mut by_first = HashMap::<Letter, Vec<TokenId>>::new();
        for token in 0..tokens {
            if let Some(&first) = self.spellings.of(token).first() {
                by_first.entry(first).or_default().push(token);
            }
        }
        for node in 0..self.nodes.len() as u32 {
            let start = self.continuations.len();
            let (first, last) = self.nodes[node as usize].children;
            for at in first..last {
                let (letter, _) = self.children[at as usize];
                for &token in by_first.get(&letter).into_iter().flatten() {
                    let on = |node, &letter: &Letter| self.child(node, letter);
                    if self.spellings.of(token).iter().try_fold(node, on).is_some() {
                        let state = State {
                            node,
                            ..State::default()
                        };
                        let here = &self.nodes[node as usize];
                        let lent = here.lent();
                        let earns = self.advance(state, token).bonus() - lent;
                        self.continuations.push((token as u32, earns));
                    }
                }
            }
            self.continuations[start..].sort_unstable_by_key(|&(token, _)| token);
            let end = self.continuations.len() as u32;
            self.nodes[node as usize].continuations = (start as u32, end);
        }
    }

    /// Bounds what a token can earn: each letter no more than the highest boost, and before it whatever a step back
    /// wins.
    fn find_most(&mut self, boosts: impl Iterator<Item = f32>) {
        let backs = self.nodes.iter().map(|node| node.back);
        let back = backs.fold(0.0, f32::max);
        let boost = boosts.fold(0.0, f32::max);
        let letters = |token| self.spellings.of(token).len() as f32;
        self.most = (0..self.spellings.tokens())
            .map(|token| letters(token) * (boost + back))
            .collect();
    }

    fn child(&self, node: u32, letter: Letter) -> Option<u32> {
        let (start, end) = self.nodes[node as usize].children;
        let children = &self.children[start as usize..end as usize];
        let at = children.binary_search_by_key(&letter, |&(letter, _)| letter);
        at.ok().map(|at| children[at].1)
    }

    fn letter(&self, state: State, letter: Letter) -> State {
        let State {
            mut node,
            mut earned,
            ..
        } = state;
        let next = loop {
            if let Some(child) = self.child(node, letter) {
                break child;
            }
            if node == 0 {
                break 0;
            }
            // What was lent goes back, but for phrases that ended on the way.
            let here = &self.nodes[node as usize];
            earned += here.within - self.nodes[here.fail as usize].within;
            node = here.fail;
        };
        let here = &self.nodes[next as usize];
        State {
            node: next,
            earned: earned + here.earns.unwrap_or(0.0),
            lent: here.lent(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The search leaves out what cannot reach the beam by this bound: were it too low, words would be lost.
    #[test]
    fn no_token_earns_more_than_it_can_at_most() {
        let symbols = "▁a 0\na 1\nb 2\n▁b 3\n▁ab 4\nba 5\n▁ 6\naba 7\nb▁a 8\n<blk> 9\n";
        let tokens = Tokens::parse(symbols, Path::new("tokens.txt")).unwrap();
        // Within one another, one across the other, and some that are to be avoided.
        let list = "ab\nab ba 2\nba ab 0.1\nba 3.0\nabba -1\nabbab ba\nb\nbaba a -4\nb a b a 5.0\n";
        let phrases = Phrases::parse(list.as_bytes(), "list", &tokens).unwrap();
        let (mut state, mut seed, mut wins) = (State::default(), 1_u64, 0);
        for _ in 0..100_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let token = (seed >> 33) as usize % tokens.blank();
            let most = phrases.at_most(state, token);
            let next = phrases.advance(state, token);
            let won = next.bonus() - state.bonus();
            assert!(won <= most + 1e-3, "{won} {most} {state:?} {token}");
            wins += usize::from(won > 0.0);
            state = State {
                // So that rounding does not grow.
                earned: 0.0,
                ..next
            };
        }
        assert!(wins > 10_000, "{wins}");
    }
}
