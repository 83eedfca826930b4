//! Audio for the tone model, and what it must hear in it.

use std::f64::consts::{PI, TAU};
use std::ops::Range;

use super::{BLANK, SUBSAMPLING, TOKENS, frequency};

/// Milliseconds of one output frame.
const OUTPUT_MS: u32 = 10 * SUBSAMPLING as u32;

/// The peak of a tone.
const TONE_AMPLITUDE: f64 = 0.3;

/// The peak of the noise in a silence: three steps of 16-bit audio.
const NOISE_AMPLITUDE: f64 = 1e-4;

/// How long a tone takes to swell and to fade, in seconds.
const RAMP: f64 = 0.005;

/// One part of a script; lengths in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// The tone of a token.
    Token(usize, u32),
    /// Faint white noise, always the same: what a quiet room gives.
    Silence(u32),
    /// Samples of exactly zero: what a muted microphone gives.
    Zeros(u32),
}

impl Sound {
    fn milliseconds(self) -> u32 {
        match self {
            Self::Token(_, ms) | Self::Silence(ms) | Self::Zeros(ms) => ms,
        }
    }
}

/// The script of `sample.wav` in a package: 4.24 s, two utterances, apart by more than the pause that
/// ends an utterance.
pub const SAMPLE: &[Sound] = &[
    Sound::Silence(320),
    Sound::Token(0, 200), // one
    Sound::Silence(160),
    Sound::Token(1, 200), // two
    Sound::Silence(160),
    Sound::Token(2, 240), // three
    Sound::Silence(1400),
    Sound::Token(6, 200), // 소리
    Sound::Token(7, 240),
    Sound::Silence(240),
    Sound::Token(3, 160), // going
    Sound::Token(5, 200),
    Sound::Silence(520),
];

/// One token of a script: where its tone is, and which output frames say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// The id of the token.
    pub token: usize,
    /// Where its tone is, in milliseconds from the start.
    pub milliseconds: Range<u32>,
    /// The output frames (of 40 ms) whose most probable symbol is this token.
    pub frames: Range<usize>,
}

/// The audio of `script`, mono, at 16 kHz, in [-1, 1].
///
/// # Panics
///
/// If the script names a token that has no tone.
#[must_use]
pub fn speak(script: &[Sound]) -> Vec<f32> {
    speak_at(script, 16_000)
}

/// The audio of `script`, mono, at `sample_rate` Hz, in [-1, 1]. A tone is heard after resampling
/// only if its [`frequency`] is below half the sample rate.
///
/// # Panics
///
/// If the script names a token that has no tone.
#[must_use]
pub fn speak_at(script: &[Sound], sample_rate: u32) -> Vec<f32> {
    let mut samples = Vec::new();
    let mut noise = Noise(0x5eed);
    let mut end_ms = 0;
    for &sound in script {
        end_ms += u64::from(sound.milliseconds());
        let end = (end_ms * u64::from(sample_rate) / 1000) as usize;
        let length = end - samples.len();
        match sound {
            Sound::Token(token, _) => samples.extend(tone(token, length, sample_rate)),
            Sound::Silence(_) => samples.extend(noise.by_ref().take(length)),
            Sound::Zeros(_) => samples.resize(end, 0.0),
        }
    }
    samples
}

/// `length` samples of the tone of `token`, faded in and out by half a cosine.
fn tone(token: usize, length: usize, sample_rate: u32) -> impl Iterator<Item = f32> {
    let rate = f64::from(sample_rate);
    let frequency = frequency(token);
    (0..length).map(move |sample| {
        let to_edge = (sample + 1).min(length - sample) as f64 / rate;
        let gain = 0.5 - 0.5 * (PI * (to_edge / RAMP).min(1.0)).cos();
        let phase = TAU * frequency * sample as f64 / rate;
        (TONE_AMPLITUDE * gain * phase.sin()) as f32
    })
}

/// White noise from the 64-bit linear congruential generator of Knuth's MMIX.
struct Noise(u64);

impl Iterator for Noise {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let unit = (self.0 >> 32) as f64 / f64::from(u32::MAX);
        Some((NOISE_AMPLITUDE * (2.0 * unit - 1.0)) as f32)
    }
}

/// What the model must hear in the audio of `script`: its tokens, in order.
///
/// A tone between 40 `a` and 40 `b` milliseconds is the most probable symbol of exactly the output
/// frames `a + 1 .. b + 1`: the model hears an edge one output frame late. All other output frames
/// are blank. To see the end of the last token, the audio must go on for 40 ms after it.
///
/// # Panics
///
/// If a sound does not begin and end on the grid of 40 ms, a tone is shorter than 80 ms, or equal
/// tokens are less than 120 ms apart: nothing exact can be said then.
#[must_use]
pub fn expected(script: &[Sound]) -> Vec<Spoken> {
    let mut spoken: Vec<Spoken> = Vec::new();
    let mut start = 0;
    for &sound in script {
        let end = start + sound.milliseconds();
        assert!(
            end % OUTPUT_MS == 0,
            "a sound ends at {end} ms: expected a multiple of {OUTPUT_MS}"
        );
        if let Sound::Token(token, ms) = sound {
            assert!(
                ms >= 2 * OUTPUT_MS,
                "a tone of {ms} ms: expected at least {}",
                2 * OUTPUT_MS
            );
            if let Some(last) = spoken
                .iter()
                .rfind(|last| last.milliseconds.end + 3 * OUTPUT_MS > start)
            {
                assert!(
                    last.token != token,
                    "token {token} at {start} ms follows itself too soon"
                );
            }
            let frames = (start / OUTPUT_MS) as usize + 1..(end / OUTPUT_MS) as usize + 1;
            spoken.push(Spoken {
                token,
                milliseconds: start..end,
                frames,
            });
        }
        start = end;
    }
    spoken
}

/// The words of `script`, as a recogniser prints them.
///
/// # Panics
///
/// If the script names a token that has no tone.
#[must_use]
pub fn transcript(script: &[Sound]) -> String {
    let symbols = script.iter().filter_map(|&sound| match sound {
        Sound::Token(token, _) => Some(TOKENS[..BLANK][token]),
        Sound::Silence(_) | Sound::Zeros(_) => None,
    });
    symbols
        .collect::<String>()
        .replace('▁', " ")
        .trim_start()
        .to_owned()
}
