//! Limits, and clients that are slow, dead, wrong or malicious: they are told, and hurt nobody else.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::client::{Answer, FIRST, PATIENCE, SECOND, Server, TONE, finals, s16};

/// The code of the error that a stream ends in, and the code of its closing frame.
fn end_of(server: &Server, opening: &str, then: &[u8]) -> (String, u16) {
    let mut client = server.socket("/v1/stream");
    client.text(opening);
    if !then.is_empty() {
        client.sound(then, then.len());
    }
    let (events, frame) = client.rest();
    let error = events.last().unwrap();
    assert_eq!(error["event"], "error", "{events:?}");
    assert!(error["message"].as_str().unwrap().len() > 10, "{error}");
    let code = error["code"].as_str().unwrap().to_owned();
    (code, frame.unwrap().code.into())
}

#[test]
fn wrong_messages_are_told_what_is_wrong_with_them() {
    let server = Server::start(&[]);
    let bad = ("bad-message".to_owned(), 1007);
    for opening in [
        "",
        "{",
        "[]",
        "17",
        r#"{"format":16}"#,
        r#"{"sample_rate":"fast"}"#,
        r#"{"samplerate":16000}"#,
        r#"{"type":"finish"}"#,
        r#"{"sample_rate":-1}"#,
    ] {
        assert_eq!(end_of(&server, opening, b""), bad, "{opening}");
    }
    let audio = ("bad-audio".to_owned(), 1007);
    for opening in [
        r#"{"format":"mp3"}"#,
        r#"{"sample_rate":7999}"#,
        r#"{"sample_rate":4000000000}"#,
        r#"{"channels":0}"#,
        r#"{"channels":65535}"#,
    ] {
        assert_eq!(end_of(&server, opening, b""), audio, "{opening}");
    }
    // Sound first.
    let mut client = server.socket("/v1/stream");
    client.sound(&[0; 320], 320);
    assert_eq!(client.event("error")["code"], "bad-message");
    // Nonsense later.
    let mut client = server.socket("/v1/stream");
    client.text("{}");
    client.text(r#"{"type":"dance"}"#);
    assert_eq!(client.event("error")["code"], "bad-message");
    let mut client = server.socket("/vosk");
    client.text("nonsense");
    assert_eq!(u16::from(client.next().unwrap_err().unwrap().code), 1007);
    assert_eq!(server.metric("sori_errors_total{code=\"bad-audio\"}"), 5.0);
    assert_eq!(server.open_streams(0), 0);
    server.assert_well();
}

#[test]
fn frames_that_are_wrong_are_told_apart() {
    let server = Server::start(&[]);
    let end = |frame: &[u8]| {
        let mut client = server.socket("/v1/stream");
        client.text("{}");
        client.event("ready");
        client.socket.get_mut().write_all(frame).unwrap();
        let (events, frame) = client.rest();
        let code = events.last().unwrap()["code"].as_str().unwrap().to_owned();
        (code, u16::from(frame.unwrap().code))
    };
    // Text that is none, whole and in two frames, and a frame without a mask.
    let bad = ("bad-message".to_owned(), 1007);
    assert_eq!(end(b"\x81\x82\0\0\0\0\xff\xfe"), bad);
    assert_eq!(end(b"\x01\x81\0\0\0\0\xe2\x80\x81\0\0\0\0a"), bad);
    let malformed = ("malformed".to_owned(), 1002);
    assert_eq!(end(b"\x81\x02{}"), malformed);
    server.assert_well();
}

#[test]
fn of_a_file_that_breaks_midway_there_is_what_came_before() {
    let server = Server::start(&[]);
    let read = |name: &str| std::fs::read(format!("{TONE}/../audio/{name}")).unwrap();
    // The sample at 48 kHz, then another rate.
    let joined = [read("sample.opus"), read("tone.ogg")].concat();
    let broken = server.transcribe(Some(&joined), &[]);
    assert_eq!(broken.error(), (400, "invalid_value".to_owned()));
    let error = &broken.json()["error"];
    assert_eq!(error["text"], format!("{FIRST} {SECOND}"));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("the sample rate changes"), "{message}");

    let events = server
        .transcribe(Some(&joined), &[("stream", "true")])
        .sent_events();
    let [first, second, last] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!(first["delta"], FIRST);
    assert_eq!(second["segment"]["text"], SECOND);
    assert_eq!(last["type"], "error");
    assert_eq!(last["error"]["code"], "invalid_value");

    // Both were begun, and so was a file that is none; what is no form was not.
    assert_eq!(server.transcribe(Some(b"no sound"), &[]).status, 400);
    assert_eq!(server.transcribe(None, &[]).status, 400);
    let count = |name: &str| server.metric(name);
    assert_eq!(count("sori_errors_total{code=\"invalid_value\"}"), 3.0);
    assert_eq!(count("sori_refused_total{reason=\"invalid_value\"}"), 1.0);
    assert_eq!(server.open_streams(0), 0);
}

