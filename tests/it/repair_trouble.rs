//! Repairs that do not complete: refused, cancelled, killed, or out of space. The image is as before, or in a state
//! that a second run completes, and the message says what to do.

use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::images;
use crate::sandbox::{Done, GMFS, Sandbox};
use crate::terminal::Terminal;

fn damaged() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    for (page, copy, how) in [(0, "B", "zero"), (1, "A", "flip"), (2, "B", "zero")] {
        sandbox.ok(&format!("inject region.img --page {page} --copy {copy} --how {how}"));
    }
    sandbox
}

/// A region whose block table page is lost in both copies, so that a repair loses something.
fn lossy() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    for copy in ["A", "B"] {
        sandbox.ok(&format!("inject region.img --page 1 --copy {copy} --how zero"));
    }
    sandbox
}

fn code(sandbox: &Sandbox, line: &str) -> i32 {
    sandbox.gmfs(line).code
}

/// Runs a command line with a limit on the size of files, in KiB, which works like a full disk.
fn limited(sandbox: &Sandbox, kib: u32, line: &str) -> Done {
    let mut command = sandbox.command::<&str>(&[]);
    let program = std::mem::replace(&mut command, std::process::Command::new("sh"));
    drop(program);
    command.current_dir(sandbox.path("")).stdin(Stdio::null());
    // The shell's unit for the limit is 512 or 1024 bytes. The signal keeps its default action.
    command.args(["-c", &format!("ulimit -f {}; exec {GMFS} {line}", kib * 2)]);
    command.output().unwrap().into()
}

#[test]
fn each_exit_status() {
    let sandbox = damaged();
    assert_eq!(code(&sandbox, "fsck -n region.img"), 4);
    assert_eq!(code(&sandbox, "repair --plan region.img"), 4);
    assert_eq!(code(&sandbox, "fsck -p region.img"), 1);
    assert_eq!(code(&sandbox, "fsck -p region.img"), 0);
    assert_eq!(code(&sandbox, "repair region.img"), 0);
    assert_eq!(code(&sandbox, "fsck nothing.img"), 8);
    assert_eq!(code(&sandbox, "repair nothing.img --json"), 8);
    assert_eq!(code(&sandbox, "fsck --what region.img"), 16);
    assert_eq!(code(&sandbox, "repair"), 16);
    let sandbox = lossy();
    sandbox.ok("inject region.img --page 2 --copy A --how zero");
    // A page that is lost in both copies is settled, and nothing that is left is lost by it.
    assert_eq!(code(&sandbox, "fsck -p region.img"), 1);
    sandbox.ok("inject region.img GM0305");
    // One repair is proven. The other one is not made without consent.
    sandbox.ok("inject region.img --page 2 --copy A --how zero");
    assert_eq!(code(&sandbox, "fsck -p region.img"), 1 + 4);
    assert_eq!(code(&sandbox, "repair -y region.img"), 1);
    assert_eq!(code(&sandbox, "repair -y --json region.img"), 0);
}

#[test]
fn the_user_is_asked_about_each_problem() {
    let sandbox = damaged();
    let before = sandbox.read("region.img");
    let ask = |answers: &[(&str, &str)]| {
        sandbox.write("region.img", &before);
        let mut terminal = Terminal::start(&sandbox, "fsck region.img");
        answers.iter().for_each(|(question, answer)| terminal.answer(question, answer));
        let status = terminal.end();
        (status, terminal.shown)
    };
    let zeroed = "[a]ll GM0001, [q]uit: ";
    let flipped = "[a]ll GM0003, [q]uit: ";
    // The inode table's page and the superblock are zeroed. One answer is for both.
    let (status, shown) = ask(&[(zeroed, "a\n"), (flipped, "y\n")]);
    assert_eq!((status, shown.matches("Repair it?").count()), (1, 2), "{shown}");
    assert!(shown.contains("write inode table page 2 of copy B from copy A"), "{shown}");
    let (status, shown) = ask(&[(zeroed, "what?\n"), (zeroed, "yes\n"), (flipped, "n\n"), (zeroed, "y\n")]);
    assert_eq!(status, 1 + 4, "{shown}");
    assert!(shown.contains("y, n, a or q") && shown.contains("2 repaired"), "{shown}");
    assert_eq!(code(&sandbox, "fsck -p region.img"), 1);
    // The user quits, or ends the input, in the middle: nothing of the repair is done.
    for answers in [[(zeroed, "y\n"), (flipped, "q\n")], [(zeroed, "y\n"), (flipped, "\x04")]] {
        let (status, shown) = ask(&answers);
        assert_eq!(status, 4 + 32, "{shown}");
        assert!(sandbox.read("region.img") == before, "{shown}");
    }
    // Without a terminal, nothing is asked and nothing is done.
    for line in ["fsck region.img", "fsck --json region.img"] {
        let done = sandbox.feed(line, b"y\ny\ny\n");
        assert!(done.code == 4 && !done.stderr.contains("Repair it?"), "{done:?}");
        assert!(sandbox.read("region.img") == before);
    }
}

