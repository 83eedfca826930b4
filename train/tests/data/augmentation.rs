use std::f32::consts::TAU;
use std::sync::Arc;

use sori_train::data::manifest::Entry;
use sori_train::data::{
    Augmentation, Augmenter, Corpus, DataError, Gain, Hearing, Noise, Quiet, Room, SpecAugment,
    Speed, Telephone, Timbre,
};

use crate::sound::{Folder, RATE, tone};

fn hearing(utterance: u32) -> Hearing {
    Hearing {
        seed: 7,
        epoch: 2,
        utterance,
        repeat: 0,
    }
}

fn augmenter(settings: &Augmentation, noises: &[Entry], talkers: &Corpus) -> Augmenter {
    settings.validate().unwrap();
    Augmenter::new(Arc::new(settings.clone()), noises.into(), talkers.clone())
}

fn apply(settings: &Augmentation, samples: &[f32], hearing: Hearing) -> Vec<f32> {
    let heard = augmenter(settings, &[], &Corpus::default())
        .apply(samples.to_vec(), hearing, &mut Err)
        .unwrap();
    assert_eq!(
        heard.len(),
        settings.stretch(hearing).samples(samples.len())
    );
    let [fewest, most] = settings.bounds(samples.len());
    assert!((fewest..=most).contains(&heard.len()));
    heard
}

fn power(samples: &[f32]) -> f32 {
    samples.iter().map(|x| x * x).sum::<f32>() / samples.len() as f32
}

fn db(ratio: f32) -> f32 {
    10.0 * ratio.log10()
}

/// How much of a signal's power is a tone of this frequency.
fn share_of_tone(samples: &[f32], hertz: f32) -> f32 {
    let phase = |n: usize| TAU * hertz * n as f32 / RATE as f32;
    let part = |wave: fn(f32) -> f32| -> f32 {
        samples
            .iter()
            .enumerate()
            .map(|(n, x)| x * wave(phase(n)))
            .sum()
    };
    let n = samples.len() as f32;
    2.0 * (part(f32::sin).powi(2) + part(f32::cos).powi(2)) / (n * n * power(samples))
}

#[test]
fn each_hearing_is_another_and_always_the_same() {
    let settings = Augmentation::default();
    let sound = tone(440.0, 1.0, RATE);
    let mut one = augmenter(&settings, &[], &Corpus::default());
    let mut heard = Vec::new();
    for utterance in 0..20 {
        let first = one
            .apply(sound.clone(), hearing(utterance), &mut Err)
            .unwrap();
        // Neither what was heard before nor who does it matters.
        assert_eq!(first, apply(&settings, &sound, hearing(utterance)));
        let again = Hearing {
            epoch: 3,
            ..hearing(utterance)
        };
        heard.push(first);
        heard.push(apply(&settings, &sound, again));
    }
    let different = |a: &Vec<f32>| heard.iter().filter(|b| *b == a).count() == 1;
    // Now and then nothing happens at all.
    assert!(heard.iter().filter(|a| different(a)).count() > 30);
}

#[test]
fn nothing_changes_nothing() {
    let sound = tone(440.0, 0.5, RATE);
    assert_eq!(apply(&Augmentation::none(), &sound, hearing(0)), sound);
}

#[test]
fn speed_changes_pitch_and_length() {
    for speed in [0.9, 1.1, 1.37] {
        let settings = Augmentation {
            speed: Speed {
                factors: vec![speed],
            },
            ..Augmentation::none()
        };
        let heard = apply(&settings, &tone(440.0, 2.0, RATE), hearing(0));
        assert_eq!(heard.len(), (32_000.0 / speed).round() as usize);
        let middle = &heard[2000..heard.len() - 2000];
        assert!(
            share_of_tone(middle, 440.0 * speed as f32) > 0.98,
            "{speed}"
        );
    }
}

#[test]
fn all_speeds_are_heard() {
    let settings = Augmentation::default();
    let lengths = (0..100).map(|utterance| {
        let stretch = settings.stretch(hearing(utterance));
        let silent = settings.quiet.leading[1] + settings.quiet.trailing[1];
        let extra = (silent * f64::from(RATE)) as usize;
        (stretch.samples(160_000), extra)
    });
    let near = |speed: f64| {
        let expected = (160_000.0 / speed) as usize;
        lengths
            .clone()
            .filter(|(length, _)| length.abs_diff(expected) < 2)
            .count()
    };
    for speed in [0.9, 1.0, 1.1] {
        assert!(
            (15..40).contains(&near(speed)),
            "{speed}: {} of 100",
            near(speed)
        );
    }
    assert!(
        lengths
            .clone()
            .all(|(length, extra)| length <= 177_778 + extra)
    );
}

