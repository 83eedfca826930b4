use std::collections::{HashMap, HashSet};
use std::fs;

use proptest::prelude::*;
use sori_train::data::{
    Augmentation, BatchPlan, Batching, Corpus, DataError, LeftOut, Position, Sampler, Shard,
    Source, Strictness,
};

use crate::sound::{Folder, UNIGRAMS};

/// A corpus whose audio is never read.
fn corpus(durations: &[f32]) -> (Folder, Corpus) {
    let mut folder = Folder::new();
    for (index, &duration) in durations.iter().enumerate() {
        folder.line(&format!("{index}.wav"), duration, "ban");
    }
    let corpus = folder.corpus();
    (folder, corpus)
}

fn sampler(
    corpus: &Corpus,
    batching: &Batching,
    shard: Shard,
    position: Position,
) -> Result<Sampler, DataError> {
    let augmentation = Augmentation::default();
    Sampler::new(
        corpus,
        &UNIGRAMS,
        11,
        batching,
        &augmentation,
        shard,
        position,
    )
}

fn epoch(sampler: &mut Sampler, epoch: u64) -> Vec<BatchPlan> {
    std::iter::repeat_with(|| sampler.next_batch().unwrap())
        .take_while(|plan| plan.next.epoch == epoch)
        .collect()
}

fn utterances(plans: &[BatchPlan]) -> Vec<u32> {
    plans
        .iter()
        .flat_map(|plan| &plan.hearings)
        .map(|hearing| hearing.utterance)
        .collect()
}

fn small() -> Batching {
    Batching {
        max_seconds: 60.0,
        longest: 20.0,
        buckets: 4,
        ..Batching::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn every_process_has_its_own_batches(
        durations in proptest::collection::vec(1.0_f32..20.0, 12..60),
        world in 1_usize..4,
        buckets in 1_usize..9,
        pad_to in prop::sample::select(vec![0.0, 0.1, 1.0]),
    ) {
        let (_folder, corpus) = corpus(&durations);
        let batching = Batching { buckets, pad_to, max_utterances: 5, ..small() };
        let mut heard = Vec::new();
        let mut steps = HashSet::new();
        let mut last = 0;
        for rank in 0..world {
            let mut sampler =
                sampler(&corpus, &batching, Shard { rank, world }, Position::start_of(0)).unwrap();
            let plans = epoch(&mut sampler, 0);
            for plan in &plans {
                prop_assert!(!plan.hearings.is_empty() && plan.hearings.len() <= 5);
                prop_assert!(plan.samples * plan.hearings.len() <= 60 * 16_000);
                let longest = plan.hearings.iter().map(|&hearing| {
                    // The decimal number in the manifest, which is not exactly the f32.
                    let duration: f64 =
                        durations[hearing.utterance as usize].to_string().parse().unwrap();
                    Augmentation::default()
                        .stretch(hearing)
                        .samples((duration * 16_000.0).round() as usize)
                });
                let longest = longest.max().unwrap();
                prop_assert!(plan.samples >= longest);
                prop_assert!(plan.samples <= longest + (pad_to * 16_000.0) as usize);
            }
            steps.insert(plans.len());
            last = plans.len();
            heard.extend(utterances(&plans));
        }
        prop_assert_eq!(steps.len(), 1);
        let distinct: HashSet<_> = heard.iter().collect();
        prop_assert_eq!(distinct.len(), heard.len());
        // Less than a batch for each process is dropped.
        prop_assert!(last > 0 && durations.len() - heard.len() <= 5 * (world - 1));
    }

    #[test]
    fn a_resumed_plan_goes_on_as_it_would_have(
        durations in proptest::collection::vec(1.0_f32..20.0, 6..30),
        stop in 0_usize..40,
    ) {
        let (_folder, corpus) = corpus(&durations);
        let start = Position::start_of(0);
        let mut unbroken = sampler(&corpus, &small(), Shard::WHOLE, start).unwrap();
        let position = (0..stop).fold(start, |_, _| unbroken.next_batch().unwrap().next);
        // Through a file.
        let saved = serde_json::to_string(&position).unwrap();
        let position = serde_json::from_str(&saved).unwrap();
        let mut resumed = sampler(&corpus, &small(), Shard::WHOLE, position).unwrap();
        for _ in 0..10 {
            prop_assert_eq!(resumed.next_batch().unwrap(), unbroken.next_batch().unwrap());
        }
    }
}

#[test]
fn every_epoch_has_all_utterances_in_another_order() {
    let durations: Vec<f32> = (0..200).map(|i| 1.0 + (i % 40) as f32 * 0.4).collect();
    let (_folder, corpus) = corpus(&durations);
    let mut sampler = sampler(&corpus, &small(), Shard::WHOLE, Position::start_of(0)).unwrap();
    let mut epochs = vec![Vec::new(); 3];
    let mut batches = vec![HashSet::new(); 3];
    loop {
        let plan = sampler.next_batch().unwrap();
        let Some(epoch) = epochs.get_mut(plan.next.epoch as usize) else {
            break;
        };
        let mut together: Vec<_> = plan
            .hearings
            .iter()
            .map(|hearing| hearing.utterance)
            .collect();
        epoch.extend(together.clone());
        together.sort_unstable();
        batches[plan.next.epoch as usize].insert(together);
    }
    for epoch in &epochs {
        let mut sorted = epoch.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..200).collect::<Vec<_>>());
    }
    assert_ne!(epochs[0], epochs[1]);
    assert!(batches[0].intersection(&batches[1]).count() < batches[0].len() / 4);
    // Batches of any length come at any time.
    let lengths = |part: &[u32]| part.iter().map(|&i| durations[i as usize]).sum::<f32>();
    let (first, second) = epochs[0].split_at(100);
    let ratio = lengths(first) / lengths(second);
    assert!((0.5..2.0).contains(&ratio), "{ratio}");
}

