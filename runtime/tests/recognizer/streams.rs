//! Streams side by side and one after another.

use sori::engine::{EngineChoice, EngineOptions};
use sori::{Event, Options, Recognizer};
use sori_tests::tone::{Sound, speak, speak_at};

use crate::support::{on, tone};
use crate::{ENGINES, finals, hear, recognizer, script, text};

#[test]
fn streams_of_one_recognizer_do_not_mix() {
    let scripts = [
        script(),
        vec![
            Sound::Silence(240),
            Sound::Token(2, 200),
            Sound::Silence(200),
            Sound::Token(6, 200),
            Sound::Silence(2000),
        ],
    ];
    for engine in ENGINES {
        let recognizer = recognizer(engine);
        let audio: Vec<Vec<f32>> = scripts.iter().map(|script| speak(script)).collect();
        let alone: Vec<Vec<Event>> = audio
            .iter()
            .map(|samples| hear(&mut recognizer.stream().unwrap(), 16_000, samples, 1600))
            .collect();

        let mut streams = [recognizer.stream().unwrap(), recognizer.stream().unwrap()];
        let mut together = [Vec::new(), Vec::new()];
        for start in (0..audio[0].len().max(audio[1].len())).step_by(1234) {
            for (index, samples) in audio.iter().enumerate() {
                let piece = &samples[start.min(samples.len())..(start + 1234).min(samples.len())];
                together[index].extend(streams[index].accept(16_000, piece).unwrap());
            }
        }
        for (stream, events) in streams.iter_mut().zip(&mut together) {
            events.extend(stream.finish().unwrap());
        }
        assert_eq!(together.to_vec(), alone, "{engine:?}");
    }
}

#[test]
fn streams_run_on_several_threads() {
    for engine in ENGINES {
        let recognizer = recognizer(engine);
        let samples = speak(&script());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut stream = recognizer.stream().unwrap();
                    assert_eq!(
                        text(&hear(&mut stream, 16_000, &samples, 500)),
                        "one twos going"
                    );
                });
            }
        });
    }
}

/// What compiles: a recognizer is shared by threads, a stream goes from one to another.
fn shared<T: Send + Sync>(_: &T) {}
fn sent<T: Send>(_: &T) {}

#[test]
fn many_streams_at_once_say_what_each_says_alone() {
    // Two utterances each, no two streams alike.
    let said: Vec<Vec<f32>> = (0..16)
        .map(|number| {
            speak(&[
                Sound::Silence(100 + 37 * number),
                Sound::Token(number as usize % 4, 200),
                Sound::Silence(160),
                Sound::Token(4 + number as usize % 2, 200),
                Sound::Silence(1600),
                Sound::Token(6, 240),
            ])
        })
        .collect();
    // One step at a time; fewer than there are streams.
    for (engine, parallel) in ENGINES
        .into_iter()
        .flat_map(|engine| [(engine, 1), (engine, 3)])
    {
        let engine = EngineOptions {
            parallel,
            ..on(engine)
        };
        let options = Options {
            engine,
            ..Options::default()
        };
        let recognizer = Recognizer::new(tone(), options).unwrap();
        shared(&recognizer);
        sent(&recognizer.stream().unwrap());
        let alone: Vec<Vec<Event>> = said
            .iter()
            .map(|samples| hear(&mut recognizer.stream().unwrap(), 16_000, samples, 1600))
            .collect();
        let together: Vec<Vec<Event>> = std::thread::scope(|scope| {
            let threads: Vec<_> = said
                .iter()
                .map(|samples| {
                    let mut stream = recognizer.stream().unwrap();
                    scope.spawn(move || hear(&mut stream, 16_000, samples, 333))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(alone == together, "{engine:?}");
        assert!(alone.iter().all(|events| finals(events).len() == 2));
    }
}

#[test]
fn reset_and_finish_start_over() {
    for engine in ENGINES {
        let mut stream = recognizer(engine).stream().unwrap();
        let samples = speak(&script());
        let first = hear(&mut stream, 16_000, &samples, 1600);
        assert_eq!(
            hear(&mut stream, 16_000, &samples, 1600),
            first,
            "{engine:?} after finish"
        );
        stream
            .accept(44_100, &speak_at(&script(), 44_100)[..50_000])
            .unwrap()
            .for_each(drop);
        stream.reset();
        assert_eq!(stream.time(), 0.0);
        assert_eq!(
            hear(&mut stream, 16_000, &samples, 1600),
            first,
            "{engine:?} after reset"
        );
        assert_eq!(
            stream.finish().unwrap().count(),
            0,
            "{engine:?}: words out of nothing"
        );
    }
}

#[test]
fn events_can_be_taken_apart_from_giving_audio() {
    let recognizer = recognizer(EngineChoice::Tract);
    let mut stream = recognizer.stream().unwrap();
    let samples = speak(&script());
    stream.accept(16_000, &samples).unwrap();
    stream.finish().unwrap();
    let events: Vec<Event> = stream.events().collect();
    assert_eq!(stream.events().count(), 0);
    assert_eq!(events, hear(&mut stream, 16_000, &samples, samples.len()));
    assert_eq!(stream.recognizer().engine(), recognizer.engine());
}
