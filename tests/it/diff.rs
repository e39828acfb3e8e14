//! Two images compared: what is not the same, and what cannot be compared.

use serde_json::{Value, json};

use crate::images::{self, BLOCK, SIZE, Segment};
use crate::sandbox::Sandbox;

/// A region and a copy of it.
fn two() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok("save region.img -o other.img");
    sandbox
}

/// The answer for a file, by its path in the other image, or in the first one.
fn of<'v>(answer: &'v Value, path: &str) -> &'v Value {
    let files = answer["files"].as_array().unwrap();
    files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("no {path} in {answer:#}"))
}

fn address(sandbox: &Sandbox, image: &str, path: &str) -> u64 {
    sandbox.ok(&format!("stat {image} {path} --json")).json()["files"][0]["extents"][0]["address"].as_u64().unwrap()
}

/// A dump of a region file that leaves out some of it.
fn elf(sandbox: &Sandbox, image: &str, name: &str, parts: &[(u64, u64)]) {
    let region = sandbox.read(image);
    let part = |(from, to): &(u64, u64)| Segment {
        address: (1 << 32) + from,
        size: to - from,
        bytes: region[usize::try_from(*from).unwrap()..usize::try_from(*to).unwrap()].to_vec(),
    };
    sandbox.write(name, &images::elf(&parts.iter().map(part).collect::<Vec<_>>()));
}

#[test]
fn a_copy_is_the_same_wherever_it_is() {
    let sandbox = two();
    sandbox.ok("dump region.img -o region.meta");
    elf(&sandbox, "region.img", "vmcore", &[(0, SIZE)]);
    for other in ["other.img", "vmcore", "region.img"] {
        let said = sandbox.ok(&format!("diff region.img {other}")).text();
        assert!(said.contains("6 the same; content was not compared"), "{said}");
        let said = sandbox.ok(&format!("diff {other} region.img --data")).text();
        assert!(said.ends_with("6 the same\n"), "{said}");
    }
    sandbox.ok("diff region.meta vmcore");
    sandbox.ok("diff region.img vmcore --other-region 64M:4G --data");
    sandbox.ok("diff vmcore region.img --region 64M:4G --data --json");
    sandbox.fails("diff region.img vmcore --other-region 32M", "no region of 32 MiB");
    sandbox.fails("diff region.img none", "none");
}

