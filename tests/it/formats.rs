//! A region in a dump of every format that is read: the same files must come out, whichever tool took the dump.
#![allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]

use std::ops::Range;
use std::process::Stdio;

use serde_json::json;

use crate::dumpfiles::{Kdump, avml, flattened, lime};
use crate::images::{self, BLOCK, SIZE, Segment};
use crate::sandbox::{Done, Sandbox};

/// The address of the region in the machine's memory.
const BASE: u64 = 1 << 30;

/// A machine with some low memory and the sample region.
fn memory(sandbox: &Sandbox) -> Vec<Segment> {
    images::sample(sandbox);
    vec![
        Segment { address: 0, size: 1 << 20, bytes: vec![0xaa; 1 << 20] },
        Segment { address: BASE, size: SIZE, bytes: sandbox.read("region.img") },
    ]
}

/// The region in `image` must be the sample: it is found, listed, read and saved.
fn expect_sample(sandbox: &Sandbox, image: &str) {
    let found = sandbox.ok(&format!("scan {image} --json")).json();
    assert_eq!(found["regions"][0]["confidence"], "certain", "{image}");
    assert_eq!((&found["regions"][0]["base"], &found["regions"][0]["size"]), (&json!(BASE), &json!(SIZE)), "{image}");
    assert_eq!(sandbox.ok(&format!("tree {image}")).text(), sandbox.ok("tree region.img").text(), "{image}");
    assert!(sandbox.ok(&format!("cat {image} /vms/first.mem")).stdout == images::content(), "{image}");
    assert_eq!(sandbox.gmfs(&format!("fsck -n {image}")).code, 0, "{image}");
    sandbox.ok(&format!("save {image} -o saved -f"));
    assert!(sandbox.read("saved") == sandbox.read("region.img"), "{image}");
    let found = sandbox.ok(&format!("inspect {image} --json")).json();
    let presence = found["presence"].clone();
    let blocks = json!({"present": found["usage"]["data"], "partly": 0, "absent": 0});
    assert_eq!((&presence["blocks"], &presence["metadata"]["absent"]), (&blocks, &json!({})), "{image}");
    let about = sandbox.ok(&format!("inspect {image} --image --json")).json();
    assert_eq!((&about["presence"], &about["region"]["base"]), (&presence, &json!(BASE)), "{image}");
    let done = sandbox.fails_with(8, &format!("fsck -p {image}"), "a dump cannot be written");
    assert!(done.stderr.contains("gmfs repair IMAGE -o FILE"), "{done:?}");
}

#[test]
fn every_format_gives_the_same_files() {
    let sandbox = Sandbox::new();
    let memory = memory(&sandbox);
    let kdump = Kdump::new(&memory).bytes();
    let elf = images::elf(&memory);
    for (name, bytes, kind) in [
        ("kdump.flat", flattened(&kdump), "kdump"),
        ("kdump", kdump, "kdump"),
        ("elf.flat", flattened(&elf), "elf"),
        ("elf", elf, "elf"),
        ("lime", lime(&memory), "lime"),
        ("avml", avml(&memory), "lime"),
    ] {
        sandbox.write(name, &bytes);
        expect_sample(&sandbox, name);
        let found = sandbox.ok(&format!("inspect {name} --image --json")).json();
        assert_eq!(found["image"]["kind"], kind);
        assert_eq!(found["image"]["dump"]["flattened"], name.ends_with(".flat"));
        assert_eq!(found["memory"].as_array().unwrap().len(), 2, "{name}: {found}");
        sandbox.fails(&format!("ls {name} --base 0"), "not raw memory");
    }
    insta::assert_snapshot!("formats_image", sandbox.ok("inspect kdump --image").all());
    insta::assert_snapshot!("formats_image_json", sandbox.ok("inspect kdump --image --json").all());
    insta::assert_snapshot!("formats_summary", sandbox.ok("inspect kdump").all());
    insta::assert_snapshot!("formats_scan", sandbox.ok("scan avml").all());
    insta::assert_snapshot!("formats_image_file", sandbox.ok("inspect region.img --image").all());
}

/// Three parts of a dump of `memory`. The region is in all of them.
fn split(sandbox: &Sandbox, memory: &[Segment], release: &str, prefix: &str) {
    let ends = [0, BASE + 5 * BLOCK, BASE + 20 * BLOCK, 2 * BASE];
    for (number, pair) in ends.windows(2).enumerate() {
        let part = Kdump { part: Some(pair[0]..pair[1]), release, ..Kdump::new(memory) };
        sandbox.write(&format!("{prefix}{}", number + 1), &part.bytes());
    }
}

