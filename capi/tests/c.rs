//! The library as a C programmer meets it: installed, compiled against, run, and under valgrind.
//!
//! Needs gcc, g++, pkg-config, `CMake` and valgrind (`scripts/setup all`).

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone");
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tone/sample.wav");
const STRICT: [&str; 6] = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
];

/// The library in a prefix of its own.
static INSTALLED: LazyLock<PathBuf> = LazyLock::new(|| {
    // Beside the test itself is where cargo puts what the test depends on.
    let test = std::env::current_exe().unwrap();
    // Nobody drops what is static, so one place serves all runs.
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("installed");
    let _ = std::fs::remove_dir_all(&prefix);
    run(Command::new(Path::new(ROOT).join("install"))
        .arg(test.parent().unwrap())
        .arg(&prefix));
    prefix
});

fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; run scripts/setup all"));
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What pkg-config says, word by word.
fn flags() -> Vec<String> {
    let output = run(Command::new("pkg-config")
        .args(["--cflags", "--libs", "sori"])
        .env("PKG_CONFIG_PATH", INSTALLED.join("lib/pkgconfig")));
    text(&output)
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// Compiles a program of this folder, which then finds the installed library.
fn compile(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(ROOT).join("tests").join(name);
    let program = compile_in(folder.path(), &source.with_extension("c"));
    (folder, program)
}

fn compile_in(folder: &Path, source: &Path) -> PathBuf {
    let program = folder.join("program");
    let library = INSTALLED.join("lib");
    run(Command::new("gcc")
        .args(STRICT)
        .arg(source)
        .args(flags())
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .args(["-lpthread", "-o"])
        .arg(&program));
    program
}

fn assert_heard(output: &Output) {
    let heard = text(output);
    let words: Vec<&str> = heard
        .split('[')
        .skip(1)
        .map(|word| word.split(' ').next().unwrap())
        .collect();
    assert_eq!(words, ["one", "two", "three", "소리", "going"], "{heard}");
}

/// Fails for an invalid access, for a read of what was never written, and for memory that nothing points
/// to at the end.
fn valgrind(program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args([
            "--quiet",
            "--error-exitcode=99",
            "--leak-check=full",
            "--show-leak-kinds=definite",
            "--errors-for-leak-kinds=definite",
        ])
        .arg(program);
    command
}

#[test]
fn a_c_program_transcribes() {
    let (_folder, program) = compile("transcribe");
    let from_directory = run(Command::new(&program).args([MODEL, SAMPLE]));
    assert_heard(&from_directory);
    let from_memory = run(Command::new(&program).args([MODEL, SAMPLE, "memory"]));
    assert_eq!(text(&from_memory), text(&from_directory));
    assert_heard(&run(valgrind(&program).args([MODEL, SAMPLE, "memory"])));
}

#[test]
fn the_program_in_the_docs_transcribes() {
    let docs = std::fs::read_to_string(format!("{ROOT}/../docs/embedding.md")).unwrap();
    let (told, from) = docs.split_once("```c\n").unwrap();
    let (source, _) = from.split_once("```").unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("talk.c"), source).unwrap();
    // The commands of the page, but for the prefix.
    let command = |beginning: &str| {
        let mut quoted = told.split('`').filter(|text| text.starts_with(beginning));
        quoted
            .next_back()
            .unwrap()
            .replace("/usr/local", &INSTALLED.display().to_string())
    };
    run(Command::new("sh")
        .args(["-c", &command("cc talk.c ")])
        .current_dir(folder.path())
        .env("PKG_CONFIG_PATH", INSTALLED.join("lib/pkgconfig")));
    let talk = |model: &str| {
        let mut shell = Command::new("sh");
        let command = command("LD_LIBRARY_PATH=").replace("models/my-model", model);
        shell.args(["-c", &command]).current_dir(folder.path());
        shell
    };
    let samples = folder.path().join("samples");
    let wav = std::fs::read(SAMPLE).unwrap();
    std::fs::write(&samples, &wav[44..]).unwrap();
    let output = run(talk(MODEL).stdin(std::fs::File::open(&samples).unwrap()));
    let heard = text(&output);
    let words: Vec<&str> = heard
        .lines()
        .flat_map(|line| line.split(' ').skip(1))
        .collect();
    assert_eq!(words, ["one", "two", "three", "소리", "going"], "{heard}");

    let wrong = talk("/no/such/model").output().unwrap();
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(told.starts_with("talk: /no/such/model"), "{told}");
}