#[test]
fn a_file_sounds_only_so_long() {
    let server = Server::start(&["--max-duration", "2"]);
    let wav = crate::client::wav();
    let long = server.transcribe(Some(&wav), &[]);
    assert_eq!(long.error(), (413, "file_too_long".to_owned()));
    let text = long.json()["error"]["text"].as_str().unwrap().to_owned();
    assert!(text.starts_with(FIRST), "{text}");
    let events = server
        .transcribe(Some(&wav), &[("stream", "true")])
        .sent_events();
    assert_eq!(events[0]["delta"], FIRST);
    assert_eq!(events.last().unwrap()["error"]["code"], "file_too_long");
    assert_eq!(
        server.metric("sori_errors_total{code=\"file_too_long\"}"),
        2.0
    );
    // A session has a limit of its own.
    server.assert_well();
}

#[test]
fn sound_that_is_none_is_borne() {
    let server = Server::start(&[]);
    for samples in [
        [f32::NAN; 16_000],
        [f32::INFINITY; 16_000],
        [f32::MIN; 16_000],
    ] {
        let mut client = server.socket("/v1/stream");
        client.text(r#"{"format":"f32le"}"#);
        let bytes: Vec<u8> = samples
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        client.sound(&bytes, bytes.len());
        client.text(r#"{"type":"finish"}"#);
        let (events, _) = client.rest();
        assert_eq!(events.last().unwrap()["event"], "end");
    }
    // Nothing at all, and a byte that is half a sample.
    for sound in [&[][..], &[7]] {
        let mut client = server.socket("/v1/stream");
        client.text("{}");
        client.sound(sound, 1);
        client.text(r#"{"type":"finish"}"#);
        let (events, _) = client.rest();
        assert_eq!(events.last().unwrap()["duration"], 0.0);
    }
    server.assert_well();
}

#[test]
fn a_message_has_a_largest_size_whatever_it_claims() {
    let server = Server::start(&[]);
    let (code, close) = end_of(&server, "{}", &vec![0; (1 << 20) + 1]);
    assert_eq!((code.as_str(), close), ("message-too-large", 1009));
    // A frame that says it has a gigabyte, and one whose length no machine has.
    for length in [1_u64 << 30, u64::MAX >> 1] {
        let mut client = server.socket("/v1/stream");
        client.text("{}");
        client.event("ready");
        let socket = client.socket.get_mut();
        socket.write_all(&[0x82, 0xff]).unwrap();
        socket.write_all(&length.to_be_bytes()).unwrap();
        socket.write_all(&[1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(client.event("error")["code"], "message-too-large");
    }
    // The same in many frames of one message.
    let mut client = server.socket("/v1/stream");
    client.text("{}");
    client.event("ready");
    let mut frame = vec![0x02, 0xff, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0];
    frame.resize(14 + (8 << 16), 0);
    client.socket.get_mut().write_all(&frame).unwrap();
    frame[0] = 0;
    let _ = client.socket.get_mut().write_all(&frame);
    let _ = client.socket.get_mut().write_all(&frame);
    assert_eq!(client.event("error")["code"], "message-too-large");
    server.assert_well();
}

#[test]
fn who_is_refused_in_the_middle_of_a_message_can_end_it_and_hears_why() {
    let server = Server::start(&[]);
    let mut client = server.socket("/v1/stream");
    client.text("{}");
    client.event("ready");
    let socket = client.socket.get_mut();
    socket.write_all(&[0x82, 0xff]).unwrap();
    socket.write_all(&(2_u64 << 20).to_be_bytes()).unwrap();
    socket.write_all(&[0; 4]).unwrap();
    // The server has long said what it had to say.
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..32 {
        socket.write_all(&[0; 64 << 10]).unwrap();
    }
    let (events, frame) = client.rest();
    assert_eq!(events.last().unwrap()["code"], "message-too-large");
    assert_eq!(u16::from(frame.unwrap().code), 1009);
    server.assert_well();
}

#[test]
fn garbage_and_half_closed_sockets_free_their_seats() {
    let server = Server::start(&["--max-streams", "2"]);
    for garbage in [
        &b"\xff\xff\xff\xff\xff\xff"[..],
        b"\x81\x05hello",
        b"\x82\x84\0\0\0\0ab",
    ] {
        let mut client = server.socket("/v1/stream");
        client.text("{}");
        client.event("ready");
        client.socket.get_mut().write_all(garbage).unwrap();
        client.socket.get_mut().shutdown(Shutdown::Write).unwrap();
        let _ = client.socket.get_mut().read_to_end(&mut Vec::new());
    }
    // Gone in the middle of a word, with and without a word of farewell.
    let mut client = server.socket("/v1/stream");
    client.text("{}");
    client.sound(&s16(16_000)[..16_000], 3200);
    drop(client);
    let mut client = server.socket("/vosk");
    client.sound(&s16(8_000)[..8_000], 3200);
    client.socket.close(None).unwrap();
    drop(client);
    assert_eq!(server.open_streams(0), 0);
    for request in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
    ] {
        let mut socket = server.connect();
        socket.write_all(request).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(
            !answer.starts_with(b"HTTP/1.1 2"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    let long = format!("GET /{} HTTP/1.1", "x".repeat(200_000));
    assert!((400..500).contains(&server.request(&long, b"").status));
    server.assert_well();
}

#[test]
fn there_are_so_many_seats_and_connections() {
    let server = Server::start(&["--max-streams", "1", "--max-connections", "3"]);
    let mut first = server.socket("/v1/stream");
    first.text("{}");
    first.event("ready");
    let full = (503, "too_many_streams".to_owned());
    for path in ["/v1/stream", "/vosk"] {
        let refused = server.try_socket(path, &[]).err().unwrap();
        assert_eq!(refused.error(), full);
        assert!(refused.head.contains("retry-after"), "{}", refused.head);
    }
    let wav = crate::client::wav();
    assert_eq!(server.transcribe(Some(&wav), &[]).error(), full);
    // The first one does not notice.
    first.sound(&s16(16_000), 3200);
    first.text(r#"{"type":"finish"}"#);
    assert_eq!(finals(&first.rest().0), [FIRST, SECOND]);
    assert_eq!(server.open_streams(0), 0);

    let idle: Vec<_> = (0..3).map(|_| server.connect()).collect();
    std::thread::sleep(Duration::from_millis(100));
    let mut late = server.connect();
    late.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    late.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        Answer::read(late).error(),
        (503, "too_many_connections".to_owned())
    );
    drop(idle);
    std::thread::sleep(Duration::from_millis(100));
    server.assert_well();
    assert_eq!(
        server.metric("sori_refused_total{reason=\"too_many_streams\"}"),
        3.0
    );
    assert_eq!(
        server.metric("sori_refused_total{reason=\"connections\"}"),
        1.0
    );
}

#[test]
fn who_never_reads_and_who_stops_sending_hold_up_nobody() {
    let server = Server::start(&["--idle-timeout", "1"]);
    // A file of which the second half never comes.
    let mut halves = server.connect();
    let head = "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\
                content-type: multipart/form-data; boundary=b\r\n\r\n\
                --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF";
    halves.write_all(head.as_bytes()).unwrap();
    assert_eq!(Answer::read(halves).error(), (408, "timeout".to_owned()));

    // One who gets a reply to each message and takes none: once no more fits between us, the server stops
    // hearing, and after a second lets go.
    let mut deaf = server.socket("/vosk");
    let stream = deaf.socket.get_mut();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let started = Instant::now();
    let messages = std::iter::repeat_with(|| deaf.socket.send(vec![0; 2].into()))
        .take_while(Result::is_ok)
        .take_while(|_| started.elapsed() < PATIENCE)
        .count();
    assert!(messages > 0 && started.elapsed() < PATIENCE, "{messages}");
    assert_eq!(server.open_streams(0), 0);

    // One who asks for more than fits between us, and takes none of it.
    let mut deaf = server.connect();
    deaf.set_write_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET /captions.js HTTP/1.1\r\nhost: {}\r\n\r\n",
        server.address
    );
    let started = Instant::now();
    let gone = std::iter::repeat_with(|| deaf.write_all(request.as_bytes()))
        .take_while(|_| started.elapsed() < PATIENCE)
        .any(|sent| sent.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock));
    assert!(gone, "{:?}", started.elapsed());
    server.assert_well();
}

#[test]
fn time_is_limited_too() {
    let server = Server::start(&["--idle-timeout", "1", "--max-session", "2"]);
    let started = Instant::now();
    // Who says nothing at all, who says half of a header, who drips.
    let mute = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET / HTTP/1.1\r\nhost: loc").unwrap();
    let mut slow = server.connect();
    let dripping = std::thread::spawn(move || {
        for byte in b"GET / HTTP/1.1\r\nhost: localhost\r\nx-long: "
            .iter()
            .chain([b'a'; 400].iter())
        {
            if slow.write_all(&[*byte]).is_err() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    });
    // Who opens no stream, who opens one and falls silent in the middle of a word, who only pings.
    let unopened = server.socket("/v1/stream");
    let mut silent = server.socket("/v1/stream");
    silent.text("{}");
    silent.sound(&s16(16_000)[..30_000], 3200);
    let mut vosk = server.socket("/vosk");
    vosk.text(r#"{"config":{"sample_rate":16000}}"#);
    vosk.sound(&s16(16_000)[..30_000], 30_000);

    for mut socket in [mute, half] {
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"));
    }
    let (events, frame) = unopened.rest();
    assert_eq!(events.last().unwrap()["code"], "idle");
    assert_eq!(u16::from(frame.unwrap().code), 1008);
    // What was said is not lost.
    let (events, _) = silent.rest();
    assert_eq!(finals(&events), ["one two"]);
    assert_eq!(events.last().unwrap()["code"], "idle");
    let (replies, frame) = vosk.rest();
    assert_eq!(replies.last().unwrap()["text"], "one two");
    assert_eq!(u16::from(frame.unwrap().code), 1008);
    assert!(dripping.join().unwrap());
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );

    // Who never stops.
    let mut endless = server.socket("/v1/stream");
    endless.text("{}");
    endless.sound(&s16(16_000)[..22_000], 22_000);
    let code = loop {
        if endless.socket.send(vec![0; 320].into()).is_err() {
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
        endless
            .socket
            .get_mut()
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        match endless.socket.read() {
            Ok(tungstenite::Message::Text(text)) if text.contains("\"error\"") => break Some(text),
            _ => {}
        }
    };
    assert!(code.unwrap().contains("session-too-long"));
    assert_eq!(server.open_streams(0), 0);
    server.assert_well();
}

#[test]
fn a_session_is_over_however_fast_a_client_sends() {
    let server = Server::start(&["--max-session", "1"]);
    let mut client = server.socket("/v1/stream");
    client.text("{}");
    client.event("ready");
    let mut sender = client.socket.get_ref().try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        // A second of silence in a masked frame of 32,000 bytes, for as long as the server takes it.
        let mut frame = vec![0x82, 0xfe, 0x7d, 0x00, 0, 0, 0, 0];
        frame.resize(8 + 32_000, 0);
        let started = Instant::now();
        while started.elapsed() < PATIENCE && sender.write_all(&frame).is_ok() {}
        started.elapsed()
    });
    let (events, _) = client.rest();
    assert_eq!(events.last().unwrap()["code"], "session-too-long");
    assert!(sending.join().unwrap() < PATIENCE);
    server.assert_well();
}

#[test]
fn text_is_no_sign_of_life() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let mut client = server.socket("/vosk");
    let started = Instant::now();
    while client.socket.send("{\"config\":{}}".into()).is_ok() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(200));
    }
    server.assert_well();
}