#[test]
fn parts_of_a_dump_are_one_dump() {
    let sandbox = Sandbox::new();
    let memory = memory(&sandbox);
    split(&sandbox, &memory, "6.1.0-test", "part.");
    for order in ["123", "132", "213", "231", "312", "321"] {
        let names: Vec<String> = order.chars().map(|number| format!("part.{number}")).collect();
        let image = names.join(" --part ");
        assert!(sandbox.ok(&format!("cat {image} /vms/first.mem")).stdout == images::content(), "{order}");
    }
    expect_sample(&sandbox, "part.2 --part part.3 --part part.1");
    // One part is in a stream of its own, because plain and flattened parts may be mixed.
    sandbox.write("flat.2", &flattened(&sandbox.read("part.2")));
    expect_sample(&sandbox, "part.3 --part flat.2 --part part.1");
    insta::assert_snapshot!("parts_one", sandbox.gmfs("ls part.2").all());
    insta::assert_snapshot!("parts_missing", sandbox.gmfs("ls part.3 --part part.1").all());
    insta::assert_snapshot!("parts_twice", sandbox.gmfs("ls part.1 --part part.2 --part part.2 --part part.3").all());
    let (_, mut other) = (split(&sandbox, &memory, "6.1.1-other", "other."), memory);
    insta::assert_snapshot!("parts_stranger", sandbox.gmfs("ls part.1 --part other.2 --part part.3").all());
    other.truncate(1);
    sandbox.write("whole", &Kdump::new(&other).bytes());
    for line in ["ls whole --part part.1", "ls region.img --part part.1", "save region.img --part part.1 -o x"] {
        let done = sandbox.fails(line, "file 1 is not part of a split dump");
        assert!(done.stderr.contains("--part is for dumps of"), "{done:?}");
    }
    for (line, code) in [
        ("ls part.2 --json", "missing-part"),
        ("ls part.1 --part part.1 --json", "same-part"),
        ("ls part.1 --part other.2 --part part.3 --json", "other-dump"),
        ("ls region.img --part part.1 --json", "not-split"),
        ("ls part.1 --part none --json", "not-found"),
    ] {
        assert_eq!(sandbox.gmfs(line).json()["error"]["code"], code, "{line}");
    }
}

#[test]
fn raw_memory_has_the_address_that_it_is_given() {
    let sandbox = Sandbox::new();
    let low = memory(&sandbox).remove(1).bytes;
    // This is what pmemsave writes: other memory, then the region.
    sandbox.write("raw", &[vec![0x11; 1 << 20], low].concat());
    let start = BASE - (1 << 20);
    let image = format!("raw --base {start:#x}");
    expect_sample(&sandbox, &image);
    assert_eq!(sandbox.ok(&format!("ls {image} --region 64M:1G")).text(), "sparse\nvms\n");
    let who = sandbox.ok(&format!("who {image} {:#x} --json", BASE + BLOCK)).json();
    assert_eq!(who["addresses"][0]["path"], "/vms/first.mem");
    sandbox.fails(&format!("ls {image} --region 64M:0"), "as --base says where that was");
    sandbox.fails("ls raw --base 0", "no region was found");
    let done = sandbox.gmfs("ls raw --base 0 --part raw");
    assert!(done.code == 2 && done.stderr.contains("cannot be used with"), "{done:?}");
    for line in ["repair raw --base 1G", "fsck -p raw --base 1G"] {
        let done = sandbox.gmfs(line);
        assert!(done.code != 0 && done.stderr.contains("a dump cannot be written"), "{line}: {done:?}");
    }
    sandbox.fails("ls /dev/null --base 0", "null");
    insta::assert_snapshot!("raw_image", sandbox.ok(&format!("inspect {image} --image")).all());
}

/// What a dump of the sample lacks, and why, with the result of `fsck`.
fn lacking(sandbox: &Sandbox, dump: Kdump<'_>) -> (Done, serde_json::Value) {
    sandbox.write("dump", &dump.bytes());
    let text = sandbox.gmfs("fsck -n dump --region 64M:1G");
    (text, sandbox.gmfs("fsck -n dump --region 64M:1G --json").json())
}

const COPY_A: Range<u64> = BASE..BASE + BLOCK;
const COPY_B: Range<u64> = BASE + SIZE - BLOCK..BASE + SIZE;
/// The pages of copy B after its superblock.
const TABLES_B: Range<u64> = BASE + SIZE - BLOCK + 4096..BASE + SIZE;
const TABLES_A: Range<u64> = BASE + 4096..BASE + BLOCK;

