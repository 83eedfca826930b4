//! What is no sound, or none that can be decoded.

use sori::audio::{AudioError, AudioFile};

use super::{as_file, data, from_bytes, wav};

fn refuse(bytes: &[u8], name: &str) -> String {
    let (_folder, path) = as_file(bytes, name);
    let error = AudioFile::open(&path).unwrap_err().to_string();
    assert!(error.starts_with(&path.display().to_string()), "{error}");
    error
}

#[test]
fn what_is_not_there() {
    let error = AudioFile::open("no/such/file.wav").unwrap_err().to_string();
    assert_eq!(error, "no/such/file.wav: no such file; check the path");
    let folder = tempfile::tempdir().unwrap();
    let error = AudioFile::open(folder.path()).unwrap_err();
    assert!(matches!(error, AudioError::IsDirectory { .. }), "{error}");
    assert!(refuse(&[], "empty.wav").contains("is empty; record"));
    let empty = from_bytes(&[]).unwrap_err();
    assert!(matches!(empty, AudioError::Empty { .. }), "{empty}");
}

#[test]
fn what_is_not_audio() {
    for (bytes, found) in [
        (
            &b"This is not a sound, it was only named so.\n"[..],
            "found plain text,",
        ),
        (
            "말소리를 글로 옮긴다\n".repeat(40).as_bytes(),
            "found plain text,",
        ),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "found a PNG picture,"),
        (b"PK\x03\x04\x14\0\0\0", "found a zip archive,"),
        (b"\x7fELF\x02\x01\x01\0\xff\xfe\0\0", "found a program,"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "found 64-bit WAV (RF64),"),
        (b"\x01\x02\x03\x80", "begins with the bytes 01 02 03 80,"),
    ] {
        let error = refuse(bytes, "speech.wav");
        assert!(error.contains(found), "{error}");
        assert!(
            error.contains("expected WAV, AIFF, CAF, FLAC, MP3"),
            "{error}"
        );
    }
}

#[test]
fn speex_is_named() {
    // One page of Ogg with its header, of which the reader knows nothing.
    let mut page =
        b"OggS\0\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\x50Speex   1.2.0".to_vec();
    page.resize(28 + 80, 0);
    let error = refuse(&page, "talk.spx");
    assert!(error.contains("Speex"), "{error}");
}

#[test]
fn what_cannot_be_decoded() {
    let error = AudioFile::open(data("ac3.mkv")).unwrap_err().to_string();
    assert!(
        error.contains("coded as Dolby Digital (AC-3), which cannot"),
        "{error}"
    );
    let error = AudioFile::open(data("no-sound.mkv"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no audio track among its 1 tracks"),
        "{error}"
    );
    // MP3 in a WAV.
    let error = refuse(&wav::header(0x55, 1, 16_000, 16, 4, &[0; 4]), "mp3.wav");
    assert!(
        error.contains("unsupported wave format; convert it"),
        "{error}"
    );
}
