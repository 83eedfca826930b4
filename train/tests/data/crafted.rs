//! Archives made by hand: as others write them, broken, and such as lie.

use std::fs::{self, File};
use std::path::PathBuf;

use sori_train::data::{Corpus, Loader, LoaderConfig, Position, Shard, Strictness};

use crate::sound::{Folder, RATE, UNIGRAMS, tone, write_wav};
use crate::tarred::{small, source};

/// A folder with an archive made by hand.
struct Crafted {
    folder: Folder,
    tar: PathBuf,
    lines: Vec<String>,
}

impl Crafted {
    fn new(write: impl FnOnce(&mut tar::Builder<File>)) -> Self {
        let folder = Folder::new();
        let tar = folder.path("audio_0.tar");
        let mut builder = tar::Builder::new(File::create(&tar).unwrap());
        write(&mut builder);
        builder.finish().unwrap();
        Self {
            folder,
            tar,
            lines: Vec::new(),
        }
    }

    fn line(self, member: &str) -> Self {
        self.part(member, 0.0)
    }

    /// Of the sound from some second on.
    fn part(mut self, member: &str, offset: f64) -> Self {
        let duration = 0.5 - offset;
        self.lines.push(format!(
            r#"{{"audio_filepath": "{member}", "duration": {duration}, "offset": {offset}, "text": "ban", "shard_id": 0}}"#
        ));
        self
    }

    fn corpus(&self) -> Corpus {
        let manifest = self.folder.path("manifest.json");
        fs::write(&manifest, self.lines.join("\n")).unwrap();
        let tars = self.folder.path("audio__OP_0..0_CL_.tar");
        let source = source(&manifest, tars.to_str().unwrap());
        Corpus::read(&[source], Strictness::Strict).unwrap()
    }

    /// How many utterances can be heard, and the first error if nothing may be wrong.
    fn heard(&self) -> (usize, Option<String>) {
        let (corpus, config) = (self.corpus(), small(LoaderConfig::evaluation()));
        let loader = |strictness| {
            let (whole, start) = (Shard::WHOLE, Position::start_of(0));
            Loader::start(&corpus, UNIGRAMS.clone(), &config, strictness, whole, start).unwrap()
        };
        let heard = loader(Strictness::Lenient).map(|batch| batch.unwrap().utterances());
        let heard = heard.sum();
        let error = loader(Strictness::Strict).find_map(Result::err);
        (heard, error.map(|error| error.to_string()))
    }

    fn fails_with(&self, heard: usize, told: &[&str]) {
        let (found, error) = self.heard();
        assert_eq!(found, heard, "{error:?}");
        let error = error.unwrap();
        for told in told {
            assert!(error.contains(told), "{error}");
        }
    }
}

fn sound() -> Vec<u8> {
    let folder = Folder::new();
    write_wav(&folder.path("a.wav"), &tone(300.0, 0.5, RATE), RATE, 1);
    fs::read(folder.path("a.wav")).unwrap()
}

fn header(size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(kind);
    header
}

fn add(tar: &mut tar::Builder<File>, name: &str, bytes: &[u8]) {
    let mut header = header(bytes.len() as u64, tar::EntryType::Regular);
    tar.append_data(&mut header, name, bytes).unwrap();
}

#[test]
fn archives_of_others_are_understood() {
    let (sound, long) = (sound(), "x".repeat(150));
    let pax = "y".repeat(120);
    let crafted = Crafted::new(|tar| {
        // As WebDataset has them: what is said lies beside it.
        add(tar, "a.json", b"{}");
        add(tar, "a.txt", b"ban");
        add(tar, "./a.wav", &sound);
        add(tar, "b.wav", &sound);
        // As tar and Python write long names.
        add(tar, &format!("{long}.wav"), &sound);
        let path = format!("{pax}.wav");
        tar.append_pax_extensions([("path", path.as_bytes())])
            .unwrap();
        add(tar, "short", &sound);
    });
    // In another order than the archive's; and one of NeMo's further lines about a member.
    let crafted = crafted
        .line(&format!("{long}.wav"))
        .line("b.wav")
        .part("b-sub1.wav", 0.1)
        .line("a.flac")
        .line(&format!("{pax}.wav"));
    assert_eq!(crafted.heard(), (5, None));
}