#[test]
fn an_interrupt_while_it_asks_ends_it() {
    for signal in [Signal::INT, Signal::TERM] {
        let sandbox = damaged();
        let before = sandbox.read("region.img");
        let mut terminal = Terminal::start(&sandbox, "fsck --undo taken region.img");
        assert!(terminal.shows("Repair it?"));
        terminal.signal(signal);
        assert_eq!(terminal.end(), 4 + 32, "{}", terminal.shown);
        assert!(sandbox.read("region.img") == before);
        assert_eq!(code(&sandbox, "fsck -y region.img"), 1);
    }
}

/// A region that has lost the whole copy A, and a repair of it that was stopped by SIGSTOP after some of its writes.
struct Halfway {
    sandbox: Sandbox,
    child: Child,
    before: Vec<u8>,
}

fn halfway(line: &str) -> Halfway {
    for _ in 0..100 {
        let sandbox = Sandbox::new();
        sandbox.ok("mkfs region.img --size 128G -N 1024 -q");
        sandbox.ok("create region.img /big --size 126G");
        images::poke(&sandbox, "region.img", 0, &vec![0x5a; 300 * 4096]);
        let before = metadata(&sandbox);
        let mut command = sandbox.command(&line.split_whitespace().collect::<Vec<_>>());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let recorded = || std::fs::metadata(sandbox.path("taken")).map_or(0, |found| found.len());
        // Pages are recorded durably before they are written, 64 at a time. So some are in the file, but not all.
        while recorded() < 4096 {
            std::thread::yield_now();
        }
        kill_process(pid, Signal::STOP).unwrap();
        let stopped = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap().1.stopped();
        if !stopped {
            // The repair finished too early, so it is tried again.
            continue;
        }
        if recorded() < 220 * 4096 {
            return Halfway { sandbox, child, before };
        }
        kill_process(pid, Signal::CONT).unwrap();
        child.wait_with_output().unwrap();
    }
    panic!("a repair could not be stopped in its middle");
}

/// The metadata of both copies.
fn metadata(sandbox: &Sandbox) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::open(sandbox.path("region.img")).unwrap();
    let mut bytes = vec![0; 4 << 20];
    file.read_exact_at(&mut bytes[..2 << 20], 0).unwrap();
    file.read_exact_at(&mut bytes[2 << 20..], (128 << 30) - (2 << 20)).unwrap();
    bytes
}

#[test]
fn an_interrupt_while_it_writes_ends_it_in_good_order() {
    for line in ["fsck -y --undo taken region.img", "repair -y --undo taken region.img"] {
        let Halfway { sandbox, child, before } = halfway(line);
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::INT).unwrap();
        kill_process(pid, Signal::CONT).unwrap();
        let done: Done = child.wait_with_output().unwrap().into();
        assert_eq!(done.code & 32, 32, "{done:?}");
        assert!(done.stderr.contains("pages recorded in taken"), "{done:?}");
        let repaired = metadata(&sandbox);
        // What was done can be undone, and a second run completes the repair.
        assert_eq!(code(&sandbox, "undo taken region.img"), 0);
        assert!(metadata(&sandbox) == before && repaired != before);
        assert_eq!(code(&sandbox, "fsck -y region.img"), 1);
        assert_eq!(code(&sandbox, "fsck -n region.img"), 0);
    }
}

#[test]
fn a_repair_that_is_killed_is_ended_by_the_next_or_taken_back() {
    let Halfway { sandbox, mut child, before } = halfway("fsck -y --undo taken region.img");
    child.kill().unwrap();
    child.wait().unwrap();
    let torn = metadata(&sandbox);
    sandbox.fails("undo taken region.img", "`gmfs undo -f` undoes what it holds");
    assert!(metadata(&sandbox) == torn);
    assert_eq!(code(&sandbox, "undo -f taken region.img"), 0);
    assert!(metadata(&sandbox) == before);
    let Halfway { sandbox, mut child, .. } = halfway("fsck -y --undo taken region.img");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(code(&sandbox, "fsck -y region.img"), 1);
    assert_eq!(code(&sandbox, "fsck -n region.img"), 0);
}

