//! Sealing files, telling later what is changed, and what cannot be told.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::images::{self, BLOCK, SIZE, Segment};
use crate::sandbox::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

/// Where a block of a file is.
fn address(sandbox: &Sandbox, path: &str, block: u64) -> u64 {
    let file = sandbox.ok(&format!("stat region.img {path} --json")).json()["files"][0].clone();
    file["extents"][0]["address"].as_u64().unwrap() + block * BLOCK
}

/// The answer for a file, by its path.
fn of<'v>(answer: &'v Value, path: &str) -> &'v Value {
    answer["files"].as_array().unwrap().iter().find(|file| file["path"] == path).unwrap()
}

#[test]
fn what_a_guest_wrote_since_is_changed_and_named() {
    let sandbox = sandbox();
    let before = sandbox.fails_with(2, "verify region.img", "");
    assert!(before.text().contains("/vms/first.mem: not sealed"), "{before:?}");
    let said = sandbox.ok("seal region.img").text();
    assert_eq!(said, "region.img: 3 files sealed\n");
    assert_eq!(sandbox.ok("inspect region.img --json").json()["superblock"]["sealed"], true);
    let same = sandbox.ok("verify region.img --json").json();
    assert_eq!((&same["result"], &of(&same, "/sparse")["state"]), (&"same".into(), &"same".into()));
    assert!(same["sealed_at"].is_string());
    sandbox.ok("fsck -n --data region.img");

    let at = address(&sandbox, "/vms/first.mem", 1);
    images::poke(&sandbox, "region.img", at + 9, b"guest");
    // Past the end of the file, in its last block, too: the block is sealed as a whole.
    images::poke(&sandbox, "region.img", at + 2 * BLOCK - 1, b"!");
    let done = sandbox.fails_with(1, "verify region.img", "");
    let shown = done.text();
    assert!(shown.contains("/vms/first.mem: changed since it was sealed: 2 blocks of 3 differ"), "{shown}");
    let block = at / BLOCK;
    let line = format!("(blocks {block}-{}, offset {at:#x}): changed", block + 1);
    assert!(shown.contains(&line) && !shown.contains("damaged") && !shown.contains("second.mem"), "{shown}");
    let answer = sandbox.fails_with(1, "verify region.img --json", "").json();
    assert_eq!(answer["result"], "changed");
    let ranges = json!([{
        "state": "changed", "reason": null, "offset": BLOCK, "length": BLOCK * 3 / 2, "block": block, "count": 2,
        "address": at, "physical": null
    }]);
    let file = of(&answer, "/vms/first.mem");
    assert_eq!((&file["ranges"], &file["blocks_changed"], &file["blocks_same"]), (&ranges, &2.into(), &1.into()));
    // The other files alone are the same, and so is this one once it is sealed again.
    sandbox.ok("verify region.img /vms/second.mem /sparse");
    let said = sandbox.ok("seal region.img").text();
    assert!(said.contains("0 files sealed, 3 before"), "{said}");
    sandbox.fails_with(1, "verify region.img /vms", "");
    sandbox.ok("seal region.img --again /vms/first.mem");
    sandbox.ok("verify region.img");
    let dropped = sandbox.ok("unseal region.img /vms --json").json();
    assert_eq!(of(&dropped, "/vms/first.mem")["seals_dropped"], 3);
    let answer = sandbox.fails_with(2, "verify region.img --json", "").json();
    assert_eq!((&answer["result"], &of(&answer, "/vms/first.mem")["state"]), (&"unknown".into(), &"unsealed".into()));
    assert_eq!(of(&answer, "/sparse")["state"], "same");
    sandbox.ok("verify region.img /sparse");
    sandbox.ok("fsck -n region.img");
}

