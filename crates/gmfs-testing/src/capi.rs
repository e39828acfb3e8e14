//! The library for C, and the program of its tests, which maps a file of a region.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of `gmfs-capi`.
#[must_use]
pub fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gmfs-capi")
}

/// Builds the library, and says which files it is in: static, and shared.
///
/// # Panics
/// It cannot be built.
#[must_use]
pub fn libraries() -> (PathBuf, PathBuf) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args([
        "rustc",
        "--quiet",
        "--locked",
        "-p",
        "gmfs-capi",
        "--lib",
        "--message-format=json-render-diagnostics",
    ]);
    build.args(["--crate-type", "staticlib,cdylib"]).current_dir(package());
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Cargo names the files in a message of JSON; their names need no escapes.
    let messages = String::from_utf8(output.stdout).unwrap();
    let with = |end: &str| {
        let mut words = messages.split('"').filter(|word| word.contains("libgmfs_capi") && word.ends_with(end));
        PathBuf::from(words.next().unwrap_or_else(|| panic!("cargo made no {end}: {messages}")))
    };
    (with(".a"), with(".so"))
}

/// Compiles the program as C99, with warnings as errors, and links it with a library.
///
/// # Panics
/// It cannot be compiled or linked.
pub fn compile(library: &OsStr, to: &Path) {
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wstrict-prototypes", "-Werror", "-g", "-O1"]);
    gcc.arg("-I").arg(package().join("include")).arg(package().join("tests/vmm.c")).arg(library);
    // What Rust's standard library needs of the system: `rustc --print native-static-libs`.
    gcc.args(["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-o"]).arg(to);
    let output = gcc.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