#[test]
fn fsck_tells_what_it_cannot_tell() {
    let sandbox = Sandbox::new();
    let memory = memory(&sandbox);
    let dump = || Kdump { level: 31, ..Kdump::new(&memory) };
    // One complete copy is enough, whichever it is.
    for gone in [COPY_A, COPY_B] {
        let (text, value) = lacking(&sandbox, Kdump { excluded: vec![gone], ..dump() });
        assert_eq!((text.code, &value["clean"]), (0, &json!(true)), "{text:?}");
        assert!(!value["unchecked"].as_array().unwrap().is_empty(), "{value}");
        assert!(text.text().contains("left out of the dump"), "{text:?}");
    }
    // Half of each copy is not enough.
    for (reason, words, broken) in [
        ("excluded", "left out of the dump", Kdump { excluded: vec![TABLES_A, TABLES_B], ..dump() }),
        ("undecodable", "cannot be decoded", Kdump { spoilt: vec![TABLES_A, TABLES_B], ..dump() }),
    ] {
        let (text, value) = lacking(&sandbox, broken);
        assert_eq!((text.code, &value["clean"], &value["exit_status"]), (8, &json!(false), &json!(8)), "{text:?}");
        assert!(text.text().contains("whether it is clean cannot be told"), "{text:?}");
        assert!(text.text().contains(words), "{reason}: {text:?}");
        let unchecked = value["unchecked"].as_array().unwrap();
        assert!(!unchecked.is_empty() && value["findings"].as_array().unwrap().is_empty(), "{value}");
        insta::assert_snapshot!(format!("fsck_{reason}"), text.all());
    }
}

#[test]
fn a_dump_without_the_region_says_so_and_what_to_do() {
    let sandbox = Sandbox::new();
    let memory = memory(&sandbox);
    let gone = || vec![BASE..BASE + SIZE];
    sandbox.write("filtered", &Kdump { level: 31, excluded: gone(), ..Kdump::new(&memory) }.bytes());
    // The pages of the last MiB that is not zero are cut off: copy B, and the end of a file.
    let cut = Kdump::new(&memory).bytes();
    sandbox.write("cut", &cut[..cut.len() - (1 << 20)]);
    let low = &memory[..1];
    sandbox.write("kernel", &Kdump::new(low).bytes());
    sandbox.write("lime", &lime(low));
    sandbox.write("core", &images::elf(low));
    for name in ["filtered", "kernel", "lime", "core"] {
        let named = sandbox.gmfs(&format!("ls {name} --region 64M:1G"));
        insta::assert_snapshot!(format!("lacking_{name}"), named.all());
        let value = sandbox.gmfs(&format!("cat {name} /vms/first.mem --region 64M:1G --json"));
        assert_eq!(value.code, 2);
        insta::assert_snapshot!(format!("lacking_{name}_search"), sandbox.gmfs(&format!("ls {name}")).all());
        for line in ["save NAME --region 64M:1G -o out", "fsck -n NAME --region 64M:1G", "inspect NAME --region 64M:1G"]
        {
            let done = sandbox.gmfs(&line.replace("NAME", name));
            assert!(done.code != 0 && done.stderr.contains("does not hold the memory at 0x40000000"), "{done:?}");
        }
        assert!(!sandbox.exists("out"));
        assert_eq!(sandbox.gmfs(&format!("ls {name} --region 64M:1G --json")).json()["error"]["code"], "not-in-dump");
        sandbox.ok(&format!("inspect {name} --image --region 64M:1G"));
    }
    // What is left of the cut dump is used.
    assert_eq!(sandbox.ok("ls cut").text(), "sparse\nvms\n");
    let found = sandbox.ok("inspect cut --json").json();
    for part in ["metadata", "data"] {
        assert!(found["presence"][part]["absent"]["truncated"].as_u64().unwrap() > 0, "{found}");
    }
    let done = sandbox.fails("cat cut /vms/first.mem", "the dump's file is too short");
    assert!(done.stdout.is_empty());
    let incomplete = Kdump { incomplete: true, ..Kdump::new(low) }.bytes();
    sandbox.write("incomplete", &incomplete);
    sandbox.fails("ls incomplete", "its writer ran out of space");
}

