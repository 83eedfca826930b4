//! Calls of the C interface in any order, with handles that live, are freed, or never were, and with
//! arguments at their edges. Pointers keep their promises, as nothing else can be told from good ones:
//! null, or to as much as is said.

use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::LazyLock;

use sori_capi::*;

use super::ENGINE;
use super::input::Input;

const MOST_CALLS: usize = 120;

const CONFIG: &[u8] = include_bytes!("../../tests/data/tone/config.json");
const TOKENS: &[u8] = include_bytes!("../../tests/data/tone/tokens.txt");
const GRAPH: &[u8] = include_bytes!("../../tests/data/tone/model.onnx");

/// Loading takes longer than anything else: most calls share one that stays.
static SHARED: LazyLock<usize> = LazyLock::new(|| {
    let mut place = ptr::null_mut();
    // SAFETY: the package's pointers point to as many bytes as it says; `place` can be written.
    let status = unsafe { sori_recognizer_open_memory(&package(GRAPH), &options(0), &mut place) };
    assert_eq!(status, SoriStatus::Ok);
    place.addr()
});

fn package(graph: &[u8]) -> SoriPackage {
    SoriPackage {
        size: size_of::<SoriPackage>(),
        config: CONFIG.as_ptr(),
        config_size: CONFIG.len(),
        tokens: TOKENS.as_ptr(),
        tokens_size: TOKENS.len(),
        graph: graph.as_ptr(),
        graph_size: graph.len(),
        precision: 1,
        language_model: ptr::null(),
        language_model_size: 0,
    }
}

fn options(beam: u32) -> SoriOptions {
    SoriOptions {
        size: size_of::<SoriOptions>(),
        engine: ENGINE,
        precision: 0,
        threads: 0,
        beam,
        alternatives: beam,
        language_model: 0,
        parallel: 0,
        endpoint_silence: 0.0,
        endpoint_silence_after_speech: 0.0,
        endpoint_longest: 0.0,
    }
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    // Some that never were.
    let mut recognizers = vec![0, 1, 2, *SHARED];
    let mut streams = vec![0, *SHARED];
    let mut events = vec![0, usize::MAX];
    let mut opened = 0;
    for _ in 0..MOST_CALLS {
        if input.0.is_empty() {
            break;
        }
        match input.byte() % 16 {
            0 => {
                let mut place = ptr::null_mut();
                let mut options = options(u32::from(input.byte() % 20));
                odd_options(&mut options, &mut input);
                let mut package = package(if input.byte() == 0 {
                    &GRAPH[..100]
                } else {
                    GRAPH
                });
                if input.byte() == 0 {
                    package.size = usize::from(input.byte());
                }
                if input.byte() == 0 {
                    package.tokens = ptr::null();
                }
                opened += 1;
                if opened > 2 {
                    continue;
                }
                // SAFETY: all pointers are null or point to as much as is said.
                check(unsafe { sori_recognizer_open_memory(&package, &options, &mut place) });
                recognizers.push(place.addr());
            }
            1 => {
                let handle = input.among(&recognizers);
                if handle != *SHARED {
                    check(sori_recognizer_free(ptr::without_provenance_mut(handle)));
                }
            }
            2 | 3 => {
                let mut place = ptr::null_mut();
                let recognizer = ptr::without_provenance_mut(input.among(&recognizers));
                // SAFETY: `place` can be written.
                check(unsafe { sori_stream_open(recognizer, &mut place) });
                streams.push(place.addr());
            }
            4 => check(sori_stream_free(stream(&streams, &mut input))),
            5..=8 => {
                let samples: Vec<f32> = input.samples();
                let (stream, rate) = (stream(&streams, &mut input), input.rate());
                // SAFETY: the samples are as many as is said.
                check(unsafe { sori_stream_accept(stream, rate, samples.as_ptr(), samples.len()) });
            }
            9 => {
                let samples: Vec<i16> = input.samples().iter().map(|&s| s as i16).collect();
                let (stream, rate) = (stream(&streams, &mut input), input.rate());
                let (pointer, count) = match input.byte() {
                    0 => (ptr::null(), samples.len()),
                    1 => (samples.as_ptr(), usize::MAX),
                    _ => (samples.as_ptr(), samples.len()),
                };
                // SAFETY: null, refused for its size, or as many as is said.
                check(unsafe { sori_stream_accept_i16(stream, rate, pointer, count) });
            }
            10 => check(sori_stream_finish(stream(&streams, &mut input))),
            11 => check(sori_stream_reset(stream(&streams, &mut input))),
            12 => check(sori_stream_end_utterance(stream(&streams, &mut input))),
            13 => {
                let (stream, kind) = (stream(&streams, &mut input), input.byte());
                let text = input.text();
                let pointer = text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
                let (texts, boosts, mut left_out) = ([pointer; 2], [0.5, f32::NAN], [false; 2]);
                let (boosts, count) = (boosts.as_ptr(), usize::from(kind / 4 % 3));
                // SAFETY: null, or ends in a zero byte; of a list there are two.
                check(unsafe {
                    match kind % 4 {
                        0 | 2 => sori_stream_set_grammar(stream, pointer),
                        1 => sori_stream_set_phrases(stream, pointer),
                        _ => sori_stream_set_phrase_list(
                            stream,
                            texts.as_ptr(),
                            boosts,
                            count,
                            left_out.as_mut_ptr(),
                        ),
                    }
                });
            }
            14 => {
                let mut place = ptr::null_mut();
                let stream = stream(&streams, &mut input);
                // SAFETY: `place` can be written.
                check(unsafe { sori_stream_next_event(stream, &mut place) });
                // SAFETY: null, or an event that was given out just now.
                if let Some(event) = unsafe { place.as_ref() } {
                    read(event);
                }
                events.push(place.addr());
            }
            _ => check(sori_event_free(ptr::without_provenance_mut(
                input.among(&events),
            ))),
        }
    }
    // What is left is freed; what was freed is refused.
    for handle in events {
        check(sori_event_free(ptr::without_provenance_mut(handle)));
    }
    for handle in streams {
        check(sori_stream_free(ptr::without_provenance_mut(handle)));
    }
    for handle in recognizers.into_iter().filter(|handle| handle != &*SHARED) {
        check(sori_recognizer_free(ptr::without_provenance_mut(handle)));
    }
}

