//! Regions mounted by FUSE. Skipped where that is not possible.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::sandbox::{Done, GMFS, Sandbox};

/// A mount in the foreground, which is taken away whatever happens to the test.
pub(crate) struct Mounted {
    process: Option<Child>,
    pub(crate) at: PathBuf,
}

fn is_mounted(at: &Path) -> bool {
    let at = at.canonicalize().unwrap_or_else(|_| at.to_owned());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == at.to_str())
}

impl Mounted {
    /// Mounts an image on `mnt`, to be read. `None` where nothing can be mounted.
    fn new(sandbox: &Sandbox, image: &str) -> Option<Self> {
        Self::with(sandbox, image, "ro")
    }

    /// Mounts an image on `mnt`, with options of mount(8).
    pub(crate) fn with(sandbox: &Sandbox, image: &str, options: &str) -> Option<Self> {
        let at = sandbox.path("mnt");
        fs::create_dir_all(&at).unwrap();
        let mut process = sandbox
            .command(&["mount", image, "mnt", "--foreground", "--log", "log", "-o", options])
            .stderr(File::create(sandbox.path("said")).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while !is_mounted(&at) {
            if process.try_wait().unwrap().is_some() {
                let said = fs::read_to_string(sandbox.path("said")).unwrap();
                assert!(said.contains("FUSE cannot mount"), "{said}");
                eprintln!("skipped: {said}");
                return None;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "it is not mounted after a minute");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self { process: Some(process), at })
    }

    /// Waits until the process has ended, and gives its status.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.process.take().unwrap().wait().unwrap().code()
    }

    /// Unmounts it, and waits until its process has ended.
    pub(crate) fn unmount(self, sandbox: &Sandbox) {
        let done = sandbox.gmfs("umount mnt");
        assert_eq!((done.code, done.stderr.as_str()), (0, ""));
        assert_eq!(self.ended(), Some(0));
    }

