use std::sync::Arc;
use std::time::{Duration, Instant};

use sori::features::{LogMel, frame_count, log_mel};
use sori_train::data::{
    Augmentation, Batch, Batching, Broken, Corpus, DataError, Loader, LoaderConfig, Position,
    Shard, SpecAugment, Strictness, Timbre, TokenizerKind, audio,
};
use tch::Tensor;

use crate::sound::{Folder, UNIGRAMS, tokenizer};

fn folder() -> Folder {
    let mut folder = Folder::new();
    for index in 0..12 {
        folder.tone(
            0.5 + 0.1 * index as f32,
            ["ban", "", "stain leck"][index % 3],
        );
    }
    folder
}

/// The corpus, and its audio as long as it is needed.
fn kept(folder: Folder) -> (Folder, Corpus) {
    let corpus = folder.corpus();
    (folder, corpus)
}

fn small(config: LoaderConfig) -> LoaderConfig {
    LoaderConfig {
        workers: 2,
        batching: Batching {
            max_seconds: 6.0,
            longest: 2.0,
            buckets: 3,
            ..Batching::default()
        },
        ..config
    }
}

fn start(corpus: &Corpus, config: &LoaderConfig, position: Position) -> Loader {
    let tokenizer = UNIGRAMS.clone();
    Loader::start(
        corpus,
        tokenizer,
        config,
        Strictness::Lenient,
        Shard::WHOLE,
        position,
    )
    .unwrap()
}

fn batches(loader: Loader) -> Vec<Batch> {
    loader.collect::<Result<_, _>>().unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.flatten(0, -1)).unwrap()
}

pub(crate) fn assert_same(a: &Batch, b: &Batch) {
    assert_eq!((&a.ids, &a.texts, &a.tokens), (&b.ids, &b.texts, &b.tokens));
    assert_eq!(
        (&a.samples, &a.frames, a.next),
        (&b.samples, &b.frames, b.next)
    );
    for (a, b) in [
        (&a.waveforms, &b.waveforms),
        (&a.features, &b.features),
        (&a.clean_features, &b.clean_features),
    ] {
        assert_eq!(a.size(), b.size());
        assert!(values(a) == values(b));
    }
}

#[test]
fn evaluation_gives_every_utterance_as_it_is() {
    let (_folder, corpus) = kept(folder());
    let config = small(LoaderConfig::evaluation());
    let mut heard = 0;
    for batch in batches(start(&corpus, &config, Position::start_of(0))) {
        let (b, n) = batch.waveforms.size2().unwrap();
        let (_, t, bands) = batch.features.size3().unwrap();
        assert_eq!((b as usize, bands), (batch.utterances(), 80));
        assert_eq!(t as usize, frame_count(n as usize));
        let seconds = batch.samples.iter().sum::<i64>() as f64 / 16_000.0;
        assert!((batch.seconds() - seconds).abs() < 1e-9);
        for (row, id) in batch.ids.iter().enumerate() {
            let entry = corpus
                .entries()
                .unwrap()
                .into_iter()
                .find(|entry| entry.audio == *id)
                .unwrap();
            let samples = audio::read(&entry).unwrap();
            assert_eq!(batch.samples[row] as usize, samples.len());
            assert_eq!(batch.frames[row] as usize, frame_count(samples.len()));
            assert_eq!(batch.texts[row], entry.text);
            assert_eq!(batch.tokens[row], UNIGRAMS.encode(&entry.text).unwrap());
            assert_eq!(batch.speakers[row], None);
            let expected = |mut values: Vec<f32>, length: i64| {
                values.resize(length as usize, 0.0);
                values
            };
            let row = row as i64;
            let features = expected(log_mel(&samples), t * bands);
            assert!(values(&batch.features.get(row)) == features);
            assert!(values(&batch.clean_features.get(row)) == features);
            assert!(values(&batch.waveforms.get(row)) == expected(samples, n));
            heard += 1;
        }
    }
    assert_eq!(heard, 12);
}

