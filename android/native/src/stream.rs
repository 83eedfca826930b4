//! Streams: audio in, events out.

use std::sync::{Arc, Mutex};

use jni::objects::{JFloatArray, JIntArray, JObject, JObjectArray, JShortArray, JString};
use jni::sys::{jint, jlong};
use jni::{Env, EnvUnowned, jni_mangle};
use sori::Stream;
use sori::decode::{Grammar, Phrases};
use sori_capi::handles::Registry;

use crate::events::{REFERENCES, deliver};
use crate::failure::{Failure, Throw};

pub(crate) static STREAMS: Registry<Mutex<Source>> = Registry::new();

/// A stream and the samples on their way into it, so that a warm call allocates nothing here.
pub(crate) struct Source {
    stream: Stream,
    shorts: Vec<i16>,
    floats: Vec<f32>,
}

impl Source {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            shorts: Vec::new(),
            floats: Vec::new(),
        }
    }
}

/// Makes a call for a live stream, when other threads' calls for it are done.
fn with<T>(
    handle: jlong,
    body: impl FnOnce(&mut Source) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let source = STREAMS
        .get(handle as usize)
        .ok_or(Failure::Closed("recognizer"))?;
    let mut source = source.lock().map_err(|_| Failure::Poisoned)?;
    body(&mut source)
}

/// `acceptShorts(stream: Long, sampleRate: Int, samples: ShortArray, count: Int, sink: EventSink)`
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn accept_shorts<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
    sample_rate: jint,
    samples: JShortArray<'local>,
    count: jint,
    sink: JObject<'local>,
) {
    env.with_env(|env| {
        let count = within(count, samples.len(env)?);
        with(handle, |source| {
            source.shorts.resize(count, 0);
            samples.get_region(env, 0, &mut source.shorts)?;
            let events = source
                .stream
                .accept_i16(rate(sample_rate), &source.shorts)?;
            deliver(env, events, &sink)
        })
    })
    .resolve::<Throw>();
}

/// `acceptFloats(stream: Long, sampleRate: Int, samples: FloatArray, count: Int, sink: EventSink)`
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn accept_floats<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
    sample_rate: jint,
    samples: JFloatArray<'local>,
    count: jint,
    sink: JObject<'local>,
) {
    env.with_env(|env| {
        let count = within(count, samples.len(env)?);
        with(handle, |source| {
            source.floats.resize(count, 0.0);
            samples.get_region(env, 0, &mut source.floats)?;
            let events = source.stream.accept(rate(sample_rate), &source.floats)?;
            deliver(env, events, &sink)
        })
    })
    .resolve::<Throw>();
}

/// `finish(stream: Long, sink: EventSink)`
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn finish<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
    sink: JObject<'local>,
) {
    env.with_env(|env| {
        with(handle, |source| {
            deliver(env, source.stream.finish()?, &sink)
        })
    })
    .resolve::<Throw>();
}

/// `endUtterance(stream: Long, sink: EventSink)`
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn end_utterance<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
    sink: JObject<'local>,
) {
    env.with_env(|env| {
        with(handle, |source| {
            deliver(env, source.stream.end_utterance(), &sink)
        })
    })
    .resolve::<Throw>();
}

/// `setPhrases(stream: Long, texts: Array<String>, boosts: FloatArray, sink: EventSink): IntArray`: as many boosts as
/// texts, or none of either; the places of those that were left out.
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn set_phrases<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
    texts: JObjectArray<'local, JString<'local>>,
    boosts: JFloatArray<'local>,
    sink: JObject<'local>,
) -> JIntArray<'local> {
    env.with_env(|env| {
        let mut weights = vec![0.0; texts.len(env)?];
        boosts.get_region(env, 0, &mut weights)?;
        let mut list = Vec::with_capacity(weights.len());
        for (place, boost) in weights.into_iter().enumerate() {
            // A list may have more texts than Android allows references.
            let text = env.with_local_frame(REFERENCES, |env| -> Result<String, Failure> {
                Ok(texts.get_element(env, place)?.try_to_string(env)?)
            })?;
            list.push((text, boost));
        }
        with(handle, |source| {
            let recognizer = source.stream.recognizer();
            let phrases = list.iter().map(|(text, boost)| (text.as_str(), *boost));
            let (phrases, left_out) = Phrases::of(phrases, recognizer.package().tokens())?;
            let phrases = (!phrases.is_empty()).then(|| Arc::new(phrases));
            deliver(env, source.stream.set_phrases(phrases), &sink)?;
            let places: Vec<jint> = left_out.iter().map(|&place| place as jint).collect();
            let array = JIntArray::new(env, places.len())?;
            array.set_region(env, 0, &places)?;
            Ok(array)
        })
    })
    .resolve::<Throw>()
}

/// `setGrammar(stream: Long, grammar: String, sink: EventSink)`: a list of sentences or JSGF, or nothing.
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn set_grammar<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
    grammar: JString<'local>,
    sink: JObject<'local>,
) {
    env.with_env(|env: &mut Env<'_>| {
        let text = grammar.try_to_string(env)?;
        with(handle, |source| {
            let recognizer = source.stream.recognizer();
            let tokens = recognizer.package().tokens();
            let grammar = (!text.is_empty())
                .then(|| Grammar::parse(text.as_bytes(), "grammar", tokens))
                .transpose()?;
            deliver(env, source.stream.set_grammar(grammar.map(Arc::new)), &sink)
        })
    })
    .resolve::<Throw>();
}

/// `reset(stream: Long)`
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn reset<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
) {
    env.with_env(|_| {
        with(handle, |source| {
            source.stream.reset();
            Ok(())
        })
    })
    .resolve::<Throw>();
}

/// `closeStream(stream: Long)`; closing twice does nothing.
#[jni_mangle("ai.sori.Native")]
pub extern "system" fn close_stream<'local>(
    mut env: EnvUnowned<'local>,
    _this: JObject<'local>,
    handle: jlong,
) {
    env.with_env(|_| -> Result<(), Failure> {
        STREAMS.remove(handle as usize);
        Ok(())
    })
    .resolve::<Throw>();
}

/// How many samples of an array are meant.
fn within(count: jint, length: usize) -> usize {
    usize::try_from(count).unwrap_or(0).min(length)
}

/// Below zero is no rate; neither is zero, which the stream refuses.
fn rate(number: jint) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