/// It is unknown whether anything is wrong with superblocks that are absent. A repaired copy gets new ones.
#[test]
fn a_region_whose_superblocks_were_left_out_is_not_called_damaged() {
    let sandbox = Sandbox::new();
    let memory = memory(&sandbox);
    let excluded = vec![COPY_A.start..TABLES_A.start, COPY_B.start..TABLES_B.start];
    let (text, value) = lacking(&sandbox, Kdump { level: 31, excluded, ..Kdump::new(&memory) });
    assert!(text.code == 8 && text.text().contains("whether it is clean cannot be told"), "{text:?}");
    assert_eq!((&value["verdict"], &value["findings"]), (&json!("unknown"), &json!([])), "{value}");
    let copies: Vec<_> = value["unchecked"].as_array().unwrap().iter().map(|one| &one["at"]["copy"]).collect();
    assert_eq!(copies, [&json!("A"), &json!("B")], "{value}");
    let done = sandbox.fails("ls dump --region 64M:1G", "both copies of the superblock are lost");
    assert!(done.stderr.contains("`gmfs repair IMAGE -o FILE`"), "{done:?}");
    assert_eq!(sandbox.gmfs("repair dump --region 64M:1G -o copy").code, 1);
    assert_eq!(sandbox.ok("tree copy").text(), sandbox.ok("tree region.img").text());
    assert!(sandbox.ok("cat copy /vms/first.mem").stdout == images::content());
}

/// A repaired copy has holes in its files where the dump had nothing, so it is not the region.
#[test]
fn a_repaired_copy_says_what_memory_it_lacks() {
    let sandbox = Sandbox::new();
    let memory = memory(&sandbox);
    // The second block of /vms/first.mem, the tables of copy A, and a free block.
    let excluded = vec![TABLES_A, BASE + 2 * BLOCK..BASE + 3 * BLOCK, BASE + 25 * BLOCK..BASE + 26 * BLOCK];
    sandbox.write("dump", &Kdump { level: 31, excluded, ..Kdump::new(&memory) }.bytes());
    let done = sandbox.gmfs("repair dump -o copy --json");
    assert!(done.code == 9 && done.stderr.contains("2 MiB in blocks that hold guest memory are holes"), "{done:?}");
    let value = done.json();
    assert_eq!(
        value["absent"],
        json!([{"offset": 2 * BLOCK, "length": BLOCK, "reason": "excluded", "address": 2 * BLOCK, "physical": null}])
    );
    assert_eq!(value["exit_status"], 9);
    // Memory that is restored from elsewhere, or that holds nothing, is not reported.
    sandbox.write("dump", &Kdump { level: 31, excluded: vec![TABLES_A], ..Kdump::new(&memory) }.bytes());
    let done = sandbox.gmfs("repair dump -o whole --json");
    assert_eq!((done.code, &done.json()["absent"]), (1, &json!([])));
    assert!(sandbox.read("whole") == sandbox.read("region.img"));
}

/// QEMU's dump-guest-memory writes a note of its own. With paging=on, memory without a physical address cannot be used.
#[test]
fn a_dump_of_qemu_without_the_region_says_why() {
    let sandbox = Sandbox::new();
    let mut memory = memory(&sandbox);
    let note =
        [&5_u32.to_le_bytes()[..], &8_u32.to_le_bytes(), &0_u32.to_le_bytes(), b"QEMU\0\0\0\0", &[0; 8]].concat();
    memory.insert(0, Segment { address: 0, size: note.len() as u64, bytes: note });
    let header = |number: usize| 64 + 56 * number;
    let mut paging = images::elf(&memory);
    paging[header(0)..][..4].copy_from_slice(&4_u32.to_le_bytes());
    paging[header(2) + 24..][..8].fill(0xff);
    sandbox.write("paging", &paging);
    memory.remove(2);
    let mut limited = images::elf(&memory);
    limited[header(0)..][..4].copy_from_slice(&4_u32.to_le_bytes());
    sandbox.write("limited", &limited);
    for (name, why, next) in [
        (
            "paging",
            "it was made with paging=on (-p), and 64 MiB in its file have no address",
            "dump-guest-memory without -p",
        ),
        ("limited", "the machine had no memory there, or the dump was limited", "without -p and limits"),
    ] {
        for line in ["ls NAME", "ls NAME --region 64M:1G", "save NAME --region 64M:1G -o out"] {
            let done = sandbox.fails(&line.replace("NAME", name), why);
            assert!(done.stderr.contains(next), "{done:?}");
        }
    }
    assert!(sandbox.ok("inspect --image paging").text().contains("have no address (paging=on)"));
}

