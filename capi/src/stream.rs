use std::ffi::c_char;
use std::sync::{Arc, Mutex};

use sori::Stream;
use sori::decode::{Grammar, Phrases};

use crate::event::{self, SoriEvent};
use crate::handles::Registry;
use crate::recognizer::{self, SoriRecognizer, bytes, out, text};
use crate::status::{Failure, SoriStatus, call};

/// One source of audio on its way to words.
#[derive(Debug)]
pub struct SoriStream {
    _opaque: (),
}

static STREAMS: Registry<Mutex<Stream>> = Registry::new();

/// Makes a call for a live stream, when other threads' calls for it are done.
fn with<T>(
    stream: *mut SoriStream,
    body: impl FnOnce(&mut Stream) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let stream = STREAMS
        .get(stream.addr())
        .ok_or_else(|| Failure::handle("stream"))?;
    let mut stream = stream.lock().map_err(|_| Failure {
        status: SoriStatus::Internal,
        text: "stream: an earlier call failed inside of it; free it and open another".to_owned(),
    })?;
    body(&mut stream)
}

/// Opens a stream at time 0.
///
/// # Safety
/// `stream` points to where a pointer can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sori_stream_open(
    recognizer: *mut SoriRecognizer,
    stream: *mut *mut SoriStream,
) -> SoriStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let place = unsafe { out(stream, "stream")? };
        let stream = recognizer::live(recognizer)?.stream()?;
        *place = std::ptr::without_provenance_mut(STREAMS.insert(Mutex::new(stream)));
        Ok(())
    })
}

/// Hears `count` mono samples in [-1, 1] at `sample_rate` Hz, 8000 to 192000, which may change between
/// calls. Any number is fine; 10 to 100 ms at a time suit live audio. Computes on this thread. Take
/// the events after every call: they wait in the stream.
///
/// # Safety
/// `samples` points to `count` floats.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sori_stream_accept(
    stream: *mut SoriStream,
    sample_rate: u32,
    samples: *const f32,
    count: usize,
) -> SoriStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let samples = unsafe { bytes(samples, count, "samples")? };
        with(stream, |stream| {
            stream.accept(sample_rate, samples)?;
            Ok(())
        })
    })
}

/// The same for 16-bit integers.
///
/// # Safety
/// `samples` points to `count` 16-bit integers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sori_stream_accept_i16(
    stream: *mut SoriStream,
    sample_rate: u32,
    samples: *const i16,
    count: usize,
) -> SoriStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let samples = unsafe { bytes(samples, count, "samples")? };
        with(stream, |stream| {
            stream.accept_i16(sample_rate, samples)?;
            Ok(())
        })
    })
}

/// Ends the audio: the last words become events. The stream is then at time 0, ready for other audio.
#[unsafe(no_mangle)]
pub extern "C" fn sori_stream_finish(stream: *mut SoriStream) -> SoriStatus {
    call(|| {
        with(stream, |stream| {
            stream.finish()?;
            Ok(())
        })
    })
}

/// Drops everything heard and every event not taken: the stream is at time 0 again.
#[unsafe(no_mangle)]
pub extern "C" fn sori_stream_reset(stream: *mut SoriStream) -> SoriStatus {
    call(|| {
        with(stream, |stream| {
            stream.reset();
            Ok(())
        })
    })
}

/// Ends the utterance here and now: its words become a final event. Sound that does not fill a chunk yet is heard with the
/// next one and belongs to the next utterance; where the source pauses, as behind a button that was let go,
/// sori_stream_finish() hears it all.
#[unsafe(no_mangle)]
pub extern "C" fn sori_stream_end_utterance(stream: *mut SoriStream) -> SoriStatus {
    call(|| {
        with(stream, |stream| {
            stream.end_utterance();
            Ok(())
        })
    })
}

/// Ends the utterance, then prefers other phrases: names, commands, contacts. `phrases` is the text of a
/// file: a phrase per line, with a number behind it if its letters are to count for more or less than 0.5
/// (-20 to 20); lines that begin with # are comments. NULL or an empty text prefers none. A line that is
/// no phrase, or that the model cannot spell, refuses all. A stream that searches greedily turns to a beam.
///
/// Phrases that a program has from elsewhere, as "Maroon 5", go through sori_stream_set_phrase_list().
///
/// # Safety
/// `phrases` is NULL or points to a string that ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sori_stream_set_phrases(
    stream: *mut SoriStream,
    phrases: *const c_char,
) -> SoriStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let list = unsafe { text_or_none(phrases, "phrases")? };
        with(stream, |stream| {
            let recognizer = stream.recognizer();
            let tokens = recognizer.package().tokens();
            let phrases = Phrases::parse(list.as_bytes(), "phrases", tokens)?;
            prefer(stream, phrases);
            Ok(())
        })
    })
}

