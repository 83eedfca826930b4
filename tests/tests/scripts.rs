//! What scripts do where something is amiss.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A script that sources `recipes/jobs.sh`, in a folder of its own.
fn script(folder: &Path, lines: &str) -> Command {
    // Who runs the tests in the background has them ignore Ctrl-C, and bash then cannot heed it.
    let mut bash = Command::new("env");
    bash.current_dir(folder)
        .args(["--default-signal=INT", "bash", "-c"])
        .arg(format!(
            "set -euo pipefail\nsource {ROOT}/recipes/jobs.sh\n{lines}"
        ))
        .stdin(Stdio::null());
    bash
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether the process whose number is in a file has ended. Who ends it may not have seen to it yet.
fn ends(file: &Path) -> bool {
    let process = fs::read_to_string(file).unwrap();
    let stat = format!("/proc/{}/stat", process.trim());
    let gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
    let started = Instant::now();
    while !gone() {
        if started.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A job whose own child is at work for long.
const LONG: &str = "long() { sleep 600 & echo $! > child; wait; }\n\
                    begun() { until [ -s child ]; do sleep 0.01; done; }\n";

#[test]
fn where_one_job_fails_the_others_end_and_the_script_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "short() { begun; exit 7; }\nbeside long\nbeside short\nfinished 2\necho never";
    let output = script(folder.path(), &format!("{LONG}{lines}"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert_eq!(output.stdout, b"");
    assert!(ends(&folder.path().join("child")));

    let output = script(
        folder.path(),
        "beside true\nbeside true\nsleep 0.1\nfinished 2\necho all",
    )
    .output()
    .unwrap();
    assert_eq!(output.stdout, b"all\n", "{}", said(&output));
}

#[test]
fn no_job_outlives_a_script_that_is_stopped() {
    for signal in ["INT", "TERM"] {
        let folder = tempfile::tempdir().unwrap();
        let lines = format!("{LONG}beside long\nbegun\nkill -{signal} $$\nfinished 1");
        let output = script(folder.path(), &lines).output().unwrap();
        assert!(!output.status.success(), "{signal}");
        assert!(ends(&folder.path().join("child")), "{signal}");
    }
}

#[test]
fn no_two_scripts_work_in_one_folder() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "alone_in .\n[ \"${again:-}\" ] || again=1 bash -c \"$BASH_EXECUTION_STRING\"";
    let output = script(folder.path(), lines).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("another one is at work in .: wait"), "{said}");
    assert!(
        script(folder.path(), "alone_in .")
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn a_python_that_is_too_old_is_refused_before_anything_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python3");
    let old = "#!/bin/sh\n[ \"$1\" = --version ] && echo Python 3.10.12\n";
    fs::write(&python, old).unwrap();
    fs::set_permissions(&python, Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new(format!("{ROOT}/scripts/setup"))
        .arg("runtime")
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(
        said.contains("3.11 or newer, found Python 3.10.12"),
        "{said}"
    );
}

/// Stands in for whatever a script calls: says what it was called with, and leaves what that would.
const STAND_IN: &str = r#"#!/bin/bash
echo "${0##*/} $*" >> called
case "${0##*/} $1" in
  "sori-train evaluate") printf 'dev  320 ms  70.70 1 2 3 9 4.00 52 0.1\n' ;;
  "sori-train head" | "sori-train train") while [ "$1" != -o ]; do shift; done; mkdir -p "$2"; echo 1 > "$2/final.safetensors" ;;
  "sori-export calibrate" | "sori-export language-model") ;;
  "sori-export "*) mkdir "$3"; echo {} > "$3/config.json" ;;
esac
"#;

#[test]
fn a_package_is_made_when_there_is_another_student_not_when_a_file_is_touched() {
    let root = tempfile::tempdir().unwrap();
    let stand_in = |path: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, STAND_IN).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    };
    stand_in("target/release/sori-export");
    stand_in("target/release/sori-train");
    stand_in("recipes/en-5m/prepare");
    stand_in("bin/cargo");
    let script = root.path().join("recipes/en-5m/run");
    fs::copy(format!("{ROOT}/recipes/en-5m/run"), &script).unwrap();
    let bundled = root.path().join("models/sori-en-5m/config.json");
    fs::create_dir_all(bundled.parent().unwrap()).unwrap();
    fs::create_dir(root.path().join("sha red")).unwrap();
    let path = std::env::var("PATH").unwrap();
    // How often a package was made until then.
    let made = || {
        fs::write(&bundled, "{}").unwrap();
        let output = Command::new(&script)
            .arg("sha red")
            .current_dir(root.path())
            .env_remove("CARGO_TARGET_DIR")
            .env("PATH", format!("{}/bin:{path}", root.path().display()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let called = fs::read_to_string(root.path().join("called")).unwrap();
        let card = "--measured librispeech-test-other=70.70 --license CC BY-SA 4.0";
        called.lines().filter(|line| line.contains(card)).count()
    };
    assert_eq!((made(), made()), (1, 1));
    let student = root.path().join("runs/en-5m/student/final.safetensors");
    fs::write(student, "2").unwrap();
    assert_eq!((made(), made()), (2, 2));
}
