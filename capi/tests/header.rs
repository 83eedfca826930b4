//! The committed header is what cbindgen makes of the source.

#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut header = Vec::new();
    cbindgen::Builder::new()
        .with_crate(root)
        .with_config(config)
        .generate()
        .unwrap()
        .write(&mut header);
    let header = String::from_utf8(header).unwrap();
    let path = root.join("include/sori.h");
    if std::env::var_os("SORI_WRITE_HEADER").is_some() {
        std::fs::write(&path, &header).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == header,
        "include/sori.h differs from the source; write it anew: \
         SORI_WRITE_HEADER=1 cargo test --workspace --test header"
    );
}
