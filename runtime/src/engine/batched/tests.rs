//! Runs of a made-up engine, held and let go by hand.

#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::queue::Board;
use super::*;

/// A stream that sends this waits in its step until it is let go.
const HELD: f32 = -1.0;
const FAILS: f32 = -2.0;
const PANICS: f32 = -3.0;

/// Values and sums so far.
type Given = (Vec<f32>, Vec<f32>);

/// Hears one value a step, and says the sum of all.
#[derive(Clone)]
struct Sums {
    streams: usize,
    hold: Arc<Mutex<()>>,
    /// What each batched run was given.
    seen: Arc<Mutex<Vec<Given>>>,
}

struct SumsSession {
    of: Sums,
    channel: Vec<f32>,
    time: Vec<f32>,
    channel_len: Vec<i64>,
}

impl Engine for Sums {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(self.open()?)
    }

    fn description(&self) -> &str {
        "sums"
    }
}

impl CachedEngine for Sums {
    fn name(&self) -> &'static str {
        "sums"
    }

    fn open(&self) -> Result<Box<dyn CachedSession>, EngineError> {
        Ok(Box::new(SumsSession {
            channel: vec![0.0; self.streams],
            time: vec![0.0; 2 * self.streams],
            channel_len: vec![0; self.streams],
            of: self.clone(),
        }))
    }
}

impl Session for SumsSession {
    fn step(&mut self, values: &[f32]) -> Result<&[f32], EngineError> {
        if self.of.streams > 1 {
            let seen = (values.to_vec(), self.channel.clone());
            self.of.seen.lock().unwrap().push(seen);
        }
        if values.contains(&HELD) {
            drop(self.of.hold.lock());
        }
        if values.contains(&FAILS) {
            let (engine, reason) = ("sums", "no".to_owned());
            return Err(EngineError::Run { engine, reason });
        }
        assert!(!values.contains(&PANICS), "it fell over");
        for (sum, value) in self.channel.iter_mut().zip(values) {
            *sum += value;
        }
        self.time.fill(1.0);
        self.channel_len.iter_mut().for_each(|steps| *steps += 1);
        Ok(&self.channel)
    }

    fn reset(&mut self) {
        self.channel.fill(0.0);
        self.time.fill(0.0);
        self.channel_len.fill(0);
    }
}

impl CachedSession for SumsSession {
    fn caches(&mut self) -> Result<CacheValues<'_>, EngineError> {
        Ok(CacheValues {
            channel: &mut self.channel,
            time: &mut self.time,
            channel_len: &mut self.channel_len,
        })
    }
}

fn engine(room: usize) -> (BatchedEngine, Sums) {
    let alone = Sums {
        streams: 1,
        hold: Arc::default(),
        seen: Arc::default(),
    };
    let several = Sums {
        streams: room,
        ..alone.clone()
    };
    let engine = BatchedEngine::new(Arc::new(alone.clone()), &several, 1, 1).unwrap();
    (engine, alone)
}

/// Steps of streams that all wait while the only run is held, in this order.
fn behind(
    engine: &BatchedEngine,
    sums: &Sums,
    streams: &mut [Box<dyn Session>],
    values: &[f32],
) -> Vec<Result<f32, String>> {
    let until = |board: &dyn Fn(&Board<Run>) -> bool| {
        let started = Instant::now();
        while !board(&engine.queue.lock()) {
            assert!(started.elapsed() < Duration::from_secs(60));
            std::thread::yield_now();
        }
    };
    let held = sums.hold.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| engine.session().unwrap().step(&[HELD]).map(drop));
        until(&|board| board.idle.is_empty());
        let mut threads = Vec::new();
        for (count, (stream, value)) in streams.iter_mut().zip(values).enumerate() {
            threads.push(scope.spawn(move || match stream.step(&[*value]) {
                Ok(said) => Ok(said[0]),
                Err(error) => Err(error.to_string()),
            }));
            until(&|board| board.waiting.len() == count + 1);
        }
        drop(held);
        let said = threads.into_iter().map(|thread| thread.join().unwrap());
        said.collect()
    })
}

#[test]
fn those_who_wait_share_a_run_and_keep_their_own_caches() {
    let (engine, sums) = engine(5);
    let mut streams: Vec<_> = (0..7).map(|_| engine.session().unwrap()).collect();
    for (place, stream) in streams.iter_mut().enumerate() {
        // Alone: nobody waits.
        let value = place as f32 * 10.0;
        assert_eq!(stream.step(&[value]).unwrap(), [value]);
    }
    let steps = || engine.batching().unwrap().steps;
    assert_eq!((engine.batching().unwrap().streams, steps()), (5, 0));

    // Three would leave too many places empty.
    let said = behind(&engine, &sums, &mut streams[..3], &[1.0, 2.0, 3.0]);
    assert_eq!(said, [Ok(1.0), Ok(12.0), Ok(23.0)]);
    assert_eq!(steps(), 0);
    // Four leave one.
    let said = behind(&engine, &sums, &mut streams[..4], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(said, [Ok(2.0), Ok(14.0), Ok(26.0), Ok(34.0)]);
    assert_eq!(steps(), 4);
    // Seven are a run of the first five, and two alone.
    let said = behind(&engine, &sums, &mut streams, &[1.0; 7]);
    assert_eq!(said, [3.0, 15.0, 27.0, 35.0, 41.0, 51.0, 61.0].map(Ok));
    assert_eq!(steps(), 9);
    assert_eq!(
        *sums.seen.lock().unwrap(),
        [
            (
                vec![1.0, 2.0, 3.0, 4.0, 0.0],
                vec![1.0, 12.0, 23.0, 30.0, 0.0]
            ),
            (vec![1.0; 5], vec![2.0, 14.0, 26.0, 34.0, 40.0]),
        ]
    );

    // One goes, one begins anew; the others notice nothing.
    streams.remove(0);
    streams[0].reset();
    let said = behind(&engine, &sums, &mut streams[..5], &[1.0; 5]);
    assert_eq!(said, [Ok(1.0), Ok(28.0), Ok(36.0), Ok(42.0), Ok(52.0)]);
    assert_eq!(steps(), 14);
}

#[test]
fn what_goes_wrong_in_a_run_is_told_to_all_who_were_in_it() {
    for (wrong, complaint) in [
        (FAILS, "engine sums: a step failed: no"),
        (PANICS, "engine sums: a step failed: it fell over"),
    ] {
        let (engine, sums) = engine(4);
        let mut streams: Vec<_> = (0..6).map(|_| engine.session().unwrap()).collect();
        let values = [1.0, 2.0, wrong, 4.0, 5.0, 6.0];
        let said = behind(&engine, &sums, &mut streams, &values);
        let failed = || Err(complaint.to_owned());
        assert_eq!(
            said,
            [failed(), failed(), failed(), failed(), Ok(5.0), Ok(6.0)]
        );
        // Alone it is the stream's own affair.
        let mut other = engine.session().unwrap();
        let error = other.step(&[wrong]).map(drop).unwrap_err();
        assert_eq!(error.to_string(), complaint);

        streams.iter_mut().for_each(|stream| stream.reset());
        let said = behind(&engine, &sums, &mut streams[..4], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(said, [Ok(1.0), Ok(2.0), Ok(3.0), Ok(4.0)]);
    }
}
