//! `POST /v1/audio/transcriptions`, in the shape of `OpenAI`'s.
//!
//! With `stream=true` the text comes as it is found, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event as SentEvent, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use sori::audio::AudioFile;
use sori::output::{Format, TranscriptWriter};
use sori::{Event, Segment, Word};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::limits::Limits;
use super::metrics::Metrics;
use super::refusal::{Refusal, json_response};
use super::room::{Failure, Hearing, Seat};
use super::{Server, rounded};

/// What a client asks for.
#[derive(Default)]
struct Form {
    file: Option<(String, Bytes)>,
    format: ResponseFormat,
    language: Option<String>,
    words: bool,
    segments: bool,
    stream: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ResponseFormat {
    #[default]
    Json,
    Text,
    Srt,
    Vtt,
    VerboseJson,
}

impl ResponseFormat {
    fn parse(name: &str) -> Result<Self, Refusal> {
        Ok(match name {
            "json" => Self::Json,
            "text" => Self::Text,
            "srt" => Self::Srt,
            "vtt" => Self::Vtt,
            "verbose_json" => Self::VerboseJson,
            _ => {
                let message = format!(
                    "response_format is {name:?}: expected json, text, srt, vtt or verbose_json"
                );
                return Err(Refusal::invalid("response_format", message));
            }
        })
    }
}

/// A form that was received, and the right to have its file heard.
struct Order {
    form: Form,
    name: String,
    bytes: Bytes,
    place: OwnedSemaphorePermit,
    seat: Seat,
}

/// Why a file is not heard, or not to its end.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the file sounds for longer than {0:?}; split it")]
    TooLong(Duration),
    #[error(transparent)]
    Failure(#[from] Failure),
}

pub(crate) async fn create(State(server): State<Arc<Server>>, request: Request) -> Response {
    let order = match receive(&server, request).await {
        Ok(order) => order,
        Err(refusal) => {
            server.metrics.refused(refusal.code);
            return refusal.into_response();
        }
    };
    match transcribe(&server, order).await {
        Ok(response) => response,
        Err(refusal) => {
            server.metrics.error(refusal.code);
            refusal.into_response()
        }
    }
}

async fn receive(server: &Arc<Server>, request: Request) -> Result<Order, Refusal> {
    let full = || Refusal::full("places for files", Limits::UPLOADS);
    let place = Arc::clone(&server.uploads)
        .try_acquire_owned()
        .map_err(|_| full())?;
    let receiving = async {
        expect_form(request.headers())?;
        let form = Multipart::from_request(request, server).await?;
        Form::read(form, &server.limits).await
    };
    let mut form = timeout(Limits::UPLOAD_TIME, receiving)
        .await
        .map_err(|_| {
            let message = format!("the file did not arrive within {:?}", Limits::UPLOAD_TIME);
            late(message)
        })??;
    form.check_language(&server.room.model.language)?;
    let (name, bytes) = form
        .file
        .take()
        .ok_or_else(|| Refusal::invalid("file", "the form has no file; expected a field `file`"))?;
    let seat = server.room.seat("file");
    let seat = seat.ok_or_else(|| Refusal::full("streams", server.limits.streams))?;
    Ok(Order {
        form,
        name,
        bytes,
        place,
        seat,
    })
}

async fn transcribe(server: &Arc<Server>, order: Order) -> Result<Response, Refusal> {
    let Order {
        form,
        name,
        bytes,
        place,
        seat,
    } = order;
    let open = move || AudioFile::from_bytes(bytes, &name);
    let hearing = server.room.open(seat, open).await.map_err(Fault::from)?;
    let segments = Segments::of(hearing, server.limits.duration);
    if form.stream {
        let telling = Telling::of(segments, Arc::clone(&server.metrics), place);
        let events = stream::unfold(Some(telling), Telling::next);
        return Ok(Sse::new(events).into_response());
    }
    let (segments, duration) = segments.all().await;
    let duration = duration.map_err(|fault| Refusal {
        text: Some(text_of(&segments)),
        ..fault.into()
    })?;
    form.answer(&segments, duration, &server.room.model.language)
}

/// The segments of a file, found one after the other.
struct Segments {
    hearing: Hearing<AudioFile>,
    /// How long the file may sound.
    longest: Duration,
    /// Those that nobody took yet.
    waiting: VecDeque<Segment>,
    /// Whether there is more to hear, or why not.
    more: Result<bool, Fault>,
}

impl Segments {
    fn of(hearing: Hearing<AudioFile>, longest: Duration) -> Self {
        Self {
            hearing,
            longest,
            waiting: VecDeque::new(),
            more: Ok(true),
        }
    }

