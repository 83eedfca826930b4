//! Connections: how many, how long a request may take to arrive, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::limits::Limits;
use super::lingering::{Lingering, farewell};
use super::refusal::{Refusal, json_response};
use super::{Server, access, page, stream, transcriptions, vosk};

/// Bytes of a request's header.
const HEADER: usize = 32 << 10;
/// Clients that are being seen off: told that there are too many, or that this was all.
const DOORMEN: usize = 64;

fn router(server: Arc<Server>) -> Router {
    let upload = server.limits.upload + Limits::FORM;
    Router::new()
        .route("/", get(page::index))
        .route("/style.css", get(page::style))
        .route("/captions.js", get(page::script))
        .route("/worklet.js", get(page::worklet))
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route("/v1/stream", any(stream::upgrade))
        .route("/vosk", any(vosk::upgrade))
        .route("/v1/audio/transcriptions", post(transcriptions::create))
        .layer(DefaultBodyLimit::max(upload))
        .fallback(async || {
            Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here")
        })
        .method_not_allowed_fallback(async || {
            let message = "this is not asked for in this way; see the method";
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                message,
            )
        })
        .layer(from_fn_with_state(Arc::clone(&server), access::guard))
        .with_state(server)
}

async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    let batching = server.recognizer.batching();
    let text = server
        .metrics
        .text(batching.map_or(0, |batching| batching.steps));
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// What clients for `OpenAI` ask before anything else.
async fn models(State(server): State<Arc<Server>>) -> Response {
    let model = &server.room.model;
    json_response(&json!({"object": "list", "data": [{
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "sori",
        "language": model.language,
    }]}))
}

/// Serves until the server ends, then until every stream has had its last word.
pub(crate) async fn serve(listener: TcpListener, server: Arc<Server>) {
    let app = router(Arc::clone(&server));
    let limit = server.limits.connections;
    let places = Arc::new(Semaphore::new(limit));
    let doormen = Arc::new(Semaphore::new(DOORMEN));
    let mut closing = server.closing.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.wait() => break,
            accepted = listener.accept() => accepted,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of file descriptors, most likely: it passes when somebody leaves.
                tracing::warn!("cannot accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            // Captions are small and should not wait for one another.
            let _ = socket.set_nodelay(true);
            let socket = Lingering::new(socket, Arc::clone(&doormen), server.limits.idle);
            tokio::spawn(connection(socket, app.clone(), Arc::clone(&server), place));
            continue;
        }
        server.metrics.refused("connections");
        if let Ok(doorman) = Arc::clone(&doormen).try_acquire_owned() {
            tokio::spawn(turn_away(socket, doorman));
        }
    }
    drop(listener);
    let everyone = async {
        server.room.emptied().await;
        // Only a closed semaphore gives an error, and this one is never closed.
        let _ = places.acquire_many(limit as u32).await;
        let _ = doormen.acquire_many(DOORMEN as u32).await;
    };
    if timeout(Limits::GRACE, everyone).await.is_err() {
        tracing::warn!("not every client left within {:?}", Limits::GRACE);
    }
}

async fn connection(
    socket: Lingering,
    app: Router,
    server: Arc<Server>,
    _place: OwnedSemaphorePermit,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.limits.opening())
        .max_buf_size(HEADER)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(app))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut closing = server.closing.clone();
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = closing.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection ended: {error}");
    }
}

/// Tells one client too many so.
async fn turn_away(socket: TcpStream, _doorman: OwnedSemaphorePermit) {
    const BODY: &str = "{\"error\":{\"message\":\"too many connections; try again later\",\
        \"type\":\"server_error\",\"param\":null,\"code\":\"too_many_connections\"}}";
    let sorry = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    farewell(socket, sorry.as_bytes()).await;
}
