//! A grammar as a finite automaton over letters: first one that may be in several states (Thompson
//! 1968), then, by the subset construction, one that is in one.

use std::collections::HashMap;

use super::super::letters::{Alphabet, BOUNDARY, Letter, Spellings};
use super::syntax::{Expansion, Rules};
use super::{Fault, State};
use crate::model::TokenId;

/// Most states of either automaton: some dozens of megabytes.
const MOST_STATES: usize = 500_000;
/// Most members of all subsets together.
const MOST_MEMBERS: usize = 8_000_000;
/// Rules within rules.
const DEEPEST: usize = 64;
/// Groups and rules within one another, a group up to five: building recurses as deep, on stacks that may be small.
const DEEPEST_IN_ALL: usize = 400;

/// From a state there is one way for each letter at most. Sentences begin in the first state.
#[derive(Debug, Clone)]
pub(super) struct Automaton {
    pub(super) spellings: Spellings,
    nodes: Vec<Node>,
    /// Ways of all states, those of one together and in the order of their letters.
    ways: Vec<(Letter, State)>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    ways: (u32, u32),
    may_end: bool,
}

impl Automaton {
    pub(super) fn advance(&self, state: State, token: TokenId) -> Option<State> {
        let letters = self.spellings.of(token);
        letters.iter().try_fold(state, |state, letter| {
            let (start, end) = self.nodes[state as usize].ways;
            let ways = &self.ways[start as usize..end as usize];
            let at = ways.binary_search_by_key(letter, |(letter, _)| *letter);
            at.ok().map(|at| ways[at].1)
        })
    }

    pub(super) fn may_end(&self, state: State) -> bool {
        self.nodes[state as usize].may_end
    }
}

/// A state of the automaton in the making.
#[derive(Default)]
struct Place {
    /// Where a letter leads.
    ways: Vec<(Letter, u32)>,
    /// Where one is at the same time.
    also: Vec<u32>,
}

/// Sentences begin at the first place and end at the second.
pub(super) struct Builder<'a> {
    alphabet: &'a Alphabet<'a>,
    places: Vec<Place>,
    depth: usize,
}

const START: u32 = 0;
const END: u32 = 1;

impl<'a> Builder<'a> {
    pub(super) fn new(alphabet: &'a Alphabet<'a>) -> Self {
        Self {
            alphabet,
            places: vec![Place::default(), Place::default()],
            depth: 0,
        }
    }

    pub(super) fn add_sentence(&mut self, sentence: &str, line: usize) -> Result<(), Fault> {
        let mut at = START;
        for word in sentence.split_whitespace() {
            at = self.add_word(at, word, line)?;
        }
        self.places[at as usize].also.push(END);
        Ok(())
    }

    pub(super) fn add_rules(&mut self, rules: &Rules) -> Result<(), Fault> {
        for name in &rules.public {
            let mut open = Vec::new();
            let end = self.add_rule(START, name, None, rules, &mut open)?;
            self.places[end as usize].also.push(END);
        }
        Ok(())
    }

