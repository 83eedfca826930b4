//! Audio in tar archives.

use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use sori_train::data::tarred::{self, Sharding};
use sori_train::data::{
    Augmentation, Batch, Batching, Corpus, DataError, Loader, LoaderConfig, Position, Sampler,
    Shard, Source, Strictness, audio,
};

use crate::batches::assert_same;
use crate::commands::sori_train;
use crate::sound::{Folder, RATE, UNIGRAMS, tone, write_wav};

/// Tones of 0.5 to 2 s.
fn folder() -> Folder {
    let mut folder = Folder::new();
    for index in 0..36 {
        let seconds = 0.5 + 0.1 * (index % 16) as f32;
        folder.tone(seconds, ["ban", "", "stain leck"][index % 3]);
    }
    folder
}

pub(crate) fn source(manifest: &Path, tars: &str) -> Source {
    Source {
        tars: Some(tars.into()),
        // 14 s: a third of the tones.
        buffer_hours: Some(0.004),
        ..Source::once(manifest)
    }
}

/// The folder's corpus in archives of some tones each.
fn archived(folder: &Folder) -> Corpus {
    let sharding = Sharding {
        most_bytes: 400_000,
        seed: 4,
        replace: false,
    };
    let out = folder.path("tarred");
    let mut each = |_| ControlFlow::Continue(());
    let strict = Strictness::Strict;
    let written = tarred::write(&folder.corpus(), &out, &sharding, strict, &mut each);
    let written = written.unwrap().unwrap();
    assert!(written.archives >= 6, "{written:?}");
    let source = source(&written.manifest, &written.tars);
    Corpus::read(&[source], Strictness::Strict).unwrap()
}

pub(crate) fn small(config: LoaderConfig) -> LoaderConfig {
    LoaderConfig {
        workers: 2,
        batching: batching(),
        ..config
    }
}

fn batching() -> Batching {
    Batching {
        max_seconds: 6.0,
        max_utterances: 3,
        longest: 2.2,
        buckets: 3,
        ..Batching::default()
    }
}

fn start(corpus: &Corpus, config: &LoaderConfig, shard: Shard, position: Position) -> Loader {
    let (tokenizer, strict) = (UNIGRAMS.clone(), Strictness::Strict);
    Loader::start(corpus, tokenizer, config, strict, shard, position).unwrap()
}

fn next(loader: &mut Loader) -> Batch {
    loader.next().unwrap().unwrap()
}

#[test]
fn shard_writes_archives_and_a_manifest() {
    let mut folder = folder();
    folder.line("missing.wav", 1.0, "ban");
    let manifest = folder.manifest();
    let manifest = manifest.to_str().unwrap();
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    let (one, two) = (path("one"), path("two"));
    let shard = |out: &str, more: &[&str]| {
        let fixed = ["shard", manifest, "--output", out, "--shard-mb", "1"];
        sori_train(&[&fixed[..], more].concat()).assert()
    };
    let told = shard(&one, &[]).success();
    let told = String::from_utf8(told.get_output().stdout.clone()).unwrap();
    assert!(
        told.contains(" archives, 36 utterances, 0.01 h, "),
        "{told}"
    );
    assert!(told.contains("(1 skipped)"), "{told}");
    for tar in fs::read_dir(&one).unwrap() {
        assert!(tar.unwrap().metadata().unwrap().len() <= 1_000_000);
    }
    // The last line is what a recipe takes.
    let line = told.lines().last().unwrap();
    let table: toml::Table = format!("source = {line}").parse().unwrap();
    let source: Source = table["source"].clone().try_into().unwrap();
    let corpus = Corpus::read(&[source], Strictness::Strict).unwrap();
    assert_eq!(corpus.len(), 36);
    let shards: HashSet<_> = corpus
        .entries()
        .unwrap()
        .iter()
        .map(|entry| entry.shard)
        .collect();
    assert!(shards.len() >= 3, "{shards:?}");

    // The same bytes each time; another order with another seed.
    let bytes = |out: &str, name: &str| fs::read(Path::new(out).join(name)).unwrap();
    shard(&two, &[]).success();
    for name in ["audio_0.tar", "audio_2.tar", "tarred_audio_manifest.json"] {
        assert!(bytes(&one, name) == bytes(&two, name), "{name}");
    }
    // What is there is replaced only if that is asked for, and then as a whole.
    fs::write(folder.path("two/audio_99.tar"), "old").unwrap();
    fs::write(folder.path("two/notes.txt"), "mine").unwrap();
    shard(&two, &["--seed", "2"])
        .code(1)
        .stderr(contains("is there already").and(contains("--force")));
    assert!(bytes(&one, "audio_0.tar") == bytes(&two, "audio_0.tar"));
    shard(&two, &["--seed", "2", "--force"]).success();
    assert!(bytes(&one, "audio_0.tar") != bytes(&two, "audio_0.tar"));
    assert!(!folder.path("two/audio_99.tar").exists());
    assert_eq!(bytes(&two, "notes.txt"), b"mine");

    shard(&path("strict"), &["--strict"])
        .code(1)
        .stderr(contains("manifest.jsonl:37: ").and(contains("missing.wav")));
    assert!(!folder.path("strict/tarred_audio_manifest.json").exists());
}

