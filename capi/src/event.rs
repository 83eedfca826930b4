use std::collections::HashMap;
use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::{LazyLock, Mutex, PoisonError};

use sori::{EndpointRule, Event, Segment};

use crate::status::{Failure, SoriStatus, c_string, call};

/// What an event says.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoriEventKind {
    /// The utterance so far. Each replaces the one before it; one without words takes it back.
    Partial = 1,
    /// A finished utterance; it does not change any more.
    Final = 2,
    /// The utterance is over, after its SORI_EVENT_KIND_FINAL if it had words. Its time is `end`, and
    /// `start` is the same.
    Endpoint = 3,
}

/// Why an utterance is over.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoriEndpointRule {
    /// The event is not the end of an utterance.
    None = 0,
    /// Nothing was said for a while.
    Silence = 1,
    /// There was silence after a word.
    SilenceAfterSpeech = 2,
    /// The utterance was as long as one may be.
    Longest = 3,
    /// Another reason, which this version of the header has no name for.
    Other = 4,
}

/// A word and when it was said.
#[repr(C)]
#[derive(Debug)]
pub struct SoriWord {
    /// Its spelling.
    pub text: *const c_char,
    /// Seconds.
    pub start: f64,
    /// Seconds.
    pub end: f64,
    /// 0 to 1.
    pub confidence: f32,
}

/// What else an utterance may have been.
#[repr(C)]
#[derive(Debug)]
pub struct SoriAlternative {
    /// Words, joined by single spaces.
    pub text: *const c_char,
    /// Natural logarithm of its probability: comparable within an event only.
    pub score: f32,
}

/// What a stream has to say. Read only; free it by sori_event_free().
#[repr(C)]
#[derive(Debug)]
pub struct SoriEvent {
    /// What it says.
    pub kind: SoriEventKind,
    /// Of SORI_EVENT_KIND_ENDPOINT: why.
    pub rule: SoriEndpointRule,
    /// Start of the first word, in seconds.
    pub start: f64,
    /// End of the last word, in seconds.
    pub end: f64,
    /// 0 to 1, over all words.
    pub confidence: f32,
    /// Words, joined by single spaces; never NULL.
    pub text: *const c_char,
    /// In order of time.
    pub words: *const SoriWord,
    /// How many.
    pub word_count: usize,
    /// Best first, the event's own text among them; of a SORI_EVENT_KIND_FINAL, where SoriOptions asks for
    /// them.
    pub alternatives: *const SoriAlternative,
    /// How many.
    pub alternative_count: usize,
    /// Of a SORI_EVENT_KIND_FINAL: something was said that the grammar does not have. There are no words
    /// then.
    pub out_of_grammar: bool,
}

/// An event with all that its pointers point to.
struct Memory {
    event: SoriEvent,
    /// Only held: the structs point into them.
    _texts: Vec<CString>,
    _words: Vec<SoriWord>,
    _alternatives: Vec<SoriAlternative>,
}

// SAFETY: the pointers point into heap memory of the same value, which nothing changes once it is made;
// the value is only kept and dropped here, by whichever thread.
unsafe impl Send for Memory {}

/// An event that was given out: the caller's pointer leads into it, so that a box must not own it.
struct Given(*mut Memory);

// SAFETY: of a `Memory`, which may go from thread to thread; only who frees it takes it back.
unsafe impl Send for Given {}

/// Events that were given out and not freed, by address.
static EVENTS: LazyLock<Mutex<HashMap<usize, Given>>> = LazyLock::new(Mutex::default);

/// Turns an event over to the caller.
pub(crate) fn give(event: Event) -> *mut SoriEvent {
    let memory = Box::into_raw(Box::new(match event {
        Event::Partial(segment) => said(SoriEventKind::Partial, &segment),
        Event::Final(segment) => said(SoriEventKind::Final, &segment),
        Event::Endpoint(endpoint) => {
            let rule = match endpoint.rule {
                EndpointRule::Silence => SoriEndpointRule::Silence,
                EndpointRule::SilenceAfterSpeech => SoriEndpointRule::SilenceAfterSpeech,
                EndpointRule::Longest => SoriEndpointRule::Longest,
                _ => SoriEndpointRule::Other,
            };
            over(endpoint.time, rule)
        }
        // A kind that this interface has no name for: the words of no utterance.
        _ => over(0.0, SoriEndpointRule::Other),
    }));
    // SAFETY: just made; nothing is read.
    let address = unsafe { &raw mut (*memory).event };
    let mut events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
    events.insert(address.addr(), Given(memory));
    address
}

fn said(kind: SoriEventKind, segment: &Segment) -> Memory {
    let mut texts = Vec::with_capacity(1 + segment.words.len() + segment.alternatives.len());
    // The bytes of a CString stay where they are when the CString itself moves.
    let mut keep = |text: &str| {
        let text = c_string(text);
        let bytes = text.as_ptr();
        texts.push(text);
        bytes
    };
    let text = keep(&segment.text);
    let words: Vec<SoriWord> = segment
        .words
        .iter()
        .map(|word| SoriWord {
            text: keep(&word.word),
            start: word.start,
            end: word.end,
            confidence: word.confidence,
        })
        .collect();
    let alternatives: Vec<SoriAlternative> = segment
        .alternatives
        .iter()
        .map(|alternative| SoriAlternative {
            text: keep(&alternative.text),
            score: alternative.score,
        })
        .collect();
    Memory {
        event: SoriEvent {
            kind,
            rule: SoriEndpointRule::None,
            start: segment.start,
            end: segment.end,
            confidence: segment.confidence,
            text,
            words: words.as_ptr(),
            word_count: words.len(),
            alternatives: alternatives.as_ptr(),
            alternative_count: alternatives.len(),
            out_of_grammar: segment.out_of_grammar,
        },
        _texts: texts,
        _words: words,
        _alternatives: alternatives,
    }
}

fn over(time: f64, rule: SoriEndpointRule) -> Memory {
    Memory {
        event: SoriEvent {
            kind: SoriEventKind::Endpoint,
            rule,
            start: time,
            end: time,
            confidence: 0.0,
            text: c"".as_ptr(),
            words: ptr::null(),
            word_count: 0,
            alternatives: ptr::null(),
            alternative_count: 0,
            out_of_grammar: false,
        },
        _texts: Vec::new(),
        _words: Vec::new(),
        _alternatives: Vec::new(),
    }
}

/// Frees an event. Freeing one twice gives SORI_STATUS_INVALID_HANDLE, unless its memory has become
/// another event in between.
#[unsafe(no_mangle)]
pub extern "C" fn sori_event_free(event: *mut SoriEvent) -> SoriStatus {
    call(|| {
        let mut events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let Given(memory) = events
            .remove(&event.addr())
            .ok_or_else(|| Failure::handle("event"))?;
        drop(events);
        // SAFETY: of `give`, and nobody else finds it any more.
        drop(unsafe { Box::from_raw(memory) });
        Ok(())
    })
}
