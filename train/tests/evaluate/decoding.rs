//! What is heard, in chunks of any size, alone or in a batch.

use std::ops::ControlFlow;

use sori::decode::Greedy;
use sori::features::LogMel;
use sori_train::config::{Chunk, Contexts};
use sori_train::data::audio;
use sori_train::evaluate::{EvaluateError, Recogniser, Set, Settings, evaluate, texts};
use sori_train::model::{self, Conformer, ConformerConfig, Pass, Teacher, TeacherSource};
use tch::{Device, Tensor, nn};

use crate::support::{self, tiny_student, tiny_teacher};
use crate::{PIECES, Speech, of_80_bands, pieces, talkative};

fn student() -> (nn::VarStore, Conformer) {
    talkative(&of_80_bands(&tiny_student()), 3)
}

fn settings(chunks_ms: &[Chunk]) -> Settings {
    Settings {
        contexts: Contexts {
            chunks_ms: chunks_ms.to_vec(),
            left_ms: 320,
        },
        ..Settings::default()
    }
}

/// What a stream says: sound in pieces of 10 ms, chunk by chunk, then the tail of silence.
fn streamed(model: &Conformer, samples: &[f32], chunk: i64, left: i64) -> String {
    let mut state = model.start(1, chunk, left).unwrap();
    let mut decoder = Greedy::new(PIECES.len());
    let mut log_mel = LogMel::new();
    let mut frames = Vec::new();
    let shift = 4 * chunk as usize * LogMel::BINS;
    let mut processed = 0;
    let mut step = |frames: &mut Vec<f32>| {
        while frames.len() >= shift {
            let features: Vec<_> = frames.drain(..shift).collect();
            let features = Tensor::from_slice(&features).reshape([1, 4 * chunk, 80]);
            let log_probs = tch::no_grad(|| model.step(&features, &mut state)).unwrap();
            decoder.accept(&Vec::<f32>::try_from(log_probs.reshape([-1])).unwrap());
            processed += 4 * chunk as usize;
        }
        processed
    };
    for piece in samples.chunks(160) {
        log_mel.accept(piece, &mut frames);
        step(&mut frames);
    }
    while step(&mut frames) < (samples.len() + 6400).div_ceil(160) {
        log_mel.accept(&[0.0; 160], &mut frames);
    }
    let text: String = decoder.hits().iter().map(|hit| PIECES[hit.token]).collect();
    let words = text
        .split('\u{2581}')
        .filter(|word| word.contains(char::is_alphabetic));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn chunks_are_decoded_as_a_stream_is() {
    let speech = Speech::of(&[48_000, 29_111, 83_456, 5_120, 700]);
    let (_store, model) = student();
    let chunks = [160, 320, 640].map(Chunk::Ms);
    let (rows, heard) = speech.decode(&model, &settings(&chunks), None).unwrap();
    let corpus = speech.corpus();
    let mut said = 0;
    for (chunk, heard) in [4, 8, 16].into_iter().zip(heard) {
        for (entry, heard) in corpus.entries().unwrap().iter().zip(heard) {
            let samples = audio::read(entry).unwrap();
            let expected = streamed(&model, &samples, chunk, 8);
            assert_eq!(
                heard,
                expected,
                "{} in chunks of {chunk} frames",
                entry.id()
            );
            said += expected.split_whitespace().count();
        }
    }
    assert!(said > 30, "{said} words");
    for row in rows {
        assert_eq!((row.utterances, row.unreadable, row.too_long), (5, 0, 0));
        assert!((row.hours * 3600.0 - speech.seconds).abs() < 1e-6);
        assert_eq!(row.words.reference, 10);
    }
}

#[test]
fn batch_mates_change_nothing() {
    let speech = Speech::of(&[12_000, 9_111, 23_456, 700]);
    for config in [tiny_student(), tiny_teacher()] {
        let chunks: &[_] = if config.causal {
            &[Chunk::Ms(160), Chunk::Full]
        } else {
            &[Chunk::Full]
        };
        let (_store, model) = talkative(&of_80_bands(&config), 5);
        let together = settings(chunks);
        let alone = Settings {
            batch_seconds: 0.01,
            ..together.clone()
        };
        let mut together = speech.decode(&model, &together, None).unwrap();
        let mut alone = speech.decode(&model, &alone, None).unwrap();
        for (a, b) in together.0.iter_mut().zip(&mut alone.0) {
            // Sums over other batches are rounded in other ways.
            let (a, b) = (a.hidden.take().unwrap(), b.hidden.take().unwrap());
            assert!((a.deviation - b.deviation).abs() < 1e-4, "{a:?} {b:?}");
            assert!((a.cosine - b.cosine).abs() < 1e-4, "{a:?} {b:?}");
        }
        assert_eq!(together, alone);
    }
}

#[test]
fn the_whole_utterance_is_heard_with_its_tail() {
    let speech = Speech::of(&[9_111]);
    let (_store, model) = student();
    let (_, heard) = speech
        .decode(&model, &settings(&[Chunk::Full]), None)
        .unwrap();
    let mut samples = audio::read(&speech.corpus().entry(0).unwrap()).unwrap();
    // 9111 samples and 6400 of silence, to the end of an output frame.
    samples.resize(9111 + 6400 + 2 * 640, 0.0);
    let frames = sori::features::log_mel(&samples)[..100 * 80].to_vec();
    let features = Tensor::from_slice(&frames).reshape([1, 100, 80]);
    let output = tch::no_grad(|| model.forward(&features, &[100], Pass::default()));
    let pieces = pieces();
    let expected = texts(&pieces, &output.log_probs, &output.lengths).unwrap();
    assert_eq!(heard, [expected]);
}

#[test]
fn spikes_are_compared_with_a_teachers() {
    let speech = Speech::of(&[12_000, 9_111]);
    let (store, model) = talkative(&of_80_bands(&tiny_teacher()), 5);
    let path = speech.path("teacher.safetensors");
    model::save(&path, &store, model.config()).unwrap();
    let teacher = Teacher::open(&TeacherSource::Sori(path.clone()), None, Device::Cpu).unwrap();
    let (rows, _) = speech
        .decode(&model, &settings(&[Chunk::Full]), Some(&teacher))
        .unwrap();
    let spikes = rows[0].spikes.unwrap();
    assert!(spikes.spikes > 5, "{spikes:?}");
    assert_eq!(spikes.shares(), Some([1.0, 1.0]));

    let other = ConformerConfig {
        vocabulary: 11,
        ..of_80_bands(&tiny_teacher())
    };
    let (store, _other) = support::model(&other, 5);
    model::save(&path, &store, &other).unwrap();
    let teacher = Teacher::open(&TeacherSource::Sori(path), None, Device::Cpu).unwrap();
    let error = speech
        .decode(&model, &settings(&[Chunk::Full]), Some(&teacher))
        .unwrap_err();
    assert!(
        error.to_string().contains("has 12 outputs, expected 10"),
        "{error}"
    );
}

#[test]
fn whoever_listens_may_stop() {
    let speech = Speech::of(&[9_111, 8_000, 7_000]);
    let (_store, model) = student();
    let pieces = pieces();
    let recogniser = Recogniser::new(&model, &pieces, Device::Cpu).unwrap();
    let entries = speech.corpus().entries().unwrap();
    let set = Set {
        name: "speech",
        entries: &entries,
    };
    let mut heard = 0;
    let stopped = evaluate(
        recogniser,
        set,
        &settings(&[Chunk::Full]),
        None,
        &mut |_| {
            heard += 1;
            if heard == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    );
    assert!(matches!(stopped, Err(EvaluateError::Stopped)));
    assert_eq!(heard, 2);
}

#[test]
fn impossible_settings_are_refused() {
    let speech = Speech::of(&[9_111]);
    let (_store, model) = student();
    let refused = |model: &Conformer, settings: &Settings| {
        speech
            .decode(model, settings, None)
            .unwrap_err()
            .to_string()
    };
    let error = refused(&model, &settings(&[Chunk::Ms(100)]));
    assert!(error.contains("in steps of 40, found 100"), "{error}");
    let zero = Settings {
        batch_seconds: 0.0,
        ..settings(&[Chunk::Full])
    };
    let error = refused(&model, &zero);
    assert!(error.contains("above 0"), "{error}");
    let (_store, teacher) = talkative(&of_80_bands(&tiny_teacher()), 5);
    let error = refused(&teacher, &settings(&[Chunk::Ms(160)]));
    assert!(error.contains("not causal"), "{error}");
    let (_store, of_16_bands) = support::model(&tiny_student(), 5);
    let error = Recogniser::new(&of_16_bands, &pieces(), Device::Cpu).unwrap_err();
    assert!(
        error.to_string().contains("16 log-mel bands, expected 80"),
        "{error}"
    );
    let few = pieces()[..3].to_vec();
    let error = Recogniser::new(&model, &few, Device::Cpu).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("9 outputs besides the blank, but there are 3"),
        "{error}"
    );
}