#[test]
fn buckets_keep_padding_small() {
    let durations: Vec<f32> = (0..400)
        .map(|i| 1.0 + (i * 37 % 180) as f32 * 0.1)
        .collect();
    let (_folder, corpus) = corpus(&durations);
    let waste = |buckets| {
        let batching = Batching {
            buckets,
            ..Batching::default()
        };
        let plans = epoch(
            &mut sampler(&corpus, &batching, Shard::WHOLE, Position::start_of(0)).unwrap(),
            0,
        );
        let padded: usize = plans
            .iter()
            .map(|plan| plan.samples * plan.hearings.len())
            .sum();
        padded as f64 / 16_000.0 / f64::from(durations.iter().sum::<f32>()) - 1.0
    };
    assert!(waste(30) < 0.15, "{}", waste(30));
    assert!(waste(1) > 0.4, "{}", waste(1));
}

#[test]
fn shares_decide_how_much_comes_from_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = |name: &str, count: usize, seconds: f64| {
        let path = folder.path().join(name);
        let line =
            |i| format!(r#"{{"audio_filepath": "{name}{i}", "duration": {seconds}, "text": "a"}}"#);
        fs::write(&path, (0..count).map(line).collect::<Vec<_>>().join("\n")).unwrap();
        path
    };
    let real = Source::once(manifest("real", 60, 5.0));
    let synthetic = |share| Source {
        share: Some(share),
        ..Source::once(manifest("synthetic", 50, 10.0))
    };
    let heard = |sources: &[Source], epochs: u64| {
        let corpus = Corpus::read(sources, Strictness::Strict).unwrap();
        let batching = Batching::default();
        let mut sampler = sampler(&corpus, &batching, Shard::WHOLE, Position::start_of(0)).unwrap();
        let mut counts = HashMap::<u32, usize>::new();
        let mut hearings = HashSet::new();
        loop {
            let plan = sampler.next_batch().unwrap();
            if plan.next.epoch == epochs {
                break counts;
            }
            for hearing in plan.hearings {
                assert!(hearings.insert((hearing.epoch, hearing.utterance, hearing.repeat)));
                *counts.entry(hearing.utterance).or_default() += 1;
            }
        }
    };
    // 300 s are real: a quarter of synthetic speech is 100 s, ten utterances an epoch.
    let counts = heard(&[real.clone(), synthetic(0.25)], 5);
    assert!((0..60).all(|real| counts[&real] == 5));
    assert!((60..110).all(|synthetic| counts[&synthetic] == 1));
    // Three quarters are 900 s, 90 utterances: more than there are, so that some come twice.
    let counts = heard(&[real.clone(), synthetic(0.75)], 5);
    assert!((60..110).all(|synthetic| counts[&synthetic] == 9));
    // With shares for all, an epoch is as long as all sources: 800 s, 640 and 160.
    let shared = Source {
        share: Some(0.8),
        ..real.clone()
    };
    let counts = heard(&[shared, synthetic(0.2)], 1);
    let real_count: usize = (0..60).filter_map(|real| counts.get(&real)).sum();
    assert_eq!((real_count, counts.values().sum::<usize>()), (128, 144));

    let refused = |sources: &[Source]| {
        Corpus::read(sources, Strictness::Strict)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&[real.clone(), synthetic(1.0)]).contains("must be below 1"));
    assert!(refused(&[real, synthetic(0.0)]).contains("share must be above 0"));
    assert!(refused(&[synthetic(0.3)]).contains("the sum of all sources' shares must be 1"));
}

