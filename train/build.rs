//! Compiles the few operators of libtorch that tch does not expose, and lets the binaries of this
//! crate find libtorch without `LD_LIBRARY_PATH`.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/torch");
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
    // torch-sys's build script fails before this one where there is no libtorch.
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        return;
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    let root = std::env::var("LIBTORCH_INCLUDE").map_or_else(
        |_| Path::new(&lib).parent().unwrap_or(Path::new(&lib)).into(),
        PathBuf::from,
    );
    let include = root.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(include.join("torch/csrc/api/include"))
        .include(include)
        .file("src/torch/torch.cpp")
        .file("src/torch/process_group.cpp")
        .compile("sori_torch");
}
