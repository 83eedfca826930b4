//! Which package is used, and what is in it.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::{TONE, sori, stderr, stdout, talk};

#[test]
fn without_a_model_a_checkout_takes_its_own() {
    let talk = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/jfk.wav");
    let output = sori(&["transcribe", "--json", talk]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_ne!(said["text"], "");
    // An empty variable names none.
    let mut command = sori(&["transcribe", "--json", talk]);
    let unset = command.env("SORI_MODEL", "").output().unwrap();
    assert_eq!(stdout(&unset), stdout(&output), "{}", stderr(&unset));
}

#[test]
fn without_a_model_the_one_beside_the_command_is_used() {
    let (folder, _) = talk();
    for place in ["share/sori/sori-en-5m", "bin/models/sori-en-5m"] {
        let package = folder.path().join(place);
        fs::create_dir_all(&package).unwrap();
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        for file in fs::read_dir(TONE).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), package.join(file.file_name())).unwrap();
        }
        let command = folder.path().join("bin/sori");
        fs::copy(env!("CARGO_BIN_EXE_sori"), &command).unwrap();
        let mut command = Command::new(command);
        command
            .args(["transcribe", "talk.wav"])
            .env_remove("SORI_MODEL");
        let output = command.current_dir(folder.path()).output().unwrap();
        assert_eq!(stdout(&output), "one going\ntwo\n", "{}", stderr(&output));
        fs::remove_dir_all(package).unwrap();
    }
}

#[test]
fn info_says_what_is_in_a_package() {
    let output = sori(&["info", TONE]).output().unwrap();
    let text = stdout(&output);
    for expected in [
        "name          tone\n",
        "tokens        9\n",
        "chunk         320 ms\n",
        "fp32 ",
        "int8 ",
    ] {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    let json: Value =
        serde_json::from_slice(&sori(&["info", "--json", TONE]).output().unwrap().stdout).unwrap();
    assert_eq!(json["geometry"]["window_size"], 32);
}

#[test]
fn what_a_package_says_of_itself_is_no_command_to_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(TONE).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["description"] = "quiet\u{1b}[2J\u{7}\nname  another".into();
    config["training"]["recipe_toml"] = "seed = 1\nname = \"long\"\n".into();
    fs::write(&path, config.to_string()).unwrap();
    let output = sori(&["info"]).arg(folder.path()).output().unwrap();
    let text = stdout(&output);
    assert!(
        text.contains("quiet\u{fffd}[2J\u{fffd}\u{fffd}name  another\n"),
        "{text}{}",
        stderr(&output)
    );
    // Many lines are for --json.
    assert!(
        text.contains("made_by") && !text.contains("recipe_toml"),
        "{text}"
    );
}
