//! The page in a real browser: Chromium, driven over its `DevTools` protocol, hears the sample as its
//! microphone.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use crate::client::{FIRST, PATIENCE, SECOND, Server, TONE, wav};

/// Pictures of the page, for people.
const SCREENSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/screenshots");

struct Browser {
    child: Child,
    socket: WebSocket<MaybeTlsStream<std::net::TcpStream>>,
    session: String,
    asked: u64,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Chromium, or the reason why there is none.
fn chromium() -> Result<PathBuf, &'static str> {
    if std::env::var_os("SORI_SKIP_BROWSER").is_some() {
        return Err("SORI_SKIP_BROWSER is set");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut places =
        std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    places
        .find(|place| place.exists())
        .ok_or("no Chromium here; `scripts/setup all` installs it")
}

impl Browser {
    fn start(program: &Path, microphone: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args([
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
            ])
            .arg(format!(
                "--use-file-for-fake-audio-capture={}%noloop",
                microphone.display()
            ))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(["--remote-debugging-port=0", "about:blank"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let address = lines.find_map(|line| {
            line.strip_prefix("DevTools listening on ")
                .map(str::to_owned)
        });
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = tungstenite::connect(address.expect("the browser ended")).unwrap();
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let mut browser = Self {
            child,
            socket,
            session: String::new(),
            asked: 0,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        attached["sessionId"]
            .as_str()
            .unwrap()
            .clone_into(&mut browser.session);
        let size = json!({"width": 1100, "height": 760, "deviceScaleFactor": 1, "mobile": false});
        browser.call("Emulation.setDeviceMetricsOverride", size);
        browser
    }

    /// Calls a method of the `DevTools` protocol. Events are passed over.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "it is called with json!() in place"
    )]
    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let mut call = json!({"id": self.asked, "method": method, "params": parameters});
        if !self.session.is_empty() {
            call["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(call.to_string())).unwrap();
        loop {
            let Message::Text(text) = self.socket.read().unwrap() else {
                continue;
            };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.asked {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }

    /// The value of an expression in the page; promises are waited for.
    fn value(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true});
        let mut answer = self.call("Runtime.evaluate", ask);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    fn wait(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(expression) != json!(true) {
            if Instant::now() > deadline {
                let page = self.value("document.body.innerText");
                panic!("never came: {expression}; the page says {page}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the button for a format gives to take along.
    fn saved(&mut self, format: &str) -> String {
        self.value(&format!(
            "globalThis.saved = new Promise((tell) => {{ const address = URL.createObjectURL; \
             URL.createObjectURL = (blob) => {{ URL.createObjectURL = address; tell(blob); return '#'; }}; }}); \
             HTMLAnchorElement.prototype.click = function () {{ globalThis.savedAs = this.download; }}; \
             document.querySelector('[data-format={format}]').click()"
        ));
        assert_eq!(self.value("savedAs"), format!("captions.{format}"));
        let text = self.value("saved.then((blob) => blob.text())");
        text.as_str().unwrap().to_owned()
    }

    fn screenshot(&mut self, name: &str) {
        let picture = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let bytes = base64(picture["data"].as_str().unwrap());
        assert!(bytes.starts_with(b"\x89PNG"));
        std::fs::create_dir_all(SCREENSHOTS).unwrap();
        std::fs::write(format!("{SCREENSHOTS}/{name}"), bytes).unwrap();
    }

    /// Role and name of everything that assistive technology is told of.
    fn accessible(&mut self) -> Vec<(String, String, Value)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let seen = nodes.filter(|node| node["ignored"] != json!(true));
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        seen.map(|node| {
            (
                text(&node["role"]),
                text(&node["name"]),
                node["properties"].clone(),
            )
        })
        .collect()
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| *byte != b'=')
        .map(digit)
        .collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let bits = four
            .iter()
            .fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (8 + 6 * (4 - four.len()));
        bits.to_be_bytes().into_iter().take(four.len() - 1)
    });
    bytes.collect()
}

const LINES: &str =
    "[...document.querySelectorAll('#finals .words')].map((line) => line.textContent)";

/// A server and its page, unless there is no browser.
fn open_page() -> Option<(Server, Browser)> {
    let program = match chromium() {
        Ok(program) => program,
        Err(reason) => {
            sori_tests::not_for_this_machine(reason);
            return None;
        }
    };
    // On a busy machine a browser loses some sound, and so some of the pause between the utterances.
    let server = Server::start(&["--endpoint-silence", "0.6"]);
    // Chromium opens no path that goes upwards.
    let sample = Path::new(TONE).join("sample.wav").canonicalize().unwrap();
    let mut browser = Browser::start(&program, &sample);
    browser.call("Page.enable", json!({}));
    browser.call(
        "Page.navigate",
        json!({"url": format!("http://{}/", server.address)}),
    );
    browser.wait("document.readyState === 'complete' && document.querySelector('#model').textContent.includes('tone')");
    let wav = std::fs::read(&sample).unwrap();
    browser.value(&format!(
        "globalThis.dropFile = (name) => {{ const file = new File([new Uint8Array({wav:?})], name); \
         const dataTransfer = new DataTransfer(); dataTransfer.items.add(file); \
         for (const kind of ['dragenter', 'drop']) \
         document.body.dispatchEvent(new DragEvent(kind, {{ dataTransfer, bubbles: true, cancelable: true }})); }}"
    ));
    Some((server, browser))
}

#[test]
fn the_page_captions_the_microphone_and_files() {
    let Some((server, mut browser)) = open_page() else {
        return;
    };
    // Nothing breaks the policy, and nothing comes from elsewhere.
    let origins = "performance.getEntriesByType('resource').every(({name}) => name.startsWith(location.origin))";
    assert_eq!(browser.value(origins), json!(true));

    browser.value("document.querySelector('#listen').click()");
    // Grey first, then for good.
    browser.wait("document.querySelector('#partial').textContent.startsWith('one')");
    let soft = browser.value("getComputedStyle(document.querySelector('#partial')).color");
    browser.wait(&format!("({LINES})[0] === '{FIRST}'"));
    assert_ne!(
        soft,
        browser.value("getComputedStyle(document.querySelector('#finals .words')).color")
    );
    browser.wait(&format!("({LINES})[1] === '{SECOND}' || document.querySelector('#partial').textContent === '{SECOND}'"));
    browser.screenshot("captions.png");
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    browser.call("Emulation.setEmulatedMedia", dark);
    browser.value("document.querySelector('#finals .words span').focus()");
    browser.screenshot("captions-dark.png");
    browser.value("document.querySelector('#listen').click()");
    browser.wait("document.querySelector('#listen-label').textContent === 'Start listening'");
    assert_eq!(browser.value(LINES), json!([FIRST, SECOND]));
    assert_eq!(server.open_streams(0), 0);

    let latency = browser.value("document.querySelector('#latency').textContent");
    let latency: f64 = latency
        .as_str()
        .unwrap()
        .trim_end_matches(" ms")
        .parse()
        .unwrap();
    assert!((0.0..5000.0).contains(&latency), "{latency}");
    let time = browser.value("document.querySelector('#finals .words span').dataset.time");
    assert!(time.as_str().unwrap().contains(" % sure"), "{time}");

    // What can be taken along.
    let vtt = browser.saved("vtt");
    assert!(vtt.starts_with("WEBVTT\n\n00:00:0"), "{vtt}");
    assert!(vtt.contains(FIRST), "{vtt}");

    // A file, as if it had been dropped.
    browser.value("dropFile('sample.wav')");
    browser.wait("document.querySelector('#status').textContent === 'sample.wav: done.'");
    assert_eq!(browser.value(LINES), json!([FIRST, SECOND]));
    assert_eq!(
        browser.value("document.querySelector('#progress').hidden"),
        json!(true)
    );
    // The page makes the same subtitles as the server.
    for format in ["srt", "vtt"] {
        let answer = server.transcribe(Some(&wav()), &[("response_format", format)]);
        assert_eq!(browser.saved(format), answer.text());
    }

    let seen = browser.accessible();
    let has = |role: &str, name: &str| {
        seen.iter()
            .any(|(a, b, _)| a == role && b.starts_with(name))
    };
    for (role, name) in [
        ("button", "Start listening"),
        ("combobox", "Microphone"),
        ("meter", "Level"),
        ("button", "SRT"),
        ("button", "VTT"),
        ("button", "TXT"),
        ("button", "Clear"),
        ("log", "Captions"),
        ("link", "Skip to the captions"),
        ("heading", "Sori"),
    ] {
        assert!(has(role, name), "no {role} {name:?} in {seen:#?}");
    }
    let controls = [
        "button",
        "combobox",
        "textbox",
        "link",
        "meter",
        "progressbar",
    ];
    let nameless: Vec<_> = seen
        .iter()
        .filter(|(role, name, _)| controls.contains(&role.as_str()) && name.is_empty())
        .collect();
    assert!(nameless.is_empty(), "{nameless:?}");
    let live = |(role, _, properties): &(String, String, Value)| {
        role == "log"
            && properties.as_array().unwrap().iter().any(|property| {
                property["name"] == "live" && property["value"]["value"] == "polite"
            })
    };
    assert!(seen.iter().any(live), "{seen:#?}");
}

#[test]
fn what_is_begun_on_the_page_ends_when_the_user_ends_it() {
    let Some((server, mut browser)) = open_page() else {
        return;
    };
    let label = "document.querySelector('#listen-label').textContent";
    let status = "document.querySelector('#status').textContent";
    // Stopped while the browser asks for the microphone, which is given then.
    browser.value(
        "navigator.mediaDevices.getUserMedia = (wanted) => new Promise((give) => { \
         globalThis.allow = async () => { \
         globalThis.media = await MediaDevices.prototype.getUserMedia.call(navigator.mediaDevices, wanted); \
         give(media); }; }); \
         document.querySelector('#listen').click()",
    );
    browser.wait("'allow' in globalThis");
    browser.value("document.querySelector('#listen').click()");
    browser.value("allow()");
    browser.wait("media.getTracks().every(({ readyState }) => readyState === 'ended')");
    assert_eq!(browser.value(label), "Start listening");
    assert_eq!(browser.value(status), "Stopped.");
    assert_eq!(
        server.metric("sori_streams_total{protocol=\"stream\"}"),
        0.0
    );
    browser.value("delete navigator.mediaDevices.getUserMedia");

    // Of two files the later one.
    browser.value("dropFile('a.wav'); dropFile('b.wav')");
    browser.wait(&format!("{status} === 'b.wav: done.'"));
    assert_eq!(browser.value(LINES), json!([FIRST, SECOND]));

    // A file, then the microphone, of which a server like ours says what follows.
    browser.value(
        "globalThis.WebSocket = function () { globalThis.server = this; this.readyState = 1; \
         this.send = () => {}; this.close = () => {}; }; WebSocket.OPEN = 1; \
         globalThis.tell = (event) => server.onmessage({ data: JSON.stringify(event) }); \
         dropFile('c.wav'); document.querySelector('#listen').click()",
    );
    browser.wait("'server' in globalThis");
    browser.value("tell({ event: 'ready' })");
    browser.wait(&format!("{status} === 'Listening.'"));
    let word = json!({"word": "four", "start": 0.5, "end": 1.0, "confidence": 1.0});
    let said = json!({"event": "final", "start": 0.5, "end": 1.0, "text": "four", "words": [word]});
    browser.value(&format!("tell({said})"));
    assert_eq!(browser.value(LINES), json!([FIRST, SECOND, "four"]));
    let starts = "[...document.querySelectorAll('#finals .words')].map(({ firstElementChild }) => parseFloat(firstElementChild.dataset.time))";
    let starts: Vec<f64> = serde_json::from_value(browser.value(starts)).unwrap();
    assert!(starts.is_sorted() && starts[2] > 3.0, "{starts:?}");
    // Words that are taken back at the end of an utterance.
    let partial = "document.querySelector('#partial').textContent";
    browser.value("tell({ event: 'partial', end: 2, text: 'five' })");
    assert_eq!(browser.value(partial), "five");
    browser.value("tell({ event: 'endpoint', time: 4 })");
    assert_eq!(browser.value(partial), "");
    browser.value("document.querySelector('#listen').click(); server.onclose({ reason: '' })");
    assert_eq!(browser.value(label), "Start listening");
}
