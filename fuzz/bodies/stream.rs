//! A stream that is used in any order: sound of any rate, size and value, endings, resets, rules.

use sori::audio::SAMPLE_RATES;
use sori::decode::BeamOptions;
use sori::{EndpointRules, Event, Events, Options, Search, Stream};

use super::ear;
use super::input::Input;

/// Calls of one run, and samples of one call.
const MOST_CALLS: usize = 200;
const MOST_SAMPLES: usize = 20_000;

const ODD: [f32; 10] = [
    0.0,
    -0.0,
    1.0,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE / 4.0,
    1e20,
];

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte();
    let search = match kind % 3 {
        0 => Search::Greedy,
        1 => Search::Beam(BeamOptions::default()),
        _ => Search::Beam(BeamOptions {
            width: usize::from(kind),
            token_floor: input.float(),
            range: input.float(),
        }),
    };
    let options = Options {
        search,
        alternatives: usize::from(kind % 5),
        prose: kind & 8 != 0,
        tail: f64::from(input.float()),
        ..Options::default()
    };
    let recognizer = ear::recognizer(options);
    let mut stream = recognizer.stream().expect("an ear always hears");
    let mut clock = Clock::default();
    for _ in 0..MOST_CALLS {
        if input.0.is_empty() {
            break;
        }
        call(&mut stream, &mut input, &mut clock);
        assert!(stream.time().is_finite() && stream.time() >= 0.0);
    }
    clock.hear(stream.finish().expect("an ear always hears"));
}

fn call(stream: &mut Stream, input: &mut Input<'_>, clock: &mut Clock) {
    match input.byte() % 12 {
        0..=4 => {
            let (rate, samples) = (input.rate(), input.samples());
            match stream.accept(rate, &samples) {
                Ok(events) => clock.hear(events),
                Err(_) => assert!(!SAMPLE_RATES.contains(&rate), "{rate} Hz"),
            }
        }
        5 => {
            let (rate, samples) = (input.rate(), input.samples());
            let integers: Vec<i16> = samples.iter().map(|&sample| sample as i16).collect();
            if let Ok(events) = stream.accept_i16(rate, &integers) {
                clock.hear(events);
            }
        }
        6 => {
            clock.hear(stream.finish().expect("an ear always hears"));
            clock.begin();
            assert_eq!(stream.time(), 0.0);
        }
        7 => {
            stream.reset();
            clock.begin();
            assert_eq!(stream.events().count(), 0);
        }
        8 | 9 => clock.hear(stream.end_utterance()),
        10 => stream.set_endpoint_rules(EndpointRules {
            silence: f64::from(input.float()),
            silence_after_speech: f64::from(input.float()),
            longest: f64::from(input.float()),
        }),
        _ => clock.hear(stream.set_phrases(None)),
    }
}

/// Final words come in order of time, whatever happens in between.
#[derive(Default)]
struct Clock {
    last: f64,
}

impl Clock {
    fn begin(&mut self) {
        self.last = 0.0;
    }

    fn hear(&mut self, events: Events<'_>) {
        for event in events {
            match event {
                Event::Final(segment) => {
                    assert!(segment.start >= self.last - 1e-9, "{segment:?}");
                    assert!(segment.end >= segment.start, "{segment:?}");
                    assert!((0.0..=1.0).contains(&segment.confidence), "{segment:?}");
                    self.last = segment.start;
                }
                Event::Endpoint(endpoint) => assert!(endpoint.time.is_finite()),
                _ => {}
            }
        }
    }
}

impl Input<'_> {
    fn float(&mut self) -> f32 {
        let byte = self.byte();
        if usize::from(byte) < ODD.len() {
            return ODD[usize::from(byte)];
        }
        f32::from(byte) / 64.0 - 2.0
    }

    fn rate(&mut self) -> u32 {
        match self.byte() {
            0 => 0,
            1 => u32::MAX,
            2 => 7_999,
            3 => 192_001,
            4 => 8_000,
            5 => 44_100,
            6 => 48_000,
            7 => 192_000,
            8 => 22_050,
            9 => 10_000 + u32::from(self.byte()) * 111,
            _ => 16_000,
        }
    }

    fn samples(&mut self) -> Vec<f32> {
        let count = usize::from(self.byte()) << (self.byte() % 9);
        let count = count.min(MOST_SAMPLES);
        let (seed, odd) = (self.byte(), self.byte());
        (0..count)
            .map(|n| {
                let noise = (n as u32 ^ u32::from(seed)).wrapping_mul(0x9e37_79b1) >> 16;
                match odd {
                    // Every so many samples, one that no microphone gives.
                    1.. if n % (usize::from(odd) + 1) == 0 => ODD[n / 7 % ODD.len()],
                    _ => noise as f32 / 65_536.0 - 0.5,
                }
            })
            .collect()
    }
}
