//! Confidences that mean what they say.

use std::path::{Path, PathBuf};

use serde_json::json;
use sori::engine::EngineError;
use sori::model::{Calibration, Package};
use sori::{Options, Recognizer};
use sori_train::data::{Corpus, DataError, Source, Strictness};
use sori_train::evaluate::right_words;

use crate::config_file;
use crate::hearing::hear;

/// Why there is no calibration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// The package cannot be used, or the engine fails. The message says what is wrong with it.
    #[error(transparent)]
    Recognise(#[from] sori::Error),
    /// No engine can run the package.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A manifest or its audio cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A curve needs words that were heard right and words that were not. Take more speech.
    #[error(
        "expected at least {expected} words that were heard right and as many that were not, found {right} \
         and {wrong}"
    )]
    Words {
        /// Fewest of either.
        expected: usize,
        /// Words that were heard right.
        right: usize,
        /// Words that were not.
        wrong: usize,
    },
    /// `config.json` cannot be read or written.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
}

/// How well confidences foretell which words are right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reliability {
    /// Words that were heard.
    pub words: usize,
    /// Share of them that are right.
    pub right: f64,
    /// Expected calibration error: how far, over ten equal ranges of confidence, its mean is from the
    /// share of right words there (Guo et al. 2017, arXiv 1706.04599, equation 3). 0 is best.
    pub calibration_error: f64,
    /// How often a right word has a higher confidence than a wrong one: 0.5 says nothing, 1 is best.
    pub auc: f64,
}

/// A calibration and what it does on speech that it was not fitted to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibrated {
    /// What `config.json` now says.
    pub calibration: Calibration,
    /// With the package as it was.
    pub before: Reliability,
    /// With this calibration.
    pub after: Reliability,
}

/// A word that was heard.
#[derive(Debug, Clone, Copy)]
struct Judged {
    confidence: f32,
    right: bool,
}

/// Fewest words of either kind that a curve is fitted to.
const FEWEST: usize = 20;
/// The steepest curve, and the farthest offset, that a reader takes.
const STEEPEST: f32 = 100.0;

/// Fits a calibration to the speech of one manifest, measures it on that of another, and writes it into
/// the package's `config.json`.
///
/// # Errors
/// [`CalibrateError`]; the package is then as it was.
pub fn calibrate(
    package: &Path,
    fit: &Path,
    check: &Path,
    options: Options,
) -> Result<Calibrated, CalibrateError> {
    let opened = Package::open(package).map_err(sori::Error::from)?;
    let present = opened.config().confidence.unwrap_or(Calibration::NONE);
    let recognizer = Recognizer::new(opened, options)?;
    let fitted = judged(&recognizer, fit)?;
    let unseen = judged(&recognizer, check)?;
    for words in [&fitted, &unseen] {
        let right = words.iter().filter(|word| word.right).count();
        let wrong = words.len() - right;
        if right.min(wrong) < FEWEST {
            return Err(CalibrateError::Words {
                expected: FEWEST,
                right,
                wrong,
            });
        }
    }
    let on_top = curve(&fitted);
    // The one curve after the other.
    let calibration = Calibration {
        slope: (on_top.slope * present.slope).clamp(0.0, STEEPEST),
        offset: (on_top.slope * present.offset + on_top.offset).clamp(-STEEPEST, STEEPEST),
    };
    let after: Vec<_> = unseen
        .iter()
        .map(|word| Judged {
            confidence: on_top.confidence(word.confidence),
            ..*word
        })
        .collect();
    config_file::set(
        package,
        "confidence",
        json!({"slope": calibration.slope, "offset": calibration.offset}),
    )
    .map_err(|(path, reason)| CalibrateError::Io { path, reason })?;
    Ok(Calibrated {
        calibration,
        before: reliability(&unseen),
        after: reliability(&after),
    })
}

/// All words that are heard in the speech of a manifest.
fn judged(recognizer: &Recognizer, manifest: &Path) -> Result<Vec<Judged>, CalibrateError> {
    let corpus = Corpus::read(&[Source::once(manifest)], Strictness::Strict)?;
    let mut judged = Vec::new();
    let mut stream = recognizer.stream()?;
    hear::<CalibrateError>(&mut stream, &corpus.entries()?, |said, segments| {
        let words: Vec<_> = segments.iter().flat_map(|segment| &segment.words).collect();
        let heard: Vec<_> = words.iter().map(|word| word.word.as_str()).collect();
        let right = right_words(said, &heard.join(" "));
        judged.extend(words.iter().zip(right).map(|(word, right)| Judged {
            confidence: word.confidence,
            right,
        }));
    })?;
    Ok(judged)
}