#[test]
fn quiet_surrounds_the_sound_and_ends_in_zeros() {
    let settings = Augmentation {
        quiet: Quiet {
            probability: 1.0,
            leading: [0.1, 0.1],
            trailing: [0.5, 0.5],
        },
        noise: Noise {
            probability: 1.0,
            ..Noise::default()
        },
        ..Augmentation::none()
    };
    let sound = tone(440.0, 1.0, RATE);
    let heard = apply(&settings, &sound, hearing(0));
    // A tenth of a second, rounded up to whole output frames.
    assert_eq!(heard.len(), 1920 + 16_000 + 8000);
    assert!(heard[17_920..].iter().all(|&sample| sample == 0.0));
    // What comes before the speech is not speech, and not silence either: noise covers it.
    assert!(power(&heard[..1920]) > 0.0);
    assert!(share_of_tone(&heard[..1920], 440.0) < 0.2);
}

fn with_noise(noise: Noise) -> Augmentation {
    Augmentation {
        noise: Noise {
            probability: 1.0,
            ..noise
        },
        ..Augmentation::none()
    }
}

#[test]
fn noise_comes_at_the_ratio_that_was_asked_for() {
    let mut folder = Folder::new();
    // Shorter than the speech, and longer.
    folder.tone(0.4, "").tone(5.0, "");
    let talkers = folder.corpus();
    let noises = talkers.entries().unwrap();
    let sound = tone(1000.0, 2.0, RATE);
    for snr in [0.0, 20.0] {
        let kinds = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)];
        for (recorded, coloured, babble) in kinds {
            let settings = with_noise(Noise {
                snr_db: [snr, snr],
                recorded,
                coloured,
                babble,
                ..Noise::default()
            });
            for utterance in 0..6 {
                let heard = augmenter(&settings, &noises, &talkers)
                    .apply(sound.clone(), hearing(utterance), &mut Err)
                    .unwrap();
                let noise: Vec<f32> = heard.iter().zip(&sound).map(|(a, b)| a - b).collect();
                let ratio = db(power(&sound) / power(&noise));
                assert!(
                    (ratio - snr as f32).abs() < 0.1,
                    "{ratio} dB, expected {snr}"
                );
                let tones =
                    share_of_tone(&noise[..6000], 200.0) + share_of_tone(&noise[..6000], 250.0);
                assert_eq!(tones > 0.7, coloured == 0.0, "{tones}");
            }
        }
    }
}

#[test]
fn without_material_noise_is_coloured_or_none() {
    let sound = tone(1000.0, 0.5, RATE);
    let heard = apply(&with_noise(Noise::default()), &sound, hearing(1));
    assert_ne!(heard, sound);
    let only_recorded = with_noise(Noise {
        coloured: 0.0,
        ..Noise::default()
    });
    assert_eq!(apply(&only_recorded, &sound, hearing(1)), sound);
}

#[test]
fn noise_that_cannot_be_read_is_told_of_and_left_out() {
    let mut folder = Folder::new();
    folder.line("missing.wav", 3.0, "");
    let noises = folder.corpus().entries().unwrap();
    let settings = with_noise(Noise {
        coloured: 0.0,
        ..Noise::default()
    });
    let sound = tone(1000.0, 0.5, RATE);
    let mut told = Vec::new();
    let heard = augmenter(&settings, &noises, &Corpus::default())
        .apply(sound.clone(), hearing(0), &mut |error| {
            told.push(error.to_string());
            Ok(())
        })
        .unwrap();
    assert_eq!(heard, sound);
    let [told] = &told[..] else {
        panic!("{told:?}")
    };
    assert!(
        told.contains("manifest.jsonl:1: ") && told.contains("missing.wav"),
        "{told}"
    );
    let failed =
        augmenter(&settings, &noises, &Corpus::default()).apply(sound, hearing(0), &mut Err);
    assert!(matches!(failed, Err(DataError::Audio { line: 1, .. })));
}