/// Every status but that of a fault in Sori; and the error can be read.
fn check(status: SoriStatus) {
    assert_ne!(status, SoriStatus::Internal);
    // SAFETY: the library's text, which stays until the next failure.
    let error = unsafe { CStr::from_ptr(sori_last_error()) };
    let error = error.to_str().expect("UTF-8");
    assert!(status == SoriStatus::Ok || !error.is_empty());
}

fn read(event: &SoriEvent) {
    // SAFETY: never null, as the header says, and ends in a zero byte.
    let text = unsafe { CStr::from_ptr(event.text) }
        .to_str()
        .expect("UTF-8");
    assert!(event.start.is_finite() && event.start <= event.end);
    if event.word_count > 0 {
        // SAFETY: as many as is said.
        let words = unsafe { std::slice::from_raw_parts(event.words, event.word_count) };
        let spelled = words.iter().map(|word| {
            // SAFETY: ends in a zero byte.
            let spelling = unsafe { CStr::from_ptr(word.text) };
            spelling.to_str().expect("UTF-8")
        });
        let spelled: Vec<&str> = spelled.collect();
        assert_eq!(text, spelled.join(" "));
    }
}

fn stream(streams: &[usize], input: &mut Input<'_>) -> *mut SoriStream {
    ptr::without_provenance_mut(input.among(streams))
}

/// One field in two options is out of place.
fn odd_options(options: &mut SoriOptions, input: &mut Input<'_>) {
    let value = u32::from(input.byte());
    match input.byte() % 16 {
        0 => options.size = value as usize,
        1 => options.precision = value,
        2 => options.threads = value << 8,
        3 => options.beam = value << 8,
        4 => options.alternatives = value << 8,
        5 => options.language_model = value,
        6 => options.endpoint_longest = f64::NAN,
        7 => options.endpoint_silence = f64::INFINITY,
        8 => options.endpoint_silence_after_speech = f64::from(value) / 100.0 - 0.5,
        9 => options.parallel = value << 8,
        _ => {}
    }
}

impl Input<'_> {
    /// The newest is the most likely.
    fn among(&mut self, handles: &[usize]) -> usize {
        let back = usize::from(self.byte() % 8);
        handles[handles.len().saturating_sub(1 + back)]
    }

    fn rate(&mut self) -> u32 {
        [16_000, 16_000, 16_000, 48_000, 8_000, 0, 7_999, u32::MAX][usize::from(self.byte() % 8)]
    }

    /// Up to a quarter of a second of a tone that the model knows, or of what is no sound.
    fn samples(&mut self) -> Vec<f32> {
        let (count, kind) = (usize::from(self.byte()) * 16, self.byte());
        let step = 0.4 + f32::from(kind % 8) * 0.12;
        (0..count)
            .map(|n| match kind {
                250 => f32::NAN,
                251 => f32::MAX,
                252 => f32::INFINITY,
                _ => 0.3 * (n as f32 * step).sin(),
            })
            .collect()
    }

    /// Null, or what is left of the input up to a zero byte.
    fn text(&mut self) -> Option<CString> {
        let length = usize::from(self.byte()).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        (length > 0).then(|| CString::new(text).unwrap_or_default())
    }
}
