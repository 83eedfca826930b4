//! Hands events over to Kotlin's `EventSink`, which makes objects of them.

use jni::objects::{JObject, JString, JValue};
use jni::{Env, jni_sig, jni_str};
use sori::{EndpointRule, Event, Segment};

use crate::failure::Failure;

/// Local references that the words of one event are given; each is let go after its call, since a long
/// event has more words than Android allows references.
pub(crate) const REFERENCES: usize = 8;

pub(crate) fn deliver(
    env: &mut Env<'_>,
    events: impl Iterator<Item = Event>,
    sink: &JObject<'_>,
) -> Result<(), Failure> {
    for event in events {
        match event {
            Event::Partial(heard) => segment(env, &heard, false, sink)?,
            Event::Final(said) => segment(env, &said, true, sink)?,
            Event::Endpoint(endpoint) => {
                // As Kotlin's `EndpointRule` counts them.
                let rule = match endpoint.rule {
                    EndpointRule::Silence => 0,
                    EndpointRule::SilenceAfterSpeech => 1,
                    EndpointRule::Longest => 2,
                    _ => continue,
                };
                env.call_method(
                    sink,
                    jni_str!("endpoint"),
                    jni_sig!("(DI)V"),
                    &[JValue::Double(endpoint.time), JValue::Int(rule)],
                )?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Words and alternatives first, then what they are of.
fn segment(
    env: &mut Env<'_>,
    segment: &Segment,
    complete: bool,
    sink: &JObject<'_>,
) -> Result<(), Failure> {
    for word in &segment.words {
        env.with_local_frame(REFERENCES, |env| -> Result<(), Failure> {
            let text = JString::new(env, &word.word)?;
            env.call_method(
                sink,
                jni_str!("word"),
                jni_sig!("(Ljava/lang/String;DDF)V"),
                &[
                    JValue::Object(&text),
                    JValue::Double(word.start),
                    JValue::Double(word.end),
                    JValue::Float(word.confidence),
                ],
            )?;
            Ok(())
        })?;
    }
    for alternative in &segment.alternatives {
        env.with_local_frame(REFERENCES, |env| -> Result<(), Failure> {
            let text = JString::new(env, &alternative.text)?;
            env.call_method(
                sink,
                jni_str!("alternative"),
                jni_sig!("(Ljava/lang/String;F)V"),
                &[JValue::Object(&text), JValue::Float(alternative.score)],
            )?;
            Ok(())
        })?;
    }
    env.with_local_frame(REFERENCES, |env| -> Result<(), Failure> {
        let text = JString::new(env, &segment.text)?;
        env.call_method(
            sink,
            jni_str!("segment"),
            jni_sig!("(ZLjava/lang/String;DDFZ)V"),
            &[
                JValue::Bool(complete),
                JValue::Object(&text),
                JValue::Double(segment.start),
                JValue::Double(segment.end),
                JValue::Float(segment.confidence),
                JValue::Bool(segment.out_of_grammar),
            ],
        )?;
        Ok(())
    })
}
