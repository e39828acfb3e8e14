//! Reads dumps that QEMU and makedumpfile wrote, with every command that reads memory, and compares the result with the
//! content of the memory. The dumps have a window of pages that contain their own address, and no region.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::dumpfiles::unpack;
use crate::sandbox::Sandbox;

/// A captured dump, unpacked: its name on the command line, and what is recorded about it.
struct Case {
    name: String,
    image: String,
    truth: Value,
}

fn cases(sandbox: &Sandbox) -> Vec<Case> {
    let Some(dir) = gmfs_testing::fixtures("dumps") else { return Vec::new() };
    let truth: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("truth.json")).unwrap()).unwrap();
    let mut cases = Vec::new();
    for (name, truth) in truth["dumps"].as_object().unwrap() {
        let files: Vec<&str> =
            truth["fixtures"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
        for file in &files {
            unpack(sandbox, &dir, file);
        }
        cases.push(Case { name: name.clone(), image: files.join(" --part "), truth: truth.clone() });
    }
    assert!(cases.len() > 10);
    cases
}

impl Case {
    fn window(&self) -> (u64, u64) {
        (self.truth["window"]["base"].as_u64().unwrap(), self.truth["window"]["size"].as_u64().unwrap())
    }

    /// The ranges of the window that are missing, in bytes: `[offset, length]`.
    fn missing(&self) -> Vec<(u64, u64)> {
        let page = self.truth["window"]["page"].as_u64().unwrap();
        let ranges = self.truth["window"]["missing_ranges"].as_array().unwrap().iter();
        let number = |value: &Value| value.as_u64().unwrap();
        ranges.map(|pair| (number(&pair[0]) * page, (number(&pair[1]) - number(&pair[0])) * page)).collect()
    }
}

#[test]
fn what_they_are_is_told() {
    let sandbox = Sandbox::new();
    for case in cases(&sandbox) {
        let done = sandbox.gmfs(&format!("scan {} --json", case.image));
        assert_eq!(done.code, 1, "{}: {done:?}", case.name);
        let scanned = done.json();
        assert_eq!(scanned["regions"], json!([]), "{}", case.name);
        let (base, size) = case.window();
        let line = format!("inspect {} --image --region {size}:{base} --json", case.image);
        let found = sandbox.ok(&line).json();
        assert_eq!(found["image"], scanned["image"], "{}", case.name);
        let (dump, file) = (&found["image"]["dump"], &case.truth["files"][0]);
        assert_eq!(dump["flattened"], file["flattened"], "{}", case.name);
        assert_eq!(dump["byte_order"], if file["endian"] == "<" { "little" } else { "big" }, "{}", case.name);
        let kdump = file["format"] == "kdump";
        assert_eq!(found["image"]["kind"], if kdump { "kdump" } else { "elf" }, "{}", case.name);
        if kdump {
            assert_eq!(dump["version"], file["header_version"], "{}", case.name);
            assert_eq!(dump["page_size"], file["block_size"], "{}", case.name);
            assert_eq!(dump["dump_level"], file["dump_level"], "{}", case.name);
        }
        let parts = case.truth["files"].as_array().unwrap().len();
        assert_eq!(dump["parts"].as_array().unwrap().len(), if parts > 1 { parts } else { 0 }, "{}", case.name);
        // The dump does not record the kernel.
        assert_eq!((&dump["kernel"], &dump["crashed"]), (&Value::Null, &Value::Null), "{}", case.name);
        let missing: u64 = case.missing().iter().map(|(_, length)| length).sum();
        assert_eq!(found["range"]["present"], size - missing, "{}", case.name);
        assert_eq!(found["region"], json!({"base": base, "size": size}), "{}", case.name);
        let memory = found["memory"].as_array().unwrap();
        assert!(memory.iter().any(|range| range["state"] == "present"), "{}", case.name);
    }
}

#[test]
fn the_memory_is_saved_as_it_was() {
    let sandbox = Sandbox::new();
    for case in cases(&sandbox) {
        let (base, size) = case.window();
        let done = sandbox.gmfs(&format!("save {} --region {size}:{base:#x} -o saved -f --json", case.image));
        let missing = case.missing();
        assert_eq!(done.code, i32::from(!missing.is_empty()), "{}: {done:?}", case.name);
        let number = |value: &Value| value.as_u64().unwrap();
        let absent: Vec<(u64, u64)> = done.json()["absent"]
            .as_array()
            .unwrap()
            .iter()
            .map(|gap| (number(&gap["offset"]), number(&gap["length"])))
            .collect();
        assert_eq!(absent, missing, "{}", case.name);
        let digest: String = Sha256::digest(sandbox.read("saved")).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, case.truth["window"]["sha256_missing_as_zero"], "{}", case.name);
        // There is no region in it. The error says so, and what is in it.
        let done = sandbox.fails(&format!("ls {}", case.image), "no region was found");
        assert!(done.stderr.contains("the dump holds ") && done.stderr.contains("--region SIZE:BASE"), "{done:?}");
        sandbox.fails(&format!("cat {} /f --region {size}:{base}", case.image), "no region: superblock A");
    }
}

#[test]
fn they_are_shown_to_people() {
    let sandbox = Sandbox::new();
    let cases = cases(&sandbox);
    for (name, snapshot) in [
        ("mini/mini-split-l.*", "split"),
        ("mini/mini-incomplete-c-d1", "incomplete"),
        ("mini/mini-mdf-E-d1.flat", "flat"),
    ] {
        let Some(case) = cases.iter().find(|case| case.name == name) else { continue };
        let (base, size) = case.window();
        let shown = sandbox.ok(&format!("inspect {} --image --region {size}:{base}", case.image)).all();
        insta::assert_snapshot!(format!("captured_{snapshot}"), shown);
        insta::assert_snapshot!(format!("captured_{snapshot}_ls"), sandbox.gmfs(&format!("ls {}", case.image)).all());
    }
}
