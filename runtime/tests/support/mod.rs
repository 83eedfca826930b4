//! Recognisers of the tone model and its like, on an engine of choice: floats, one thread.

use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice};
use sori::model::{Package, Precision};
use sori::{Options, Recognizer, Search};

pub(crate) fn tone() -> Package {
    Package::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone")).unwrap()
}

pub(crate) fn on(engine: EngineChoice) -> EngineOptions {
    EngineOptions {
        engine,
        precision: PrecisionChoice::Exactly(Precision::Fp32),
        ..EngineOptions::default()
    }
}

pub(crate) fn recognizer(package: Package, engine: EngineChoice, search: Search) -> Recognizer {
    let options = Options {
        engine: on(engine),
        search,
        ..Options::default()
    };
    Recognizer::new(package, options).unwrap()
}