#[test]
fn parts_of_files_become_files() {
    let folder = Folder::new();
    let sound = [tone(300.0, 1.0, RATE), tone(500.0, 2.0, RATE)].concat();
    let sound: Vec<f32> = sound
        .iter()
        .map(|x| (x * 32_768.0).round() / 32_768.0)
        .collect();
    write_wav(&folder.path("long.wav"), &sound, RATE, 1);
    let lines = [
        r#"{"audio_filepath": "long.wav", "duration": 1.0, "text": "Ban", "lang": "en", "speaker": 7}"#,
        r#"{"audio_filepath": "long.wav", "duration": 1.5, "offset": 1.25, "text": "ban"}"#,
    ];
    fs::write(folder.path("manifest.jsonl"), lines.join("\n")).unwrap();
    let plain = Source::once(folder.path("manifest.jsonl"));
    let plain = Corpus::read(&[plain], Strictness::Strict).unwrap();
    let sharding = Sharding {
        most_bytes: 1,
        seed: 1,
        replace: false,
    };
    let (out, strict) = (folder.path("out"), Strictness::Strict);
    let mut each = |_| ControlFlow::Continue(());
    let written = tarred::write(&plain, &out, &sharding, strict, &mut each);
    let written = written.unwrap().unwrap();
    assert_eq!((written.archives, written.utterances), (2, 2));
    let manifest = fs::read_to_string(&written.manifest).unwrap();
    // What we do not know stays.
    for kept in [
        r#""lang":"en""#,
        r#""text":"Ban""#,
        r#""source_audio_offset":1.25"#,
    ] {
        assert!(manifest.contains(kept), "{manifest}");
    }
    assert!(!manifest.contains(r#""offset""#), "{manifest}");

    let source = source(&written.manifest, &written.tars);
    let corpus = Corpus::read(&[source], strict).unwrap();
    let config = small(LoaderConfig::evaluation());
    let mut heard = Vec::new();
    for batch in start(&corpus, &config, Shard::WHOLE, Position::start_of(0)) {
        let batch = batch.unwrap();
        for (row, &samples) in batch.samples.iter().enumerate() {
            let row = batch.waveforms.get(row as i64).narrow(0, 0, samples);
            heard.push(Vec::<f32>::try_from(row).unwrap());
        }
    }
    heard.sort_by_key(Vec::len);
    let expected = plain.entries().unwrap();
    let expected: Vec<_> = expected
        .iter()
        .map(|entry| audio::read(entry).unwrap())
        .collect();
    assert!(heard == expected);
}

#[test]
fn archives_sound_as_the_files_do() {
    let folder = folder();
    let (plain, corpus) = (folder.corpus(), archived(&folder));
    let config = small(LoaderConfig::evaluation());
    let mut heard = HashSet::new();
    for batch in start(&corpus, &config, Shard::WHOLE, Position::start_of(0)) {
        let batch = batch.unwrap();
        for (row, id) in batch.ids.iter().enumerate() {
            let index: usize = id[..8].parse().unwrap();
            let entry = plain.entry(index).unwrap();
            let expected = audio::read(&entry).unwrap();
            let row = row as i64;
            let found = batch.waveforms.get(row).narrow(0, 0, expected.len() as i64);
            assert_eq!(batch.samples[row as usize], expected.len() as i64);
            assert!(Vec::<f32>::try_from(found).unwrap() == expected);
            assert_eq!(batch.texts[row as usize], entry.text);
            assert!(heard.insert(index));
        }
    }
    assert_eq!(heard.len(), 36);
}

#[test]
fn archives_are_read_one_after_another_and_mixed_within_windows() {
    let folder = folder();
    let corpus = archived(&folder);
    let position = Position::start_of(0);
    let (batching, none) = (batching(), Augmentation::none());
    let mut sampler = Sampler::new(
        &corpus,
        &UNIGRAMS,
        1,
        &batching,
        &none,
        Shard::WHOLE,
        position,
    )
    .unwrap();
    let archives = corpus.entries().unwrap();
    let archives: Vec<_> = archives.iter().map(|entry| entry.shard.unwrap()).collect();
    let different = archives.iter().collect::<HashSet<_>>().len();
    let mut plan = sampler.next_batch().unwrap();
    let mut orders = Vec::new();
    for epoch in 0..2 {
        let mut heard = Vec::new();
        let mut visits = HashSet::new();
        let mut last = 0;
        while plan.next.epoch == epoch {
            assert!(plan.window == last || plan.window == last + 1);
            last = plan.window;
            for hearing in &plan.hearings {
                visits.insert((plan.window, archives[hearing.utterance as usize]));
                heard.push(hearing.utterance);
            }
            plan = sampler.next_batch().unwrap();
        }
        assert!((2..=5).contains(&last), "{last}");
        // An archive is visited once, and once more wherever a window ends in it.
        assert!(visits.len() <= different + last, "{visits:?}");
        assert_eq!(heard.len(), 36);
        assert_eq!(heard.iter().collect::<HashSet<_>>().len(), 36);
        orders.push(heard);
    }
    assert_ne!(orders[0], orders[1]);
}

#[test]
fn a_resumed_loader_over_archives_goes_on_with_any_number_of_processes() {
    let folder = folder();
    let corpus = archived(&folder);
    let config = small(LoaderConfig::default());
    let mut unbroken = start(&corpus, &config, Shard::WHOLE, Position::start_of(0));
    for _ in 0..5 {
        next(&mut unbroken);
    }
    let from = unbroken.position();
    let expected: Vec<_> = (0..14).map(|_| next(&mut unbroken)).collect();
    // Past the epoch's end.
    assert!(unbroken.position().epoch > 0);
    let mut resumed = start(&corpus, &config, Shard::WHOLE, from);
    for expected in &expected {
        assert_same(expected, &next(&mut resumed));
    }
    for world in [2, 3] {
        for rank in 0..world {
            let mut part = start(&corpus, &config, Shard { rank, world }, from);
            for expected in expected[rank..6].iter().step_by(world) {
                let batch = next(&mut part);
                assert_eq!(
                    (&batch.ids, &batch.samples),
                    (&expected.ids, &expected.samples)
                );
                assert!(batch.waveforms == expected.waveforms);
                assert!(batch.features == expected.features);
            }
        }
    }
    // Others may be left at any time.
    drop(resumed);
    let other = Source {
        buffer_hours: Some(0.005),
        ..source(
            &folder.path("tarred/tarred_audio_manifest.json"),
            folder.path("tarred/audio_{0..5}.tar").to_str().unwrap(),
        )
    };
    let other = Corpus::read(&[other], Strictness::Lenient).unwrap();
    let (tokenizer, strict) = (UNIGRAMS.clone(), Strictness::Strict);
    let refused = Loader::start(&other, tokenizer, &config, strict, Shard::WHOLE, from);
    assert!(matches!(refused, Err(DataError::OtherData { .. })));
}