#[test]
fn what_is_not_in_the_dump_is_never_the_same() {
    let sandbox = sandbox();
    sandbox.ok("seal region.img -q");
    let region = sandbox.read("region.img");
    let (base, at) = (1_u64 << 32, address(&sandbox, "/vms/first.mem", 1));
    let part = |from: u64, to: u64| Segment {
        address: base + from,
        size: to - from,
        bytes: region[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].to_vec(),
    };
    sandbox.write("whole", &images::elf(&[part(0, SIZE)]));
    sandbox.ok("verify whole");
    // A part of the second block is not there.
    sandbox.write("vmcore", &images::elf(&[part(0, at + 4096), part(at + 8192, SIZE)]));
    let answer = sandbox.fails_with(2, "verify vmcore --json", "").json();
    let file = of(&answer, "/vms/first.mem");
    assert_eq!(
        (&file["state"], &file["reason"], &file["blocks_same"]),
        (&"unknown".into(), &"absent".into(), &2.into())
    );
    let range = &file["ranges"][0];
    assert_eq!((&range["state"], &range["physical"]), (&"unknown".into(), &(base + at).into()));
    let shown = sandbox.fails_with(2, "verify vmcore", "").text();
    assert!(shown.contains("/vms/first.mem: cannot be compared: not all of it is in this image"), "{shown}");
    // A metadata dump has no content at all.
    sandbox.ok("dump region.img -o region.meta");
    let answer = sandbox.fails_with(2, "verify region.meta --json", "").json();
    assert_eq!(of(&answer, "/vms/second.mem")["blocks_same"], 0);
    // What is changed elsewhere is changed, whatever else is missing.
    images::poke(&sandbox, "region.img", at - 5, b"x");
    sandbox.write("vmcore", &images::elf(&[Segment { bytes: sandbox.read("region.img"), ..part(0, SIZE) }]));
    sandbox.fails_with(1, "verify vmcore", "");
}

#[test]
fn blocks_with_hardware_errors_and_lost_blocks_are_told() {
    let sandbox = sandbox();
    let block = address(&sandbox, "/vms/second.mem", 0) / BLOCK;
    sandbox.ok(&format!("bad add region.img block:{block} -q"));
    let done = sandbox.fails_with(1, "seal region.img", "");
    assert!(done.text().contains("/vms/second.mem: sealed: 1 block, and 1 block cannot be read"), "{done:?}");
    let done = sandbox.fails_with(2, "verify region.img /vms/second.mem", "");
    assert!(done.text().contains("in a block with a hardware error"), "{done:?}");
    sandbox.ok(&format!("bad del region.img block:{block} -q"));
    let done = sandbox.fails_with(2, "verify region.img /vms/second.mem", "");
    assert!(done.text().contains("not all of its blocks are sealed"), "{done:?}");
    sandbox.ok("seal region.img");
    sandbox.ok("verify region.img");
}

#[test]
fn paths_that_lead_nowhere_are_named_and_the_others_done() {
    let sandbox = sandbox();
    let done = sandbox.gmfs("seal region.img /none /vms/first.mem");
    assert!(done.code == 2 && done.stderr.contains("there is no '/none'"), "{done:?}");
    sandbox.ok("verify region.img /vms/first.mem");
    let done = sandbox.gmfs("verify region.img /none /vms/first.mem");
    assert!(done.code == 2 && done.stderr.contains("there is no '/none'"), "{done:?}");
    sandbox.fails("seal region.img /none", "there is no '/none'");
    sandbox.fails("unseal region.img /none", "there is no '/none'");
    sandbox.fails("verify region.img /none", "there is no '/none'");
    sandbox.fails("seal region.img /vms/first.mem/", "is not a directory");
}

/// Any bytes in the descriptors: an answer or a named error, and nothing written by what only reads.
#[test]
fn hostile_seals_are_read_without_harm() {
    let sandbox = sandbox();
    sandbox.ok("seal region.img -q");
    for (code, status) in [("GM0601", 1), ("GM0602", 1), ("GM0414", 0), ("GM0404", 2), ("GM0402", 2)] {
        sandbox.write("harmed.img", &sandbox.read("region.img"));
        let made = sandbox.gmfs(&format!("inject harmed.img {code}"));
        if made.code != 0 {
            continue;
        }
        let before = sandbox.read("harmed.img");
        let done = sandbox.gmfs("verify harmed.img");
        assert!(done.code <= 2 && !done.stderr.contains("panicked"), "{code}: {done:?}");
        assert!(code.starts_with("GM04") || done.code == status, "{code}: {done:?}");
        assert!(sandbox.read("harmed.img") == before, "{code}");
    }
    images::hostile(&sandbox);
    let done = sandbox.succeeds("seal -v hostile.img");
    assert!(!done.stdout.contains(&0x1b), "{done:?}");
    let done = sandbox.succeeds("verify -v hostile.img");
    assert!(!done.stdout.contains(&0x1b), "{done:?}");
}