    fn add_rule<'r>(
        &mut self,
        from: u32,
        name: &'r str,
        line: Option<usize>,
        rules: &'r Rules,
        open: &mut Vec<&'r str>,
    ) -> Result<u32, Fault> {
        let Some(expansion) = rules.by_name.get(name) else {
            return Err((line, format!("there is no rule <{name}>")));
        };
        if open.contains(&name) {
            let reason = format!("rule <{name}> refers to itself: repeat with * or + instead");
            return Err((line, reason));
        }
        if open.len() == DEEPEST {
            let reason = format!("rules refer to one another more than {DEEPEST} deep");
            return Err((line, reason));
        }
        open.push(name);
        let end = self.add(from, expansion, rules, open)?;
        open.pop();
        Ok(end)
    }

    /// Adds what may be said from a place on; returns the place after it.
    fn add<'r>(
        &mut self,
        from: u32,
        expansion: &'r Expansion,
        rules: &'r Rules,
        open: &mut Vec<&'r str>,
    ) -> Result<u32, Fault> {
        if self.depth == DEEPEST_IN_ALL {
            let reason = "groups and rules stand in one another too deep: write fewer groups in rules that others refer to";
            return Err((None, reason.to_owned()));
        }
        self.depth += 1;
        let after = self.add_inside(from, expansion, rules, open);
        self.depth -= 1;
        after
    }

    fn add_inside<'r>(
        &mut self,
        from: u32,
        expansion: &'r Expansion,
        rules: &'r Rules,
        open: &mut Vec<&'r str>,
    ) -> Result<u32, Fault> {
        match expansion {
            Expansion::Word(word, line) => self.add_word(from, word, *line),
            Expansion::Rule(name, line) => self.add_rule(from, name, Some(*line), rules, open),
            Expansion::Sequence(parts) => {
                let mut parts = parts.iter();
                parts.try_fold(from, |from, part| self.add(from, part, rules, open))
            }
            Expansion::Choice(choices) => {
                let after = self.place()?;
                for choice in choices {
                    let end = self.add(from, choice, rules, open)?;
                    self.places[end as usize].also.push(after);
                }
                Ok(after)
            }
            Expansion::Optional(part) => {
                let end = self.add(from, part, rules, open)?;
                let after = self.place()?;
                self.places[end as usize].also.push(after);
                self.places[from as usize].also.push(after);
                Ok(after)
            }
            Expansion::Repeated(part) => {
                let begin = self.place()?;
                self.places[from as usize].also.push(begin);
                let end = self.add(begin, part, rules, open)?;
                self.places[end as usize].also.push(begin);
                Ok(end)
            }
        }
    }

    fn add_word(&mut self, from: u32, word: &str, line: usize) -> Result<u32, Fault> {
        let letters = self.alphabet.spell(word);
        let letters = letters.map_err(|reason| (Some(line), reason))?;
        let mut at = self.boundary(from)?;
        for letter in letters {
            at = self.way(at, letter)?;
        }
        Ok(at)
    }

    /// Where a word begins that may follow a place. All such words share it: with a beginning for each, `(one | two | ...)+`
    /// would have a way from each word's end to each word.
    fn boundary(&mut self, from: u32) -> Result<u32, Fault> {
        let ways = &self.places[from as usize].ways;
        match ways.iter().find(|(letter, _)| *letter == BOUNDARY) {
            Some(&(_, place)) => Ok(place),
            None => self.way(from, BOUNDARY),
        }
    }

    /// A letter from a place to a new one.
    fn way(&mut self, from: u32, letter: Letter) -> Result<u32, Fault> {
        let to = self.place()?;
        self.places[from as usize].ways.push((letter, to));
        Ok(to)
    }

    fn place(&mut self) -> Result<u32, Fault> {
        if self.places.len() >= MOST_STATES {
            return Err(too_large());
        }
        self.places.push(Place::default());
        Ok(self.places.len() as u32 - 1)
    }

    pub(super) fn automaton(self) -> Result<Automaton, Fault> {
        let mut automaton = Automaton {
            spellings: self.alphabet.spellings(),
            nodes: Vec::new(),
            ways: Vec::new(),
        };
        let first = self.closed(vec![START]);
        if first.contains(&END) {
            let reason = "silence is a sentence of this grammar: it must say at least a word";
            return Err((None, reason.to_owned()));
        }
        let mut members = first.len();
        let mut subsets = vec![first.clone()];
        let mut numbers = HashMap::from([(first, 0_u32)]);
        let mut at = 0;
        while at < subsets.len() {
            let subset = std::mem::take(&mut subsets[at]);
            let mut ways: Vec<_> = subset
                .iter()
                .flat_map(|&place| self.places[place as usize].ways.iter().copied())
                .collect();
            ways.sort_unstable();
            let start = automaton.ways.len() as u32;
            for same in ways.chunk_by(|a, b| a.0 == b.0) {
                let places = same.iter().map(|&(_, place)| place).collect();
                let reached = self.closed(places);
                let new = subsets.len() as u32;
                let number = *numbers.entry(reached).or_insert_with_key(|reached| {
                    members += reached.len();
                    subsets.push(reached.clone());
                    new
                });
                automaton.ways.push((same[0].0, number));
            }
            if subsets.len() > MOST_STATES || members > MOST_MEMBERS {
                return Err(too_large());
            }
            automaton.nodes.push(Node {
                ways: (start, automaton.ways.len() as u32),
                may_end: subset.contains(&END),
            });
            at += 1;
        }
        if automaton.ways.is_empty() {
            return Err((None, "the grammar has no sentence".to_owned()));
        }
        Ok(automaton)
    }

    /// All places where one is who is at these, in order.
    fn closed(&self, mut places: Vec<u32>) -> Vec<u32> {
        let mut known = std::collections::HashSet::new();
        places.retain(|&place| known.insert(place));
        let mut at = 0;
        while at < places.len() {
            for &place in &self.places[places[at] as usize].also {
                if known.insert(place) {
                    places.push(place);
                }
            }
            at += 1;
        }
        places.sort_unstable();
        places
    }
}

fn too_large() -> Fault {
    let reason =
        format!("the grammar is too large: its sentences need more than {MOST_STATES} states");
    (None, reason)
}