    /// The next one; `None` after the last. Of a file that breaks, what was said before comes before the error.
    async fn next(&mut self) -> Result<Option<Segment>, Fault> {
        while self.waiting.is_empty() && matches!(self.more, Ok(true)) {
            self.more = self.hear().await;
        }
        match self.waiting.pop_front() {
            Some(segment) => Ok(Some(segment)),
            None => std::mem::replace(&mut self.more, Ok(false)).map(|_| None),
        }
    }

    /// All of them, and the seconds that they were found in, or why that is not the whole file.
    async fn all(mut self) -> (Vec<Segment>, Result<f64, Fault>) {
        let mut segments = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(segment)) => segments.push(segment),
                Ok(None) => return (segments, Ok(self.hearing.seconds())),
                Err(fault) => return (segments, Err(fault)),
            }
        }
    }

    /// Hears a second more, or what is left at the end; tells whether there is more.
    async fn hear(&mut self) -> Result<bool, Fault> {
        let heard = self.hearing.step().await?;
        self.keep(heard.events);
        let end = match heard.more {
            Ok(_) if self.hearing.seconds() > self.longest.as_secs_f64() => {
                Err(Fault::TooLong(self.longest))
            }
            Ok(true) => return Ok(true),
            Ok(false) => Ok(false),
            Err(failure @ Failure::Audio(_)) => Err(failure.into()),
            // No stream is left to be finished.
            Err(failure) => return Err(failure.into()),
        };
        let last = self.hearing.finish().await?;
        self.keep(last.events);
        end.and(last.more.map_err(Fault::from))
    }

    fn keep(&mut self, events: Vec<Event>) {
        let segments = events.into_iter().filter_map(|event| match event {
            Event::Final(segment) => Some(segment),
            _ => None,
        });
        self.waiting.extend(segments);
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let (status, code) = match &fault {
            Fault::TooLong(_) => (StatusCode::PAYLOAD_TOO_LARGE, "file_too_long"),
            Fault::Failure(Failure::Audio(error)) => {
                return Self::invalid("file", error.to_string());
            }
            Fault::Failure(failure) => (StatusCode::INTERNAL_SERVER_ERROR, failure.code()),
        };
        Self::new(status, code, fault.to_string())
    }
}

/// Whether there is a form; what a form of axum's says of others is that they have no boundary.
fn expect_form(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = String::from_utf8_lossy(kind.unwrap_or(b"none"));
    if kind.to_ascii_lowercase().starts_with("multipart/form-data") {
        return Ok(());
    }
    let message =
        format!("expected a form (Content-Type: multipart/form-data), found Content-Type: {kind}");
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        "invalid_form",
        message,
    ))
}

impl From<MultipartRejection> for Refusal {
    fn from(rejection: MultipartRejection) -> Self {
        let message = format!(
            "expected a form (multipart/form-data): {}",
            rejection.body_text()
        );
        Self::new(rejection.status(), "invalid_form", message)
    }
}

impl From<MultipartError> for Refusal {
    fn from(error: MultipartError) -> Self {
        let code = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "file_too_large",
            _ => "invalid_form",
        };
        Self::new(
            error.status(),
            code,
            format!("the form cannot be read: {}", error.body_text()),
        )
    }
}

/// A part of a form, unless nothing arrives for so long.
async fn within<T, E: Into<Refusal>>(
    patience: Duration,
    part: impl Future<Output = Result<T, E>>,
) -> Result<T, Refusal> {
    let silent = |_| late(format!("nothing arrived for {patience:?}"));
    let part = timeout(patience, part).await.map_err(silent)?;
    part.map_err(Into::into)
}

fn late(message: String) -> Refusal {
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
}

