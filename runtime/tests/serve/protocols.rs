//! Exact words over each protocol.

use std::process::Command;

use serde_json::{Value, json};
use sori_tests::tone::{SAMPLE, speak_at};

use crate::client::{Client, FIRST, SECOND, Server, TONE, finals, s16, wav};

/// What `sori transcribe` makes of the same file.
fn transcribed(format: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sori"))
        .args([
            "transcribe",
            "--model",
            TONE,
            "--engine",
            "tract",
            "--format",
            format,
        ])
        .arg(format!("{TONE}/sample.wav"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_stream_tells_what_transcribe_tells() {
    let server = Server::start(&[]);
    let mut client = server.socket("/v1/stream");
    client.text(r#"{"type":"start","format":"s16le","sample_rate":16000}"#);
    let ready = client.next().unwrap();
    assert_eq!(
        ready,
        json!({"event": "ready", "model": "tone", "language": "x-tone", "chunk_ms": 320})
    );
    // Pieces that split samples.
    client.sound(&wav()[44..], 1777);
    client.text(r#"{"type":"finish"}"#);
    let (events, frame) = client.rest();
    assert_eq!(u16::from(frame.unwrap().code), 1000);
    assert_eq!(finals(&events), [FIRST, SECOND]);
    assert!(events.iter().any(|event| event["event"] == "partial"));
    assert!(
        events
            .iter()
            .any(|event| event["event"] == "endpoint" && event["rule"] == "silence-after-speech")
    );
    assert_eq!(
        events.last().unwrap(),
        &json!({"event": "end", "duration": 4.24})
    );

    let mut told: Vec<Value> = events
        .into_iter()
        .filter(|event| event["event"] == "final")
        .collect();
    for event in &mut told {
        event.as_object_mut().unwrap().remove("event");
    }
    let transcript: Value = serde_json::from_str(&transcribed("json")).unwrap();
    assert_eq!(Value::from(told), transcript["segments"]);
}

#[test]
fn a_stream_takes_floats_in_stereo_at_another_rate_and_can_do_without_partials() {
    let server = Server::start(&[]);
    let mut client = server.socket("/v1/stream");
    client.text(r#"{"format":"f32le","sample_rate":48000,"channels":2,"partials":false}"#);
    let samples = speak_at(SAMPLE, 48_000);
    let bytes: Vec<u8> = samples
        .iter()
        .flat_map(|sample| [*sample, *sample])
        .flat_map(f32::to_le_bytes)
        .collect();
    client.sound(&bytes, 100_003);
    client.text(r#"{"type":"finish"}"#);
    let (events, _) = client.rest();
    assert_eq!(finals(&events), [FIRST, SECOND]);
    assert!(events.iter().all(|event| event["event"] != "partial"));
}

/// The packets of an Ogg Opus file, without the two of its header (RFC 3533, section 6).
fn opus_packets(mut ogg: &[u8]) -> Vec<Vec<u8>> {
    let (mut packets, mut open) = (Vec::new(), Vec::new());
    while !ogg.is_empty() {
        let (header, rest) = ogg.split_at(27);
        assert!(header.starts_with(b"OggS"));
        let (lengths, mut rest) = rest.split_at(usize::from(header[26]));
        for &length in lengths {
            let (part, after) = rest.split_at(usize::from(length));
            open.extend_from_slice(part);
            rest = after;
            if length < 255 {
                packets.push(std::mem::take(&mut open));
            }
        }
        ogg = rest;
    }
    packets.split_off(2)
}

#[test]
fn a_stream_takes_opus_packets() {
    let server = Server::start(&[]);
    let packets = opus_packets(&std::fs::read(format!("{TONE}/../audio/sample.opus")).unwrap());
    assert!(packets.len() > 200, "{}", packets.len());
    let mut client = server.socket("/v1/stream");
    client.text(r#"{"format":"opus"}"#);
    for packet in &packets {
        client.sound(packet, packet.len());
    }
    client.text(r#"{"type":"finish"}"#);
    let (events, frame) = client.rest();
    assert_eq!(u16::from(frame.unwrap().code), 1000);
    assert_eq!(finals(&events), [FIRST, SECOND]);
    let duration = events.last().unwrap()["duration"].as_f64().unwrap();
    assert!((duration - 4.24).abs() < 0.05, "{duration}");

    // Two frames of one size in a packet of an odd one.
    let mut client = server.socket("/v1/stream");
    client.text(r#"{"format":"opus"}"#);
    client.sound(&packets[0], packets[0].len());
    client.sound(&[0xf9, 1, 2, 3], 4);
    let (events, frame) = client.rest();
    let error = events.last().unwrap();
    assert_eq!(error["code"], "bad-audio", "{events:?}");
    let told = error["message"].as_str().unwrap();
    assert!(
        told.starts_with("the stream: broken after 0.0 s of sound: opus"),
        "{told}"
    );
    assert_eq!(u16::from(frame.unwrap().code), 1007);

    // What came before it is said.
    let mut client = server.socket("/v1/stream");
    client.text(r#"{"format":"opus"}"#);
    for packet in &packets {
        client.sound(packet, packet.len());
    }
    client.sound(&[0xf9, 1, 2, 3], 4);
    let (events, _) = client.rest();
    assert_eq!(finals(&events), [FIRST, SECOND]);
    assert_eq!(events.last().unwrap()["code"], "bad-audio");
    assert!(events.iter().all(|event| event["event"] != "end"));
    server.assert_well();
}

#[test]
fn two_clients_at_once_do_not_hear_each_other() {
    let server = Server::start(&["--workers", "1"]);
    let mut clients = [server.socket("/v1/stream"), server.socket("/v1/stream")];
    for client in &mut clients {
        client.text("{}");
        client.event("ready");
    }
    assert_eq!(server.open_streams(2), 2);
    let sound = s16(16_000);
    // The second one is two seconds ahead, and gives its words first.
    let ahead = 2 * 32_000;
    clients[1].sound(&sound[..ahead], 3200);
    for at in (0..sound.len()).step_by(3200) {
        for (client, lead) in clients.iter_mut().zip([0, ahead]) {
            let sound = &sound[(at + lead).min(sound.len())..(at + lead + 3200).min(sound.len())];
            client.sound(sound, 3200);
        }
    }
    for mut client in clients {
        client.text(r#"{"type":"finish"}"#);
        let (events, _) = client.rest();
        assert_eq!(finals(&events), [FIRST, SECOND]);
    }
    assert_eq!(server.open_streams(0), 0);
    let audio = server.metric("sori_audio_seconds_total");
    assert!((audio - 2.0 * 4.24).abs() < 0.01, "{audio}");
    assert!(server.metric("sori_cpu_seconds_total") > 0.0);
    assert!(server.metric("sori_lag_seconds_count") > 0.0);
    assert_eq!(
        server.metric("sori_streams_total{protocol=\"stream\"}"),
        2.0
    );
}

/// vosk-server's client: a chunk, a reply, a chunk, a reply.
fn vosk(client: &mut Client, sound: &[u8]) -> Vec<Value> {
    let chunks = sound.chunks(3200);
    chunks
        .map(|chunk| {
            client.sound(chunk, chunk.len());
            client.next().unwrap()
        })
        .collect()
}

#[test]
fn vosk_clients_get_a_reply_for_each_chunk() {
    let server = Server::start(&[]);
    let mut client = server.socket("/vosk");
    client.text(r#"{ "config" : { "sample_rate" : 16000.0, "words": 1, "model": "other" } }"#);
    let sound = s16(16_000);
    let replies = vosk(&mut client, &sound);
    assert_eq!(replies.len(), sound.len().div_ceil(3200));
    assert_eq!(replies[0], json!({"partial": ""}));
    assert!(
        replies.contains(&json!({"partial": "one two"})),
        "{replies:?}"
    );
    let results: Vec<&Value> = replies
        .iter()
        .filter(|reply| reply.get("text").is_some())
        .collect();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0]["text"], FIRST);
    let words = results[0]["result"].as_array().unwrap();
    assert_eq!(words.len(), 3);
    assert_eq!(words[0]["word"], "one");
    assert!(words[0]["conf"].as_f64().unwrap() > 0.8, "{words:?}");
    assert!(words[0]["start"].as_f64() < words[0]["end"].as_f64());

    // After a reset all begins again.
    client.text(r#"{"reset" : 1}"#);
    assert_eq!(client.next().unwrap()["text"], SECOND);
    client.text(r#"{"config": {"words": false}}"#);
    vosk(&mut client, &sound[..60_000]);
    client.text(r#"{"eof" : 1}"#);
    assert_eq!(client.next().unwrap(), json!({"text": FIRST}));
    assert_eq!(u16::from(client.next().unwrap_err().unwrap().code), 1000);
}

#[test]
fn vosk_hears_the_words_of_a_list_only() {
    let server = Server::start(&[]);
    let sound = s16(16_000);
    let heard = |list: &str| {
        let mut client = server.socket("/vosk");
        client.text(&format!(
            r#"{{"config": {{"sample_rate": 16000, "phrase_list": {list}}}}}"#
        ));
        let mut replies = vosk(&mut client, &sound);
        client.text(r#"{"eof" : 1}"#);
        replies.push(client.next().unwrap());
        let texts = replies.iter().filter_map(|reply| reply["text"].as_str());
        let texts = texts.filter(|text| !text.is_empty());
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    // The words of phrases in any order.
    let list = r#"["three", "two one", "[unk]"]"#;
    assert_eq!(heard(list), [FIRST, "[unk]"]);
    // Without it, what was said is one of the list.
    let forced = heard(r#"["three two one"]"#);
    assert_eq!(forced.len(), 2);
    assert_eq!(forced[0], FIRST);
    let listed = |word: &str| ["one", "two", "three"].contains(&word);
    assert!(forced[1].split(' ').all(listed), "{forced:?}");
    for all in ["[]", r#"["[unk]"]"#, "null"] {
        assert_eq!(heard(all), [FIRST, SECOND], "{all}");
    }

    // A list that comes later ends what was being said, which is not lost.
    let mut client = server.socket("/vosk");
    client.text(r#"{"config": {"sample_rate": 16000}}"#);
    vosk(&mut client, &sound[..48_000]);
    client.text(r#"{"config": {"phrase_list": ["going"]}}"#);
    client.text(r#"{"eof" : 1}"#);
    assert_eq!(client.next().unwrap()["text"], FIRST);

    // Nor is it told for ever.
    let mut client = server.socket("/vosk");
    client.text(r#"{"config": {"sample_rate": 16000}}"#);
    let replies = vosk(&mut client, &sound[..60_000]);
    assert_eq!(replies.last().unwrap(), &json!({"partial": FIRST}));
    client.text(r#"{"config": {"phrase_list": ["going"]}}"#);
    let replies = vosk(&mut client, &[0; 2 * 3200]);
    assert_eq!(replies[0]["text"], FIRST);
    assert_eq!(replies[1], json!({"partial": ""}));

    for (list, reason) in [
        (r#"["one 漢"]"#, "漢"),
        (r#"["say \"one"]"#, "expected words"),
    ] {
        let mut client = server.socket("/vosk");
        client.text(&format!(r#"{{"config": {{"phrase_list": {list}}}}}"#));
        let frame = client.next().unwrap_err().unwrap();
        assert_eq!(u16::from(frame.code), 1007);
        assert!(frame.reason.contains(reason), "{}", frame.reason);
    }
    server.assert_well();
}

#[test]
fn vosk_hears_telephone_speech_unless_told_and_knows_its_alternatives() {
    let server = Server::start(&[]);
    let mut client = server.socket("/vosk");
    client.text(r#"{"config": {"max_alternatives": 2}}"#);
    // "리" is too high for 8 kHz.
    let replies = vosk(&mut client, &s16(8_000)[..42_800]);
    let last = replies
        .iter()
        .find_map(|reply| reply.get("alternatives"))
        .unwrap();
    assert_eq!(last[0]["text"], FIRST);
    assert!(last[0]["confidence"].as_f64().unwrap() > 0.8);
    assert_eq!(last[0]["result"][1]["word"], "two");
    client.text(r#"{"config": {"sample_rate": 1.0}}"#);
    let frame = client.next().unwrap_err().unwrap();
    assert_eq!(u16::from(frame.code), 1007);
    assert!(
        frame.reason.contains("sample rate 1 Hz"),
        "{}",
        frame.reason
    );
}

#[test]
fn files_come_back_in_every_format() {
    let server = Server::start(&[]);
    let ask = |fields: &[(&str, &str)]| {
        let answer = server.transcribe(Some(&wav()), &[&[("model", "whisper-1")], fields].concat());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    };
    let text = format!("{FIRST} {SECOND}");
    let answer = ask(&[]);
    assert_eq!(
        answer.json(),
        json!({"text": text, "usage": {"type": "duration", "seconds": 5}})
    );
    assert_eq!(
        ask(&[("response_format", "text")]).text(),
        format!("{text}\n")
    );
    for format in ["srt", "vtt"] {
        assert_eq!(
            ask(&[("response_format", format)]).text(),
            transcribed(format)
        );
    }

    let verbose = ask(&[("response_format", "verbose_json"), ("language", "x")]).json();
    assert_eq!(verbose["duration"], 4.24);
    assert_eq!(verbose["task"], "transcribe");
    assert_eq!(verbose["segments"][1]["id"], 1);
    assert_eq!(verbose["segments"][1]["text"], SECOND);
    assert!(verbose.get("words").is_none());
    let words = ask(&[
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "word"),
    ])
    .json();
    assert_eq!(words["words"][3]["word"], "소리");
    assert!(words.get("segments").is_none());

    let events = ask(&[("stream", "true")]).sent_events();
    assert_eq!(events.len(), 3);
    assert_eq!(events[0]["type"], "transcript.text.delta");
    assert_eq!(events[1]["delta"], format!(" {SECOND}"));
    assert_eq!(events[1]["segment"]["words"][1]["word"], "going");
    assert_eq!(events[2]["type"], "transcript.text.done");
    assert_eq!(events[2]["text"], text);
}

#[test]
fn what_is_no_file_is_refused_as_openai_does() {
    let server = Server::start(&["--max-upload", "1"]);
    let wav = wav();
    let code =
        |file: Option<&[u8]>, fields: &[(&str, &str)]| server.transcribe(file, fields).error();
    let invalid = (400, "invalid_value".to_owned());
    assert_eq!(code(None, &[("model", "whisper-1")]), invalid);
    assert_eq!(code(Some(b"no sound at all"), &[]), invalid);
    assert_eq!(code(Some(b""), &[]), invalid);
    assert_eq!(code(Some(&wav[..40]), &[]), invalid);
    assert_eq!(code(Some(&wav), &[("response_format", "pdf")]), invalid);
    assert_eq!(
        code(Some(&wav), &[("timestamp_granularities[]", "letter")]),
        invalid
    );
    assert_eq!(code(Some(&wav), &[("language", "de")]), invalid);
    assert_eq!(
        code(Some(&wav), &[("language", &"de".repeat(4000))]),
        (413, "invalid_form".to_owned())
    );
    assert_eq!(
        code(Some(&vec![0; 1_030_000]), &[]),
        (413, "file_too_large".to_owned())
    );
    assert_eq!(
        code(Some(&vec![0; 3_000_000]), &[]),
        (413, "file_too_large".to_owned())
    );
    let refused = server.transcribe(Some(b"no sound at all"), &[]).json();
    assert_eq!(refused["error"]["param"], "file");
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("talk.wav: not an audio file"),
        "{refused}"
    );

    let post = "POST /v1/audio/transcriptions HTTP/1.1";
    assert_eq!(
        server.request(post, b"{}").error(),
        (400, "invalid_form".to_owned())
    );
    let form = format!("{post}\r\ncontent-type: multipart/form-data; boundary=x");
    assert_eq!(
        server.request(&form, b"--x\r\nnonsense").error(),
        (400, "invalid_form".to_owned())
    );
    let answer = server.get("/v1/audio/transcriptions");
    assert_eq!(answer.error(), (405, "method_not_allowed".to_owned()));
    assert_eq!(
        server.get("/v1/else").error(),
        (404, "not_found".to_owned())
    );
    assert_eq!(server.get("/v1/stream").error().1, "not_a_websocket");
    assert_eq!(server.get("/healthz").text(), "ok\n");
    assert_eq!(server.get("/v1/models").json()["data"][0]["id"], "tone");
    server.assert_well();
}
