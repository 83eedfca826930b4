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
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::sse::{Event as SentEvent, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use sori::audio::AudioFile;
use sori::output::{Format, TranscriptWriter};
use sori::{Event, Segment, Word};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Server;
use super::limits::Limits;
use super::refusal::{Refusal, json_response};
use super::room::{Failure, Hearing};

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

pub(crate) async fn create(State(server): State<Arc<Server>>, request: Request) -> Response {
    match transcribe(&server, request).await {
        Ok(response) => response,
        Err(refusal) => {
            server.metrics.refused(refusal.code);
            refusal.into_response()
        }
    }
}

async fn transcribe(server: &Arc<Server>, request: Request) -> Result<Response, Refusal> {
    let full = || Refusal::full("places for files", Limits::UPLOADS);
    let place = Arc::clone(&server.uploads)
        .try_acquire_owned()
        .map_err(|_| full())?;
    let receiving = async {
        let form = Multipart::from_request(request, server).await?;
        Form::read(form, &server.limits).await
    };
    let form = timeout(Limits::UPLOAD_TIME, receiving)
        .await
        .map_err(|_| {
            let message = format!("the file did not arrive within {:?}", Limits::UPLOAD_TIME);
            late(message)
        })??;
    form.check_language(&server.room.model.language)?;
    let (name, bytes) = form
        .file
        .clone()
        .ok_or_else(|| Refusal::invalid("file", "the form has no file; expected a field `file`"))?;
    let seat = server.room.seat("file");
    let seat = seat.ok_or_else(|| Refusal::full("streams", server.limits.streams))?;
    let open = move || AudioFile::from_bytes(bytes, &name);
    let hearing = server.room.open(seat, open).await.map_err(refuse)?;
    if form.stream {
        let events = stream::unfold(Some(Telling::of(hearing, place)), Telling::next);
        return Ok(Sse::new(events).into_response());
    }
    let (segments, duration) = listen(hearing).await.map_err(refuse)?;
    form.answer(&segments, duration, &server.room.model.language)
}

/// The whole file.
async fn listen(mut hearing: Hearing<AudioFile>) -> Result<(Vec<Segment>, f64), Failure> {
    let mut segments = Vec::new();
    let mut more = true;
    while more {
        let heard = hearing.step().await?;
        segments.extend(heard.events.into_iter().filter_map(finished));
        more = heard.more;
    }
    segments.extend(hearing.finish().await?.into_iter().filter_map(finished));
    Ok((segments, hearing.seconds()))
}

fn finished(event: Event) -> Option<Segment> {
    match event {
        Event::Final(segment) => Some(segment),
        _ => None,
    }
}

fn refuse(failure: Failure) -> Refusal {
    match failure {
        Failure::Audio(error) => Refusal::invalid("file", error.to_string()),
        Failure::Recognizer(_) | Failure::Panicked => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Refusal::new(status, failure.code(), failure.to_string())
        }
    }
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
    write().map_err(|_| refuse(Failure::Panicked))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The fields that only Whisper has a value for hold neutral ones: clients expect them.
fn verbose_segment((id, segment): (usize, &Segment)) -> Value {
    json!({
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
    })
}

fn verbose_word(word: &Word) -> Value {
    json!({
        "word": word.word,
        "start": rounded(word.start, 1e3),
        "end": rounded(word.end, 1e3),
        "confidence": rounded(f64::from(word.confidence), 1e4),
    })
}

fn rounded(number: f64, unit: f64) -> f64 {
    (number * unit).round() / unit
}

/// A transcription that is told while it is made.
struct Telling {
    hearing: Hearing<AudioFile>,
    /// Segments that have not been told.
    waiting: VecDeque<Segment>,
    text: String,
    over: bool,
    _place: OwnedSemaphorePermit,
}

impl Telling {
    fn of(hearing: Hearing<AudioFile>, place: OwnedSemaphorePermit) -> Self {
        Self {
            hearing,
            waiting: VecDeque::new(),
            text: String::new(),
            over: false,
            _place: place,
        }
    }

    /// Hears until a segment is finished; `None` at the end.
    async fn hear(&mut self) -> Result<Option<Value>, Failure> {
        while self.waiting.is_empty() && !self.over {
            let heard = self.hearing.step().await?;
            self.waiting
                .extend(heard.events.into_iter().filter_map(finished));
            if !heard.more {
                self.waiting.extend(
                    self.hearing
                        .finish()
                        .await?
                        .into_iter()
                        .filter_map(finished),
                );
                self.over = true;
            }
        }
        let Some(segment) = self.waiting.pop_front() else {
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
                    "usage": usage(telling.hearing.seconds()),
                });
                (done, None)
            }
            Err(failure) => {
                let refusal = refuse(failure);
                let error = json!({"message": refusal.message, "code": refusal.code});
                (json!({"type": "error", "error": error}), None)
            }
        };
        Some((Ok(SentEvent::default().data(event.to_string())), rest))
    }
}
