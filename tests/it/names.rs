//! Names with bytes that a listing must not show unchanged.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::images::{self, HOSTILE};
use crate::sandbox::{Done, Sandbox};

fn harmless(what: &str, done: &Done) {
    let text = String::from_utf8(done.stdout.clone()).unwrap_or_else(|_| panic!("{what}: no UTF-8"));
    for c in text.chars().chain(done.stderr.chars()) {
        assert!(c == '\n' || !c.is_control() && c != '\u{202e}', "{what} shows {c:?}");
    }
}

#[test]
fn no_listing_shows_them_raw() {
    let sandbox = Sandbox::new();
    images::hostile(&sandbox);
    for line in [
        "ls hostile.img",
        "ls -lR hostile.img",
        "tree hostile.img",
        "inspect hostile.img blocks",
        "inspect hostile.img inodes",
        "inspect hostile.img files",
        "inspect hostile.img raw --page 2",
        "inspect hostile.img raw --page 2 --json",
        "inspect hostile.img files --json",
        "inspect hostile.img inodes --json",
        "ls -R hostile.img --json",
        "tree hostile.img --json",
        "who hostile.img block:1 block:2 block:3 block:4",
        "who hostile.img block:1 block:2 block:3 block:4 --json",
    ] {
        let done = sandbox.ok(line);
        harmless(line, &done);
    }
    insta::assert_snapshot!("names_tree", sandbox.ok("tree hostile.img").all());
    insta::assert_snapshot!("names_ls", sandbox.ok("ls hostile.img").all());
}

#[test]
fn they_can_be_named_on_the_command_line() {
    let sandbox = Sandbox::new();
    images::hostile(&sandbox);
    for name in HOSTILE {
        let path = [b"/", name].concat();
        let path = OsStr::from_bytes(&path);
        for command in ["cat", "stat", "map", "rm"] {
            let done = sandbox.run(&[OsStr::new(command), OsStr::new("hostile.img"), path]);
            assert_eq!(done.code, 0, "{command}: {done:?}");
            if command != "cat" {
                harmless(command, &done);
            }
        }
        let gone = sandbox.run(&[OsStr::new("cat"), OsStr::new("hostile.img"), path]);
        assert_eq!(gone.code, 2);
        harmless("cat of what is not there", &gone);
        let json = sandbox.run(&[OsStr::new("map"), OsStr::new("hostile.img"), path, OsStr::new("--json")]);
        harmless("an error in JSON", &json);
    }
}

#[test]
fn json_gives_them_exactly() {
    let sandbox = Sandbox::new();
    images::hostile(&sandbox);
    let found = sandbox.ok("ls hostile.img --json").json();
    let entries = found["entries"].as_array().unwrap();
    for name in HOSTILE {
        let found = entries.iter().any(|entry| match entry["name_bytes"].as_str() {
            Some(hex) => hex == name.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            None => entry["name"].as_str().unwrap().as_bytes() == name,
        });
        assert!(found, "{name:?} in {entries:?}");
    }
}

#[test]
fn a_hostile_image_name_is_shown_harmlessly() {
    let sandbox = Sandbox::new();
    let name = OsStr::from_bytes(b"ima\x1b[31mge\n\xff");
    for command in ["ls", "inspect", "mkfs", "scan"] {
        let done = sandbox.run(&[OsStr::new(command), name]);
        assert_eq!(done.code, 2, "{done:?}");
        harmless(command, &done);
    }
    let made = sandbox.run(&[OsStr::new("mkfs"), name, OsStr::new("--size"), OsStr::new("16M")]);
    assert_eq!(made.code, 0, "{made:?}");
    harmless("mkfs", &made);
    harmless("inspect", &sandbox.run(&[OsStr::new("inspect"), name]));
    harmless("inspect --json", &sandbox.run(&[OsStr::new("inspect"), name, OsStr::new("--json")]));
    sandbox.write("content", b"guest memory");
    sandbox.ok("mkfs other.img --size 16M -q");
    sandbox.ok("dump other.img -o metadata");
    for line in [
        "put IMAGE content /f",
        "put IMAGE content /f",
        "stat IMAGE /f",
        "map IMAGE /f",
        "map IMAGE /f --vmm qemu",
        "bad IMAGE add 0x400000",
        "bad IMAGE list",
        "save IMAGE -o saved",
        "dump IMAGE -o dumped",
        "dump IMAGE --text",
        "inspect IMAGE --image",
        "inject IMAGE GM0001",
        "fsck IMAGE -n",
        "repair IMAGE",
        "fsck IMAGE -p --undo undo",
        "undo undo IMAGE",
        "undo -f metadata IMAGE",
        "repair IMAGE -y -o repaired",
        "fsck IMAGE -y",
        "restore -y metadata IMAGE",
        "restore -y -f metadata IMAGE",
        "extract IMAGE /f IMAGE-out",
        "extract IMAGE /f IMAGE -f",
        "save other.img -o IMAGE",
        "save other.img -o IMAGE -f",
        "mkfs IMAGE -f --undo IMAGE.undo",
        "mkfs IMAGE",
    ] {
        let args: Vec<&OsStr> =
            line.split(' ').map(|word| if word == "IMAGE" { name } else { OsStr::new(word) }).collect();
        harmless(line, &sandbox.run(&args));
    }
}

#[test]
fn extract_makes_them_as_they_are() {
    let sandbox = Sandbox::new();
    images::hostile(&sandbox);
    harmless("extract", &sandbox.ok("extract hostile.img / out"));
    for name in HOSTILE {
        let path = sandbox.path("out").join(OsStr::from_bytes(name));
        assert_eq!(std::fs::read(path).unwrap(), [0; 3]);
    }
}
