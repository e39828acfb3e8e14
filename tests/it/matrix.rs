//! Every problem of the catalogue on the command line: it is made, found, repaired or refused, and undone, and files
//! are read in between. The list of problems is the program's own, so a problem that cannot be made is a failing test.

use std::collections::{BTreeMap, BTreeSet};

use gmfs_format::model::Kind;
use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::PmdShift;
use gmfs_volume::{CreateOptions, FormatOptions, PutOptions, Region, Stamp, Writer, WriterOptions};
use serde_json::Value;

use crate::images;
use crate::sandbox::{Done, Sandbox};

/// Problems that only an unreadable medium causes.
const MEDIUM: [&str; 2] = ["GM0009", "GM0603"];
/// Problems that are found together with those that an interrupted writer causes.
const COMPANIONS: [&str; 2] = ["GM0021", "GM0023"];
/// Problems after which nothing past the superblock is read, or the image ends: the content of files is unknown.
const NOT_READ: [&str; 3] = ["GM0102", "GM0105", "GM0114"];
/// Problems whose repair takes a block from the file in which they are made. The repair reports it.
const TAKE_BLOCKS: [&str; 2] = ["GM0404", "GM0405"];

const TIME: u64 = 1_700_000_000_000_000_000;
const SIZE: usize = 20 << 20;

/// A region in which every problem can be made: files with and without blocks, a directory, free blocks, and an inode
/// table that ends within a used page.
fn template() -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    let options = FormatOptions {
        geometry: Geometry::plan(SIZE as u64, PmdShift::M2, 13).unwrap(),
        uuid: images::UUID.parse().unwrap(),
        birth: 0xb17,
        label: "matrix".to_owned(),
        base: 0,
        owner: (0, 0),
        stamp: Stamp { now: TIME, writer: "test".to_owned() },
        forget: Vec::new(),
    };
    gmfs_volume::format(&mut bytes, &options).unwrap();
    let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || TIME };
    let (mut writer, _) = Writer::open(bytes, options).unwrap();
    let create = CreateOptions { size: 0, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };
    writer.mkdir(b"/dir", false, 0o755, (0, 0)).unwrap();
    writer.create(b"/empty", &create).unwrap();
    for (path, blocks) in [(&b"/dir/guest"[..], 3), (b"/other", 1)] {
        let mut content = vec![0; blocks * images::BLOCK as usize];
        for (n, block) in content.chunks_mut(images::BLOCK as usize).enumerate() {
            block[..12].copy_from_slice(b"guest memory");
            block[12] = path.len() as u8 + n as u8;
        }
        writer.put(path, &mut content.as_slice(), &PutOptions { create, replace: false }).unwrap();
    }
    for n in 0..6 {
        writer.create(format!("/f{n}").as_bytes(), &create).unwrap();
    }
    writer.close().unwrap()
}

/// For each path: the content of the file's blocks by file block, and whether the file reads completely.
type Files = BTreeMap<Vec<u8>, (Vec<(u32, Vec<u8>)>, bool)>;

fn files(bytes: &Vec<u8>) -> Files {
    let region = Region::open(bytes).unwrap();
    let tree = region.inodes().tree;
    let regular = tree.inodes().filter(|inode| inode.kind == Kind::File);
    let read = regular.filter_map(|inode| {
        let mut blocks = Vec::new();
        for extent in region.mapping(inode.ino).extents {
            for n in 0..extent.count {
                let at =
                    region.geometry().block_offset(gmfs_format::native::units::BlockNo(extent.block.0 + n)) as usize;
                blocks.push((extent.index + n, bytes[at..at + 64].to_vec()));
            }
        }
        Some((tree.path(inode.ino)?, (blocks, region.content(inode).is_ok())))
    });
    read.collect()
}

/// A problem, as the program lists it.
struct Problem {
    code: String,
    severity: String,
    repair: String,
}

/// The problems of native regions: those of other layouts, from GM0700 on, are neither made nor repaired.
fn catalogue() -> Vec<Problem> {
    let listed = Sandbox::new().ok("explain --json").json();
    let text = |problem: &Value, key: &str| problem[key].as_str().unwrap().to_owned();
    let problems = listed["problems"].as_array().unwrap().iter();
    let read = |problem| Problem {
        code: text(problem, "code"),
        severity: text(problem, "severity"),
        repair: text(problem, "repair"),
    };
    problems.map(read).filter(|problem| problem.code.as_str() < "GM0700").collect()
}

/// The codes of the findings that are left.
fn left(done: &Done, of: &str) -> BTreeSet<String> {
    let json = done.json();
    assert_eq!(json["exit_status"], done.code, "{done:?}");
    let findings = json["findings"].as_array().unwrap().iter();
    let left = findings.filter(|finding| finding["repaired"] == false);
    let codes = left.map(|finding| finding["code"].as_str().unwrap().to_owned());
    // A file that a repair has flagged is not a problem of the metadata.
    codes.filter(|code| code != "GM0213" || of == "GM0213").collect()
}