/// A region with three files that take some time to read.
fn large() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 2G -q");
    for name in ["a", "b", "c"] {
        sandbox.ok(&format!("create region.img /{name} --size 600M"));
        // A hole would cost nothing to read.
        let at = address(&sandbox, &format!("/{name}"), 0);
        fill(&sandbox.path("region.img"), at, 600 << 20);
    }
    sandbox
}

/// Begins to seal all files, and sends a signal after a while.
fn signalled(sandbox: &Sandbox, signal: rustix::process::Signal, after: u64) -> std::process::Output {
    let mut command = sandbox.command(&["seal", "region.img", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(after));
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let _ = rustix::process::kill_process(id, signal);
    child.wait_with_output().unwrap()
}

/// Whether each file is sealed as a whole: the paths of those that are, and of those that are not.
fn whole_seals(sandbox: &Sandbox) -> (Vec<String>, Vec<String>) {
    let found = sandbox.gmfs("verify region.img --json").json();
    let (mut sealed, mut unsealed) = (Vec::new(), Vec::new());
    for file in found["files"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap().to_owned();
        match file["state"].as_str().unwrap() {
            "same" => sealed.push(path),
            "unsealed" => unsealed.push(path),
            _ => panic!("{found}"),
        }
    }
    (sealed, unsealed)
}

/// A first interrupt ends the command between two blocks: the region is clean, and says what is sealed.
#[test]
fn an_interrupted_seal_leaves_whole_files_sealed() {
    let sandbox = large();
    let (mut interrupted, mut late, mut after) = (0, 0, 0);
    while after < 2000 {
        let output = signalled(&sandbox, rustix::process::Signal::INT, after);
        sandbox.ok("fsck -n region.img");
        after += 20;
        if output.status.code() == Some(0) {
            // It is done before it is interrupted: from here on always, unless the signal came late on a busy machine.
            late += 1;
            if interrupted > 0 || late == 5 {
                break;
            }
            sandbox.gmfs("unseal region.img -q");
            after = 0;
            continue;
        }
        // Before it watches for interrupts, it ends without an answer.
        if let Ok(answer) = serde_json::from_slice::<Value>(&output.stdout) {
            assert_eq!((output.status.code(), &answer["interrupted"]), (Some(2), &true.into()));
            let said = answer["files"].as_array().unwrap().iter().map(|sealed| sealed["path"].as_str().unwrap());
            assert_eq!(whole_seals(&sandbox).0, said.collect::<Vec<_>>());
            interrupted += 1;
            if interrupted == 3 {
                break;
            }
        }
        sandbox.gmfs("unseal region.img -q");
    }
    assert!(interrupted > 0, "no interrupt came between the start and the end");
    sandbox.ok("seal region.img -q");
    sandbox.ok("verify region.img -q");
}

/// A power failure, or a kexec: what was sealed before is sealed, and a second run goes on with the rest.
#[test]
fn a_seal_that_is_killed_leaves_whole_files_sealed() {
    let sandbox = large();
    for after in [10, 60, 200, 500] {
        signalled(&sandbox, rustix::process::Signal::KILL, after);
        let (sealed, unsealed) = whole_seals(&sandbox);
        assert_eq!(sealed.len() + unsealed.len(), 3);
        sandbox.ok("seal region.img -q");
        sandbox.ok("verify region.img -q");
        sandbox.ok("fsck -n region.img");
        sandbox.ok("unseal region.img -q");
    }
}

/// Gives each block of a range a page that is not zero, and all of it memory of its own.
fn fill(path: &Path, from: u64, len: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    for at in (from..from + len).step_by(1 << 20) {
        file.write_all_at(b"memory", at).unwrap();
    }
}