    /// Kills its process, and takes the mount away.
    pub(crate) fn kill(mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

pub(crate) fn output(program: &str, args: &[&str], sandbox: &Sandbox) -> String {
    let done = Command::new(program).args(args).current_dir(sandbox.path(".")).env("LC_ALL", "C").output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// A region with files of several blocks, and what is in them.
fn region(sandbox: &Sandbox) -> Vec<u8> {
    let content: Vec<u8> = (0..5_000_000_u32).map(|n| (n / 7 % 251) as u8).collect();
    sandbox.write("content", &content);
    sandbox.ok("mkfs region.img --size 64M");
    sandbox.ok("mkdir region.img /vms");
    sandbox.ok("put region.img content /vms/a.mem");
    sandbox.ok("create region.img /vms/empty --size 0");
    content
}

#[test]
fn programs_read_a_mounted_region() {
    let sandbox = Sandbox::new();
    let content = region(&sandbox);
    let before = sandbox.read("region.img");
    let Some(mounted) = Mounted::new(&sandbox, "region.img") else { return };

    output("cp", &["-a", "mnt/vms", "copy"], &sandbox);
    assert_eq!(sandbox.read("copy/a.mem"), content);
    assert_eq!(sandbox.read("copy/empty"), b"");
    let sums = output("sha256sum", &["content", "mnt/vms/a.mem"], &sandbox);
    let sums: Vec<&str> = sums.lines().map(|line| &line[..64]).collect();
    assert_eq!(sums[0], sums[1]);
    let mut found: Vec<String> = output("find", &["mnt", "-type", "f"], &sandbox).lines().map(str::to_owned).collect();
    found.sort();
    assert_eq!(found, ["mnt/vms/a.mem", "mnt/vms/empty"]);
    // Any part of it, also past the end.
    let mut file = File::open(sandbox.path("mnt/vms/a.mem")).unwrap();
    file.seek(SeekFrom::Start(4_999_990)).unwrap();
    let mut end = Vec::new();
    file.read_to_end(&mut end).unwrap();
    assert_eq!(end, content[4_999_990..]);
    drop(file);

    // As the driver of guestmemfs has it.
    let root = fs::metadata(sandbox.path("mnt")).unwrap();
    assert_eq!((root.ino(), root.nlink()), (1, 2));
    let usage = sandbox.ok("inspect region.img --json").json();
    let (free, inodes) = (usage["statfs"]["f_bfree"].clone(), usage["statfs"]["f_files"].clone());
    let told = output("stat", &["-f", "-c", "%S %s %b %f %c", "mnt"], &sandbox);
    assert_eq!(told.trim(), format!("2097152 2097152 32 {free} {inodes}"));
    output("df", &["mnt"], &sandbox);

    // Nothing can be changed.
    let denied = fs::write(sandbox.path("mnt/x"), b"x").unwrap_err();
    assert_eq!(denied.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
    assert!(sandbox.read("region.img") == before, "the mount has written");

    // It holds no lock, and what others change shows.
    sandbox.ok("put region.img content /second --wait 0");
    assert_eq!(sandbox.read("mnt/second"), content);
    sandbox.ok("rm region.img /vms/a.mem --wait 0");
    assert!(!sandbox.exists("mnt/vms/none"));

    assert_eq!(sandbox.ok("umount mnt").text(), "");
    assert_eq!(mounted.ended(), Some(0));
    sandbox.fails("umount mnt", "it is no mount of gmfs");
    assert_eq!(sandbox.read("log"), b"", "nothing was to be reported");
}

#[test]
fn what_is_not_there_is_an_error_and_no_zeros() {
    let sandbox = Sandbox::new();
    region(&sandbox);
    // It has the metadata, and no content.
    sandbox.ok("dump region.img -o region.meta");
    let Some(mounted) = Mounted::new(&sandbox, "region.meta") else { return };
    for _ in 0..2 {
        let error = fs::read(sandbox.path("mnt/vms/a.mem")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()));
    }
    assert_eq!(sandbox.read("mnt/vms/empty"), b"");
    let log = String::from_utf8(sandbox.read("log")).unwrap();
    assert!(log.starts_with("gmfs: cannot read /vms/a.mem from byte 0 on: ") && log.lines().count() == 1, "{log}");
    drop(mounted);
}

#[test]
fn an_interrupt_unmounts() {
    let sandbox = Sandbox::new();
    region(&sandbox);
    let Some(mounted) = Mounted::new(&sandbox, "region.img") else { return };
    let process = rustix::process::Pid::from_child(mounted.process.as_ref().unwrap());
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let at = mounted.at.clone();
    assert_eq!(mounted.ended(), Some(0));
    assert!(!is_mounted(&at));
}

#[test]
fn a_mount_stays_in_the_background() {
    let sandbox = Sandbox::new();
    let content = region(&sandbox);
    let Some(mounted) = Mounted::new(&sandbox, "region.img") else { return };
    drop(mounted);
    // By the name that mount(8) calls.
    symlink(GMFS, sandbox.path("mount.gmfs")).unwrap();
    let called = |args: &[&str]| -> Done {
        Command::new(sandbox.path("mount.gmfs")).args(args).current_dir(sandbox.path(".")).output().unwrap().into()
    };
    let done = called(&["region.img", "mnt", "-o", "ro,noauto,x-test,log=log"]);
    assert_eq!((done.code, done.text().as_str()), (0, ""), "{done:?}");
    let read = fs::read(sandbox.path("mnt/vms/a.mem"));
    sandbox.ok("umount mnt");
    assert!(read.unwrap() == content);
    // What cannot be mounted is told before anything stays.
    sandbox.write("other", b"no region");
    let done = called(&["other", "mnt"]);
    assert!(done.code == 2 && done.stderr.contains("other"), "{done:?}");
}

#[test]
fn options_that_cannot_apply_are_refused() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 16M");
    fs::create_dir(sandbox.path("mnt")).unwrap();
    sandbox.fails("mount region.img mnt -o rw,no_lock", "rw and no_lock exclude each other");
    sandbox.fails("mount region.img mnt -o remount,ro", "unmount it");
    sandbox.fails("mount region.img mnt -o frobnicate", "is not known");
    sandbox.fails("mount region.img mnt -o wait=x", "has no number of seconds");
    sandbox.fails("mount region.img mnt -o region=x", "is no range");
    sandbox.fails("mount region.img region.img", "is not a directory");
    sandbox.fails("mount region.img none", "none");
    sandbox.fails("umount mnt", "it is no mount of gmfs");
}