#[test]
fn what_is_missing_of_a_file_is_named_or_left_out_and_listed() {
    let sandbox = Sandbox::new();
    let memory = memory(&sandbox);
    // The second block of /vms/first.mem was filtered, and a page of its third block cannot be decoded.
    let excluded = vec![BASE + 2 * BLOCK..BASE + 3 * BLOCK];
    let spoilt = vec![BASE + 3 * BLOCK + 8192..BASE + 3 * BLOCK + 12288];
    sandbox.write("dump", &Kdump { level: 8, excluded, spoilt, ..Kdump::new(&memory) }.bytes());
    let mut expected = images::content();
    for gap in [2 << 20..4 << 20, (4 << 20) + 8192..(4 << 20) + 12288] {
        expected[gap].fill(0);
    }
    insta::assert_snapshot!("missing_cat", sandbox.gmfs("cat dump /vms/first.mem").all());
    insta::assert_snapshot!("missing_extract", sandbox.gmfs("extract dump /vms/first.mem").all());
    assert!(!sandbox.exists("first.mem") && !sandbox.exists("first.mem.partial"));
    let done = sandbox.gmfs("extract dump /vms/first.mem --sparse-absent");
    insta::assert_snapshot!("missing_extract_sparse", done.all());
    assert!(sandbox.read("first.mem") == expected);
    let list = String::from_utf8(sandbox.read("first.mem.missing")).unwrap();
    insta::assert_snapshot!("missing_list", list);
    // A list is not replaced without -f, and a list that is not valid any more is removed.
    std::fs::remove_file(sandbox.path("first.mem")).unwrap();
    sandbox.fails("extract dump /vms/first.mem --sparse-absent", "first.mem.missing");
    assert!(!sandbox.exists("first.mem") && !sandbox.exists("first.mem.partial"));
    sandbox.ok("extract region.img /vms/first.mem -f");
    assert!(!sandbox.exists("first.mem.missing") && sandbox.read("first.mem") == images::content());
    // One list for a whole directory.
    let done = sandbox.gmfs("extract dump / all --sparse-absent --missing all.missing --json");
    assert_eq!(done.code, 1, "{done:?}");
    let first = done.json()["files"].as_array().unwrap().iter().find(|file| file["path"] == "/vms/first.mem").cloned();
    let gap = json!({"offset": BLOCK, "length": BLOCK, "reason": "excluded", "address": BASE + 2 * BLOCK, "physical": BASE + 2 * BLOCK});
    assert_eq!(first.unwrap()["absent"][0], gap);
    assert!(String::from_utf8(sandbox.read("all.missing")).unwrap().contains("# file: all/vms/first.mem\n"));
    assert!(!sandbox.exists("all/vms/first.mem.missing") && sandbox.read("all/vms/first.mem") == expected);
    sandbox.ok("extract dump /vms/second.mem --sparse-absent --missing none.missing");
    assert_eq!(sandbox.read("none.missing").iter().filter(|byte| **byte == b'\n').count(), 2);
}

#[test]
fn cat_leaves_holes_in_a_file_and_in_nothing_else() {
    let sandbox = Sandbox::new();
    let memory = memory(&sandbox);
    // The last block of /vms/first.mem is missing, so the output ends with a hole.
    let excluded = vec![BASE + 3 * BLOCK..BASE + 4 * BLOCK];
    sandbox.write("dump", &Kdump { excluded, ..Kdump::new(&memory) }.bytes());
    let mut expected = images::content();
    expected[4 << 20..].fill(0);
    let cat = ["cat", "dump", "/vms/first.mem", "--sparse-absent"];
    let into = |file: std::fs::File| -> Done {
        sandbox.command(&cat).stdout(file).stderr(Stdio::piped()).output().unwrap().into()
    };
    let done = into(std::fs::File::create_new(sandbox.path("out")).unwrap());
    assert_eq!(done.code, 1, "{done:?}");
    assert!(sandbox.read("out") == expected);
    insta::assert_snapshot!("cat_sparse", done.stderr);
    // A pipe has no holes, and neither has a file that is appended to or has content there already.
    let piped = sandbox.run(&cat);
    assert!(piped.code == 2 && piped.stdout.is_empty(), "{piped:?}");
    insta::assert_snapshot!("cat_sparse_pipe", piped.all());
    let appended = std::fs::File::options().append(true).create(true).open(sandbox.path("log")).unwrap();
    assert!(into(appended).stderr.contains("no file in which holes can be left"));
    sandbox.write("full", &[1; 10]);
    assert!(into(std::fs::File::options().write(true).open(sandbox.path("full")).unwrap()).code == 2);
    assert_eq!(sandbox.read("full"), [1; 10]);
    // A complete file needs no holes.
    let second = sandbox.ok("cat dump /vms/second.mem --sparse-absent");
    assert_eq!(second.stdout.len() as u64, 2 * BLOCK);
}
