//! Gives the shared library its name for the dynamic linker: one per incompatible version.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        // Apps of Android carry their own copy: no version there.
        Ok("linux") => println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libsori.so.0"),
        Ok("macos" | "ios") => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libsori.0.dylib");
        }
        _ => {}
    }
}
