//! Who may use the server: tokens, and which web pages.
//!
//! A browser lets any page open a WebSocket to this machine, and a page whose name is made to point
//! here (DNS rebinding) counts as ours. So pages are told by their `Origin`, and on a loopback address
//! only its own names are answered.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Query, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::Server;
use super::refusal::Refusal;

/// What is asked of a request before anything else is done with it.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// Any of them opens the door; without one it is open.
    pub(crate) tokens: Vec<String>,
    /// Web pages of other servers that may use this one, as [`plain_origin`] writes them.
    pub(crate) origins: Vec<String>,
    /// The server is heard on this machine only.
    pub(crate) loopback: bool,
}

/// Anyone may have these: they say nothing of what is heard.
const OPEN: [&str; 6] = [
    "/",
    "/style.css",
    "/captions.js",
    "/worklet.js",
    "/healthz",
    "/favicon.ico",
];

#[derive(Deserialize)]
struct Asked {
    token: Option<String>,
}

/// The tokens in a file, one a line; lines that begin with # are notes.
pub(crate) fn read_tokens(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let lines = text.lines().map(str::trim);
    let tokens: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    anyhow::ensure!(
        !tokens.is_empty(),
        "{}: no token in it; write one a line, for example of `openssl rand -hex 24`",
        path.display()
    );
    Ok(tokens)
}

