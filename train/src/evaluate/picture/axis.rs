//! Axes with round numbers.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// An axis: where values lie on it, and which are labelled.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Where the axis begins and ends.
    range: [f64; 2],
    ticks: Vec<f64>,
    logarithmic: bool,
}

/// Ticks that a linear axis aims at.
const TICKS: f64 = 6.0;

impl Axis {
    /// From one value to another, exactly.
    pub(super) fn exact(from: f64, to: f64) -> Self {
        let (low, high) = (from.min(to), from.max(to));
        let step = step(high - low);
        let first = (low / step).ceil() as i64;
        let ticks = (first..)
            .map(|n| n as f64 * step)
            .take_while(|tick| *tick <= high * (1.0 + 1e-9));
        Self {
            ticks: ticks.take(100).collect(),
            range: [from, to],
            logarithmic: false,
        }
    }

    /// Around values, of which there must be some: logarithmic if they are positive and far apart.
    pub(super) fn around(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if low > 0.0 && high / low > 30.0 {
            return Self::logarithmic(low, high);
        }
        let least = if high == 0.0 { 1.0 } else { 0.1 * high.abs() };
        let margin = 0.05 * (high - low).max(least);
        // An axis that nearly reaches zero does.
        let low = if low >= 0.0 && low < 0.5 * high {
            0.0
        } else {
            low - margin
        };
        Self::exact(low, high + margin)
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        let (low, high) = (low * 0.9, high * 1.1);
        let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
        let digits: &[f64] = if high / low > 1000.0 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let ticks = decades
            .flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade)))
            .filter(|tick| (low..=high).contains(tick));
        Self {
            ticks: ticks.collect(),
            range: [low, high],
            logarithmic: true,
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn range(&self) -> Range<f64> {
        self.range[0]..self.range[1]
    }

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        let scaled = |value: f64| {
            if self.logarithmic {
                value.log10()
            } else {
                value
            }
        };
        let [from, to] = self.range.map(scaled);
        let share = (scaled(*value) - from) / (to - from);
        start + (share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.clone()
        }
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        number(*value)
    }
}

/// 1, 2 or 5 times a power of ten that divides a span into about [`TICKS`].
fn step(span: f64) -> f64 {
    let rough = (span / TICKS).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|digit| digit * power >= rough);
    digit.unwrap_or(10.0) * power
}

/// A short spelling: `0.25`, `20k`, `5e-4`.
fn number(value: f64) -> String {
    let size = value.abs();
    if (1e4..1e7).contains(&size) {
        format!("{}k", round(value / 1000.0))
    } else if size >= 1e7 || (size > 1e-12 && size < 1e-3) {
        let power = size.log10().floor();
        format!("{}e{power}", round(value / 10_f64.powf(power)))
    } else {
        round(value).to_string()
    }
}

/// Six digits, which hides what binary fractions make of decimal ones.
fn round(value: f64) -> f64 {
    let digits = 1e6 / 10_f64.powf(value.abs().max(1e-6).log10().ceil());
    // Adding zero turns -0 into 0.
    (value * digits).round() / digits + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(Axis::format).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            labels(&Axis::exact(0.0, 1.1)),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(
            labels(&Axis::exact(0.0, 60_000.0)),
            ["0", "10k", "20k", "30k", "40k", "50k", "60k"]
        );
        assert_eq!(
            labels(&Axis::exact(3.0, 0.0)),
            ["0", "0.5", "1", "1.5", "2", "2.5", "3"]
        );
        assert_eq!(
            labels(&Axis::exact(-0.02, 0.01)),
            ["-0.02", "-0.015", "-0.01", "-0.005", "0", "0.005", "0.01"]
        );
        assert_eq!(
            labels(&Axis::around([1e-3, 0.0].into_iter())),
            ["0", "2e-4", "4e-4", "6e-4", "8e-4", "0.001"]
        );
    }

    #[test]
    fn values_far_apart_are_on_a_logarithmic_axis() {
        let axis = Axis::around([300.0, 2.0].into_iter());
        assert_eq!(labels(&axis), ["2", "5", "10", "20", "50", "100", "200"]);
        let places = [2.0, 20.0, 200.0].map(|value| axis.map(&value, (0, 1000)));
        assert_eq!(places[2] - places[1], places[1] - places[0]);
        assert!(!Axis::around([-300.0, 2.0].into_iter()).logarithmic);
    }

    #[test]
    fn a_constant_has_an_axis_too() {
        for value in [0.0, 3.0, -2.0] {
            let axis = Axis::around([value].into_iter());
            assert!(
                axis.range[0] <= value && value <= axis.range[1] && axis.range[0] < axis.range[1]
            );
            assert!(axis.ticks.len() > 1, "{axis:?}");
        }
    }
}
