//! What one more stream of a recogniser takes: a test of its own process, as the process's memory is measured.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use sori::engine::{EngineChoice, EngineOptions, PrecisionChoice};
use sori::model::{Package, Precision};
use sori::{Options, Recognizer};
use sori_export::export;
use sori_tests::memory::resident;
use sori_train::model::ConformerConfig;
use support::{checkpoint, options, tiny_student};

#[test]
fn one_more_stream_takes_its_caches_and_little_else() {
    const MORE: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let config = ConformerConfig {
        d_model: 96,
        ..tiny_student()
    };
    let (checkpoint, _) = checkpoint(folder.path(), &config, 5);
    let target = folder.path().join("package");
    export(&checkpoint, &target, &options(320, 20_480)).unwrap();
    let package = Package::open(&target).unwrap();
    let geometry = &package.config().geometry;
    let floats: usize = [geometry.cache_last_channel, geometry.cache_last_time]
        .iter()
        .map(|dims| dims.iter().product::<usize>())
        .sum();
    let caches = 4.0 * floats as f64;
    assert!(caches > 5e5, "{caches} bytes are too few to be seen");

    // What is freed may be taken again without a trace, so nothing is.
    let mut kept = Vec::new();
    for engine in [EngineChoice::Tract, EngineChoice::Ort] {
        let engine = EngineOptions {
            engine,
            precision: PrecisionChoice::Exactly(Precision::Fp32),
            ..EngineOptions::default()
        };
        let options = Options {
            engine,
            ..Options::default()
        };
        let recognizer = Recognizer::new(package.clone(), options).unwrap();
        let opened = || {
            let mut stream = recognizer.stream().unwrap();
            for _ in 0..4 {
                stream.accept(16_000, &[0.01; 8000]).unwrap().count();
            }
            stream
        };
        kept.push(opened());
        let before = resident().unwrap();
        kept.extend((0..MORE).map(|_| opened()));
        let each = (resident().unwrap() - before) / MORE as f64;
        assert!(
            (0.8 * caches..1.2 * caches + 2e5).contains(&each),
            "{engine:?}: {each} bytes, of which {caches} are caches"
        );
    }
}
