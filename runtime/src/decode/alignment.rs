//! The ways in which the tokens of a hypothesis can lie in time.

use super::Hit;

/// No node, no token.
pub(super) const NONE: u32 = u32::MAX;

/// Alignments of one hypothesis that end alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Track {
    /// Log of the sum of their probabilities.
    pub(super) sum: f32,
    /// Log-probability of the best; the rest belongs to it.
    pub(super) best: f32,
    /// All tokens but the last.
    pub(super) history: u32,
    /// A token that is still to be added to `history`.
    pub(super) fresh: Option<Hit>,
    /// The last token; `None` when it was given out or there is none.
    pub(super) hit: Option<Hit>,
}

impl Track {
    pub(super) const IMPOSSIBLE: Self = Self {
        sum: f32::NEG_INFINITY,
        best: f32::NEG_INFINITY,
        history: NONE,
        fresh: None,
        hit: None,
    };

    /// Joins alignments of the same hypothesis with the same ending.
    pub(super) fn merge(&mut self, other: Self) {
        let sum = log_add(self.sum, other.sum);
        if other.best > self.best {
            *self = other;
        }
        self.sum = sum;
    }

    /// One frame on, which says this with that log-probability.
    pub(super) fn then(self, log_prob: f32) -> Self {
        Self {
            sum: self.sum + log_prob,
            best: self.best + log_prob,
            ..self
        }
    }

    /// The last token goes on for a frame.
    pub(super) fn prolonged(self, frame: u64, log_prob: f32) -> Self {
        Self {
            hit: self.hit.map(|hit| hit.prolonged(frame, log_prob)),
            ..self.then(log_prob)
        }
    }
}

/// All alignments of one hypothesis, by how they end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// In a blank.
    pub(super) blank: Track,
    /// In the last token.
    pub(super) token: Track,
}

impl Ends {
    /// Log of the probability of all of them.
    pub(super) fn probability(&self) -> f32 {
        log_add(self.blank.sum, self.token.sum)
    }

    /// Both endings as one.
    pub(super) fn any(&self) -> Track {
        let mut any = self.blank;
        any.merge(self.token);
        any
    }

    /// As probable as they are compared with something.
    pub(super) fn over(self, probability: f32) -> Self {
        Self {
            blank: self.blank.then(-probability),
            token: self.token.then(-probability),
        }
    }

    fn both_mut(&mut self) -> [&mut Track; 2] {
        [&mut self.blank, &mut self.token]
    }
}

/// `ln(e^a + e^b)`.
fn log_add(a: f32, b: f32) -> f32 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f32::NEG_INFINITY {
        return high;
    }
    high + (low - high).exp().ln_1p()
}

/// The tokens of all hypotheses but their last ones, as a tree whose branches are shared.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) nodes: Vec<Node>,
    /// New places of nodes while the tree is cleared of what nobody needs.
    places: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    parent: u32,
    /// Tokens on the way from the root, this one included.
    depth: u32,
    hit: Hit,
}

/// Nodes kept before the tree is first cleared.
const ROOM: usize = 1 << 10;

impl History {
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
    }

    /// Adds the fresh tokens of a beam.
    pub(super) fn write<H: AsMut<Ends>>(&mut self, beam: &mut [H], taken: u32) {
        let room = self.nodes.capacity().max(ROOM);
        if self.nodes.len() + 2 * beam.len() > room {
            self.clear_unused(beam, taken);
        }
        for hypothesis in beam {
            for track in hypothesis.as_mut().both_mut() {
                if let Some(hit) = track.fresh.take() {
                    let parent = track.history;
                    let depth = self.depth(parent).max(taken) + 1;
                    track.history = self.nodes.len() as u32;
                    self.nodes.push(Node { parent, depth, hit });
                }
            }
        }
    }

    fn depth(&self, node: u32) -> u32 {
        self.nodes.get(node as usize).map_or(0, |node| node.depth)
    }

    /// Keeps the nodes that the beam leads to, without those that were given out.
    fn clear_unused<H: AsMut<Ends>>(&mut self, beam: &mut [H], taken: u32) {
        self.places.clear();
        self.places.resize(self.nodes.len(), NONE);
        for hypothesis in &mut *beam {
            for track in hypothesis.as_mut().both_mut() {
                let mut at = track.history;
                while let Some(node) = self.nodes.get(at as usize) {
                    if node.depth <= taken || self.places[at as usize] != NONE {
                        break;
                    }
                    self.places[at as usize] = at;
                    at = node.parent;
                }
            }
        }
        // Parents come before their children, so that their places are known.
        let mut kept = 0;
        for at in 0..self.nodes.len() {
            if self.places[at] == NONE {
                continue;
            }
            let node = self.nodes[at];
            let parent = self.places.get(node.parent as usize).copied();
            self.nodes[kept] = Node {
                parent: parent.unwrap_or(NONE),
                ..node
            };
            self.places[at] = kept as u32;
            kept += 1;
        }
        self.nodes.truncate(kept);
        for hypothesis in beam {
            for track in hypothesis.as_mut().both_mut() {
                let place = self.places.get(track.history as usize).copied();
                track.history = place.unwrap_or(NONE);
            }
        }
    }

    /// The tokens of a track beyond the first `taken`, in order of time.
    pub(super) fn hits(&self, track: Track, taken: u32, hits: &mut Vec<Hit>) {
        hits.clear();
        hits.extend(track.hit);
        hits.extend(track.fresh);
        let mut at = track.history;
        while let Some(node) = self.nodes.get(at as usize) {
            if node.depth <= taken {
                break;
            }
            hits.push(node.hit);
            at = node.parent;
        }
        hits.reverse();
    }
}