impl Form {
    async fn read(mut fields: Multipart, limits: &Limits) -> Result<Self, Refusal> {
        let mut form = Self::default();
        while let Some(mut field) = within(limits.idle, fields.next_field()).await? {
            let name = field.name().unwrap_or_default().to_owned();
            if name == "file" {
                let file = field.file_name().unwrap_or("file").to_owned();
                let mut bytes = Vec::new();
                while let Some(chunk) = within(limits.idle, field.chunk()).await? {
                    if bytes.len() + chunk.len() > limits.upload {
                        let most = limits.upload;
                        let message = format!("the file has more than {most} bytes");
                        let status = StatusCode::PAYLOAD_TOO_LARGE;
                        return Err(Refusal::new(status, "file_too_large", message));
                    }
                    bytes.extend_from_slice(&chunk);
                }
                form.file = Some((file, bytes.into()));
                continue;
            }
            let value = within(limits.idle, short_text(field)).await?;
            match name.as_str() {
                "response_format" => form.format = ResponseFormat::parse(&value)?,
                "language" => form.language = Some(value).filter(|tag| !tag.is_empty()),
                "stream" => form.stream = matches!(value.as_str(), "true" | "True" | "1"),
                "timestamp_granularities[]" | "timestamp_granularities" => match value.as_str() {
                    "word" => form.words = true,
                    "segment" => form.segments = true,
                    _ => {
                        let message = format!("{name} is {value:?}: expected word or segment");
                        return Err(Refusal::invalid("timestamp_granularities[]", message));
                    }
                },
                // There is one model, and nothing to set in it.
                "model" | "prompt" | "temperature" | "include[]" | "chunking_strategy" => {}
                _ => tracing::debug!("a form's field {name:?} is not known"),
            }
        }
        Ok(form)
    }

    /// A model of one language hears nothing but nonsense in another.
    fn check_language(&self, model: &str) -> Result<(), Refusal> {
        let main = |tag: &str| {
            tag.split(['-', '_'])
                .next()
                .unwrap_or_default()
                .to_lowercase()
        };
        match &self.language {
            Some(asked) if main(asked) != main(model) => {
                let message =
                    format!("language is {asked:?}, but the model's is {model:?}; leave it out");
                Err(Refusal::invalid("language", message))
            }
            _ => Ok(()),
        }
    }

    fn answer(
        &self,
        segments: &[Segment],
        duration: f64,
        language: &str,
    ) -> Result<Response, Refusal> {
        let text = text_of(segments);
        Ok(match self.format {
            ResponseFormat::Json => json_response(&json!({"text": text, "usage": usage(duration)})),
            ResponseFormat::Text => plain("text/plain; charset=utf-8", format!("{text}\n")),
            ResponseFormat::Srt => {
                let subtitles = subtitles(Format::Srt, segments, duration)?;
                plain("application/x-subrip; charset=utf-8", subtitles)
            }
            ResponseFormat::Vtt => {
                let subtitles = subtitles(Format::Vtt, segments, duration)?;
                plain("text/vtt; charset=utf-8", subtitles)
            }
            ResponseFormat::VerboseJson => {
                let mut answer = json!({
                    "task": "transcribe",
                    "language": language,
                    "duration": rounded(duration, 1e3),
                    "text": text,
                    "usage": usage(duration),
                });
                if self.segments || !self.words {
                    answer["segments"] = segments.iter().enumerate().map(verbose_segment).collect();
                }
                if self.words {
                    let words = segments.iter().flat_map(|segment| &segment.words);
                    answer["words"] = words.map(verbose_word).collect();
                }
                json_response(&answer)
            }
        })
    }
}

async fn short_text(mut field: Field<'_>) -> Result<String, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > Limits::FIELD {
            let message = format!("a text field is longer than {} bytes", Limits::FIELD);
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "invalid_form",
                message,
            ));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn text_of(segments: &[Segment]) -> String {
    let texts = segments.iter().map(|segment| segment.text.as_str());
    texts
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn usage(duration: f64) -> Value {
    json!({"type": "duration", "seconds": duration.ceil() as u64})
}

fn plain(kind: &'static str, text: String) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(kind))],
        text,
    )
        .into_response()
}