#[test]
fn what_cannot_be_used_is_left_out_by_reason() {
    let mut folder = Folder::new();
    folder
        .line("short.wav", 0.2, "a")
        .line("long.wav", 40.0, "a")
        // At 1.1 times the speed: 90 frames and 22 outputs, for 12 tokens and 11 blanks.
        .line("fast.wav", 1.0, &"j".repeat(12))
        .line("just.wav", 1.1, &"j".repeat(12))
        .line("good.wav", 10.0, "ban");
    let corpus = folder.corpus();
    let sampler = sampler(
        &corpus,
        &Batching::default(),
        Shard::WHOLE,
        Position::start_of(0),
    );
    let mut sampler = sampler.unwrap();
    let expected = LeftOut {
        too_short: 1,
        too_long: 1,
        too_dense: 1,
        ..LeftOut::default()
    };
    assert_eq!(sampler.left_out(), expected);
    let mut heard = utterances(&epoch(&mut sampler, 0));
    heard.sort_unstable();
    assert_eq!(heard, [3, 4]);
}

#[test]
fn nothing_to_hear_is_an_error_that_says_why() {
    let refused = |durations: &[f32], shard| {
        let (_folder, corpus) = corpus(durations);
        let sampler = sampler(&corpus, &Batching::default(), shard, Position::start_of(0));
        sampler
            .and_then(|mut sampler| sampler.next_batch())
            .unwrap_err()
            .to_string()
    };
    let error = refused(&[0.1, 0.1, 90.0], Shard::WHOLE);
    assert!(
        error.contains("2 utterances too short, 1 too long"),
        "{error}"
    );
    let error = refused(&[3.0, 3.0], Shard { rank: 0, world: 2 });
    assert!(
        error.contains("2 utterances do not make a batch for each of 2"),
        "{error}"
    );
    let error = refused(&[3.0], Shard { rank: 2, world: 2 });
    assert!(error.contains("rank must be below 2"), "{error}");
}

#[test]
fn a_position_fits_its_own_data_and_settings_only() {
    let (_folder, corpus_) = corpus(&[3.0, 4.0, 5.0]);
    let position = sampler(&corpus_, &small(), Shard::WHOLE, Position::start_of(0))
        .unwrap()
        .next_batch()
        .unwrap()
        .next;
    let (_folder, other) = corpus(&[3.0, 4.0, 5.5]);
    let batching = Batching {
        buckets: 5,
        ..small()
    };
    assert!(sampler(&corpus_, &small(), Shard::WHOLE, position).is_ok());
    for (corpus, batching) in [(&other, &small()), (&corpus_, &batching)] {
        let error = sampler(corpus, batching, Shard::WHOLE, position).unwrap_err();
        assert!(matches!(error, DataError::OtherData { .. }), "{error}");
    }
}

#[test]
fn another_number_of_processes_goes_on_in_the_same_order() {
    let durations: Vec<f32> = (0..40).map(|n| 2.0 + (n % 13) as f32).collect();
    let (_folder, corpus) = corpus(&durations);
    let start = Position::start_of(0);
    let mut alone = sampler(&corpus, &small(), Shard::WHOLE, start).unwrap();
    let order: Vec<_> = (0..8)
        .map(|_| alone.next_batch().unwrap().hearings)
        .collect();

    let begun = Shard { rank: 1, world: 2 };
    let mut begun = sampler(&corpus, &small(), begun, start).unwrap();
    assert_eq!(begun.next_batch().unwrap().hearings, order[1]);
    let position = begun.next_batch().unwrap().next;
    for rank in 0..3 {
        let shard = Shard { rank, world: 3 };
        let mut resumed = sampler(&corpus, &small(), shard, position).unwrap();
        assert_eq!(resumed.next_batch().unwrap().hearings, order[4 + rank]);
    }
}

#[test]
fn a_batch_has_room_for_the_longest_utterance() {
    let batching = Batching {
        max_seconds: 30.0,
        longest: 30.0,
        ..Batching::default()
    };
    let (_folder, corpus) = corpus(&[3.0]);
    let error = sampler(&corpus, &batching, Shard::WHOLE, Position::start_of(0)).unwrap_err();
    // 30 s at 0.9 times the speed, 1.5 s of quiet, in steps of 0.32 s.
    assert!(
        error
            .to_string()
            .starts_with("batching.max_seconds must be from 34.88"),
        "{error}"
    );
}
