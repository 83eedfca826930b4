use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use sori::decode::{BeamOptions, Fusion, Grammar, Phrases};
use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice};
use sori::lm::{LanguageModel, LmOptions};
use sori::model::{Package, Precision};
use sori::{EndpointRules, Options, Prose, Recognizer, Search, Stream};

/// Which model, and what runs it; the same for every subcommand that recognises.
#[derive(Args)]
pub(super) struct ModelArgs {
    /// Model package: the directory that holds config.json. Without it, the English one that comes with
    /// this command.
    #[arg(short, long, value_name = "DIR", env = "SORI_MODEL", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    model: Option<PathBuf>,
    /// What runs the model: ONNX Runtime (ort), tract, or the faster of them that works here.
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: EngineArg,
    /// Which graph of the package to run; auto takes the faster one on the engine.
    #[arg(long, value_name = "PRECISION", default_value = "auto")]
    precision: PrecisionArg,
    /// Threads for one chunk on ort; tract takes one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
}

/// When an utterance is over.
#[derive(Args)]
pub(super) struct EndpointArgs {
    /// Silence after speech that ends an utterance.
    #[arg(long, value_name = "SECONDS", default_value_t = EndpointRules::default().silence_after_speech, value_parser = seconds)]
    endpoint_silence: f64,
    /// Length at which an utterance is cut at its last word boundary.
    #[arg(long, value_name = "SECONDS", default_value_t = EndpointRules::default().longest, value_parser = seconds)]
    endpoint_longest: f64,
}

/// How tokens are found, and what is written of them.
#[derive(Args)]
pub(super) struct SearchArgs {
    /// Write sentences: numbers in digits, capitals and full stops. Without it the text is what was
    /// said, untouched.
    #[arg(long)]
    prose: bool,
    /// Keep so many hypotheses instead of the best token of each frame.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    beam: Option<u16>,
    /// Phrases to expect: one per line, with a number behind it, as 1.0, for another boost than 0.5 a
    /// letter. Turns the beam on.
    #[arg(long, value_name = "FILE")]
    phrases: Option<PathBuf>,
    /// Hear nothing but the sentences in FILE, one per line or a grammar in JSGF; other speech is shown
    /// as `[out of grammar]`. Turns the beam on.
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
    /// How much less probable than what is heard freely a sentence of the grammar may be, for each of
    /// its letters; inf takes the nearest that was said to its end, however far.
    #[arg(long, value_name = "X", requires = "grammar", default_value_t = Grammar::TOLERANCE, value_parser = tolerance)]
    grammar_tolerance: f32,
    /// Alternatives of each utterance, with their scores, in JSON. Turns the beam on.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    nbest: Option<u16>,
    /// Prefer what a language model expects: that in FILE, as `sori lm build` makes it, or the one
    /// that the package brings along. Turns the beam on.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    lm: Option<Option<PathBuf>>,
    /// How much the language model counts; what the package says, or 0.5.
    #[arg(long, value_name = "X", requires = "lm", value_parser = number::<0, 10>)]
    lm_weight: Option<f32>,
    /// Added for each word, against the language model's liking for few words; what the package says,
    /// or 1.
    #[arg(long, value_name = "X", requires = "lm", allow_negative_numbers = true, value_parser = number::<-100, 100>)]
    word_bonus: Option<f32>,
    /// Taken off for a word that the language model does not know; what the package says, or 10.
    #[arg(long, value_name = "X", requires = "lm", hide_short_help = true, value_parser = number::<0, 100>)]
    unknown_penalty: Option<f32>,
    /// How much it counts that a sentence ends where the utterance does; 0.
    #[arg(long, value_name = "X", requires = "lm", hide_short_help = true, value_parser = number::<0, 10>)]
    sentence_end: Option<f32>,
}

impl SearchArgs {
    pub(super) fn wants_alternatives(&self) -> bool {
        self.nbest.is_some()
    }