#[test]
fn bad_archives_are_named_with_their_members() {
    let sound = sound();
    let two = |tar: &mut tar::Builder<File>| {
        add(tar, "a.wav", &sound);
        add(tar, "b.wav", &sound);
    };
    let listed = |crafted: Crafted| crafted.line("a.wav").line("b.wav");

    let crafted = listed(Crafted::new(two));
    assert_eq!(crafted.heard(), (2, None));
    let whole = fs::read(&crafted.tar).unwrap();
    fs::write(&crafted.tar, &whole[..whole.len() - 10_000]).unwrap();
    let told = [
        "manifest.json:2: ",
        "audio_0.tar: broken after member \"b.wav\"",
    ];
    crafted.fails_with(1, &[&told[..], &["in the middle of this member"]].concat());
    fs::write(&crafted.tar, vec![7; 2000]).unwrap();
    crafted.fails_with(0, &["audio_0.tar: broken after member \"\": "]);
    fs::remove_file(&crafted.tar).unwrap();
    let manifest = crafted.folder.path("manifest.json");
    let missing = source(&manifest, crafted.tar.to_str().unwrap());
    let error = Corpus::read(&[missing], Strictness::Lenient)
        .unwrap_err()
        .to_string();
    assert!(error.contains("audio_0.tar is not there"), "{error}");

    // Members that are not there are never looked for elsewhere.
    let outside = Crafted::new(two)
        .line("/etc/hostname")
        .line("../../a.wav")
        .line("a.wav");
    outside.fails_with(1, &["manifest.json:", "audio_0.tar holds no member \""]);
    let link = Crafted::new(|tar| {
        let mut header = header(0, tar::EntryType::Symlink);
        tar.append_link(&mut header, "a.wav", "/etc/hostname")
            .unwrap();
        add(tar, "b.wav", &sound);
    });
    listed(link).fails_with(1, &["holds no member \"a.wav\""]);

    // Sizes are not believed.
    let huge = |kind: tar::EntryType| {
        move |tar: &mut tar::Builder<File>| {
            let mut header = header(600 << 20, kind);
            header.set_path("a.wav").unwrap();
            header.set_cksum();
            tar.append(&header, &b"little"[..]).unwrap();
        }
    };
    let large = Crafted::new(huge(tar::EntryType::Regular)).line("a.wav");
    large.fails_with(
        0,
        &["member \"a.wav\" has 629145600 bytes, expected at most 536870912"],
    );
    let named = Crafted::new(huge(tar::EntryType::GNULongName)).line("a.wav");
    named.fails_with(0, &["broken after member \"\": a member's name has no end"]);
    let claims = Crafted::new(|tar| {
        let mut header = header(400 << 20, tar::EntryType::Regular);
        header.set_path("a.wav").unwrap();
        header.set_cksum();
        tar.append(&header, &b"little"[..]).unwrap();
    });
    claims
        .line("a.wav")
        .fails_with(0, &["in the middle of this member"]);
}

#[test]
fn lines_and_archives_have_to_agree() {
    let folder = Folder::new();
    let manifest = folder.path("manifest.json");
    let lines = [
        r#"{"audio_filepath": "a.wav", "duration": 1, "text": "", "shard_id": 0}"#,
        r#"{"audio_filepath": "b.wav", "duration": 1, "text": ""}"#,
        r#"{"audio_filepath": "c.wav", "duration": 1, "text": "", "shard_id": 3}"#,
    ];
    fs::write(&manifest, lines.join("\n")).unwrap();
    for index in 0..2 {
        fs::write(folder.path(&format!("audio_{index}.tar")), "").unwrap();
    }
    let read = |tars: &str, strictness| {
        let tars = folder.path(tars);
        Corpus::read(&[source(&manifest, tars.to_str().unwrap())], strictness)
    };
    let lenient = read("audio_{0..1}.tar", Strictness::Lenient).unwrap();
    assert_eq!((lenient.len(), lenient.bad_lines()), (1, 2));
    let told = |tars| read(tars, Strictness::Strict).unwrap_err().to_string();
    assert!(told("audio_{0..1}.tar").contains("manifest.json:2: \"shard_id\" is missing"));
    for (tars, expected) in [
        ("audio_{0..9}.tar", "audio_2.tar is not there"),
        ("audio_{0..1.tar", "a brace is opened and not closed"),
        ("audio_{1,1}.tar", "two archives have the number 1"),
        ("manifest.json", "expected a number before \".tar\""),
    ] {
        let told = told(tars);
        assert!(told.contains(expected), "{told}");
    }
}
