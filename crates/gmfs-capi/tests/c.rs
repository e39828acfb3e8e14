//! The C interface: its header, which is made from `src/lib.rs`, and a program in C.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod header;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::PmdShift;
use gmfs_volume::{CreateOptions, FormatOptions, Stamp, Writer, WriterOptions};
use serde_json::Value;

const BLOCK: u64 = 2 << 20;

fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_header_is_made_from_the_functions() {
    let made = header::of(&fs::read_to_string(package().join("src/lib.rs")).unwrap());
    let path = package().join("include/gmfs.h");
    if env::var_os("GMFS_UPDATE").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == made,
        "include/gmfs.h has drifted: GMFS_UPDATE=1 writes it anew"
    );
}

/// A region in a file, with `/a`: three blocks in two extents, in which each byte is the number of its block plus 1. The region
/// starts at 1 MiB.
fn region(path: &Path) {
    let geometry = Geometry::plan(32 << 20, PmdShift::M2, 64).unwrap();
    let stamp = Stamp { now: 1, writer: "test".to_owned() };
    let (uuid, label) = (uuid::Uuid::from_u128(7), String::new());
    let options = FormatOptions { geometry, uuid, birth: 1, label, base: 0, owner: (0, 0), stamp, forget: Vec::new() };
    let mut bytes = vec![0; 32 << 20];
    gmfs_volume::format(&mut bytes, &options).unwrap();
    let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || 1 };
    let (mut writer, _) = Writer::open(bytes, options).unwrap();
    let create = CreateOptions { size: BLOCK, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };
    let ino = writer.create(b"/a", &create).unwrap();
    writer.create(b"/behind-it", &create).unwrap();
    let content: Vec<u8> = (0..3 * BLOCK).map(|at| u8::try_from(at / BLOCK + 1).unwrap()).collect();
    writer.write(ino, BLOCK, 0, &content).unwrap();
    writer.create(b"/hole", &CreateOptions { sparse: true, ..create }).unwrap();
    fs::write(path, [vec![0; 1 << 20], writer.close().unwrap()].concat()).unwrap();
}

/// Builds the library for C, and says which files it is in: static, and shared.
fn libraries() -> (PathBuf, PathBuf) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["rustc", "--quiet", "--locked", "-p", "gmfs-capi", "--lib", "--message-format=json"]);
    build.args(["--crate-type", "staticlib,cdylib"]).current_dir(package());
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let made: Vec<PathBuf> = messages
        .filter(|message| message["target"]["name"] == "gmfs_capi" && message["reason"] == "compiler-artifact")
        .flat_map(|message| message["filenames"].as_array().unwrap().clone())
        .map(|name| PathBuf::from(name.as_str().unwrap()))
        .collect();
    let with = |end: &str| made.iter().find(|path| path.extension().is_some_and(|found| found == end)).unwrap().clone();
    (with("a"), with("so"))
}

/// Compiles the program as C99, with warnings as errors.
fn compile(library: &[&std::ffi::OsStr], to: &Path) {
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wstrict-prototypes", "-Werror", "-g", "-O1"]);
    gcc.arg("-I").arg(package().join("include")).arg(package().join("tests/vmm.c")).args(library);
    // What Rust's standard library needs of the system: `rustc --print native-static-libs`.
    gcc.args(["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-o"]).arg(to);
    let output = gcc.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whether a program is installed; where CI wants all of them, it must be.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        assert!(env::var_os("CI").is_none_or(|value| value != "true"), "{program} is missing (Debian: {program})");
        eprintln!("skipped: {program} is not installed");
    }
    found
}

fn check(output: &Output) {
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{:?}\n{said}{complained}", output.status);
    assert_eq!(said, "6291456 bytes, 2 extents\n", "{complained}");
}

#[test]
fn a_program_in_c_uses_a_file_as_memory() {
    if !installed("gcc") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (fixed, shared) = libraries();
    let (program, dynamic) = (dir.path().join("vmm"), dir.path().join("vmm-dynamic"));
    compile(&[fixed.as_os_str()], &program);
    compile(&[shared.as_os_str()], &dynamic);
    let image = dir.path().join("region.img");
    let fresh = || region(&image);
    let run = |mut command: Command| command.arg(&image).args(["32M:1M", "/a"]).output().unwrap();

    fresh();
    check(&run(Command::new(&program)));
    // What it wrote is in the file, on both sides of the edge of two extents.
    let bytes = fs::read(&image).unwrap();
    let found: Vec<usize> = (0..bytes.len() - 3).filter(|at| &bytes[*at..*at + 3] == b"gue").collect();
    let rest: Vec<usize> = (0..bytes.len() - 2).filter(|at| &bytes[*at..*at + 3] == b"st\x02").collect();
    assert_eq!((found.len(), rest.len()), (1, 1));
    assert!(rest[0] % (2 << 20) == 1 << 20 && rest[0] != found[0] + 3, "{found:?} {rest:?}");

    fresh();
    check(&run(Command::new(&dynamic)));

    // Without a file that could be memory.
    let output = Command::new(&program).arg(&image).args(["32M:1M", "/hole"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "vmm: bytes 0x0..0x200000 of '/hole' are a hole, which no memory backs\n"
    );
    let output = Command::new(&program).arg(&image).args(["-", "/a"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.starts_with("vmm: cannot find a region in "), "{said}");

    if installed("valgrind") {
        fresh();
        let mut valgrind = Command::new("valgrind");
        valgrind.args([
            "--error-exitcode=9",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite,indirect,possible",
        ]);
        valgrind.arg("-q").arg(&program);
        check(&run(valgrind));
    }
}
