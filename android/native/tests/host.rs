//! The Android library on this machine's Java: the Kotlin sources compiled as Gradle would, and driven
//! through the same classes and the same native methods as on a phone.
//!
//! Needs a JDK, and Kotlin and Android's classes from `scripts/setup all`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

const ANDROID: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/tone");
/// Exit status of a script that lacks a tool.
const MISSING: i32 = 3;

/// The compiled library module, `None` where a tool is missing.
static LIBRARY: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    // Nobody drops what is static, so one place serves all runs.
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sori.jar");
    let output = Command::new(format!("{ANDROID}/compile"))
        .arg("library")
        .arg(&library)
        .output()
        .unwrap();
    ran(&output).then_some(library)
});

/// Whether a script did its work. Without a tool it did not, which CI must not pass over.
fn ran(output: &Output) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(MISSING) && std::env::var_os("CI").is_none() {
        eprintln!("skipped: {}", stderr.trim());
        return false;
    }
    assert!(
        output.status.success(),
        "{}{stderr}",
        String::from_utf8_lossy(&output.stdout)
    );
    true
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Where cargo puts the shared library: beside the test itself.
fn libraries() -> PathBuf {
    std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned()
}

/// Compiles a Kotlin program against the library, and gives the command that runs it on Java.
fn program(library: &Path, source: &Path, main: &str) -> Command {
    let jar = library.with_file_name(format!("{main}.jar"));
    run(Command::new(format!("{ANDROID}/compile"))
        .arg("against")
        .args([library, &jar, source]));
    let cache = std::env::var("SORI_CACHE")
        .unwrap_or_else(|_| format!("{}/.cache/sori", std::env::var("HOME").unwrap()));
    let kotlin = format!("{cache}/android/kotlin/lib");
    let class_path = format!(
        "{}:{}:{kotlin}/kotlin-stdlib.jar:{kotlin}/kotlinx-coroutines-core-jvm.jar",
        library.display(),
        jar.display()
    );
    let mut java = Command::new("java");
    java.args(["-Xcheck:jni", "-Xmx256m", "-XX:TieredStopAtLevel=1"])
        .arg(format!("-Djava.library.path={}", libraries().display()))
        .args(["-cp", &class_path, main, MODEL])
        // What one of the tests expects to be missing.
        .env("ORT_DYLIB_PATH", "/no/such/library");
    java
}

#[test]
fn kotlin_drives_the_library_on_java() {
    let Some(library) = &*LIBRARY else { return };
    let source = format!("{ANDROID}/native/tests/host/Host.kt");
    let output = run(&mut program(library, Path::new(&source), "host.HostKt"));
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    assert!(told.contains("tests, 0 failed"), "{told}");
    // What -Xcheck:jni says of a wrong call.
    assert!(!told.contains("in native method"), "{told}");
    assert!(!told.contains("JNI local refs"), "{told}");
}

#[test]
fn older_apps_and_older_phones_can_use_the_library() {
    let Some(library) = &*LIBRARY else { return };
    let content = run(Command::new("jar").arg("tf").arg(library)).stdout;
    let content = String::from_utf8(content).unwrap();
    // One of the compiler's own choice, `main`, is in other libraries, too.
    let modules: Vec<_> = content
        .lines()
        .filter(|name| name.ends_with(".kotlin_module"))
        .collect();
    assert_eq!(modules, ["META-INF/ai.sori.kotlin_module"]);

    let classes = content
        .lines()
        .filter_map(|name| name.strip_suffix(".class"));
    let code = run(Command::new("javap")
        .args(["-v", "-p", "-cp"])
        .arg(library)
        .args(classes))
    .stdout;
    let code = String::from_utf8(code).unwrap();
    // The standard library that coroutines bring along is 2.1, and no compiler before 2.0 reads this.
    assert!(code.contains("mv=[2,1,0]"));
    assert_eq!(
        code.matches("mv=[").count(),
        code.matches("mv=[2,1,0]").count()
    );
    assert!(!code.contains("SpillingKt"));
    // Only newer phones have a method of this type.
    assert!(!code.contains("flip:()Ljava/nio/ByteBuffer;"));
}

#[test]
fn the_program_in_the_docs_transcribes() {
    let Some(library) = &*LIBRARY else { return };
    let docs = std::fs::read_to_string(format!("{ANDROID}/../docs/embedding.md")).unwrap();
    let (_, from) = docs.split_once("```kotlin\n").unwrap();
    let (source, _) = from.split_once("```").unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("Talk.kt");
    std::fs::write(&file, source).unwrap();
    let samples = scratch.path().join("samples");
    let wav = std::fs::read(format!("{MODEL}/sample.wav")).unwrap();
    std::fs::write(&samples, &wav[44..]).unwrap();
    let output =
        run(program(library, &file, "TalkKt").stdin(std::fs::File::open(&samples).unwrap()));
    let heard = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = heard
        .lines()
        .flat_map(|line| line.split(' ').skip(1))
        .collect();
    assert_eq!(words, ["one", "two", "three", "소리", "going"], "{heard}");
}