fn subtitles(format: Format, segments: &[Segment], duration: f64) -> Result<String, Refusal> {
    let mut out = Vec::new();
    let mut write = || {
        let mut writer = TranscriptWriter::new(format, "", &mut out)?;
        segments
            .iter()
            .try_for_each(|segment| writer.segment(segment.clone()))?;
        writer.finish(duration)
    };
    // Memory takes whatever is written.
    write().map_err(|_| Fault::from(Failure::Panicked))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The fields that only Whisper has a value for hold neutral ones: clients expect them.
fn verbose_segment((id, segment): (usize, &Segment)) -> Value {
    let mut verbose = json!({
        "id": id,
        "seek": 0,
        "start": rounded(segment.start, 1e3),
        "end": rounded(segment.end, 1e3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": rounded(f64::from(segment.confidence.max(1e-4).ln()), 1e4),
        "compression_ratio": 1.0,
        "no_speech_prob": 0.0,
        "confidence": rounded(f64::from(segment.confidence), 1e4),
    });
    // Ours, where they were asked for.
    if let Some(raw_text) = &segment.raw_text {
        verbose["raw_text"] = json!(raw_text);
    }
    if !segment.alternatives.is_empty() {
        verbose["alternatives"] = json!(segment.alternatives);
    }
    if segment.out_of_grammar {
        verbose["out_of_grammar"] = json!(true);
    }
    verbose
}

fn verbose_word(word: &Word) -> Value {
    json!({
        "word": word.word,
        "start": rounded(word.start, 1e3),
        "end": rounded(word.end, 1e3),
        "confidence": rounded(f64::from(word.confidence), 1e4),
    })
}

/// A transcription that is told while it is made.
struct Telling {
    segments: Segments,
    /// Told so far.
    text: String,
    metrics: Arc<Metrics>,
    _place: OwnedSemaphorePermit,
}

impl Telling {
    fn of(segments: Segments, metrics: Arc<Metrics>, place: OwnedSemaphorePermit) -> Self {
        Self {
            segments,
            text: String::new(),
            metrics,
            _place: place,
        }
    }

    /// Hears until a segment is finished; `None` at the end.
    async fn hear(&mut self) -> Result<Option<Value>, Fault> {
        let Some(segment) = self.segments.next().await? else {
            return Ok(None);
        };
        let space = if self.text.is_empty() || segment.text.is_empty() {
            ""
        } else {
            " "
        };
        let delta = format!("{space}{}", segment.text);
        self.text.push_str(&delta);
        // The segment is ours: OpenAI's events have no times.
        Ok(Some(json!({
            "type": "transcript.text.delta",
            "delta": delta,
            "segment": segment,
        })))
    }

    /// The next event: a segment, or the end; nothing after that.
    async fn next(telling: Option<Self>) -> Option<(Result<SentEvent, Infallible>, Option<Self>)> {
        let mut telling = telling?;
        let (event, rest) = match telling.hear().await {
            Ok(Some(event)) => (event, Some(telling)),
            Ok(None) => {
                let done = json!({
                    "type": "transcript.text.done",
                    "text": telling.text,
                    "usage": usage(telling.segments.hearing.seconds()),
                });
                (done, None)
            }
            Err(fault) => {
                let refusal = Refusal::from(fault);
                telling.metrics.error(refusal.code);
                let error = json!({"message": refusal.message, "code": refusal.code});
                (json!({"type": "error", "error": error}), None)
            }
        };
        Some((Ok(SentEvent::default().data(event.to_string())), rest))
    }
}

#[cfg(test)]
mod tests {
    use sori::Alternative;

    use super::*;

    #[test]
    fn verbose_segments_tell_what_was_asked_for() {
        let mut segment = Segment {
            start: 0.0,
            end: 1.0,
            text: "Two.".to_owned(),
            confidence: 0.5,
            words: Vec::new(),
            tokens: Vec::new(),
            alternatives: Vec::new(),
            raw_text: None,
            out_of_grammar: false,
        };
        let plain = verbose_segment((0, &segment));
        for field in ["raw_text", "alternatives", "out_of_grammar"] {
            assert!(plain.get(field).is_none(), "{field}");
        }
        segment.raw_text = Some("two".to_owned());
        segment.out_of_grammar = true;
        segment.alternatives = vec![Alternative {
            text: "two".to_owned(),
            score: -1.23,
        }];
        let told = verbose_segment((0, &segment));
        assert_eq!(told["raw_text"], "two");
        assert_eq!(told["out_of_grammar"], true);
        assert_eq!(
            told["alternatives"],
            json!([{"text": "two", "score": -1.23}])
        );
    }
}