#[test]
fn what_is_not_the_same_is_named() {
    let sandbox = two();
    sandbox.ok("rm other.img /vms/second.mem");
    sandbox.ok("mv other.img /sparse /vms/moved");
    sandbox.ok("create other.img /new --size 1");
    sandbox.ok("mkdir other.img /vms/old/inside");
    sandbox.ok("truncate other.img /vms/first.mem --size 6M");
    let at = address(&sandbox, "other.img", "/vms/first.mem");
    images::poke(&sandbox, "other.img", at + BLOCK + 4095, b"ab");
    let answer = sandbox.fails_with(1, "diff region.img other.img --data --json", "").json();
    assert_eq!((&answer["result"], &answer["content_compared"]), (&"changed".into(), &"read".into()));
    assert_eq!(answer["facts_differing"], json!([]));
    let change = |path: &str| of(&answer, path)["change"].clone();
    assert_eq!(change("/vms/second.mem"), "removed");
    assert_eq!((change("/new"), change("/vms/old/inside")), ("created".into(), "created".into()));
    let moved = of(&answer, "/vms/moved");
    assert_eq!(
        (&moved["change"], &moved["path_before"], &moved["content"]),
        (&"moved".into(), &"/sparse".into(), &"same".into())
    );
    let first = of(&answer, "/vms/first.mem");
    assert_eq!((&first["change"], &first["content"]), (&"changed".into(), &"changed".into()));
    assert_eq!((&first["size_before"], &first["size_after"]), (&(BLOCK * 5 / 2).into(), &(BLOCK * 3).into()));
    // Both pages that the two bytes are in.
    assert_eq!(first["ranges"], json!([{ "state": "changed", "reason": null, "offset": BLOCK, "length": 8192 }]));
    assert_eq!(of(&answer, "/vms/old")["change"], "none");
    let shown = sandbox.fails_with(1, "diff region.img other.img", "").text();
    for line in [
        "/vms/second.mem: only in the first image",
        "/new: only in the second image",
        "/sparse: moved to /vms/moved",
        "/vms/first.mem: 5 MiB (5242880 bytes) and 6 MiB (6291456 bytes)",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
    // The same path, and another file in other blocks.
    sandbox.write("content", b"content");
    sandbox.ok("put -f region.img content /vms/first.mem");
    let answer = sandbox.fails_with(1, "diff region.img other.img --json", "").json();
    let first = of(&answer, "/vms/first.mem");
    assert_eq!((&first["mapping"], &first["content"]), (&"changed".into(), &"not-compared".into()));
}

#[test]
fn what_either_lacks_is_never_the_same() {
    let sandbox = two();
    let at = address(&sandbox, "region.img", "/vms/first.mem");
    elf(&sandbox, "region.img", "vmcore", &[(0, at + 8192), (at + 12288, SIZE)]);
    sandbox.ok("diff region.img vmcore");
    for (line, reason) in [
        ("region.img vmcore", "not-in-other"),
        ("vmcore other.img", "not-in-image"),
        ("vmcore vmcore", "not-in-either"),
    ] {
        let answer = sandbox.fails_with(2, &format!("diff {line} --data --json"), "").json();
        let first = of(&answer, "/vms/first.mem");
        let range = json!([{ "state": "unknown", "reason": reason, "offset": 8192, "length": 4096 }]);
        assert_eq!(
            (&answer["result"], &first["content"], &first["ranges"]),
            (&"unknown".into(), &"unknown".into(), &range)
        );
        assert_eq!(of(&answer, "/vms/second.mem")["content"], "same");
    }
    let done =
        sandbox.fails_with(2, "diff region.img vmcore --data", "cannot tell of everything whether it is the same");
    assert!(done.text().contains("the second image lacks it"), "{done:?}");
    // A metadata dump has no content.
    sandbox.ok("dump other.img -o other.meta");
    sandbox.fails_with(2, "diff region.img other.meta --data", "");
    // What differs elsewhere differs, whatever is lacking.
    images::poke(&sandbox, "other.img", at, b"x");
    sandbox.fails_with(1, "diff vmcore other.img --data", "");
}

#[test]
fn seals_are_compared_without_reading() {
    let sandbox = two();
    sandbox.fails_with(2, "diff region.img other.img --seals", "");
    for image in ["region.img", "other.img"] {
        sandbox.ok(&format!("seal {image} -q"));
    }
    let said = sandbox.ok("diff region.img other.img --seals").text();
    assert!(said.contains("content was not read: what it was when it was sealed was compared"), "{said}");
    // What was written since is not seen: it is not what was sealed.
    let at = address(&sandbox, "other.img", "/vms/first.mem");
    images::poke(&sandbox, "other.img", at + BLOCK, b"guest");
    sandbox.ok("diff region.img other.img --seals");
    sandbox.fails_with(1, "diff region.img other.img --data", "");
    sandbox.ok("seal other.img --again -q");
    let answer = sandbox.fails_with(1, "diff region.img other.img --seals --json", "").json();
    assert_eq!(
        (&answer["content_compared"], &of(&answer, "/vms/first.mem")["content"]),
        (&"seals".into(), &"changed".into())
    );
    assert_eq!(of(&answer, "/sparse")["content"], "same");
    // They are in the metadata dump, too.
    sandbox.ok("dump region.img -o region.meta");
    sandbox.ok("diff region.img region.meta --seals");
    sandbox.ok("unseal region.img /sparse -q");
    let answer = sandbox.gmfs("diff region.meta region.img --seals --json").json();
    assert_eq!((&answer["result"], &of(&answer, "/sparse")["content"]), (&"unknown".into(), &"unknown".into()));
}

#[test]
fn other_regions_differ_and_their_files_are_matched_by_path() {
    let sandbox = two();
    sandbox.ok("mkfs new.img --size 32M -L other -q");
    sandbox.ok("mkdir new.img /vms");
    sandbox.write("content", &images::content());
    sandbox.ok("put new.img content /vms/first.mem");
    let answer = sandbox.fails_with(1, "diff region.img new.img --data --json", "").json();
    let facts: Vec<&str> =
        answer["facts_differing"].as_array().unwrap().iter().map(|fact| fact["name"].as_str().unwrap()).collect();
    assert_eq!(facts, ["uuid", "label", "size"]);
    assert_eq!(of(&answer, "/vms/first.mem")["content"], "same");
    assert_eq!(of(&answer, "/sparse")["change"], "removed");
    images::hostile(&sandbox);
    let done = sandbox.fails_with(1, "diff hostile.img new.img -v", "");
    assert!(!done.stdout.contains(&0x1b), "{done:?}");
}
