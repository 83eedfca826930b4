//! Who is let in.

use crate::client::Server;

#[test]
fn with_tokens_only_those_who_know_one_are_heard() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "# mine\nsesame\n\nother\n").unwrap();
    let server = Server::start(&["--token-file", tokens.to_str().unwrap()]);
    let refused = (401, "invalid_api_key".to_owned());
    for path in ["/v1/models", "/metrics", "/v1/else", "/v1/models?token=no"] {
        assert_eq!(server.get(path).error(), refused, "{path}");
    }
    for path in ["/v1/stream", "/vosk?token=", "/v1/stream?token=sesam"] {
        assert_eq!(
            server.try_socket(path, &[]).err().unwrap().error(),
            refused,
            "{path}"
        );
    }
    assert_eq!(server.transcribe(None, &[]).error(), refused);
    // The page has to ask for the token first.
    for path in ["/", "/style.css", "/captions.js", "/worklet.js", "/healthz"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    assert_eq!(server.get("/v1/models?token=other").status, 200);
    assert!(server.try_socket("/v1/stream?token=sesame", &[]).is_ok());
    let bearer = [("authorization", "Bearer sesame")];
    assert!(server.try_socket("/vosk", &bearer).is_ok());
}

#[test]
fn pages_of_others_and_other_names_for_this_machine_are_turned_away() {
    let server = Server::start(&[
        "--allow-origin",
        "https://captions.example",
        "--allow-origin",
        "HTTPS://Talks.Example:443/",
    ]);
    let own = format!("http://{}", server.address);
    for origin in [
        own.as_str(),
        "https://captions.example",
        "https://talks.example",
    ] {
        assert!(
            server
                .try_socket("/v1/stream", &[("origin", origin)])
                .is_ok(),
            "{origin}"
        );
    }
    for origin in ["http://evil.example", "null"] {
        let refused = server
            .try_socket("/v1/stream", &[("origin", origin)])
            .err()
            .unwrap();
        assert_eq!(refused.error(), (403, "foreign_origin".to_owned()));
    }
    let proxied = [
        ("host", "talks.example"),
        ("origin", "https://talks.example"),
    ];
    assert!(server.try_socket("/vosk", &proxied).is_ok());
    let rebound = [("host", "evil.example"), ("origin", "http://evil.example")];
    let refused = server.try_socket("/vosk", &rebound).err().unwrap();
    assert_eq!(refused.error(), (403, "unknown_host".to_owned()));
    let refused = server.request("GET / HTTP/1.1\r\nhost: evil.example", b"");
    assert_eq!(refused.error(), (403, "unknown_host".to_owned()));

    let asked = "HTTP/1.1\r\norigin: https://captions.example";
    let answer = server.request(&format!("GET /v1/models {asked}"), b"");
    assert!(
        answer
            .head
            .contains("access-control-allow-origin: https://captions.example"),
        "{}",
        answer.head
    );
    let answer = server.request(&format!("OPTIONS /v1/audio/transcriptions {asked}"), b"");
    assert_eq!(answer.status, 204);
    assert!(
        answer
            .head
            .contains("access-control-allow-headers: authorization"),
        "{}",
        answer.head
    );
}

#[test]
fn an_open_server_on_the_network_is_warned_about() {
    let server = Server::start(&["--listen", "0.0.0.0:0"]);
    assert_eq!(server.said.len(), 1);
    assert!(
        server.said[0].contains("anyone who reaches"),
        "{:?}",
        server.said
    );
    // Any name may be this machine's there.
    assert_eq!(
        server
            .request("GET / HTTP/1.1\r\nhost: captions.lan", b"")
            .status,
        200
    );
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "sesame").unwrap();
    let server = Server::start(&[
        "--listen",
        "0.0.0.0:0",
        "--token-file",
        tokens.to_str().unwrap(),
    ]);
    assert_eq!(server.said, [""; 0]);
    let server = Server::start(&[]);
    assert_eq!(server.said, [""; 0]);
}