impl Problem {
    /// The expected statuses of `fsck -n`, `-p`, then `-y`, and of the last check.
    fn statuses(&self) -> [i32; 4] {
        let note = self.severity == "note";
        match self.repair.as_str() {
            // What the next writer recovers is not damage.
            "safe" => [if note { 0 } else { 4 }, 1, 0, 0],
            "lossy" => [4, 4, 1, 0],
            "manual" => [4; 4],
            _ => [0; 4],
        }
    }

    /// Whether a set of codes has this problem and only its companions.
    fn is_all(&self, found: &BTreeSet<String>) -> bool {
        let comes = |code: &String| *code == self.code || COMPANIONS.contains(&code.as_str());
        let alone = !matches!(self.code.as_str(), "GM0012" | "GM0020" | "GM0021" | "GM0022");
        found.contains(&self.code) && found.iter().all(comes) && (!alone || found.len() == 1)
    }
}

/// One row of the matrix.
fn row(problem: &Problem, template: &Vec<u8>) {
    let (code, sandbox) = (problem.code.as_str(), Sandbox::new());
    images::write(&sandbox.path("region.img"), template);
    let made = sandbox.gmfs(&format!("inject region.img {code}"));
    if MEDIUM.contains(&code) {
        assert!(made.code == 2 && made.stderr.contains("medium that cannot be read"), "{code}: {made:?}");
        return;
    }
    assert_eq!(made.code, 0, "{code}: {made:?}");
    let injected = sandbox.read("region.img");
    let [look, preen, yes, last] = problem.statuses();

    let done = sandbox.gmfs("fsck -n --data --json region.img");
    assert_eq!(done.code, look, "{code}: -n: {done:?}");
    assert!(problem.is_all(&left(&done, code)), "{code}: {:?}", left(&done, code));
    assert!(sandbox.read("region.img") == injected, "{code}: -n has written");

    // The same repair in a copy, with its plan shown: the plan names what is lost.
    sandbox.write("copy.img", &injected);
    let told = sandbox.gmfs("repair -y --json copy.img");
    let edits = told.json()["edits"].as_array().unwrap().clone();
    let losses: Vec<&str> = edits.iter().filter_map(|edit| edit["loses"].as_str()).collect();
    let settles = matches!(code, "GM0010" | "GM0011" | "GM0012" | "GM0112");
    assert!(losses.is_empty() || settles || problem.repair == "lossy", "{code}: {losses:?}");

    let done = sandbox.gmfs("fsck -p --data --json --undo p.undo region.img");
    assert_eq!(done.code, preen, "{code}: -p: {done:?}");
    let is_left = left(&done, code).contains(code);
    assert_eq!(is_left, problem.repair != "safe", "{code}: -p repairs what is proven and nothing else");
    let preened = sandbox.read("region.img");
    let done = sandbox.gmfs("fsck -y --data --json --undo y.undo region.img");
    assert_eq!(done.code, yes, "{code}: -y: {done:?}");
    assert_eq!(left(&done, code).contains(code), matches!(problem.repair.as_str(), "manual" | "none"), "{code}");
    let repaired = sandbox.read("region.img");

    let done = sandbox.gmfs("fsck -n --data --json region.img");
    assert_eq!(done.code, last, "{code}: the second run: {done:?}");
    let clean = matches!(problem.repair.as_str(), "safe" | "lossy");
    assert!(left(&done, code).is_empty() == clean && (done.json()["clean"] == (last == 0)), "{code}: {done:?}");
    if !NOT_READ.contains(&code) {
        same_files(code, &files(template), &files(&repaired), &losses);
        assert!(files(&repaired) == files(&sandbox.read("copy.img")), "{code}: repair -y comes to another end");
    }

    for (undo, before) in [("y.undo", &preened), ("p.undo", &injected)] {
        // There is an undo file only if something was written.
        if sandbox.exists(undo) {
            let done = sandbox.gmfs(&format!("undo {undo} region.img"));
            assert_eq!(done.code, 0, "{code}: {done:?}");
        }
        assert!(sandbox.read("region.img") == *before, "{code}: {undo} does not bring back bit for bit");
    }
}

/// The content of each file must be in some file, in the same file blocks, or be named as lost.
fn same_files(code: &str, before: &Files, after: &Files, losses: &[&str]) {
    for (path, (blocks, _)) in before {
        let path = path.escape_ascii();
        let same = after.values().any(|(found, whole)| found == blocks && *whole);
        if TAKE_BLOCKS.contains(&code) {
            assert!(losses.iter().any(|loss| loss.contains("place in a file")), "{code}: {losses:?}");
            continue;
        }
        assert!(same || blocks.is_empty(), "{code}: {path} is not there any more: {after:?}");
    }
    // A file with another path, or with other bytes, is a loss that must be reported.
    let changed = before.iter().any(|(path, file)| after.get(path) != Some(file));
    assert!(!changed || !losses.is_empty(), "{code}: nothing is named as lost: {after:?}");
}

#[test]
fn every_problem_is_found_repaired_and_taken_back() {
    let (problems, template) = (catalogue(), template());
    assert!(problems.len() > 70);
    // Two problems run at a time, because most of a row is waiting for processes.
    let (first, second) = problems.split_at(problems.len() / 2);
    std::thread::scope(|scope| {
        for half in [first, second] {
            let template = &template;
            scope.spawn(move || half.iter().for_each(|problem| row(problem, template)));
        }
    });
}
