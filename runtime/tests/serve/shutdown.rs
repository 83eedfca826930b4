//! How a server ends, and why one does not begin.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::client::{Server, TONE, finals, s16};

fn signal(server: &Server, name: &str) {
    let status = Command::new("kill")
        .args([name, &server.child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn every_stream_gets_its_last_words_before_the_server_ends() {
    for name in ["-INT", "-TERM"] {
        let mut server = Server::start(&[]);
        let mut stream = server.socket("/v1/stream");
        stream.text("{}");
        stream.sound(&s16(16_000)[..38_400], 3200);
        while stream.event("partial")["text"] != "one two" {}
        let mut vosk = server.socket("/vosk");
        vosk.text(r#"{"config":{"sample_rate":16000}}"#);
        vosk.sound(&s16(16_000)[..38_400], 38_400);
        assert_eq!(vosk.next().unwrap()["partial"], "one two");
        let unopened = server.socket("/v1/stream");
        let kept_alive = server.connect();

        let started = Instant::now();
        signal(&server, name);
        let (events, frame) = stream.rest();
        assert_eq!(finals(&events), ["one two three"]);
        assert_eq!(events.last().unwrap()["event"], "end");
        assert_eq!(u16::from(frame.unwrap().code), 1001);
        let (replies, frame) = vosk.rest();
        assert_eq!(replies[0]["text"], "one two three");
        assert_eq!(u16::from(frame.unwrap().code), 1001);
        drop(unopened.rest());
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{:?}",
            started.elapsed()
        );
        drop(kept_alive);
        assert!(TcpStream::connect(&server.address).is_err());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn under_nohup_a_server_outlasts_its_terminal() {
    let mut server = Server::under_nohup();
    signal(&server, "-HUP");
    std::thread::sleep(Duration::from_millis(300));
    let mut stream = server.socket("/v1/stream");
    stream.text("{}");
    stream.sound(&s16(16_000)[..38_400], 3200);
    while stream.event("partial")["text"] != "one two" {}
    signal(&server, "-TERM");
    assert_eq!(finals(&stream.rest().0), ["one two three"]);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_keeps_a_server_from_beginning_is_said_in_one_line() {
    let fails = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sori"))
            .args(["serve", "--model", TONE])
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let server = Server::start(&[]);
    let (status, said) = fails(&["--listen", &server.address]);
    assert_eq!(status, Some(1));
    assert!(
        said.starts_with(&format!("sori: cannot listen on {}: ", server.address)),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);
    let (status, said) = fails(&["--listen", "nowhere.invalid:0"]);
    assert_eq!(status, Some(1), "{said}");
    assert_eq!(fails(&["--listen", "nowhere"]).0, Some(2));
    let (status, said) = fails(&["--token-file", "/no/such/file"]);
    assert_eq!(status, Some(1));
    assert!(
        said.starts_with("sori: /no/such/file: cannot be read"),
        "{said}"
    );
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("tokens");
    std::fs::write(&empty, "# none yet\n").unwrap();
    let (status, said) = fails(&["--token-file", empty.to_str().unwrap()]);
    assert_eq!(status, Some(1));
    assert!(said.contains("no token in it"), "{said}");
    assert_eq!(fails(&["--max-streams", "0"]).0, Some(2));
    assert_eq!(fails(&["--allow-origin", "captions.example"]).0, Some(2));
}
