//! Several processes use one region: readers share it, writers wait, and memory that a process has mapped is not
//! changed.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gmfs_image::lock::Mode;
use gmfs_image::{Locking, RangeLock};
use gmfs_io::Span;

use crate::images::{self, BLOCK};
use crate::sandbox::{Done, Sandbox, UNSEEN};

/// The name of this test's own process, which holds locks in the tests.
fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    format!("process {} ({})", std::process::id(), name.trim())
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

fn hold(path: &Path, mode: Mode, span: Option<Span>) -> RangeLock {
    // A process that another test is starting has inherited the file of an earlier lock for a moment.
    let how = Locking { span, limit: Duration::from_secs(20), ..Locking::at_once() };
    RangeLock::take(path, mode, &how).unwrap()
}

const READERS: [&str; 13] = [
    "ls region.img",
    "tree region.img",
    "stat region.img /vms/first.mem",
    "cat region.img /vms/first.mem",
    "map region.img /vms/first.mem",
    "who region.img 0",
    "inspect region.img",
    "inspect region.img --image",
    "scan region.img",
    "bad list region.img",
    "fsck -n region.img",
    "dump -f region.img -o region.meta",
    "save -f region.img -o copy.img",
];

const WRITERS: [&str; 8] = [
    "create region.img /new --size 1",
    "mkdir region.img /new-directory",
    "truncate region.img /vms/first.mem --size 1",
    "mv region.img /new /newer",
    "bad add region.img block:20",
    "seal region.img",
    "unseal region.img",
    "fsck -p region.img",
];

#[test]
fn readers_share_a_region_and_nobody_reads_beside_a_writer() {
    let sandbox = sandbox();
    let image = sandbox.path("region.img");
    let shared = hold(&image, Mode::Shared, None);
    for line in READERS {
        assert_eq!(sandbox.gmfs(&format!("{line} --wait 0")).code, 0, "{line}");
    }
    for line in WRITERS {
        locked(sandbox.gmfs(&format!("{line} --wait 0")), line);
    }
    drop(shared);
    let exclusive = hold(&image, Mode::Exclusive, None);
    for line in READERS.iter().chain(&WRITERS) {
        locked(sandbox.gmfs(&format!("{line} --wait 0")), line);
    }
    locked(sandbox.gmfs("mkfs -f region.img --wait 0"), "mkfs");
    locked(sandbox.gmfs("mkfs -nf region.img --wait 0"), "mkfs -n");
    drop(exclusive);
    for line in READERS.iter().chain(&WRITERS) {
        assert_eq!(sandbox.gmfs(line).code, 0, "{line}");
    }
}

/// The command must name the holder of the lock.
fn locked(done: Done, line: &str) {
    let status = if line.starts_with("fsck") { 8 } else { 2 };
    let who = format!("is locked by {}", own_name());
    assert!(done.code == status && done.stderr.contains(&who), "{line}: {done:?}");
    assert!(done.stderr.contains("next: wait until that process is done"), "{line}: {done:?}");
}