/// Logistic regression of `right` on the log-odds of the confidence, by Newton's method; the targets
/// are drawn in a little, as Platt (1999) does, so that there is always a maximum.
fn curve(words: &[Judged]) -> Calibration {
    let right = words.iter().filter(|word| word.right).count() as f64;
    let wrong = words.len() as f64 - right;
    let targets = [1.0 / (wrong + 2.0), (right + 1.0) / (right + 2.0)];
    let (mut slope, mut offset) = (1.0_f64, 0.0_f64);
    for _ in 0..50 {
        // Gradient and Hessian; a little ridge keeps it regular where all confidences are equal.
        let (mut g, mut h) = ([0.0; 2], [1e-6, 0.0, 1e-6]);
        for word in words {
            let x = f64::from(Calibration::logit(word.confidence));
            let p = 1.0 / (1.0 + (-slope * x - offset).exp());
            let (error, weight) = (targets[usize::from(word.right)] - p, p * (1.0 - p));
            g[0] += error * x;
            g[1] += error;
            h[0] += weight * x * x;
            h[1] += weight * x;
            h[2] += weight;
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        let step = [
            (h[2] * g[0] - h[1] * g[1]) / determinant,
            (h[0] * g[1] - h[1] * g[0]) / determinant,
        ];
        slope = (slope + step[0].clamp(-1.0, 1.0)).clamp(0.0, 100.0);
        offset = (offset + step[1].clamp(-1.0, 1.0)).clamp(-100.0, 100.0);
        if step.iter().all(|step| step.abs() < 1e-6) {
            break;
        }
    }
    Calibration {
        slope: slope as f32,
        offset: offset as f32,
    }
}

fn reliability(words: &[Judged]) -> Reliability {
    const RANGES: usize = 10;
    let count = words.len() as f64;
    let mut ranges = [(0.0, 0.0); RANGES];
    for word in words {
        // In the confidence's own precision: widened, 0.9 lies a hair under its range.
        let range = (word.confidence * RANGES as f32) as usize;
        let (sum, right) = &mut ranges[range.min(RANGES - 1)];
        *sum += f64::from(word.confidence);
        *right += f64::from(u8::from(word.right));
    }
    let gaps = ranges.iter().map(|(sum, right)| (sum - right).abs());
    let right = words.iter().filter(|word| word.right).count() as f64;
    Reliability {
        words: words.len(),
        right: right / count,
        calibration_error: gaps.sum::<f64>() / count,
        auc: auc(words),
    }
}

/// The statistic of Mann and Whitney over all pairs: equal confidences count half.
fn auc(words: &[Judged]) -> f64 {
    let mut sorted = words.to_vec();
    sorted.sort_by(|a, b| a.confidence.total_cmp(&b.confidence));
    let (mut wrong_below, mut won, mut right_in_all) = (0.0, 0.0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.confidence == b.confidence) {
        let right = equal.iter().filter(|word| word.right).count() as f64;
        let wrong = equal.len() as f64 - right;
        won += right * (wrong_below + wrong / 2.0);
        wrong_below += wrong;
        right_in_all += right;
    }
    won / (right_in_all * wrong_below)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Words of which a share is right that their confidence, by this curve, does not say.
    fn words(truth: Calibration) -> Vec<Judged> {
        let mut words = Vec::new();
        for step in 1..100_u16 {
            let confidence = f32::from(step) / 100.0;
            let right = (truth.confidence(confidence) * 200.0).round() as usize;
            words.extend((0..200).map(|index| Judged {
                confidence,
                right: index < right,
            }));
        }
        words
    }

    #[test]
    fn the_curve_that_made_the_words_is_found() {
        let truth = Calibration {
            slope: 0.6,
            offset: -0.8,
        };
        let words = words(truth);
        let found = curve(&words);
        assert!((found.slope - truth.slope).abs() < 0.01, "{found:?}");
        assert!((found.offset - truth.offset).abs() < 0.01, "{found:?}");
        let before = reliability(&words);
        assert!(before.calibration_error > 0.1, "{before:?}");
        let after: Vec<_> = words
            .iter()
            .map(|word| Judged {
                confidence: found.confidence(word.confidence),
                ..*word
            })
            .collect();
        let after = reliability(&after);
        assert!(after.calibration_error < 0.01, "{after:?}");
        // A curve that rises changes no order.
        assert!((after.auc - before.auc).abs() < 1e-9);
    }

    #[test]
    fn figures_are_those_of_a_small_example() {
        let judged = [(0.9, true), (0.8, false), (0.8, true), (0.3, false)];
        let judged = judged.map(|(confidence, right)| Judged { confidence, right });
        let found = reliability(&judged);
        assert_eq!((found.words, found.right), (4, 0.5));
        // By hand: |0.9 - 1| + |1.6 - 1| + |0.3 - 0|, over four words; 3.5 of 4 pairs won.
        assert!((found.calibration_error - 0.25).abs() < 1e-6, "{found:?}");
        assert!((found.auc - 0.875).abs() < 1e-9);
    }

    #[test]
    fn words_that_are_all_alike_give_a_finite_curve() {
        let mut words = vec![
            Judged {
                confidence: 1.0,
                right: true
            };
            30
        ];
        words[0].right = false;
        let found = curve(&words);
        assert!(found.slope.is_finite() && found.offset.is_finite());
        let confidence = found.confidence(1.0);
        assert!((confidence - 29.0 / 30.0).abs() < 0.05, "{confidence}");
    }
}