#[test]
fn without_room_for_the_undo_file_nothing_is_written() {
    let sandbox = damaged();
    let before = sandbox.read("region.img");
    // There is no room for the header, or for the first page.
    for kib in [0, 2] {
        let done = limited(&sandbox, kib, "fsck -y --undo taken region.img");
        assert_eq!(done.code, 8, "{done:?}");
        assert!(done.stderr.contains("cannot use the undo file taken: File too large"), "{done:?}");
        assert!(done.stderr.contains("next: --undo FILE with FILE where there is room"), "{done:?}");
        assert!(sandbox.read("region.img") == before && !sandbox.exists("taken"), "{done:?}");
    }
    // The first page is recorded, and then the image cannot be written.
    let done = limited(&sandbox, 6, "fsck -y --undo taken region.img");
    assert!(done.code == 8 && done.stderr.contains("next: make room where IMAGE is"), "{done:?}");
    assert!(sandbox.read("region.img") == before);
    sandbox.ok("undo taken region.img");
    sandbox.write("taken", b"something");
    sandbox.fails_with(8, "fsck -y --undo taken region.img", "name a new file");
    assert!(sandbox.read("region.img") == before);
}

#[test]
fn without_room_for_the_copy_there_is_none() {
    let sandbox = damaged();
    let before = sandbox.read("region.img");
    let done = limited(&sandbox, 1024, "repair -y region.img -o copy.img");
    assert_eq!(done.code, 8, "{done:?}");
    assert!(done.stderr.contains("File too large") && done.stderr.contains("\n  next: "), "{done:?}");
    let names: Vec<_> = std::fs::read_dir(sandbox.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["region.img"]);
    assert!(sandbox.read("region.img") == before);
    let done = sandbox.gmfs("repair -y region.img -o copy.img --json");
    assert_eq!((done.code, &done.json()["image"]["path"]), (1, &"copy.img".into()));
    assert_eq!(code(&sandbox, "fsck -n copy.img"), 0);
    assert!(sandbox.read("region.img") == before);
    for there in ["copy.img", "region.img"] {
        sandbox.fails_with(8, &format!("repair -y region.img -o {there}"), "exists already\n  next: name a new file");
    }
    assert!(sandbox.read("region.img") == before);
}

/// A read-only mount, as long as the value exists. `None` if mounting is not permitted.
struct ReadOnly(std::path::PathBuf);

