//! The order of the methods on one test set.

use serde::{Deserialize, Serialize};

use super::Cell;
use crate::config::Chunk;

/// The methods in the order of their mean word error rates, for one set and chunk size. It says what
/// was measured and claims nothing about other data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The set.
    pub set: String,
    /// The chunk size.
    pub chunk_ms: Chunk,
    /// The methods, the lowest rate first.
    pub order: Vec<Place>,
    /// The same in a line of words, in percent.
    pub text: String,
}

/// A method's place in the order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The method.
    pub method: String,
    /// Its mean word error rate, as a share.
    pub wer: f64,
    /// How it compares with the method before it; `None` for the first.
    pub behind: Option<Gap>,
}

/// The difference between two methods.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Of their mean word error rates, as a share.
    pub difference: f64,
    /// The larger of their deviations over seeds, as a share; `None` if either has one seed only.
    pub deviation: Option<f64>,
    /// Whether the difference is larger than the deviation.
    pub exceeds: Option<bool>,
}

impl Verdict {
    /// Of the cells of one set and chunk size; `None` for fewer than two methods with a rate.
    pub(super) fn of(cells: &[&Cell]) -> Option<Self> {
        let first = cells.first()?;
        let mut rated: Vec<_> = cells
            .iter()
            .filter_map(|cell| Some((&cell.method, cell.wer?)))
            .collect();
        if rated.len() < 2 {
            return None;
        }
        rated.sort_by(|(_, a), (_, b)| a.mean.total_cmp(&b.mean));
        let mut order: Vec<Place> = Vec::new();
        let mut before = None;
        for (method, wer) in rated {
            order.push(Place {
                method: method.clone(),
                wer: wer.mean,
                behind: before
                    .replace(wer)
                    .map(|before| gap(wer.mean - before.mean, [before.deviation, wer.deviation])),
            });
        }
        let places: Vec<_> = order.iter().map(Place::to_string).collect();
        Some(Self {
            set: first.set.clone(),
            chunk_ms: first.chunk_ms,
            text: places.join("; "),
            order,
        })
    }
}

fn gap(difference: f64, deviations: [Option<f64>; 2]) -> Gap {
    let deviation = match deviations {
        [Some(a), Some(b)] => Some(a.max(b)),
        _ => None,
    };
    Gap {
        difference,
        deviation,
        exceeds: deviation.map(|deviation| difference > deviation),
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:.2}", self.method, 100.0 * self.wer)?;
        let Some(gap) = self.behind else {
            return Ok(());
        };
        write!(f, ", {:.2} more, which ", 100.0 * gap.difference)?;
        match (gap.deviation, gap.exceeds) {
            (Some(deviation), Some(true)) => {
                write!(
                    f,
                    "exceeds the seeds' deviation of {:.2}",
                    100.0 * deviation
                )
            }
            (Some(deviation), _) => {
                write!(
                    f,
                    "is within the seeds' deviation of {:.2}",
                    100.0 * deviation
                )
            }
            (None, _) => write!(f, "has no deviation to be held against (one seed)"),
        }
    }
}