#[test]
fn threads_change_nothing() {
    let (_folder, corpus) = kept(folder());
    let with = |workers, ahead| LoaderConfig {
        workers,
        ahead,
        epochs: Some(2),
        subword_alpha: Some(0.2),
        ..small(LoaderConfig::default())
    };
    let all = |config| batches(start(&corpus, &config, Position::start_of(0)));
    let (one, three) = (all(with(1, 1)), all(with(3, 2)));
    assert!(one.len() >= 6 && one.len() == three.len());
    one.iter().zip(&three).for_each(|(a, b)| assert_same(a, b));
}

#[test]
fn a_resumed_loader_goes_on_as_it_would_have() {
    let (_folder, corpus) = kept(folder());
    let config = small(LoaderConfig::default());
    let mut unbroken = start(&corpus, &config, Position::start_of(0));
    for batch in unbroken.by_ref().take(5) {
        batch.unwrap();
    }
    // The loader has made more batches than it gave.
    let mut resumed = start(&corpus, &config, unbroken.position());
    for _ in 0..8 {
        let (a, b) = (
            unbroken.next().unwrap().unwrap(),
            resumed.next().unwrap().unwrap(),
        );
        assert_same(&a, &b);
        assert_eq!(resumed.position(), b.next);
    }
    assert!(resumed.position().epoch > 0);
}

#[test]
fn only_the_student_has_masks_and_another_timbre() {
    let (_folder, corpus) = kept(folder());
    let config = LoaderConfig {
        augmentation: Augmentation::default(),
        timbre: Timbre {
            warp_probability: 0.5,
            equaliser_probability: 0.5,
            ..Timbre::none()
        },
        spec_augment: SpecAugment::default(),
        ..small(LoaderConfig::evaluation())
    };
    let mut masked = 0;
    for batch in batches(start(&corpus, &config, Position::start_of(0))) {
        for row in 0..batch.utterances() {
            let length = batch.samples[row] as usize;
            let waveform = &values(&batch.waveforms.get(row as i64))[..length];
            let clean = values(&batch.clean_features.get(row as i64));
            let features = log_mel(waveform);
            assert!(
                clean[..features.len()] == features,
                "the teacher hears the same sound"
            );
            masked += usize::from(values(&batch.features.get(row as i64)) != clean);
        }
        assert!(batch.other_view.is_none());
    }
    assert!(masked >= 11);

    let config = LoaderConfig {
        two_views: true,
        ..config
    };
    let mut differ = 0;
    for batch in batches(start(&corpus, &config, Position::start_of(0))) {
        let other_view = batch.other_view.as_ref().unwrap();
        assert_eq!(other_view.size(), batch.features.size());
        for row in 0..batch.utterances() {
            let of = |features: &Tensor| values(&features.get(row as i64));
            let (one, other) = (of(&batch.features), of(other_view));
            let clean = of(&batch.clean_features);
            let frames = batch.frames[row] as usize * LogMel::BINS;
            assert!(other[frames..].iter().all(|&padding| padding == 0.0));
            differ += usize::from(one != other && other != clean);
        }
    }
    assert!(differ >= 10, "{differ}");
}

#[test]
fn broken_audio_is_skipped_and_counted_or_fatal() {
    let mut folder = folder();
    folder
        .line("missing.wav", 1.0, "ban")
        .line("long.wav", 99.0, "ban");
    let corpus = folder.corpus();
    let config = small(LoaderConfig::evaluation());
    let mut loader = start(&corpus, &config, Position::start_of(0));
    assert_eq!(loader.left_out().too_long, 1);
    let heard: usize = loader
        .by_ref()
        .map(|batch| batch.unwrap().utterances())
        .sum();
    assert_eq!(heard, 12);
    let expected = Broken {
        utterances: 1,
        noises: 0,
    };
    assert_eq!(loader.broken(), expected);

    let tokenizer = UNIGRAMS.clone();
    let (strict, start) = (Strictness::Strict, Position::start_of(0));
    let mut loader =
        Loader::start(&corpus, tokenizer, &config, strict, Shard::WHOLE, start).unwrap();
    let error = loader.find_map(Result::err).unwrap().to_string();
    assert!(
        error.contains("manifest.jsonl:13: ") && error.contains("missing.wav"),
        "{error}"
    );
    assert!(loader.next().is_none());
}

