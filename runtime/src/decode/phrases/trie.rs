//! Phrases while they are put together: lines, letters, a trie, its failure links.

use std::collections::{BTreeMap, VecDeque};

use super::{LONGEST_LINE, Node, Phrases};
use crate::decode::letters::{Alphabet, BOUNDARY, Letter};

/// Most phrases of a list.
const MOST_PHRASES: usize = 100_000;
/// Most letters of all phrases of a list.
const MOST_LETTERS: usize = 2_000_000;
/// Largest boost, either way.
const MOST_BOOST: f32 = 20.0;
/// Largest whole number behind a phrase that is not rather a part of it, as in "maroon 5".
const MOST_WHOLE: f32 = 2.0;

/// A phrase as letters, with a word boundary at both ends and between words.
pub(super) fn spelled(phrase: &str, alphabet: &Alphabet<'_>) -> Result<Vec<Letter>, String> {
    let mut spelled = vec![BOUNDARY];
    for word in phrase.split_whitespace() {
        spelled.extend(alphabet.spell(word)?);
        spelled.push(BOUNDARY);
    }
    Ok(spelled)
}

/// The trie while phrases are added.
pub(super) struct Trie {
    nodes: Vec<Branch>,
    letters: usize,
    count: usize,
}

#[derive(Default)]
struct Branch {
    children: BTreeMap<Letter, u32>,
    /// What the letter that leads here lends: the most that any phrase along here gives for one.
    boost: f32,
    /// The boost of a phrase that ends here.
    complete: Option<f32>,
}

impl Trie {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Branch::default()],
            letters: 0,
            count: 0,
        }
    }

    pub(super) fn add_line(&mut self, line: &[u8], alphabet: &Alphabet<'_>) -> Result<(), String> {
        if line.len() as u64 > LONGEST_LINE {
            return Err(format!("the line is longer than {LONGEST_LINE} bytes"));
        }
        let text = std::str::from_utf8(line)
            .map_err(|error| {
                format!(
                    "expected UTF-8, found another byte at {}",
                    error.valid_up_to() + 1
                )
            })?
            .trim_start_matches('\u{feff}')
            .trim();
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        let boosted = text
            .rsplit_once(char::is_whitespace)
            .and_then(|(phrase, number)| {
                // "infinity" and "nan" are numbers for Rust, and words here.
                let has_digit = number.contains(|c: char| c.is_ascii_digit());
                let boost = number.parse().ok().filter(|_| has_digit)?;
                Some((phrase, number, boost))
            });
        let is_whole = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit());
        let (phrase, boost): (&str, f32) = match boosted {
            Some((_, number, boost)) if boost > MOST_WHOLE && is_whole(number) => {
                return Err(format!(
                    "is {boost} a boost or part of the phrase? A boost as large is written with a point, {boost:.1}; a \
                     number that is said is spelled as the model spells it, with a boost behind it"
                ));
            }
            Some((phrase, _, boost)) => (phrase, boost),
            None => (text, Phrases::BOOST),
        };
        self.add(&spelled(phrase, alphabet)?, boost)
    }

    pub(super) fn add(&mut self, spelled: &[Letter], boost: f32) -> Result<(), String> {
        if !(-MOST_BOOST..=MOST_BOOST).contains(&boost) {
            return Err(format!(
                "expected a boost from -{MOST_BOOST} to {MOST_BOOST}, found {boost}"
            ));
        }
        self.letters += spelled.len();
        if self.count == MOST_PHRASES || self.letters > MOST_LETTERS {
            return Err(format!(
                "too much: expected at most {MOST_PHRASES} phrases of {MOST_LETTERS} letters in all"
            ));
        }
        let mut at = 0;
        for &letter in spelled {
            let new = self.nodes.len() as u32;
            let child = *self.nodes[at].children.entry(letter).or_insert(new);
            if child == new {
                self.nodes.push(Branch::default());
            }
            at = child as usize;
            // Marks between words are not letters that are said.
            if letter != BOUNDARY {
                let known = &mut self.nodes[at].boost;
                *known = if child == new {
                    boost
                } else {
                    known.max(boost)
                };
            }
        }
        let complete = &mut self.nodes[at].complete;
        self.count += usize::from(complete.is_none());
        *complete = Some(complete.map_or(boost, |known| known.max(boost)));
        Ok(())
    }

    /// Failure links and sums, in order of depth.
    pub(super) fn link(self, alphabet: &Alphabet<'_>) -> Phrases {
        let mut phrases = Phrases {
            nodes: vec![Node::default(); self.nodes.len()],
            children: Vec::with_capacity(self.nodes.len()),
            spellings: alphabet.spellings(),
            continuations: Vec::new(),
            most: Vec::new(),
            count: self.count,
        };
        for (node, branch) in self.nodes.iter().enumerate() {
            let start = phrases.children.len() as u32;
            let children = branch
                .children
                .iter()
                .map(|(&letter, &child)| (letter, child));
            phrases.children.extend(children);
            phrases.nodes[node].children = (start, phrases.children.len() as u32);
        }
        // Since the last phrase on the way to a node ended.
        let mut letters = vec![0_u16; self.nodes.len()];
        // The best of all suffixes of a node: what is lent there, less what ended within.
        let mut best = vec![f32::NEG_INFINITY; self.nodes.len()];
        let mut queue = VecDeque::from([0_u32]);
        while let Some(node) = queue.pop_front() {
            for (&letter, &child) in &self.nodes[node as usize].children {
                queue.push_back(child);
                let mut fail = phrases.nodes[node as usize].fail;
                let suffix = loop {
                    if node == 0 {
                        break 0;
                    }
                    match phrases.child(fail, letter) {
                        Some(suffix) => break suffix,
                        None if fail == 0 => break 0,
                        None => fail = phrases.nodes[fail as usize].fail,
                    }
                };
                let parent = &phrases.nodes[node as usize];
                let (lent, within, since) = match parent.earns {
                    Some(_) => (0.0, 0.0, 0),
                    None => (parent.lent, parent.within, letters[node as usize]),
                };
                let branch = &self.nodes[child as usize];
                let since = since + u16::from(letter != BOUNDARY);
                letters[child as usize] = since;
                let ended = phrases.ended(suffix);
                let this = &mut phrases.nodes[child as usize];
                (this.fail, this.lent) = (suffix, lent + branch.boost);
                this.earns = branch.complete.map(|boost| boost * f32::from(since));
                // Where the whole way counts, parts of it do not count again.
                this.within = match this.earns {
                    Some(_) => 0.0,
                    None => within + ended,
                };
                let suffix = suffix as usize;
                best[child as usize] = best[suffix].max(phrases.nodes[suffix].worth());
                let this = &mut phrases.nodes[child as usize];
                this.back = (best[child as usize] - this.worth()).max(0.0);
            }
        }
        phrases.find_continuations();
        phrases.find_most(self.nodes.iter().map(|node| node.boost));
        phrases
    }
}
