//! A language model for a package, and how much it should count.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use sori::decode::{BeamOptions, Fusion};
use sori::engine::EngineError;
use sori::lm::{LanguageModel, LmError, LmOptions};
use sori::model::{BundledLm, Config, Package, sha256};
use sori::{Options, Recognizer, Search};
use sori_train::data::manifest::Entry;
use sori_train::data::{Corpus, DataError, Source, Strictness};
use sori_train::evaluate::{ErrorCounts, word_errors};

use crate::config_file;
use crate::hearing::hear;

/// Why a language model is not put into a package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// The package cannot be used, or the engine fails. The message says what is wrong with it.
    #[error(transparent)]
    Recognise(#[from] sori::Error),
    /// No engine can run the package.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The language model cannot be used. Make it anew with `sori lm build`.
    #[error(transparent)]
    LanguageModel(#[from] LmError),
    /// A manifest or its audio cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A manifest without words tells no error rate. Name one that has transcripts.
    #[error("{path}: expected speech with words, found none")]
    Silent {
        /// The manifest.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
}

/// A language model in its place.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Tuned {
    /// What the package now says of it.
    pub options: LmOptions,
    /// Word error rate on the speech that it was fitted to.
    pub fitted: f64,
    /// Word error rates on other speech: of the best tokens, of a beam alone, of a beam with the model.
    pub check: [f64; 3],
}

/// Factors by which the weight is tried, and steps of the bonus; finer in the second round.
const FACTORS: [f32; 2] = [1.5, 1.2];
const STEPS: [f32; 2] = [1.0, 0.4];

/// A change of one number, by a factor or by a step.
type Change = fn(&mut LmOptions, f32, f32);

/// Whether a package may hold these numbers.
fn may_be_said(options: LmOptions) -> bool {
    BundledLm::WEIGHTS.contains(&options.weight)
        && BundledLm::WORD_BONUSES.contains(&options.word_bonus)
        && BundledLm::UNKNOWN_PENALTIES.contains(&options.unknown_penalty)
}

/// Finds what a word should cost that the model does not know, the weight and the word bonus with the fewest errors
/// in the speech of one manifest, from the defaults on along one after the other, for a beam of so many hypotheses.
/// Measures them on the speech of another, and puts the model and the numbers into the package. `each` is told what was
/// tried, and its error rate. Of each manifest the first `limit` utterances are taken.
///
/// # Errors
/// [`TuneError`]; the package then says what it said before.
pub fn tune(
    package: &Path,
    model: &Path,
    fit: &Path,
    check: &Path,
    beam: usize,
    limit: Option<usize>,
    each: &mut dyn FnMut(LmOptions, f64),
) -> Result<Tuned, TuneError> {
    let lm = Arc::new(LanguageModel::open(model)?);
    let open = |search| -> Result<Recognizer, TuneError> {
        let options = Options {
            search,
            ..Options::default()
        };
        let opened = Package::open(package).map_err(sori::Error::from)?;
        Ok(Recognizer::new(opened, options)?)
    };
    let beam = open(Search::Beam(BeamOptions {
        width: beam,
        ..BeamOptions::default()
    }))?;
    let fusion = |options| {
        let tokens = beam.package().tokens();
        Some(Arc::new(Fusion::new(lm.clone(), options, tokens)))
    };
    let (fit, check) = (Speech::read(fit, limit)?, Speech::read(check, limit)?);
    let mut attempt = |options: LmOptions| -> Result<f64, TuneError> {
        let rate = fit.error_rate(&beam, fusion(options))?;
        each(options, rate);
        Ok(rate)
    };

    let mut best = LmOptions::default();
    let mut fewest = attempt(best)?;
    for (factor, step) in FACTORS.into_iter().zip(STEPS) {
        let ways: [[Change; 2]; 3] = [
            [
                |options, factor, _| options.unknown_penalty /= factor * factor,
                |options, factor, _| options.unknown_penalty *= factor * factor,
            ],
            [
                |options, factor, _| options.weight *= factor,
                |options, factor, _| options.weight /= factor,
            ],
            [
                |options, _, step| options.word_bonus += step,
                |options, _, step| options.word_bonus -= step,
            ],
        ];
        for way in ways {
            let start = fewest;
            for change in way {
                // What helped one way has been tried the other way already: it came from there.
                if fewest < start {
                    break;
                }
                loop {
                    let mut next = best;
                    change(&mut next, factor, step);
                    if !may_be_said(next) {
                        break;
                    }
                    let rate = attempt(next)?;
                    if rate >= fewest {
                        break;
                    }
                    (best, fewest) = (next, rate);
                }
            }
        }
    }
    let check = [
        check.error_rate(&open(Search::Greedy)?, None)?,
        check.error_rate(&beam, None)?,
        check.error_rate(&beam, fusion(best))?,
    ];
    put(package, beam.package().config(), model, best)?;
    Ok(Tuned {
        options: best,
        fitted: fewest,
        check,
    })
}

/// A manifest's first utterances.
struct Speech<'a> {
    manifest: &'a Path,
    entries: Vec<Entry>,
}

impl<'a> Speech<'a> {
    fn read(manifest: &'a Path, limit: Option<usize>) -> Result<Self, TuneError> {
        let corpus = Corpus::read(&[Source::once(manifest)], Strictness::Strict)?;
        let mut entries = corpus.entries()?;
        entries.truncate(limit.unwrap_or(usize::MAX));
        Ok(Self { manifest, entries })
    }

    fn error_rate(
        &self,
        recognizer: &Recognizer,
        fusion: Option<Arc<Fusion>>,
    ) -> Result<f64, TuneError> {
        let mut stream = recognizer.stream()?;
        stream.set_language_model(fusion).for_each(drop);
        let mut errors = ErrorCounts::default();
        hear::<TuneError>(&mut stream, &self.entries, |said, segments| {
            let heard: Vec<_> = segments.into_iter().map(|segment| segment.text).collect();
            errors += word_errors(said, &heard.join(" "));
        })?;
        errors.rate().ok_or_else(|| TuneError::Silent {
            path: self.manifest.into(),
        })
    }
}

/// Copies the model into the package, whose `config.json` has said `present`, and names it there.
fn put(
    package: &Path,
    present: &Config,
    model: &Path,
    options: LmOptions,
) -> Result<(), TuneError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |reason| TuneError::Io { path, reason }
    };
    let bytes = fs::read(model).map_err(io(model))?;
    let file = model.file_name().unwrap_or_default();
    let target = package.join(file);
    // It may be there already.
    if fs::read(&target).ok().as_ref() != Some(&bytes) {
        config_file::replace(&target, &bytes).map_err(io(&target))?;
    }
    let told = json!({
        "file": file.to_string_lossy(),
        "sha256": sha256(&bytes),
        "weight": rounded(options.weight),
        "word_bonus": rounded(options.word_bonus),
        "unknown_penalty": rounded(options.unknown_penalty),
    });
    config_file::set(package, "language_model", told)
        .map_err(|(path, reason)| TuneError::Io { path, reason })?;
    if let Some(old) = &present.language_model
        && Path::new(&old.file) != file
    {
        // If it cannot be removed, it is of no harm there.
        let _ = fs::remove_file(package.join(&old.file));
    }
    Ok(())
}

/// For people: three digits say all that was found out.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 1e3).round() / 1e3
}