#[test]
fn waiting_is_announced_and_ends() {
    let sandbox = sandbox();
    let image = sandbox.path("region.img");
    let exclusive = hold(&image, Mode::Exclusive, None);
    let clock = Instant::now();
    let done = sandbox.gmfs("ls region.img --wait 1 --json");
    assert!(clock.elapsed() >= Duration::from_secs(1));
    assert_eq!((done.code, done.json()["error"]["code"].as_str()), (2, Some("locked")));
    let note = format!("gmfs: note: waiting for region.img, which is locked by {}", own_name());
    assert_eq!(done.stderr.matches(&note).count(), 1, "{done:?}");
    // A command that gets the lock in time must succeed.
    let waiting = sandbox.command(&["ls", "region.img"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    drop(exclusive);
    let done = Done::from(waiting.wait_with_output().unwrap());
    assert_eq!((done.code, done.text().as_str()), (0, "sparse\nvms\n"));
}

/// Whether SIGINT is ignored in this process, as in one that a shell has put into the background.
fn interrupts_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << 1 != 0
}

#[test]
fn an_interrupt_ends_the_waiting() {
    use rustix::process::{Pid, Signal, kill_process};
    if interrupts_are_ignored() {
        eprintln!("skipped: whoever started the tests has interrupts ignored, and so have all processes below");
        return;
    }
    let sandbox = sandbox();
    let _exclusive = hold(&sandbox.path("region.img"), Mode::Exclusive, None);
    // The second command watches for interrupts before it opens the image.
    for line in ["ls region.img", "dump region.img -o region.meta", "repair region.img -o copy.img"] {
        let line: Vec<&str> = line.split(' ').collect();
        let mut command = sandbox.command(&line);
        command.args(["--wait", "60"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The command waits after it has said so.
        let mut said = [0; 12];
        child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
        let clock = Instant::now();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(clock.elapsed() < Duration::from_secs(30), "{line:?}");
        assert!(!sandbox.exists("region.meta") && !sandbox.exists("copy.img.partial"), "{line:?}");
    }
}

#[test]
fn two_regions_of_one_file_do_not_wait_for_each_other() {
    let sandbox = Sandbox::new();
    std::fs::File::create_new(sandbox.path("two.img")).unwrap().set_len(32 << 20).unwrap();
    let image = sandbox.path("two.img");
    let (first, second) = ("--region 16M:0", "--region 16M:16M");
    sandbox.ok(&format!("mkfs two.img --pmd-size 2M {first}"));
    sandbox.ok(&format!("mkfs two.img --pmd-size 2M {second}"));
    let held = hold(&image, Mode::Exclusive, Some(Span::new(0, 16 << 20)));
    sandbox.ok(&format!("create two.img /a --size 1 --wait 0 {second}"));
    sandbox.ok(&format!("ls two.img --wait 0 {second}"));
    sandbox.fails(&format!("create two.img /a --size 1 --wait 0 {first}"), "is locked by");
    // Without --region, the whole file is locked.
    sandbox.fails("create two.img /a --size 1 --wait 0", "is locked by");
    drop(held);
    sandbox.ok(&format!("create two.img /a --size 1 {first}"));
}

#[test]
fn a_reader_without_a_lock_says_what_may_mix() {
    let sandbox = sandbox();
    let exclusive = hold(&sandbox.path("region.img"), Mode::Exclusive, None);
    for line in READERS {
        let done = sandbox.gmfs(&format!("{line} --no-lock --wait 0"));
        assert!(done.code == 0 && done.stderr.is_empty(), "nothing has changed: {done:?}");
    }
    drop(exclusive);
    sandbox.fails_with(8, "fsck -p region.img --no-lock", "for reading only");
    sandbox.fails_with(2, "create region.img /x --no-lock", "unexpected argument");
    // The content goes into a pipe that is not read until the region has changed.
    let mut reader = sandbox.command(&["cat", "region.img", "/vms/first.mem", "--no-lock"]);
    let mut reader = reader.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    reader.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    sandbox.ok("create region.img /new --size 1");
    let done = Done::from(reader.wait_with_output().unwrap());
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("may mix two states"), "{}", done.stderr);
}

#[test]
fn who_only_shows_what_was_read_keeps_no_writer_waiting() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    // This is more than fits into a pipe.
    let names: Vec<String> = (0..1000).map(|n| format!("/{n:0>200}")).collect();
    let mut line = vec!["mkdir", "region.img"];
    line.extend(names.iter().map(String::as_str));
    assert_eq!(sandbox.run(&line).code, 0);
    for line in ["ls region.img", "tree region.img"] {
        let line: Vec<&str> = line.split(' ').collect();
        let mut pager = sandbox.command(&line).stdout(Stdio::piped()).spawn().unwrap();
        pager.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        sandbox.ok("create region.img /beside --size 1 --wait 0");
        sandbox.ok("rm region.img /beside --wait 0");
        drop(pager.stdout.take());
        pager.wait().unwrap();
    }
}

#[test]
fn the_image_itself_is_no_content_for_it() {
    let sandbox = sandbox();
    std::fs::hard_link(sandbox.path("region.img"), sandbox.path("hard.img")).unwrap();
    std::os::unix::fs::symlink("region.img", sandbox.path("soft.img")).unwrap();
    for source in ["region.img", "hard.img", "soft.img"] {
        sandbox.fails(&format!("put region.img {source} /self"), "it is the image itself");
    }
    let mut command = sandbox.command(&["put", "region.img", "-", "/self"]);
    command.stdin(std::fs::File::open(sandbox.path("hard.img")).unwrap());
    let done = Done::from(command.output().unwrap());
    assert!(done.code == 2 && done.stderr.contains("it is the image itself"), "{done:?}");
    sandbox.fails("save -f region.img -o hard.img", "it is the image itself");
    if let Some(device) = Loop::new(&sandbox.path("region.img"), 0) {
        sandbox.fails(&format!("put region.img {} /self", device.path), "it is the image itself");
        sandbox.fails(&format!("put {} region.img /self", device.path), "it is the image itself");
    }
    assert_eq!(sandbox.ok("ls region.img").text(), "sparse\nvms\n");
}

/// A loop device, which is removed on drop.
pub(crate) struct Loop {
    pub(crate) path: String,
}

impl Loop {
    /// Returns `None` and prints why if there can be no loop device.
    pub(crate) fn new(file: &Path, offset: u64) -> Option<Self> {
        let mut command = Command::new("losetup");
        command.args(["--find", "--show", "--offset", &offset.to_string()]).arg(file);
        let done = command.output().ok().filter(|done| done.status.success());
        let path = done.map(|done| String::from_utf8(done.stdout).unwrap().trim().to_owned());
        if path.is_none() {
            eprintln!("skipped: no loop device can be made here (that takes root)");
        }
        Some(Self { path: path? })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.path]).output();
    }
}

