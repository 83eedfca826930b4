//! A microphone without a sound card: what is played into it is heard by whoever records.
//!
//! A PulseAudio server of its own with one silent output; ALSA's default input is the monitor of
//! that output. It keeps real time as a microphone does. Needs, on Debian, `pulseaudio`,
//! `pulseaudio-utils` and `libasound2-plugins`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the server may take to start on a busy machine.
const START: Duration = Duration::from_secs(20);

const SERVER: &str = "\
load-module module-native-protocol-unix socket=SOCKET auth-anonymous=1
load-module module-null-sink sink_name=vmic rate=16000 channels=1 format=s16le
set-default-sink vmic
set-default-source vmic.monitor
";

const ALSA: &str = "\
</usr/share/alsa/alsa.conf>
pcm.!default { type pulse server \"unix:SOCKET\" }
ctl.!default { type pulse server \"unix:SOCKET\" }
";

/// A running virtual microphone; it goes with the value.
#[derive(Debug)]
pub struct VirtualMicrophone {
    folder: TempDir,
    server: Child,
}

impl VirtualMicrophone {
    /// Starts the sound server and waits until it answers.
    ///
    /// # Errors
    ///
    /// When PulseAudio is not installed or does not come up; the message says what to install.
    pub fn start() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("vmic").tempdir()?;
        let socket = folder.path().join("socket");
        let write = |name: &str, text: &str| {
            let text = text.replace("SOCKET", &socket.to_string_lossy());
            fs::write(folder.path().join(name), text)
        };
        write("server.pa", SERVER)?;
        write("alsa.conf", ALSA)?;

        let server = serve(folder.path())?;
        let mut microphone = Self { folder, server };
        microphone.wait()?;
        Ok(microphone)
    }

    /// The variables with which a program finds this microphone as ALSA's default.
    pub fn environment(&self) -> [(&'static str, OsString); 1] {
        [(
            "ALSA_CONFIG_PATH",
            self.folder.path().join("alsa.conf").into_os_string(),
        )]
    }

    /// Plays a WAV file into the microphone and waits for its end.
    ///
    /// # Errors
    ///
    /// When `paplay` is not installed or fails.
    pub fn play(&self, wav: &Path) -> io::Result<()> {
        // A long buffer: a busy machine must not make gaps in what the microphone hears.
        let status = self
            .client("paplay")
            .args(["--latency-msec=500", "--device=vmic"])
            .arg(wav)
            .status()
            .map_err(|error| explain("paplay", &error))?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("paplay ended with {status}")))
        }
    }

    /// Stops the sound server, as if the microphone were unplugged.
    ///
    /// # Errors
    ///
    /// When the system does not let the server be stopped.
    pub fn unplug(&mut self) -> io::Result<()> {
        self.server.kill()?;
        self.server.wait()?;
        Ok(())
    }

    /// Starts the sound server again in the same place.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn plug_in(&mut self) -> io::Result<()> {
        self.server = serve(self.folder.path())?;
        self.wait()
    }

    fn wait(&mut self) -> io::Result<()> {
        let start = Instant::now();
        while !self.answers()? {
            if let Some(status) = self.server.try_wait()? {
                return Err(io::Error::other(format!("pulseaudio ended with {status}")));
            }
            if start.elapsed() > START {
                return Err(io::Error::other("pulseaudio does not answer"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn answers(&self) -> io::Result<bool> {
        let status = self
            .client("pactl")
            .args(["get-default-source"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .map_err(|error| explain("pactl", &error))?;
        Ok(status.success())
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg(format!("--server=unix:{}", self.socket().display()))
            .env("XDG_RUNTIME_DIR", self.folder.path())
            .env("HOME", self.folder.path());
        command
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Drop for VirtualMicrophone {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.unplug();
    }
}

fn serve(folder: &Path) -> io::Result<Child> {
    Command::new("pulseaudio")
        .arg("-n")
        .arg("-F")
        .arg(folder.join("server.pa"))
        .args(["--exit-idle-time=-1", "--daemonize=no", "--use-pid-file=no"])
        .args(["--log-level=error", "--disable-shm=yes"])
        .env("XDG_RUNTIME_DIR", folder)
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| explain("pulseaudio", &error))
}

fn explain(program: &str, error: &io::Error) -> io::Error {
    let message = format!(
        "{program}: {error}; a virtual microphone needs the packages pulseaudio, \
         pulseaudio-utils and libasound2-plugins"
    );
    io::Error::new(error.kind(), message)
}