#[test]
fn a_process_for_which_there_is_no_batch_ends_at_once() {
    let mut folder = Folder::new();
    folder.tone(0.5, "ban");
    let corpus = folder.corpus();
    let config = small(LoaderConfig {
        keep_rest: true,
        ..LoaderConfig::evaluation()
    });
    let heard = [0, 1, 2].map(|rank| {
        let shard = Shard { rank, world: 3 };
        let (strict, start) = (Strictness::Strict, Position::start_of(0));
        let loader = Loader::start(&corpus, UNIGRAMS.clone(), &config, strict, shard, start);
        batches(loader.unwrap()).len()
    });
    assert_eq!(heard, [1, 0, 0]);
}

#[test]
fn audio_that_is_nowhere_ends_training() {
    let mut folder = Folder::new();
    folder.line("a.wav", 1.0, "ban").line("b.wav", 1.0, "ban");
    let corpus = folder.corpus();
    let mut loader = start(
        &corpus,
        &small(LoaderConfig::default()),
        Position::start_of(0),
    );
    let error = loader.next().unwrap().unwrap_err();
    assert!(matches!(error, DataError::Nothing { .. }), "{error}");
    assert!(loader.next().is_none());
}

#[test]
fn waiting_is_measured() {
    let (_folder, corpus) = kept(folder());
    let mut loader = start(
        &corpus,
        &small(LoaderConfig::default()),
        Position::start_of(0),
    );
    assert_eq!(loader.waiting().share(), 0.0);
    loader.next().unwrap().unwrap();
    // A trainer that takes its time does not wait; one that takes none does nothing else.
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(100));
        loader.next().unwrap().unwrap();
    }
    let slow = loader.waiting();
    assert!(slow.elapsed >= Duration::from_millis(400));
    for batch in loader.by_ref().take(30) {
        batch.unwrap();
    }
    let all = loader.waiting();
    let busy = all.waited - slow.waited;
    assert!(busy.as_secs_f64() > 0.7 * (all.elapsed - slow.elapsed).as_secs_f64());
    assert!(all.share() > slow.share() && all.share() < 1.0);
}

#[test]
fn a_loader_can_be_dropped_at_any_time() {
    let (_folder, corpus) = kept(folder());
    for taken in 0..3 {
        let started = Instant::now();
        let mut loader = start(
            &corpus,
            &small(LoaderConfig::default()),
            Position::start_of(0),
        );
        assert_eq!(loader.by_ref().take(taken).count(), taken);
        drop(loader);
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn settings_are_checked_at_the_start() {
    let (_folder, corpus) = kept(folder());
    let refused = |kind, change: fn(&mut LoaderConfig)| {
        let mut config = small(LoaderConfig::default());
        change(&mut config);
        let tokenizer = match kind {
            TokenizerKind::Unigram => UNIGRAMS.clone(),
            TokenizerKind::Bpe => Arc::new(tokenizer(kind, 128)),
        };
        let (strictness, start) = (Strictness::Lenient, Position::start_of(0));
        Loader::start(&corpus, tokenizer, &config, strictness, Shard::WHOLE, start)
            .unwrap_err()
            .to_string()
    };
    let unigram = TokenizerKind::Unigram;
    assert!(refused(unigram, |c| c.workers = 0).starts_with("workers must be"));
    assert!(refused(unigram, |c| c.spec_augment.time_share = 2.0).contains("time_share must be"));
    assert!(refused(unigram, |c| c.timbre.warp = [0.1, 1.0]).contains("timbre.warp must be"));
    assert!(refused(TokenizerKind::Bpe, |c| c.subword_alpha = Some(0.1)).contains("subword_alpha"));
    let missing = refused(unigram, |c| {
        c.augmentation.noise.manifests = vec!["no/noise.jsonl".into()];
    });
    assert!(missing.starts_with("no/noise.jsonl: "), "{missing}");
}
