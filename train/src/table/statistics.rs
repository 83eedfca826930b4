//! A figure over several seeds.

use serde::{Deserialize, Serialize};

/// Mean and deviation of a figure over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Seeds that have the figure.
    pub seeds: usize,
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation, `sqrt(sum (x - mean)^2 / (n - 1))`; `None` for one seed.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of these values; `None` if there are none.
    ///
    /// ```
    /// use sori_train::table::Spread;
    ///
    /// let spread = Spread::of([1.0, 2.0, 3.0]).unwrap();
    /// assert_eq!((spread.mean, spread.deviation), (2.0, Some(1.0)));
    /// assert_eq!(Spread::of([5.0]).unwrap().deviation, None);
    /// ```
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<_> = values.into_iter().collect();
        let seeds = values.len();
        if seeds == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / seeds as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            seeds,
            mean,
            deviation: (seeds > 1).then(|| (squares / (seeds - 1) as f64).sqrt()),
        })
    }
}