/// No NDK is needed to have the compiler read what only phones compile.
#[test]
fn the_crate_type_checks_for_phones() {
    let output = Command::new(format!("{ANDROID}/check")).output().unwrap();
    ran(&output);
}

/// A shared library of our own making, to be refused or not.
struct Library<'a> {
    compiler: &'a str,
    symbols: &'a [String],
    flags: &'a [&'a str],
}

impl Library<'_> {
    fn make(&self, path: &Path) {
        use std::fmt::Write as _;

        let mut source = String::new();
        for symbol in self.symbols {
            writeln!(source, "void {symbol}(void) {{}}").unwrap();
        }
        let file = path.with_extension("c");
        std::fs::write(&file, source).unwrap();
        run(Command::new(self.compiler)
            .args(["-shared", "-fPIC", "-nostdlib", "-o"])
            .arg(path)
            .arg(&file)
            .args(self.flags));
    }
}

fn native_methods() -> Vec<String> {
    let source =
        std::fs::read_to_string(format!("{ANDROID}/sori/src/main/kotlin/ai/sori/Native.kt"))
            .unwrap();
    source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("external fun "))
        .map(|line| format!("Java_ai_sori_Native_{}", &line[..line.find('(').unwrap()]))
        .collect()
}

#[test]
fn only_a_library_that_a_phone_can_load_gets_into_the_aar() {
    let Some(classes) = &*LIBRARY else { return };
    let scratch = tempfile::tempdir().unwrap();
    let aar = scratch.path().join("sori.aar");
    let assemble = |abi: &str, library: &Path| {
        let output = Command::new(format!("{ANDROID}/assemble"))
            .arg("--classes")
            .arg(classes)
            .arg("--library")
            .arg(format!("{abi}={}", library.display()))
            .arg("-o")
            .arg(&aar)
            .output()
            .unwrap();
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(told).unwrap())
    };
    let symbols = native_methods();
    let good = ["-Wl,-z,max-page-size=16384", "-s"];
    let path = scratch.path().join("library.so");
    let library = |symbols: &[String], flags: &[&str]| {
        let compiler = "gcc";
        Library {
            compiler,
            symbols,
            flags,
        }
        .make(&path);
        assemble("x86_64", &path)
    };

    let (taken, told) = library(&symbols, &good);
    assert!(taken && told.contains("x86_64: 0.1 MB"), "{told}");
    let content = run(Command::new("jar").arg("tf").arg(&aar));
    assert_eq!(
        String::from_utf8(content.stdout).unwrap(),
        "AndroidManifest.xml\nclasses.jar\nproguard.txt\nR.txt\njni/x86_64/libsori_android.so\n"
    );

    let (taken, told) = assemble("arm64-v8a", &path);
    assert!(!taken && told.contains("expected AArch64"), "{told}");
    let (taken, told) = assemble("mips", &path);
    assert!(!taken && told.contains("not an ABI"), "{told}");
    for (flags, reason) in [
        (
            &["-Wl,-z,max-page-size=4096", "-s"][..],
            "aligned to 0x1000, expected 0x4000",
        ),
        (&["-Wl,-z,max-page-size=16384"][..], "not stripped"),
        (
            &[
                "-Wl,-z,max-page-size=16384",
                "-s",
                "-Wl,--no-as-needed",
                "-lc",
            ][..],
            "needs libc.so.6",
        ),
    ] {
        let (taken, told) = library(&symbols, flags);
        assert!(!taken && told.contains(reason), "{reason}: {told}");
    }
    let (taken, told) = library(&symbols[1..], &good);
    assert!(
        !taken && told.contains(&format!("lacks {}", symbols[0])),
        "{told}"
    );
    let (taken, told) = assemble("x86_64", classes);
    assert!(!taken && told.contains("not an ELF library"), "{told}");

    // The crate has every method that Kotlin declares; on this machine it is refused for its libc alone.
    let own = scratch.path().join("own.so");
    run(Command::new("strip")
        .arg(libraries().join("libsori_android.so"))
        .arg("-o")
        .arg(&own));
    let symbols_of_own = run(Command::new("nm").args(["-D", "--defined-only"]).arg(&own));
    let exported = String::from_utf8(symbols_of_own.stdout).unwrap();
    for symbol in &symbols {
        assert!(
            exported.lines().any(|line| line.ends_with(symbol)),
            "{symbol}"
        );
    }
    let (taken, told) = assemble("x86_64", &own);
    assert!(!taken && told.contains("libc.so.6"), "{told}");
}

#[test]
fn without_an_ndk_make_android_says_what_is_missing_in_one_line() {
    let output = Command::new(format!("{ANDROID}/build"))
        .env_remove("ANDROID_NDK_HOME")
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains("set ANDROID_NDK_HOME"), "{told}");
}