    /// Files that are read, beside sound.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let lists = self.phrases.iter().chain(&self.grammar);
        lists.chain(self.lm.iter().flatten()).map(PathBuf::as_path)
    }

    fn search(&self) -> Search {
        if self.beam.is_none()
            && self.phrases.is_none()
            && self.grammar.is_none()
            && self.nbest.is_none()
            && self.lm.is_none()
        {
            return Search::Greedy;
        }
        let default = BeamOptions::default();
        let asked = self.beam.map_or(default.width, usize::from);
        let nbest = self.nbest.map_or(0, usize::from);
        Search::Beam(BeamOptions {
            width: asked.max(nbest),
            ..default
        })
    }

    fn fusion(&self, package: &Package) -> anyhow::Result<Option<Fusion>> {
        let Some(file) = &self.lm else {
            return Ok(None);
        };
        let bundled = package.language_model();
        // What was fitted with the package's own suits the acoustic model, whatever the language.
        let suits = bundled.map_or_else(LmOptions::default, |(_, suits)| suits);
        let model = match file {
            Some(file) => Arc::new(LanguageModel::open(file)?),
            None => {
                let bundled = bundled.map(|(model, _)| model.clone());
                bundled.with_context(|| {
                    let package = package.path().display();
                    format!("{package}: this package has no language model; name one: --lm=FILE")
                })?
            }
        };
        let options = LmOptions {
            weight: self.lm_weight.unwrap_or(suits.weight),
            word_bonus: self.word_bonus.unwrap_or(suits.word_bonus),
            unknown_penalty: self.unknown_penalty.unwrap_or(suits.unknown_penalty),
            end_weight: self.sentence_end.unwrap_or(suits.end_weight),
        };
        Ok(Some(Fusion::new(model, options, package.tokens())))
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum EngineArg {
    Auto,
    Ort,
    Tract,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    Auto,
    Fp32,
    Int8,
}

impl EndpointArgs {
    pub(super) fn rules(&self) -> EndpointRules {
        EndpointRules {
            silence_after_speech: self.endpoint_silence,
            longest: self.endpoint_longest,
            ..EndpointRules::default()
        }
    }
}

/// A model, and what leads its streams.
pub(super) struct Opened {
    pub(super) recognizer: Recognizer,
    phrases: Option<Arc<Phrases>>,
    fusion: Option<Arc<Fusion>>,
    grammar: Option<Arc<Grammar>>,
}

impl Opened {
    pub(super) fn stream(&self) -> Result<Stream, sori::Error> {
        let mut stream = self.recognizer.stream()?;
        if self.phrases.is_some() {
            stream.set_phrases(self.phrases.clone());
        }
        if self.fusion.is_some() {
            stream.set_language_model(self.fusion.clone());
        }
        if self.grammar.is_some() {
            stream.set_grammar(self.grammar.clone());
        }
        Ok(stream)
    }
}

impl ModelArgs {
    /// A model; `streams` says how many of them there are and how they are run, whatever else is in it.
    pub(super) fn open(
        &self,
        endpoint: EndpointRules,
        search: &SearchArgs,
        streams: EngineOptions,
    ) -> anyhow::Result<Opened> {
        // An empty variable is none.
        let named = self
            .model
            .as_ref()
            .filter(|named| !named.as_os_str().is_empty());
        let directory = match named {
            Some(directory) => directory.clone(),
            None => {
                bundled().context("no model: name a package with --model DIR, or in SORI_MODEL")?
            }
        };
        let engine = EngineOptions {
            engine: match self.engine {
                EngineArg::Auto => EngineChoice::Auto,
                EngineArg::Ort => EngineChoice::Ort,
                EngineArg::Tract => EngineChoice::Tract,
            },
            precision: match self.precision {
                PrecisionArg::Auto => PrecisionChoice::Auto,
                PrecisionArg::Fp32 => PrecisionChoice::Exactly(Precision::Fp32),
                PrecisionArg::Int8 => PrecisionChoice::Exactly(Precision::Int8),
            },
            threads: usize::from(self.threads),
            ..streams
        };
        let package = Package::open(&directory)?;
        let language = &package.config().language;
        if search.prose && Prose::new(language).is_none() {
            tracing::warn!("--prose has no rules for the model's language, {language:?}");
        }
        let phrases = match &search.phrases {
            Some(path) => Some(Arc::new(Phrases::open(path, package.tokens())?)),
            None => None,
        };
        let grammar = match &search.grammar {
            Some(path) => {
                let grammar = Grammar::open(path, package.tokens())?;
                Some(Arc::new(grammar.with_tolerance(search.grammar_tolerance)))
            }
            None => None,
        };
        let fusion = search.fusion(&package)?.map(Arc::new);
        let options = Options {
            engine,
            endpoint,
            search: search.search(),
            alternatives: search.nbest.map_or(0, usize::from),
            prose: search.prose,
            ..Options::default()
        };
        Ok(Opened {
            recognizer: Recognizer::new(package, options)?,
            phrases,
            fusion,
            grammar,
        })
    }
}

/// Where the package that comes with the command lies: beside it in an installation or an unpacked
/// archive, else in the checkout that it was built in.
fn bundled() -> Option<PathBuf> {
    const NAME: &str = "sori-en-5m";
    let checkout = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../models")).join(NAME);
    let beside = std::env::current_exe().ok().and_then(|command| {
        let folder = command.parent()?;
        let places = [
            folder.join("../share/sori").join(NAME),
            folder.join("models").join(NAME),
        ];
        places.into_iter().find(|place| place.exists())
    });
    beside.or_else(|| checkout.exists().then_some(checkout))
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 => Ok(seconds),
        _ => Err("expected a number of seconds above 0, or inf".to_owned()),
    }
}

fn tolerance(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(tolerance) if tolerance >= 0.0 => Ok(tolerance),
        _ => Err("expected a number from 0 on, or inf".to_owned()),
    }
}

fn number<const LEAST: i16, const MOST: i16>(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(number) if (f32::from(LEAST)..=f32::from(MOST)).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from {LEAST} to {MOST}")),
    }
}