#[test]
fn a_loop_device_and_its_file_exclude_each_other() {
    let sandbox = sandbox();
    let image = sandbox.path("region.img");
    let Some(device) = Loop::new(&image, 0) else { return };
    let Some(nested) = Loop::new(Path::new(&device.path), 0) else { return };
    let names = ["region.img", &device.path, &nested.path];
    for held in names {
        let exclusive = hold(&sandbox.path(held), Mode::Exclusive, None);
        for other in names {
            sandbox.fails(&format!("ls {other} --wait 0"), "is locked by");
            sandbox.fails(&format!("create {other} /x --size 1 --wait 0"), "is locked by");
        }
        drop(exclusive);
        let shared = hold(&sandbox.path(held), Mode::Shared, None);
        for other in names {
            sandbox.ok(&format!("ls {other} --wait 0"));
            sandbox.fails(&format!("create {other} /x --size 1 --wait 0"), "is locked by");
        }
        drop(shared);
    }
    // The same device, through another node.
    let node = sandbox.path("node");
    let meta = std::fs::metadata(&device.path).unwrap();
    let number = std::os::unix::fs::MetadataExt::rdev(&meta);
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &node, rustix::fs::FileType::BlockDevice, mode, number).unwrap();
    let exclusive = hold(&node, Mode::Exclusive, None);
    for other in names {
        sandbox.fails(&format!("create {other} /x --size 1 --wait 0"), "is locked by");
    }
    drop(exclusive);
    sandbox.ok(&format!("create {} /x --size 1", nested.path));
    assert_eq!(sandbox.ok("ls region.img").text(), "sparse\nvms\nx\n");
}

#[test]
fn a_loop_device_over_one_region_leaves_the_other_alone() {
    let sandbox = Sandbox::new();
    std::fs::File::create_new(sandbox.path("two.img")).unwrap().set_len(32 << 20).unwrap();
    let Some(device) = Loop::new(&sandbox.path("two.img"), 16 << 20) else { return };
    sandbox.ok("mkfs two.img --pmd-size 2M --region 16M:0");
    sandbox.ok(&format!("mkfs {} --pmd-size 2M", device.path));
    let held = hold(Path::new(&device.path), Mode::Exclusive, None);
    sandbox.ok("create two.img /a --size 1 --wait 0 --region 16M:0");
    sandbox.fails("create two.img /a --size 1 --wait 0 --region 16M:16M", "is locked by");
    drop(held);
    sandbox.ok("create two.img /a --size 1 --region 16M:16M");
}

/// A process that has mapped part of a file, like the VMM of a guest. It is ended on drop.
pub(crate) struct Guest(Child);

#[test]
fn what_cannot_be_seen_is_said_once() {
    let sandbox = sandbox();
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut processes = all.filter(|name| name.parse::<u32>().is_ok());
    let denied = |name: String| {
        let maps = std::fs::read(format!("/proc/{name}/maps"));
        let command = std::fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        maps.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied) && !command.is_empty()
    };
    let hidden = !Path::new("/proc/1").exists() || processes.any(denied);
    for (line, asks) in
        [("create region.img /x --size 1", true), ("mkdir region.img /d", false), ("ls region.img", false)]
    {
        let line: Vec<&str> = line.split(' ').collect();
        let said = String::from_utf8(sandbox.command(&line).output().unwrap().stderr).unwrap();
        assert_eq!(said.matches(UNSEEN).count(), usize::from(hidden && asks), "{line:?}: {said}");
    }
}