#[test]
fn a_room_rings_on_after_the_sound() {
    let settings = Augmentation {
        room: Room {
            probability: 1.0,
            rt60: [0.4, 0.4],
            direct_to_reverberant_db: [0.0, 0.0],
            ..Room::default()
        },
        ..Augmentation::none()
    };
    let mut sound = tone(440.0, 0.5, RATE);
    sound.resize(16_000, 0.0);
    let heard = apply(&settings, &sound, hearing(0));
    assert!((db(power(&heard) / power(&sound))).abs() < 0.1);
    let after = |from: usize| power(&heard[from..from + 800]);
    assert!(after(8100) > 1e-4);
    // 60 dB in 0.4 s: 30 dB in 0.2 s.
    let fall = db(after(8100) / after(11_300));
    assert!((24.0..36.0).contains(&fall), "{fall} dB");
}

#[test]
fn a_telephone_has_nothing_above_4_khz() {
    let settings = Augmentation {
        telephone: Telephone { probability: 1.0 },
        ..Augmentation::none()
    };
    let mix: Vec<f32> = tone(1000.0, 1.0, RATE)
        .iter()
        .zip(tone(6000.0, 1.0, RATE))
        .map(|(a, b)| a + b)
        .collect();
    let heard = apply(&settings, &mix, hearing(0));
    assert!(share_of_tone(&heard[1000..15_000], 1000.0) > 0.99);
    assert!(share_of_tone(&heard[1000..15_000], 6000.0) < 1e-4);
}

#[test]
fn gain_changes_the_level_and_clips() {
    let settings = |db| Augmentation {
        gain: Gain {
            probability: 1.0,
            db: [db, db],
        },
        ..Augmentation::none()
    };
    let sound = tone(440.0, 0.5, RATE);
    let heard = apply(&settings(-6.0), &sound, hearing(0));
    assert!((db(power(&heard) / power(&sound)) + 6.0).abs() < 0.01);
    let heard = apply(&settings(40.0), &sound, hearing(0));
    assert!(heard.iter().all(|sample| sample.abs() <= 1.0));
    assert!(heard.contains(&1.0) && heard.contains(&-1.0));
}

#[test]
fn settings_out_of_bounds_are_named() {
    let wrong = |change: fn(&mut Augmentation)| {
        let mut settings = Augmentation::default();
        change(&mut settings);
        settings.validate().unwrap_err().to_string()
    };
    assert_eq!(
        wrong(|s| s.speed.factors.push(3.0)),
        "augmentation.speed.factors must be speeds from 0.5 to 2, found [0.9, 1.0, 1.1, 3.0]"
    );
    assert!(wrong(|s| s.noise.probability = 1.5).starts_with("augmentation.noise.probability"));
    assert!(wrong(|s| s.noise.snr_db = [5.0, 0.0]).contains("a range [low, high]"));
    assert!(wrong(|s| s.room.rt60 = [f64::NAN, 1.0]).starts_with("augmentation.room.rt60"));
    assert!(wrong(|s| s.quiet.trailing = [0.0, 1e9]).starts_with("augmentation.quiet.trailing"));
    assert!(wrong(|s| s.gain.db = [0.0, 1e9]).starts_with("augmentation.gain.db"));
}