impl Access {
    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let forbidden = |code, message| Err(Refusal::new(StatusCode::FORBIDDEN, code, message));
        let host = text(headers, header::HOST);
        if let Some(host) = host
            && self.loopback
            && !self.knows(host)
        {
            let message = format!(
                "the host {host:?} is not this machine: expected localhost, or a page's host named \
                 with --allow-origin"
            );
            return forbidden("unknown_host", message);
        }
        if let Some(origin) = text(headers, header::ORIGIN)
            && !self.is_ours(origin, host)
        {
            let message = format!(
                "pages of {origin:?} may not use this server; start it with --allow-origin {origin}"
            );
            return forbidden("foreign_origin", message);
        }
        if self.tokens.is_empty() || OPEN.contains(&uri.path()) || self.has_token(uri, headers) {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "invalid_api_key",
            "a token of this server is needed: `Authorization: Bearer TOKEN`, or ?token=TOKEN",
        ))
    }

    /// Whether a name in `Host` is one of this machine, or of a page that may use it.
    fn knows(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let name = authority
            .host()
            .trim_matches(['[', ']'])
            .to_ascii_lowercase();
        name == "localhost"
            || name.ends_with(".localhost")
            || name
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
            || self.origins.iter().any(|origin| is_host_of(host, origin))
    }

    /// Whether a page is the server's own or one that may use it.
    fn is_ours(&self, origin: &str, host: Option<&str>) -> bool {
        host.is_some_and(|host| is_host_of(host, origin)) || self.allows(origin)
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.contains(&plain_origin(origin))
    }

    fn has_token(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let asked = Query::<Asked>::try_from_uri(uri)
            .ok()
            .and_then(|Query(asked)| asked.token);
        let bearer = text(headers, header::AUTHORIZATION)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let Some(given) = bearer.or(asked.as_deref()) else {
            return false;
        };
        self.tokens.iter().any(|token| same(token, given))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    // What is no text is no host and no origin that is known here.
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// The origin of a page as browsers write it: in lower case, without the port that its scheme has anyway.
pub(crate) fn plain_origin(origin: &str) -> String {
    let mut origin = origin.to_ascii_lowercase();
    let port = match origin.split_once("://") {
        Some(("http", _)) => ":80",
        Some(("https", _)) => ":443",
        _ => return origin,
    };
    if origin.ends_with(port) {
        origin.truncate(origin.len() - port.len());
    }
    origin
}

/// Whether a name in `Host` is that of a page's server.
fn is_host_of(host: &str, origin: &str) -> bool {
    origin.split_once("://").is_some_and(|(scheme, _)| {
        plain_origin(&format!("{scheme}://{host}")) == plain_origin(origin)
    })
}

/// Compares in a time that does not tell how much of a guess is right.
fn same(token: &str, guess: &str) -> bool {
    let differences = token
        .bytes()
        .zip(guess.bytes())
        .fold(0, |all, (a, b)| all | (a ^ b));
    token.len() == guess.len() && differences == 0
}

/// Lets a request through, or answers why not; lets pages of other servers read the answer if they may.
pub(crate) async fn guard(
    State(server): State<Arc<Server>>,
    request: Request,
    next: Next,
) -> Response {
    let access = &server.access;
    let foreign = request
        .headers()
        .get(header::ORIGIN)
        .filter(|origin| origin.to_str().is_ok_and(|origin| access.allows(origin)))
        .cloned();
    let preflight = foreign.is_some() && request.method() == Method::OPTIONS;
    let mut response = match access.check(request.uri(), request.headers()) {
        // A browser asks without the token whether it may ask with it.
        _ if preflight => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            server.metrics.refused(refusal.code);
            refusal.into_response()
        }
    };
    if let Some(origin) = foreign {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        if preflight {
            let allowed = HeaderValue::from_static("authorization, content-type");
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            let age = HeaderValue::from_static("600");
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, age);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(access: &Access, uri: &str, headers: &[(&str, &str)]) -> Option<&'static str> {
        let headers = headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?)))
            .collect();
        let uri = Uri::try_from(uri).unwrap_or_default();
        access
            .check(&uri, &headers)
            .err()
            .map(|refusal| refusal.code)
    }

    #[test]
    fn on_loopback_only_its_own_names_and_pages_are_answered() {
        let access = Access {
            loopback: true,
            ..Access::default()
        };
        for host in [
            "localhost:2700",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]:2700",
            "a.localhost",
        ] {
            assert_eq!(code(&access, "/vosk", &[("host", host)]), None, "{host}");
            let own = format!("http://{host}");
            assert_eq!(
                code(&access, "/vosk", &[("host", host), ("origin", &own)]),
                None
            );
        }
        for host in [
            "evil.example",
            "evil.example:2700",
            "192.168.1.2",
            "localhost.evil.example",
            "",
            "a b",
        ] {
            assert_eq!(
                code(&access, "/", &[("host", host)]),
                Some("unknown_host"),
                "{host}"
            );
        }
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:3000",
            "localhost:2700",
            "http://localhost:2700.evil.example",
        ] {
            let headers = [("host", "localhost:2700"), ("origin", origin)];
            assert_eq!(
                code(&access, "/", &headers),
                Some("foreign_origin"),
                "{origin}"
            );
        }
        assert_eq!(code(&access, "/vosk", &[]), None);
    }

    #[test]
    fn pages_of_other_servers_are_let_in_by_name() {
        let access = Access {
            loopback: true,
            origins: vec!["https://captions.example".to_owned()],
            ..Access::default()
        };
        let origin = ("origin", "https://captions.example");
        for host in [
            "127.0.0.1:2700",
            "captions.example",
            "Captions.Example",
            "captions.example:443",
        ] {
            assert_eq!(
                code(&access, "/vosk", &[("host", host), origin]),
                None,
                "{host}"
            );
        }
        assert_eq!(
            code(&access, "/vosk", &[("host", "captions.example:80"), origin]),
            Some("unknown_host")
        );
        for other in [
            "https://other.example",
            "http://captions.example",
            "https://captions.example:444",
        ] {
            let headers = [("host", "127.0.0.1:2700"), ("origin", other)];
            assert_eq!(
                code(&access, "/vosk", &headers),
                Some("foreign_origin"),
                "{other}"
            );
        }
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for (written, plain) in [
            ("https://captions.example:443", "https://captions.example"),
            ("HTTPS://Captions.Example", "https://captions.example"),
            ("http://captions.example:80", "http://captions.example"),
            ("http://captions.example:443", "http://captions.example:443"),
            ("https://[::1]:443", "https://[::1]"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("null", "null"),
        ] {
            assert_eq!(plain_origin(written), plain);
        }
    }

    #[test]
    fn a_token_opens_what_is_not_open() {
        let access = Access {
            tokens: vec!["first".to_owned(), "päss wörd".to_owned()],
            ..Access::default()
        };
        let refused = Some("invalid_api_key");
        assert_eq!(code(&access, "/", &[]), None);
        assert_eq!(code(&access, "/v1/stream", &[]), refused);
        assert_eq!(code(&access, "/v1/stream?token=first", &[]), None);
        assert_eq!(
            code(&access, "/v1/stream?token=p%C3%A4ss+w%C3%B6rd", &[]),
            None
        );
        assert_eq!(code(&access, "/v1/stream?token=firs", &[]), refused);
        assert_eq!(code(&access, "/v1/stream?token=first1", &[]), refused);
        assert_eq!(code(&access, "/v1/stream?token=", &[]), refused);
        assert_eq!(
            code(&access, "/metrics", &[("authorization", "bearer first")]),
            None
        );
        assert_eq!(
            code(&access, "/metrics", &[("authorization", "Basic first")]),
            refused
        );
        // A wrong one is not made good by a right one elsewhere.
        assert_eq!(
            code(
                &access,
                "/metrics?token=first",
                &[("authorization", "Bearer no")]
            ),
            refused
        );
    }
}