/// The name that the process gives itself.
const GUEST: &str = "a-guest";

impl Guest {
    /// Returns `None` and prints why if there is no Python.
    pub(crate) fn new(path: &Path, span: Span) -> Option<Self> {
        let program = "import mmap, sys
path, offset, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
open('/proc/self/comm', 'w').write('a-guest')
file = open(path, 'r+b')
memory = mmap.mmap(file.fileno(), length, offset=offset)
file.close()
print('mapped', flush=True)
sys.stdin.read()
";
        let mut command = Command::new("python3");
        command.args(["-c", program]).arg(path).args([span.offset.to_string(), span.len.to_string()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: no python3 is here to map a file");
            return None;
        };
        let mut said = [0; 7];
        child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
        Some(Self(child))
    }

    pub(crate) fn named(&self) -> String {
        format!("process {} ({GUEST})", self.0.id())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The location of the file's first extent in the region.
fn extent(sandbox: &Sandbox, image: &str, path: &str) -> Span {
    let file = sandbox.ok(&format!("stat {image} {path} --json")).json()["files"][0].clone();
    let first = &file["extents"][0];
    Span::new(first["address"].as_u64().unwrap(), first["count"].as_u64().unwrap() * BLOCK)
}

/// A region with `/a` and `/b`, with dumps and undo files from before `/b` was created.
fn with_two_files() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok("create region.img /a --size 4M");
    sandbox.ok("dump region.img -o before.meta");
    sandbox.ok("create region.img /b --size 4M");
    sandbox.ok("create region.img /c --size 2M");
    sandbox.write("new", b"new content");
    sandbox
}

fn what_is_mapped_is_refused(sandbox: &Sandbox, image: &str, mapped: &Path) {
    let at = extent(sandbox, image, "/b");
    let Some(guest) = Guest::new(mapped, at) else { return };
    let refuse = |line: &str| {
        let before = sandbox.read("region.img");
        let done = sandbox.gmfs(line);
        let told = format!("/b is mapped by {}", guest.named());
        assert!(done.code == 2 && done.stderr.contains(&told), "{line}: {done:?}");
        assert!(done.stderr.contains("--in-use-ok"), "{line}: {done:?}");
        // Only the superblocks change, which record that a writer was there.
        let changed = before.chunks(4096).zip(sandbox.read("region.img").chunks(4096)).filter(|(a, b)| a != b).count();
        assert!(changed <= 2, "{line}: {changed} pages changed");
    };
    refuse(&format!("rm {image} /b"));
    refuse(&format!("rm -r {image} / /b").replace(" / ", " "));
    refuse(&format!("truncate {image} /b --size 2M"));
    refuse(&format!("put -f {image} new /b"));
    refuse(&format!("mv -f {image} /c /b"));
    refuse(&format!("seal {image} /b"));
    refuse(&format!("seal -n {image} /b"));
    refuse(&format!("mkfs -f {image}"));
    refuse(&format!("restore -y before.meta {image}"));
    // Files that nobody has mapped are sealed all the same.
    let done = sandbox.gmfs(&format!("seal {image} --json"));
    assert_eq!(done.code, 2, "{done:?}");
    let sealed = done.json()["files"].as_array().unwrap().iter().map(|file| file["path"].clone()).collect::<Vec<_>>();
    assert!(sealed.contains(&"/a".into()) && !sealed.contains(&"/b".into()), "{sealed:?}");
    sandbox.ok(&format!("seal {image} /b --in-use-ok"));
    sandbox.ok(&format!("verify {image} /a /b"));
    // Changes that do not affect these blocks succeed.
    sandbox.ok(&format!("truncate {image} /a --size 2M"));
    sandbox.ok(&format!("truncate {image} /b --size 8M"));
    sandbox.ok(&format!("mv {image} /b /still-b"));
    sandbox.ok(&format!("mv {image} /still-b /b"));
    let listed = sandbox.ok(&format!("ls {image} --in-use --json")).json();
    let of = |name: &str| {
        let entries = listed["entries"].as_array().unwrap();
        entries.iter().find(|entry| entry["path"] == name).unwrap()["mapped_by"].clone()
    };
    assert_eq!(of("/b"), serde_json::json!([{ "pid": guest.0.id(), "process": GUEST }]));
    assert_eq!(of("/a"), serde_json::json!([]));
    let shown = format!("{} ({GUEST})", guest.0.id());
    for line in ["ls -l --in-use", "stat --in-use", "inspect --in-use"] {
        let operand = if line.starts_with("inspect") { "files" } else { "/b" };
        assert!(sandbox.ok(&format!("{line} {image} {operand}")).text().contains(&shown), "{line}");
    }
    let plain = sandbox.ok(&format!("stat {image} /b --json")).json();
    assert_eq!(plain["files"][0].get("mapped_by"), None);
    sandbox.ok(&format!("rm {image} /b --in-use-ok"));
    // The blocks are free, but are not allocated.
    let free = sandbox.ok(&format!("inspect {image} --json")).json()["usage"]["free"].as_u64().unwrap();
    let done = sandbox.gmfs(&format!("create {image} /all --size {}M", free * 2));
    let told = format!("2 more belong to no file, but are mapped by {}", guest.named());
    assert!(done.code == 2 && done.stderr.contains(&told), "{done:?}");
    sandbox.ok(&format!("create {image} /most --size {}M", (free - 2) * 2));
    let own = sandbox.ok(&format!("stat {image} /most --json")).json()["files"][0]["extents"].clone();
    for extent in own.as_array().unwrap() {
        let start = extent["address"].as_u64().unwrap();
        let end = start + extent["count"].as_u64().unwrap() * BLOCK;
        assert!(end <= at.offset || start >= at.end(), "{extent} was handed out");
    }
    drop(guest);
    sandbox.ok(&format!("create {image} /rest --size 4M"));
    sandbox.ok(&format!("fsck -n {image}"));
}

#[test]
fn memory_that_is_mapped_stays_with_its_file() {
    let sandbox = with_two_files();
    what_is_mapped_is_refused(&sandbox, "region.img", &sandbox.path("region.img"));
}

#[test]
fn a_map_of_a_loop_device_is_one_of_its_file_and_the_other_way_round() {
    let sandbox = with_two_files();
    let Some(device) = Loop::new(&sandbox.path("region.img"), 0) else { return };
    what_is_mapped_is_refused(&sandbox, "region.img", Path::new(&device.path));
    drop(device);
    let sandbox = with_two_files();
    let Some(device) = Loop::new(&sandbox.path("region.img"), 0) else { return };
    what_is_mapped_is_refused(&sandbox, &device.path, &sandbox.path("region.img"));
}

#[test]
fn an_undo_takes_no_mapped_memory_from_its_file() {
    let sandbox = with_two_files();
    // Restores `/b`, which the undo would remove again.
    sandbox.ok("dump region.img -o with-b.meta");
    sandbox.ok("rm region.img /b");
    sandbox.gmfs("restore -y --undo restored.undo with-b.meta region.img");
    let Some(guest) = Guest::new(&sandbox.path("region.img"), extent(&sandbox, "region.img", "/b")) else { return };
    let told = format!("/b is mapped by {}", guest.named());
    sandbox.fails("undo restored.undo region.img", &told);
    sandbox.fails("undo -f restored.undo region.img", &told);
    assert_eq!(sandbox.gmfs("undo restored.undo region.img --in-use-ok").code, 0);
    assert!(!sandbox.ok("ls region.img").text().contains('b'));
}

#[test]
fn a_repair_leaves_mapped_memory_alone_and_does_the_rest() {
    let sandbox = with_two_files();
    let at = extent(&sandbox, "region.img", "/b");
    sandbox.ok("inject region.img --page 1 --copy A --how zero");
    sandbox.ok("inject region.img --page 2 --copy B --how zero");
    let Some(guest) = Guest::new(&sandbox.path("region.img"), Span::new(0, 4096 * 16)) else { return };
    // Pages of copy A are mapped, and those of copy B are not.
    let done = sandbox.gmfs("fsck -y region.img");
    let told = format!("is mapped by {}", guest.named());
    assert!(done.code & 4 == 4 && done.stderr.contains(&told), "{done:?}");
    drop(guest);
    // A guest that has mapped its own file is not affected.
    let _guest = Guest::new(&sandbox.path("region.img"), at).unwrap();
    assert_eq!(sandbox.gmfs("fsck -y region.img").code, 1);
    sandbox.ok("fsck -n region.img");
}