#[test]
fn misuse_is_told_and_does_no_harm() {
    let (_folder, program) = compile("misuse");
    run(Command::new(&program).arg(MODEL));
    run(valgrind(&program).arg(MODEL));
}

#[test]
fn the_header_is_good_for_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("main.cpp");
    std::fs::write(
        &source,
        "#include <sori.h>\n#include <cstdio>\n\
         int main() { SoriStatus status = sori_stream_free(nullptr);\n\
         std::puts(sori_version()); return status == SORI_STATUS_INVALID_HANDLE ? 0 : 1; }\n",
    )
    .unwrap();
    let program = folder.path().join("main");
    run(Command::new("g++")
        .args(["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
        .arg(&source)
        .args(flags())
        .arg(format!("-Wl,-rpath,{}", INSTALLED.join("lib").display()))
        .arg("-o")
        .arg(&program));
    assert_eq!(
        text(&run(&mut Command::new(&program))).trim(),
        env!("CARGO_PKG_VERSION")
    );
}

#[test]
fn cmake_finds_the_package() {
    let folder = tempfile::tempdir().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    std::fs::write(
        folder.path().join("CMakeLists.txt"),
        format!(
            "cmake_minimum_required(VERSION 3.16)\nproject(talk C)\n\
             find_package(sori {version} REQUIRED)\n\
             add_executable(talk {ROOT}/tests/transcribe.c)\n\
             target_link_libraries(talk PRIVATE sori::sori)\n"
        ),
    )
    .unwrap();
    let build = folder.path().join("build");
    run(Command::new("cmake")
        .arg("-S")
        .arg(folder.path())
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", INSTALLED.display())));
    run(Command::new("cmake").arg("--build").arg(&build));
    assert_heard(&run(Command::new(build.join("talk")).args([MODEL, SAMPLE])));
}

#[test]
fn the_library_exports_its_interface_and_nothing_else() {
    let library = INSTALLED.join("lib/libsori.so");
    let output = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&library));
    let symbols = text(&output);
    let mut exported: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    exported.sort_unstable();
    let header = std::fs::read_to_string(format!("{ROOT}/include/sori.h")).unwrap();
    let mut declared: Vec<&str> = header
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| {
            let name = &line[line.find("sori_")?..];
            name.split_once('(').map(|(name, _)| name)
        })
        .collect();
    declared.sort_unstable();
    assert_eq!(exported, declared);
    let dynamic = text(&run(Command::new("readelf").arg("-dW").arg(&library)));
    // Versions before 1.0 fit together only where their second number is the same.
    let mut compatible = env!("CARGO_PKG_VERSION_MAJOR").to_owned();
    if compatible == "0" {
        compatible = concat!("0.", env!("CARGO_PKG_VERSION_MINOR")).to_owned();
    }
    let name = format!("libsori.so.{compatible}");
    assert!(dynamic.contains(&format!("soname: [{name}]")), "{dynamic}");
    let version = env!("CARGO_PKG_VERSION");
    for (link, target) in [
        ("libsori.so", name.clone()),
        (&name, format!("libsori.so.{version}")),
    ] {
        let found = library.with_file_name(link).read_link().unwrap();
        assert_eq!(found, Path::new(&target));
    }
}

#[test]
fn other_packages_keep_their_module_map() {
    let include = INSTALLED.join("include");
    let found: Vec<_> = std::fs::read_dir(&include)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(found, ["sori"]);
    for file in ["sori.h", "module.modulemap"] {
        assert!(include.join("sori").join(file).is_file(), "{file}");
    }
}
