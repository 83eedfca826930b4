//! Packages of every chunk size, in memory, and with a language model.

use sori::decode::{BeamOptions, Fusion};
use sori::engine::{EngineChoice, EngineOptions};
use sori::lm::LanguageModel;
use sori::model::{Package, Precision};
use sori::{Options, Recognizer, Search};
use sori_tests::tone::{ToneModel, speak, transcript};

use crate::support::{self, on, tone};
use crate::{ENGINES, finals, hear, recognizer, script, text};

#[test]
fn every_chunk_size_gives_the_same_words_and_chunked_equals_one_pass() {
    let script = script();
    let features = sori::features::log_mel(&speak(&script));
    for (chunk_frames, overlap_frames) in [(16, 0), (32, 0), (64, 0), (4, 0), (16, 4), (32, 12)] {
        let model = ToneModel {
            chunk_frames,
            overlap_frames,
        };
        let directory = tempfile::tempdir().unwrap();
        model.write_package(directory.path()).unwrap();
        let one_pass = model.log_probs(&features);
        for engine in ENGINES {
            let package = Package::open(directory.path()).unwrap();
            let recognizer = support::recognizer(package, engine, Search::Greedy);
            let events = hear(
                &mut recognizer.stream().unwrap(),
                16_000,
                &speak(&script),
                4000,
            );
            assert_eq!(text(&events), transcript(&script), "{engine:?} {model:?}");

            let engine = sori::engine::load(recognizer.package(), on(engine)).unwrap();
            let mut session = engine.session().unwrap();
            // Twice over one session, to see that a reset empties every cache.
            for _ in 0..2 {
                let (window, shift) = (80 * model.window_frames(), 80 * chunk_frames);
                let mut chunked = Vec::new();
                let mut start = 0;
                while start + window <= features.len() {
                    chunked
                        .extend_from_slice(session.step(&features[start..start + window]).unwrap());
                    start += shift;
                }
                assert!(chunked.len() >= 9 * 20, "{model:?}: too short to tell");
                let difference = chunked
                    .iter()
                    .zip(&one_pass)
                    .map(|(chunked, one_pass)| (chunked - one_pass).abs())
                    .fold(0.0, f32::max);
                assert!(
                    difference < 1e-4,
                    "{} {model:?}: {difference}",
                    engine.description()
                );
                session.reset();
            }
        }
    }
}

#[test]
fn a_recognizer_in_memory_hears_alike_and_lets_its_graph_go() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");
    let read = |name: &str| std::fs::read(format!("{directory}/{name}")).unwrap();
    let graph: std::sync::Arc<[u8]> = read("model.onnx").into();
    let package = Package::from_memory(
        &read("config.json"),
        &read("tokens.txt"),
        Precision::Fp32,
        graph.clone(),
    )
    .unwrap();
    for engine in ENGINES {
        let in_memory = support::recognizer(package.clone(), engine, Search::Greedy);
        assert_eq!(in_memory.package().precisions().count(), 0);
        let from_file = recognizer(engine);
        assert_eq!(from_file.package().precisions().count(), 2);
        let [memory, file] = [in_memory, from_file].map(|recognizer| {
            hear(
                &mut recognizer.stream().unwrap(),
                16_000,
                &speak(&script()),
                1600,
            )
        });
        assert_eq!(memory, file, "{engine:?}");
    }
    drop(package);
    assert_eq!(std::sync::Arc::strong_count(&graph), 1);
}

#[test]
fn new_streams_ask_the_language_model_of_the_package_if_told_to() {
    let arpa =
        "\\data\\\nngram 1=4\n\n\\1-grams:\n-1 one\n-0.5 twos\n-0.7 going\n-0.1 </s>\n\n\\end\\\n";
    let model = std::sync::Arc::new(LanguageModel::from_arpa(arpa.as_bytes(), "arpa").unwrap());
    let score = |language_model: bool, by_hand: bool| {
        let options = Options {
            engine: EngineOptions {
                engine: EngineChoice::Tract,
                ..EngineOptions::default()
            },
            search: Search::Beam(BeamOptions::default()),
            alternatives: 1,
            language_model,
            ..Options::default()
        };
        let package = tone().with_language_model(model.clone());
        let recognizer = Recognizer::new(package, options).unwrap();
        let mut stream = recognizer.stream().unwrap();
        if by_hand {
            let (model, suits) = recognizer.package().language_model().unwrap();
            let fusion = Fusion::new(model.clone(), suits, recognizer.package().tokens());
            stream.set_language_model(Some(std::sync::Arc::new(fusion)));
        }
        let events = hear(&mut stream, 16_000, &speak(&script()), 1600);
        assert_eq!(text(&events), "one twos going");
        finals(&events)[0].alternatives[0].score
    };
    assert!((score(true, false) - score(false, true)).abs() < 1e-4);
    assert!((score(true, false) - score(false, false)).abs() > 0.1);
}
