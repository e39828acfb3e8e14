//! Two images compared: what is not the same, and what cannot be compared.

use serde_json::{Value, json};

use crate::dumpfiles::{Kdump, avml, flattened, lime, unpack};
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

/// Where the region is in the memory that dumps show.
const BASE: u64 = 4 << 30;

/// How an image is named as the first one, and as the second one.
type Kind = [String; 2];

/// Makes an image of each kind from a region file, and names them with a prefix.
fn each_kind(sandbox: &Sandbox, region: &str, prefix: &str) -> Vec<Kind> {
    let bytes = sandbox.read(region);
    let whole = [Segment { address: BASE, size: SIZE, bytes: bytes.clone() }];
    let middle = BASE + SIZE / 2;
    let part = |range: std::ops::Range<u64>| Kdump { part: Some(range), ..Kdump::new(&whole) }.bytes();
    let zeros = vec![0; 4096];
    for (name, content) in [
        ("elf", images::elf(&whole)),
        ("kdump", Kdump::new(&whole).bytes()),
        ("flat", flattened(&Kdump::new(&whole).bytes())),
        ("part1", part(BASE..middle)),
        ("part2", part(middle..BASE + SIZE)),
        ("lime", lime(&whole)),
        ("avml", avml(&whole)),
        // Memory from the page before the region on.
        ("raw", [zeros, bytes].concat()),
    ] {
        sandbox.write(&format!("{prefix}{name}"), &content);
    }
    sandbox.succeeds(&format!("save {region} -o {prefix}save"));
    sandbox.succeeds(&format!("dump {region} -o {prefix}meta"));
    let plain = ["save", "elf", "kdump", "flat", "lime", "avml", "meta"].map(|name| {
        let image = format!("{prefix}{name}");
        [image.clone(), image]
    });
    let base = BASE - 4096;
    let mut kinds = vec![[region.to_owned(), region.to_owned()]];
    kinds.extend(plain);
    kinds.push(["", "other-"].map(|of| format!("{prefix}part1 --{of}part {prefix}part2")));
    kinds.push(["", "other-"].map(|of| format!("{prefix}raw --{of}base {base}")));
    kinds
}

/// The options of the first image come after the second one: the images come first.
fn line(first: &str, second: &str, more: &str) -> String {
    let (first, options) = first.split_once(' ').unwrap_or((first, ""));
    format!("diff {first} {second} {options} {more}")
}

/// Every kind of image against every other one: of the same region, and of one in which a guest has written a byte.
#[test]
fn any_two_kinds_of_images_are_compared() {
    let sandbox = two();
    let at = address(&sandbox, "other.img", "/vms/first.mem");
    images::poke(&sandbox, "other.img", at + BLOCK + 17, b"guest");
    let (before, after) = (each_kind(&sandbox, "region.img", "a-"), each_kind(&sandbox, "other.img", "b-"));
    let has_no_content = |kind: &Kind| kind[0].ends_with("meta");
    let mut compared = 0;
    for a in &before {
        for (b, same) in before.iter().map(|b| (b, true)).chain(after.iter().map(|b| (b, false))) {
            if same {
                let metadata = sandbox.gmfs(&line(&a[0], &b[1], ""));
                assert_eq!(metadata.code, 0, "{a:?} {b:?}: {metadata:?}");
            }
            let answer = sandbox.gmfs(&line(&a[0], &b[1], "--data --json"));
            let lacking = has_no_content(a) || has_no_content(b);
            let (code, result) = if lacking {
                (2, "unknown")
            } else if same {
                (0, "same")
            } else {
                (1, "changed")
            };
            assert_eq!((answer.code, &answer.json()["result"]), (code, &result.into()), "{a:?} {b:?}: {answer:?}");
            let answer = answer.json();
            let first = of(&answer, "/vms/first.mem");
            if code == 1 {
                let range = json!([{ "state": "changed", "reason": null, "offset": BLOCK, "length": 4096 }]);
                assert_eq!(first["ranges"], range, "{a:?} {b:?}");
                assert_eq!(of(&answer, "/vms/second.mem")["content"], "same");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 10 * 20);
}

/// Where the byte at a physical address is in an ELF dump of 64 bits.
fn in_elf(bytes: &[u8], address: u64) -> usize {
    let number = |at: usize, len: usize| {
        let mut word = [0; 8];
        word[..len].copy_from_slice(&bytes[at..at + len]);
        u64::from_le_bytes(word)
    };
    let (table, count) = (number(32, 8), number(56, 2));
    let headers = (0..count).map(|n| usize::try_from(table + n * 56).unwrap());
    let mut segments = headers.map(|at| (number(at + 8, 8), number(at + 24, 8), number(at + 32, 8)));
    let found = segments.rfind(|(_, start, len)| (*start..start + len).contains(&address)).unwrap();
    usize::try_from(found.0 + address - found.1).unwrap()
}

/// The hand-over of a kernel, when it jumped and as the next kernel found it: the same files in the same pages.
#[test]
fn a_hand_over_before_and_after_the_kexec_is_compared() {
    let Some(dir) = gmfs_testing::fixtures("luo") else { return };
    let sandbox = Sandbox::new();
    let names = ["main-2-frozen", "main-3-early", "main-4-boot", "main-9-frozen-again"];
    let files = names.map(|name| format!("{name}.mini.elf"));
    for file in &files {
        unpack(&sandbox, &dir, file);
    }
    let [frozen, early, boot, again] = &files;
    let count = |answer: &Value, what: &str, is: &str| {
        let files = answer["files"].as_array().unwrap();
        files.iter().filter(|file| file[what] == is).count()
    };
    let content = |answer: &Value, is| count(answer, "content", is);
    for other in [frozen, early, boot] {
        let answer = sandbox.ok(&format!("diff {frozen} {other} --data --json")).json();
        // The preserved map does not have the folios of three files; the marks in page structures do.
        assert_eq!((&answer["result"], content(&answer, "changed")), (&"same".into(), 0), "{other}");
        assert_eq!((count(&answer, "mapping", "unknown"), &answer["facts_differing"]), (0, &json!([])), "{other}");
        assert!(content(&answer, "same") > 20, "{other}: {answer:#}");
    }
    // A byte of a file is another one after the kexec.
    let mut bytes = sandbox.read(boot);
    let at = in_elf(&bytes, address(&sandbox, boot, "/folios/0x4"));
    assert!(bytes[at..].starts_with(b"LUOTEST file="));
    bytes[at + 20] ^= 1;
    sandbox.write("changed.elf", &bytes);
    let answer = sandbox.fails_with(1, &format!("diff {frozen} changed.elf --data --json"), "").json();
    assert_eq!((&answer["result"], content(&answer, "changed")), (&"changed".into(), 1));
    // The next hand-over is another one, and a region is no hand-over.
    sandbox.fails_with(1, &format!("diff {frozen} {again}"), "");
    images::sample(&sandbox);
    for line in [format!("diff {frozen} region.img --data --json"), format!("diff region.img {frozen} --data --json")] {
        let answer = sandbox.fails_with(1, &line, "").json();
        assert_eq!(answer["facts_differing"][0]["name"], "layout", "{answer:#}");
    }
}