#[test]
fn settings_are_read_with_defaults_and_without_strangers() {
    let read = |json: &str| serde_json::from_str::<Augmentation>(json);
    let settings = read(r#"{"noise": {"snr_db": [5, 10], "manifests": ["n.jsonl"]}}"#).unwrap();
    assert_eq!(settings.noise.snr_db, [5.0, 10.0]);
    assert_eq!(settings.noise.probability, Noise::default().probability);
    assert_eq!(settings.speed, Speed::default());
    assert!(read(r#"{"noise": {"snr": 5}}"#).is_err());
}

#[test]
fn timbre_moves_resonances_and_tilts_the_spectrum_the_same_way_in_all_frames() {
    let (frames, bands) = (7, 80);
    // A resonance in band 40, a little weaker with every frame.
    let clean: Vec<f32> = (0..frames * bands)
        .map(|i| -8.0 - (i / bands) as f32 * 0.1 - ((i % bands) as f32 - 40.0).abs() * 0.2)
        .collect();
    let changed = |settings: &Timbre, utterance| {
        let mut features = clean.clone();
        settings.apply(&mut features, bands, hearing(utterance));
        features
    };
    let peak = |frame: &[f32]| {
        (0..bands)
            .max_by(|&a, &b| frame[a].total_cmp(&frame[b]))
            .unwrap()
    };
    let warp = |factor| Timbre {
        warp_probability: 1.0,
        warp: [factor, factor],
        ..Timbre::none()
    };
    // Band 40 of 80 lies at 2 kHz, where bands are 4.6 % apart.
    for (factor, expected) in [(0.85, 36..=37), (1.0, 40..=40), (1.18, 43..=44)] {
        for frame in changed(&warp(factor), 0).chunks(bands) {
            assert!(expected.contains(&peak(frame)), "{factor}: {}", peak(frame));
        }
    }
    assert_eq!(changed(&warp(1.0), 3), clean);

    let tilt = Timbre {
        equaliser_probability: 1.0,
        equaliser_db: 6.0,
        ..Timbre::none()
    };
    let most = 6.0 * std::f32::consts::LN_10 / 10.0;
    let mut largest = 0_f32;
    for utterance in 0..20 {
        let features = changed(&tilt, utterance);
        assert_eq!(features, changed(&tilt, utterance));
        let gains: Vec<_> = (0..bands)
            .map(|band| features[band] - clean[band])
            .collect();
        for (i, value) in features.iter().enumerate() {
            assert!((value - clean[i] - gains[i % bands]).abs() < 1e-5);
        }
        for gain in gains {
            assert!(gain.abs() <= most + 1e-5);
            largest = largest.max(gain.abs());
        }
    }
    assert!(largest > 0.8 * most);

    // Half of the hearings, where that is the probability.
    let half = Timbre {
        equaliser_probability: 0.5,
        ..tilt
    };
    let count = (0..200).filter(|&n| changed(&half, n) != clean).count();
    assert!((70..130).contains(&count), "{count}");
    assert_eq!(changed(&Timbre::none(), 0), clean);
    half.apply(&mut [], bands, hearing(0));
}

#[test]
fn spec_augment_hides_bands_and_stretches_in_the_mean() {
    let (frames, bands) = (300, 80);
    let clean: Vec<f32> = (0..frames * bands)
        .map(|i| -8.0 + (i % 97) as f32 * 0.1)
        .collect();
    let mean = clean.iter().sum::<f32>() / clean.len() as f32;
    let masked = |settings: &SpecAugment, utterance| {
        let mut features = clean.clone();
        settings.apply(&mut features, bands, hearing(utterance));
        features
    };
    let is_hidden = |features: &[f32], at: usize| {
        let changed = features[at] != clean[at];
        assert!(!changed || (features[at] - mean).abs() < 1e-3);
        changed
    };
    let time_only = SpecAugment {
        frequency_masks: 0,
        ..SpecAugment::default()
    };
    let frequency_only = SpecAugment {
        time_masks: 0,
        ..SpecAugment::default()
    };
    let mut hidden = [0, 0];
    for utterance in 0..20 {
        let features = masked(&time_only, utterance);
        let frame_hidden = |frame: usize| is_hidden(&features, frame * bands + 3);
        for frame in 0..frames {
            let all = (0..bands)
                .filter(|band| is_hidden(&features, frame * bands + band))
                .count();
            // A value that is the mean by chance cannot be told from a hidden one.
            assert!(all == 0 || all >= bands - 2);
        }
        let count = (0..frames).filter(|&frame| frame_hidden(frame)).count();
        assert!(count <= 150);
        hidden[0] += count;

        let features = masked(&frequency_only, utterance);
        let count =
            (0..bands).filter(|band| (0..3).any(|t| is_hidden(&features, t * bands + band)));
        let count = count.count();
        assert!(count <= 54);
        hidden[1] += count;
        assert_eq!(features, masked(&frequency_only, utterance));
    }
    // On average 10 masks of 7 frames, and 2 of 13 bands; a little less where they overlap.
    assert!((900..1500).contains(&hidden[0]), "{hidden:?}");
    assert!((350..560).contains(&hidden[1]), "{hidden:?}");
    assert_eq!(masked(&SpecAugment::none(), 0), clean);
    // The shortest of utterances.
    SpecAugment::default().apply(&mut [1.0; 80], bands, hearing(0));
    SpecAugment::default().apply(&mut [], bands, hearing(0));
}