/// The same for `count` phrases that are taken as they are: a number is a word, and # a letter. `boosts` says
/// what the letters of each count for, -20 to 20; NULL is 0.5 for all. What the model cannot say is left
/// out: a text that is empty, longer than 1000 bytes, or not to be spelled with its tokens. `left_out`, if
/// not NULL, is told of each phrase whether it was. A count of 0 prefers none.
///
/// # Safety
/// `texts` points to `count` strings that end in a zero byte, `boosts` to `count` floats or is NULL, and
/// `left_out` to where `count` bools can be written or is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sori_stream_set_phrase_list(
    stream: *mut SoriStream,
    texts: *const *const c_char,
    boosts: *const f32,
    count: usize,
    left_out: *mut bool,
) -> SoriStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let texts = unsafe { bytes(texts, count, "texts")? };
        let boosts = if boosts.is_null() {
            &[]
        } else {
            // SAFETY: as the caller promises.
            unsafe { bytes(boosts, count, "boosts")? }
        };
        let phrases = texts
            .iter()
            .enumerate()
            .map(|(place, &pointer)| {
                // SAFETY: as the caller promises.
                let text = unsafe { text(pointer, "texts")? };
                Ok((text, boosts.get(place).copied().unwrap_or(Phrases::BOOST)))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        with(stream, |stream| {
            let recognizer = stream.recognizer();
            let (phrases, without) = Phrases::of(phrases, recognizer.package().tokens())?;
            if !left_out.is_null() {
                // SAFETY: as the caller promises; written before it is read, since it may hold anything.
                let told = unsafe {
                    left_out.write_bytes(0, count);
                    std::slice::from_raw_parts_mut(left_out, count)
                };
                for place in without {
                    told[place] = true;
                }
            }
            prefer(stream, phrases);
            Ok(())
        })
    })
}

fn prefer(stream: &mut Stream, phrases: Phrases) {
    let phrases = (!phrases.is_empty()).then(|| Arc::new(phrases));
    stream.set_phrases(phrases);
}

/// Ends the utterance, then hears sentences of a grammar only, or anything again. `grammar` has a
/// sentence per line, or is in JSGF; NULL or an empty text is none. What is said outside of it gives an event
/// with `out_of_grammar`. A stream that searches greedily turns to a beam.
///
/// # Safety
/// `grammar` is NULL or points to a string that ends in a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sori_stream_set_grammar(
    stream: *mut SoriStream,
    grammar: *const c_char,
) -> SoriStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let source = unsafe { text_or_none(grammar, "grammar")? };
        with(stream, |stream| {
            let recognizer = stream.recognizer();
            let tokens = recognizer.package().tokens();
            let grammar = (!source.is_empty())
                .then(|| Grammar::parse(source.as_bytes(), "grammar", tokens))
                .transpose()?;
            stream.set_grammar(grammar.map(Arc::new));
            Ok(())
        })
    })
}

/// A text that may be NULL, which is an empty one.
///
/// # Safety
/// As [`text`], unless it is NULL.
unsafe fn text_or_none<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Ok("");
    }
    // SAFETY: as the caller promises.
    unsafe { text(pointer, name) }
}

/// Takes the next event out of the stream; NULL when there is none. Free it by sori_event_free().
///
/// # Safety
/// `event` points to where a pointer can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sori_stream_next_event(
    stream: *mut SoriStream,
    event: *mut *mut SoriEvent,
) -> SoriStatus {
    call(|| {
        // SAFETY: as the caller promises.
        let place = unsafe { out(event, "event")? };
        if let Some(event) = with(stream, |stream| Ok(stream.events().next()))? {
            *place = event::give(event);
        }
        Ok(())
    })
}

/// Frees a stream, and the events in it that were not taken.
#[unsafe(no_mangle)]
pub extern "C" fn sori_stream_free(stream: *mut SoriStream) -> SoriStatus {
    call(|| {
        STREAMS
            .remove(stream.addr())
            .map(drop)
            .ok_or_else(|| Failure::handle("stream"))
    })
}