impl ReadOnly {
    fn new(sandbox: &Sandbox) -> Option<Self> {
        use rustix::mount::{MountFlags, mount_bind, mount_remount};
        let (from, to) = (sandbox.path(""), sandbox.path("ro"));
        std::fs::create_dir(&to).unwrap();
        if let Err(error) = mount_bind(&from, &to) {
            assert!(std::env::var_os("CI").is_none(), "nothing can be mounted: {error}");
            eprintln!("skipped: nothing can be mounted here: {error}");
            return None;
        }
        let mount = Self(to);
        mount_remount(&mount.0, MountFlags::BIND | MountFlags::RDONLY, "").unwrap();
        Some(mount)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn what_cannot_be_written_is_repaired_in_a_copy() {
    let sandbox = damaged();
    let Some(_mount) = ReadOnly::new(&sandbox) else { return };
    let before = sandbox.read("region.img");
    for line in ["fsck -y ro/region.img", "fsck -p --undo taken ro/region.img", "repair ro/region.img"] {
        sandbox.fails_with(8, line, "it is on a read-only medium");
        sandbox.fails_with(8, line, "repairs a copy of the region");
    }
    assert!(!sandbox.exists("taken"));
    assert_eq!(code(&sandbox, "fsck -n ro/region.img"), 4);
    assert_eq!(code(&sandbox, "repair -y ro/region.img -o copy.img"), 1);
    assert_eq!(code(&sandbox, "fsck -n copy.img"), 0);
    assert!(sandbox.read("region.img") == before);
    sandbox.fails_with(8, "repair -y region.img -o ro/new.img", "Read-only file system");
}

/// A region in a dump is extracted and repaired. What one copy lacks is taken from the other.
#[test]
fn a_region_in_a_dump_is_repaired_in_a_copy() {
    let sandbox = damaged();
    sandbox.ok("dump region.img -o region.meta");
    let region = sandbox.read("region.img");
    // The second and third page of copy A are not in the dump. Copy B has everything except the superblock and the
    // inode table.
    sandbox.gmfs("fsck -p region.img");
    let whole = sandbox.read("region.img");
    let base = 1 << 32;
    let parts = [(0, 4096), (3 * 4096, images::SIZE)].map(|(from, to)| images::Segment {
        address: base + from,
        size: to - from,
        bytes: whole[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].to_vec(),
    });
    sandbox.write("vmcore", &images::elf(&parts));
    for dump in ["vmcore", "region.meta"] {
        let before = sandbox.read(dump);
        for line in ["fsck -y", "fsck -p --undo taken", "repair -y"] {
            sandbox.fails_with(8, &format!("{line} {dump}"), "`gmfs repair IMAGE -o FILE`");
        }
        assert!(!sandbox.exists("taken"));
        let copy = format!("{dump}.img");
        let done = sandbox.gmfs(&format!("repair {dump} -o {copy}"));
        // A metadata dump has no content of files to extract.
        let status = if dump == "region.meta" { 9 } else { 1 };
        assert!(done.code == status && done.stderr.contains("of the region is a hole now"), "{done:?}");
        assert_eq!(code(&sandbox, &format!("fsck -n {copy}")), 0);
        assert_eq!(sandbox.ok(&format!("tree {copy}")).text(), sandbox.ok("tree region.img").text());
        assert!(sandbox.read(dump) == before);
    }
    // Only the two pages were missing, and the whole region is restored bit for bit.
    assert!(sandbox.read("vmcore.img") == whole && whole != region);
}

/// The size of the file is enough to find the region.
#[test]
fn a_region_without_superblocks_is_saved_dumped_and_repaired_in_a_copy() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let tree = sandbox.ok("tree region.img").text();
    let mut region = sandbox.read("region.img");
    for start in [0, images::SIZE - images::BLOCK] {
        region[usize::try_from(start).unwrap()..][..4096].fill(0);
    }
    sandbox.write("region.img", &region);
    for line in ["ls region.img", "inspect region.img"] {
        let done = sandbox.fails(line, "both copies of the superblock are lost");
        assert!(done.stderr.contains("next: `gmfs fsck -p IMAGE` writes the superblocks again"), "{done:?}");
        assert!(!done.stderr.contains("mkfs"), "{done:?}");
    }
    sandbox.ok("save region.img -o saved.img");
    assert!(sandbox.read("saved.img") == region);
    sandbox.ok("dump region.img -o region.meta");
    assert_eq!(code(&sandbox, "fsck -n region.meta"), 4);
    assert_eq!(code(&sandbox, "repair -y region.img -o copy.img"), 1);
    assert_eq!(sandbox.ok("tree copy.img").text(), tree);
    // The same as an image of memory, in which only --region gives the size.
    sandbox.write("vmcore", &images::elf(&[images::Segment { address: 1 << 30, size: images::SIZE, bytes: region }]));
    assert_eq!(code(&sandbox, "repair -y vmcore --region 64M:1G -o dumped.img"), 1);
    assert_eq!(sandbox.ok("tree dumped.img").text(), tree);
}

/// The owners of these blocks are lost. The blocks stay reserved until the user releases them by name.
#[test]
fn lost_blocks_are_withheld_until_they_are_released() {
    let sandbox = lossy();
    let before = sandbox.read("region.img");
    let plan = sandbox.gmfs("repair --plan -y region.img");
    assert!(plan.text().contains("loses: the owners of the blocks on block table pages 1"), "{plan:?}");
    assert!(plan.text().contains("more is planned once these edits are made"), "{plan:?}");
    assert_eq!(code(&sandbox, "repair -y --undo taken region.img"), 1);
    let usage = || sandbox.ok("inspect --json region.img").json()["usage"].clone();
    let reserved = usage();
    assert_eq!((&reserved["free"], &reserved["data"]), (&0.into(), &0.into()));
    // The file blocks that were data are named by their bytes, and are not shown as zeros.
    sandbox.fails("cat region.img /vms/first.mem", "0x0..0x500000 lost: nothing tells any more which block held it");
    sandbox.fails("extract region.img /vms/second.mem", "0x0..0x400000 lost");
    assert!(sandbox.gmfs("stat region.img /vms/first.mem").text().contains("lost-data"));
    let map = sandbox.gmfs("map region.img /vms/first.mem");
    assert!(map.text().contains("lost") && !map.text().contains("hole"), "{map:?}");
    // No further repair and no writer uses them.
    for line in ["repair -y region.img", "fsck -y region.img", "fsck -p region.img", "repair region.img"] {
        assert_eq!(code(&sandbox, line), 0);
        assert_eq!(usage(), reserved);
    }
    sandbox.fails("create region.img /new --size 2M", "no space");
    let repaired = sandbox.read("region.img");
    let content = images::content();
    let block = usize::try_from(images::BLOCK).unwrap();
    assert!(repaired[block..2 * block] == content[..block]);
    let done = sandbox.gmfs("repair --release-lost --undo released region.img");
    assert!(done.code == 0 && done.text().contains("30 reserved blocks given back"), "{done:?}");
    assert_eq!((&usage()["free"], &usage()["reserved"]), (&30.into(), &0.into()));
    assert_eq!(code(&sandbox, "fsck -n region.img"), 0);
    for (undo, state) in [("released", &repaired), ("taken", &before)] {
        assert_eq!(code(&sandbox, &format!("undo {undo} region.img")), 0);
        assert!(sandbox.read("region.img") == **state, "{undo}");
    }
}

/// Invalid undo files are refused, and the image is not changed.
#[test]
fn undo_refuses_what_is_not_its_own() {
    let sandbox = damaged();
    let before = sandbox.read("region.img");
    assert_eq!(code(&sandbox, "fsck -p --undo taken region.img"), 1);
    let repaired = sandbox.read("region.img");
    let good = sandbox.read("taken");
    let refused = |saying: &str| {
        let done = sandbox.fails("undo taken region.img", saying);
        assert!(done.stderr.contains("\n  next: "), "{done:?}");
        assert!(sandbox.read("region.img") == repaired);
    };
    for at in (0..good.len()).step_by(good.len() / 11) {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        sandbox.write("taken", &flipped);
        refused(if at < 8 { "is not an undo file" } else { "undo file taken is damaged" });
    }
    for cut in [good.len() - 1, good.len() - 20] {
        sandbox.write("taken", &good[..cut]);
        refused("undo file taken is incomplete");
    }
    sandbox.write("taken", &good[..20 + 16 + 4096]);
    refused("undo file taken is incomplete");
    sandbox.write("taken", &good);
    sandbox.ok("mkfs other.img --size 64M -q");
    sandbox.fails("undo taken other.img", "or is another image: nothing is undone");
    let other = sandbox.read("other.img");
    sandbox.fails("undo -f taken other.img", "no page of the image matches the undo file");
    assert!(sandbox.read("other.img") == other);
    sandbox.ok("mkfs small.img --size 16M -q");
    for line in ["undo taken small.img", "undo -f taken small.img"] {
        sandbox.fails(line, "16777216 bytes");
        sandbox.ok("fsck -n small.img");
    }
    sandbox.ok("mv region.img /sparse /moved");
    sandbox.fails("undo taken region.img", "has changed at");
    sandbox.write("region.img", &repaired);
    sandbox.ok("undo taken region.img");
    assert!(sandbox.read("region.img") == before);
    assert!(sandbox.ok("undo taken region.img").text().contains("nothing to undo"));
}

/// Both superblocks are lost, and the image does not have the region's length. Each page records the region's layout.
#[test]
fn superblocks_are_made_anew_for_the_region_that_the_pages_tell_of() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let content = images::content();
    sandbox.ok("inject region.img GM0112");
    let lost = sandbox.read("region.img");
    for more in [0, 1 << 20, 2 << 20, 10 << 20, 192 << 20] {
        let mut longer = lost.clone();
        longer.resize(lost.len() + more, 0);
        sandbox.write("region.img", &longer);
        assert_eq!(code(&sandbox, "fsck -y region.img"), 1);
        assert!(sandbox.ok("cat region.img /vms/first.mem").stdout == content, "{more} bytes more");
        sandbox.ok("fsck -n region.img");
        assert!(sandbox.read("region.img")[lost.len()..] == longer[lost.len()..]);
    }
    for less in [2 << 20, 20 << 20] {
        let shorter = &lost[..lost.len() - less];
        sandbox.write("region.img", shorter);
        let done = sandbox.gmfs("repair -y region.img");
        assert_ne!(done.code & 12, 0, "{done:?}");
        assert!(sandbox.read("region.img") == shorter, "{less} bytes less: {done:?}");
    }
    sandbox.write("region.img", &lost);
    let done = sandbox.gmfs("repair -y --region 48M region.img");
    assert!(done.code == 4 && done.text().contains("the region has 67108864 bytes"), "{done:?}");
    assert!(sandbox.read("region.img") == lost);
}
