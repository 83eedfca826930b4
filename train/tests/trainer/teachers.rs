//! Teachers of every kind, and what they have to have in common with a student.

use std::path::Path;

use sori_train::data::{Tokenizer, TokenizerKind};
use sori_train::trainer::TrainError;

use crate::{CTC, Workshop, figures, finished};

#[test]
fn teachers_are_asked_for_what_they_have() {
    let workshop = Workshop::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let whisper = format!(
        "teacher.source=whisper:{}",
        golden.join("whisper/encoder.safetensors").display()
    );
    let nemo = format!(
        "teacher.source=nemo:{}",
        golden.join("nemo/tiny.nemo").display()
    );
    let refused = |teacher: &str, changes: &[&str]| {
        let changes: Vec<_> = [teacher].iter().chain(changes).copied().collect();
        workshop
            .train(&workshop.recipe(CTC, &changes), "refused")
            .unwrap_err()
    };
    let guided = "stage.ctc.loss={ guided = 1 }";
    let error = refused(&whisper, &[guided]);
    assert_eq!(
        error.to_string(),
        "the teacher has no CTC posteriors, which loss \"guided\" of stage \"ctc\" needs"
    );
    let error = refused(&nemo, &[guided]);
    assert!(
        matches!(error, TrainError::Outputs { student: 29, .. }),
        "{error}"
    );
    let error = refused(&whisper, &["stage.ctc.loss={ sam = 1 }"]);
    assert!(matches!(error, TrainError::TooLong { .. }), "{error}");

    // Each hears the speech through its own front-end.
    let short = "data.batching.longest=0.9";
    let prompt = "data.augmentation.quiet.probability=0";
    for (index, teacher) in [&whisper, &nemo].into_iter().enumerate() {
        let changes = [
            teacher,
            "stage.ctc.loss={ ctc = 1, sam = 1 }",
            short,
            prompt,
        ];
        let run = format!("run {index}");
        workshop
            .train(&workshop.recipe(CTC, &changes), &run)
            .unwrap();
        assert_eq!(figures(&workshop.path(&run), "train/sam").len(), 6);
    }

    // One whose words are kept hears no quiet around the speech, and where they are stretched no other speeds.
    let map = "stage.ctc.loss={ ctc = 1, sam = 1 }";
    let slow = "data.augmentation.speed.factors=[0.6, 1.0]";
    let cache = format!("teacher.cache={:?}", workshop.path("kept"));
    let too_long = |changes: &[&str]| {
        let error = refused(&whisper, changes);
        matches!(error, TrainError::TooLong { .. })
    };
    assert!(too_long(&[map, short]));
    assert!(too_long(&[map, short, slow, &cache]));
    let changes = [
        &whisper,
        map,
        short,
        slow,
        &cache,
        "teacher.stretch=true",
        "data.batching.max_seconds=9.0",
    ];
    workshop
        .train(&workshop.recipe(CTC, &changes), "stretched")
        .unwrap();
    assert_eq!(figures(&workshop.path("stretched"), "train/sam").len(), 6);
}

#[test]
fn teacher_and_student_mean_the_same_tokens() {
    let workshop = Workshop::new();
    let tokenizer = |name: &str, texts: &[&str]| {
        let tokenizer = Tokenizer::train(texts.iter().copied(), TokenizerKind::Bpe, 31).unwrap();
        tokenizer.save(&workshop.path(name)).unwrap();
        format!("data.tokenizer={:?}", workshop.path(name))
    };
    let (one, other) = (
        tokenizer("one", &["bad dab cab"]),
        tokenizer("other", &["face fade"]),
    );
    let recipe = workshop.recipe(CTC, &["seed=8", &one]);
    let model = finished(workshop.train(&recipe, "teacher").unwrap());
    let teacher = format!("teacher.source=sori:{}", model.display());
    let guided = [&teacher, "stage.ctc.loss={ ctc = 1, guided = 1 }"];
    workshop
        .train(&workshop.recipe(CTC, &[guided[0], guided[1], &one]), "same")
        .unwrap();
    let recipe = workshop.recipe(CTC, &[guided[0], guided[1], &other]);
    let error = workshop.train(&recipe, "other run").unwrap_err();
    assert!(
        matches!(error, TrainError::Tokens { id: 28, .. }),
        "{error}"
    );
}
