//! The JSON of every command: one object, its schema, and the keys that programs rely on.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::images::{self, UUID};
use crate::sandbox::Sandbox;

/// Every path of keys in a value; arrays count as their elements.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                found.insert(path.clone());
                keys(value, &path, found);
            }
        }
        Value::Array(values) => {
            for value in values {
                keys(value, &format!("{at}[]"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn key_sets() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.write("content", b"x");
    for line in [
        "mkfs other.img --size 16M",
        "inspect region.img",
        "inspect region.img superblock",
        "inspect region.img blocks",
        "inspect region.img inodes",
        "inspect region.img files",
        "inspect region.img pages",
        "inspect region.img raw",
        "scan region.img",
        "save region.img -o copy.img",
        "ls region.img",
        "tree region.img",
        "stat region.img /sparse",
        "extract region.img /sparse",
        "map region.img /sparse",
        "map region.img /vms/first.mem --vmm qemu",
        "who region.img 0 block:1 block:20",
        "create region.img /new --size 1",
        "mkdir region.img /dir",
        "put region.img content /put",
        "truncate region.img /new --size 2",
        "mv region.img /new /newer",
        "rm region.img /newer",
    ] {
        let done = sandbox.ok(&format!("{line} --json"));
        let value = done.json();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(value["schema"], format!("gmfs.{}/1", words[0]), "{line}");
        assert_eq!(value["gmfs"], env!("CARGO_PKG_VERSION"), "{line}");
        let mut found = BTreeSet::new();
        keys(&value, "", &mut found);
        let name = match (words[0], words.get(2), words.last()) {
            ("inspect", Some(view), _) => format!("inspect_{view}"),
            ("map", _, Some(&"qemu")) => "map_qemu".to_owned(),
            (command, ..) => command.to_owned(),
        };
        insta::assert_snapshot!(format!("keys_{name}"), found.into_iter().collect::<Vec<_>>().join("\n"));
    }
}

#[test]
fn inspect_keeps_the_contract() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let found = sandbox.ok("inspect region.img files --json").json();
    assert_eq!(found["image"], serde_json::json!({"kind": "file", "path": "region.img"}));
    assert_eq!(found["region"], serde_json::json!({"base": 0, "size": 64 << 20}));
    assert_eq!(found["superblock"]["uuid"], UUID);
    assert_eq!(found["superblock"]["label"], "guests");
    assert!(found["superblock"]["generation"].is_u64());
    let statfs = &found["statfs"];
    assert_eq!((&statfs["f_bsize"], &statfs["f_blocks"]), (&(2 << 20).into(), &32.into()));
    assert_eq!((&statfs["f_bfree"], &statfs["f_bavail"]), (&found["usage"]["free"], &found["usage"]["free"]));
    assert_eq!((&statfs["f_files"], &statfs["f_ffree"]), (&1024.into(), &1018.into()));
    let usage = &found["usage"];
    let sum: u64 =
        ["free", "data", "bad", "reserved", "metadata"].iter().map(|key| usage[*key].as_u64().unwrap()).sum();
    assert_eq!(sum, found["geometry"]["blocks"].as_u64().unwrap());
    let files = found["files"].as_array().unwrap();
    let paths: Vec<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/", "/sparse", "/vms", "/vms/first.mem", "/vms/old", "/vms/second.mem"]);
    assert_eq!(files[3]["extents"][0]["count"], 3);
    let superblock = sandbox.ok("inspect region.img superblock --json").json();
    assert_eq!(superblock.get("health"), None, "it reads two pages only");
}

#[test]
fn errors_are_objects_too() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.write("noise", &[7; 10000]);
    for (line, code) in [
        ("ls none --json", "not-found"),
        ("ls noise --json", "no-region"),
        ("ls . --json", "wrong-kind"),
        ("ls region.img /none --json", "not-found"),
        ("mkfs region.img --json", "holds-region"),
        ("mkfs new --size 1M --json", "too-small"),
        ("create region.img /a --size 1G --json", "no-space"),
        ("rm region.img /vms --json", "not-empty"),
        ("mkdir region.img /vms --json", "exists"),
        ("map region.img /sparse --vmm qemu --json", "hole"),
    ] {
        let done = sandbox.gmfs(line);
        assert_eq!((done.code, done.stderr.as_str()), (2, ""), "{line}: {done:?}");
        let value = done.json();
        assert_eq!(value["schema"], "gmfs.error/1", "{line}");
        assert_eq!(value["error"]["code"], code, "{line}: {value}");
        assert!(value["error"]["message"].is_string() && value["error"]["causes"].is_array(), "{line}");
    }
}

#[test]
fn findings_that_are_not_listed_are_in_the_summary_repaired_or_not() {
    const DAMAGED: u64 = 1200;
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 1400G -N 1024 -q");
    sandbox.ok("create region.img /big --size 1300G");
    // No two neighbours: they would be one finding.
    for page in (1..).step_by(2).take(1200) {
        images::poke(&sandbox, "region.img", page * 4096 + 100, b"damage");
    }
    let before = sandbox.gmfs("fsck -n region.img --json");
    assert_eq!(before.code, 4);
    let after = sandbox.gmfs("fsck -y region.img --json");
    assert_eq!(after.code, 1);
    for (found, repaired) in [(before.json(), 0), (after.json(), DAMAGED)] {
        let listed = found["findings"].as_array().unwrap().len() as u64;
        let more: u64 = found["not_listed"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert!(more > 0 && listed + more == DAMAGED, "{listed} listed, {more} not");
        assert_eq!(found["summary"], serde_json::json!({"note": 0, "warning": 0, "error": DAMAGED, "fatal": 0}));
        assert_eq!((&found["repaired"], &found["more_unchecked"]), (&repaired.into(), &0.into()));
    }
    assert_eq!(after.json()["verdict"], "clean");
}
