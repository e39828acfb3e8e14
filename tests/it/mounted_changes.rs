//! Regions that are changed through a mount. Skipped where nothing can be mounted.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gmfs_io::Span;
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::beside::{Guest, Loop};
use crate::images;
use crate::mounting::{Mounted, output};
use crate::sandbox::Sandbox;

pub(crate) const BLOCK: u64 = 2 << 20;

/// A region file, and a writable mount of it.
pub(crate) fn mounted(size: &str) -> Option<(Sandbox, Mounted)> {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("mkfs region.img --size {size}"));
    let mounted = Mounted::with(&sandbox, "region.img", "rw")?;
    Some((sandbox, mounted))
}

/// Unmounts, and requires a region that a check calls clean.
pub(crate) fn end(sandbox: &Sandbox, mounted: Mounted) {
    mounted.unmount(sandbox);
    clean(sandbox);
}

fn clean(sandbox: &Sandbox) {
    let said = sandbox.ok("fsck -n -f region.img").text();
    assert!(said.ends_with("clean\n"), "{said}");
}

pub(crate) fn log(sandbox: &Sandbox) -> String {
    String::from_utf8(sandbox.read("log")).unwrap()
}

fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| Errno::from_io_error(&error))
}

// ---------------------------------------------------------------------------------------------------------------------

/// Numbers that look random, from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        let first = self.below(256);
        (0..length).map(|n| ((first + n / 3) % 251) as u8).collect()
    }

    /// A path of a few names, so that operations meet.
    fn path(&mut self) -> PathBuf {
        let mut path = PathBuf::new();
        for _ in 0..=self.below(3) / 2 {
            path.push(["a", "b", "c", "d"][self.below(4) as usize]);
        }
        path
    }

    /// An offset or a length: most are small, some are at the ends of blocks, some are large.
    fn offset(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(200),
            1 => (self.below(3) * BLOCK + self.below(9)).saturating_sub(4),
            _ => self.below(5 << 20),
        }
    }
}

/// What one operation did: an error, or what it read.
type Came = Result<Vec<u8>, Errno>;

/// A file that stays open, also when it is removed.
type Held = BTreeMap<u64, File>;

/// One operation below a directory. The numbers were drawn before, so that it is the same in both directories.
#[expect(clippy::too_many_lines, reason = "an arm for each operation")]
fn operate(root: &Path, held: &mut Held, random: &mut Random) -> (String, Came) {
    let (path, other) = (random.path(), random.path());
    let (at, to) = (root.join(&path), root.join(&other));
    let (offset, length) = (random.offset(), random.offset());
    let slot = random.below(3);
    let kind = random.below(18);
    let bytes = random.bytes(length.min(3 << 20));
    let io = |result: std::io::Result<()>| result.map(|()| Vec::new()).map_err(|e| Errno::from_io_error(&e).unwrap());
    let os = |result: rustix::io::Result<()>| result.map(|()| Vec::new());
    let name = path.display();
    match kind {
        0 | 1 => {
            let done = OpenOptions::new().create(true).write(true).truncate(kind == 0).open(&at);
            let done = done.and_then(|file| file.write_all_at(&bytes, offset));
            (format!("write {name} {offset}+{}", bytes.len()), io(done))
        }
        2 => {
            let done = OpenOptions::new().append(true).open(&at).and_then(|mut file| file.write_all(&bytes));
            (format!("append {name} {}", bytes.len()), io(done))
        }
        3 => {
            let done = OpenOptions::new().write(true).open(&at).and_then(|file| file.set_len(offset));
            (format!("truncate {name} {offset}"), io(done))
        }
        4 => {
            let done = OpenOptions::new().write(true).open(&at).map_err(|e| Errno::from_io_error(&e).unwrap());
            let done =
                done.and_then(|file| rustix::fs::fallocate(file, FallocateFlags::empty(), offset, length.max(1)));
            (format!("fallocate {name} {offset}+{length}"), os(done))
        }
        5 => {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let done = OpenOptions::new().write(true).open(&at).map_err(|e| Errno::from_io_error(&e).unwrap());
            let done = done.and_then(|file| rustix::fs::fallocate(file, flags, offset, length.max(1)));
            (format!("punch {name} {offset}+{length}"), os(done))
        }
        6 => (format!("unlink {name}"), os(rustix::fs::unlink(&at))),
        7 => (format!("mkdir {name}"), os(rustix::fs::mkdir(&at, Mode::from_raw_mode(0o755)))),
        8 => (format!("rmdir {name}"), os(rustix::fs::rmdir(&at))),
        9 | 10 => (format!("rename {name} {}", other.display()), os(rustix::fs::rename(&at, &to))),
        11 => {
            let flags = if slot == 0 { RenameFlags::NOREPLACE } else { RenameFlags::EXCHANGE };
            let done = rustix::fs::renameat_with(CWD, &at, CWD, &to, flags);
            (format!("rename {flags:?} {name} {}", other.display()), os(done))
        }
        12 => {
            let mode = 0o600 | (offset % 0o100) as u32;
            (format!("chmod {name} {mode:o}"), os(rustix::fs::chmod(&at, Mode::from_raw_mode(mode))))
        }
        13 => {
            let time = Timespec { tv_sec: 1_500_000_000 + offset as i64, tv_nsec: 7 };
            let times = Timestamps { last_access: time, last_modification: time };
            (format!("times {name} {offset}"), os(rustix::fs::utimensat(CWD, &at, &times, AtFlags::empty())))
        }
        14 => {
            let done = OpenOptions::new().read(true).write(true).open(&at);
            let came = done.map(|file| drop(held.insert(slot, file)));
            (format!("hold {name} as {slot}"), io(came))
        }
        15 => {
            let done = held.get(&slot).map_or(Ok(()), |file| file.write_all_at(&bytes, offset));
            (format!("write held {slot} {offset}+{}", bytes.len()), io(done))
        }
        16 => {
            let mut content = vec![0; bytes.len()];
            let came = held.get(&slot).map_or(Ok(0), |file| file.read_at(&mut content, offset));
            let came = came.map(|length| content[..length].to_vec()).map_err(|e| Errno::from_io_error(&e).unwrap());
            if slot == 2 {
                held.remove(&1);
            }
            (format!("read held {slot} {offset}+{length}"), came)
        }
        _ => (format!("read {name}"), fs::read(&at).map_err(|e| Errno::from_io_error(&e).unwrap())),
    }
}

/// What is at a path: whether it is a directory, its mode, the time that was set, its content.
type Listing = BTreeMap<PathBuf, (bool, u32, Option<i64>, Vec<u8>)>;

/// Whatever is below a directory: its kind, mode, size and content, and the time of files whose time was set.
fn listing(root: &Path) -> Listing {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let set = (1_500_000_000..1_600_000_000).contains(&meta.mtime()).then_some(meta.mtime());
            let content = if meta.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
            assert!(meta.is_dir() || meta.len() == content.len() as u64, "{path:?}");
            let name = path.strip_prefix(root).unwrap().to_owned();
            let set = set.filter(|_| meta.is_file());
            found.insert(name, (meta.is_dir(), meta.mode() & 0o7777, set, content));
            if meta.is_dir() {
                left.push(path);
            }
        }
    }
    found
}

/// The same operations in a mount and in a plain directory come to the same.
#[test]
fn it_is_like_any_directory() {
    let seeds: u64 = std::env::var("GMFS_MOUNT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for seed in 1..=seeds {
        let Some((sandbox, mut mount)) = mounted("256M") else { return };
        let plain = sandbox.path("plain");
        fs::create_dir(&plain).unwrap();
        let start = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = (Random(start), Random(start));
        let mut done = Vec::new();
        for round in 0..2 {
            let mut held = (Held::new(), Held::new());
            for _ in 0..60 {
                let (what, expected) = operate(&plain, &mut held.0, &mut random.0);
                let (_, came) = operate(&mount.at, &mut held.1, &mut random.1);
                done.push(format!("{what}: {:?}", expected.as_ref().map(Vec::len)));
                let history = done.join("\n");
                assert!(came == expected, "seed {seed}: {:?}, not that, after\n{history}", came.map(|read| read.len()));
            }
            drop(held);
            let (expected, shown) = (listing(&plain), listing(&mount.at));
            let names = |all: &Listing| -> Vec<String> {
                all.iter().map(|(path, of)| format!("{path:?} {:o} {:?} {}", of.1, of.2, of.3.len())).collect()
            };
            let history = done.join("\n");
            assert_eq!(names(&shown), names(&expected), "seed {seed} round {round} after\n{history}");
            assert!(shown == expected, "seed {seed} round {round}: content differs after\n{history}");
            end(&sandbox, mount);
            let taken = format!("out{round}");
            sandbox.ok(&format!("extract region.img / {taken}"));
            let plain_content = expected.iter().map(|(path, of)| (path.clone(), of.3.clone()));
            let content = listing(&sandbox.path(&taken)).into_iter().map(|(path, of)| (path, of.3));
            assert!(content.eq(plain_content), "seed {seed} round {round}: what is in the region differs");
            assert_eq!(log(&sandbox), "", "seed {seed}");
            mount = Mounted::with(&sandbox, "region.img", "rw").unwrap();
        }
        end(&sandbox, mount);
    }
}

// ---------------------------------------------------------------------------------------------------------------------

/// Whatever moment the process of a mount is killed at, the region is clean, and what was flushed is there.
#[test]
fn a_killed_mount_leaves_a_clean_region() {
    let Some((sandbox, mut mount)) = mounted("256M") else { return };
    for round in 0..8_u64 {
        let durable: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::default();
        let stop = AtomicBool::new(false);
        let at = mount.at.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random(round + 77);
                for number in 0.. {
                    let name = format!("{round}-{}", number % 6);
                    let path = at.join(&name);
                    durable.lock().unwrap().remove(&name);
                    let content = random.bytes(random.0 % (3 << 20));
                    let wrote = (|| {
                        let file = File::create(&path)?;
                        (&file).write_all(&content)?;
                        file.sync_all()?;
                        fs::rename(&path, at.join("moving"))?;
                        fs::rename(at.join("moving"), &path)?;
                        if number % 3 == 0 {
                            let _ = fs::remove_file(at.join("gone"));
                            fs::create_dir_all(at.join("made"))?;
                            File::create(at.join("gone"))?.set_len(5 << 20)?;
                        }
                        Ok::<_, std::io::Error>(())
                    })();
                    if wrote.is_err() || stop.load(Ordering::Relaxed) {
                        break;
                    }
                    durable.lock().unwrap().insert(name, content);
                }
            });
            std::thread::sleep(Duration::from_millis(150 + round * 137));
            stop.store(true, Ordering::Relaxed);
            mount.kill();
        });
        // Status 0 says that there is no damage. An unfinished change is none: the next writer finishes it.
        sandbox.ok("fsck -n -f region.img");
        mount = Mounted::with(&sandbox, "region.img", "rw").unwrap();
        for (name, content) in durable.into_inner().unwrap() {
            assert!(fs::read(mount.at.join(&name)).unwrap() == content, "round {round}: {name}");
        }
    }
    end(&sandbox, mount);
}

// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn a_file_that_is_removed_while_it_is_open_stays_until_it_is_closed() {
    let Some((sandbox, mount)) = mounted("32M") else { return };
    let at = &mount.at;
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 249) as u8).collect();
    fs::create_dir(at.join("d")).unwrap();
    fs::write(at.join("d/a"), &content).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(at.join("d/a")).unwrap();
    fs::remove_file(at.join("d/a")).unwrap();
    fs::remove_dir(at.join("d")).unwrap();
    assert_eq!(fs::read_dir(at).unwrap().count(), 0);
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    // All the rest of the region is handed out, and none of the file is.
    let error = fs::write(at.join("all"), vec![1; 32 << 20]).unwrap_err();
    assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC));
    let mut read = Vec::new();
    (&file).read_to_end(&mut read).unwrap();
    assert!(read == content);
    fs::remove_file(at.join("all")).unwrap();
    file.write_all_at(b"more", 5 << 20).unwrap();
    // Another file takes the place of one that is open.
    fs::write(at.join("old"), b"old").unwrap();
    fs::write(at.join("new"), b"new").unwrap();
    let mut old = File::open(at.join("old")).unwrap();
    fs::rename(at.join("new"), at.join("old")).unwrap();
    let mut said = String::new();
    old.read_to_string(&mut said).unwrap();
    assert_eq!((said.as_str(), fs::read(at.join("old")).unwrap()), ("old", b"new".to_vec()));
    // Other commands see both as what they are, so that nothing takes their memory.
    assert_eq!(sandbox.ok("ls region.img /").text().matches(".gmfs-removed-").count(), 2);
    drop((file, old));
    // The kernel tells the end of a file when it likes.
    for _ in 0..200 {
        if !sandbox.ok("ls region.img /").text().contains(".gmfs-removed-") {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    end(&sandbox, mount);
    assert_eq!(sandbox.ok("ls region.img /").text().trim(), "old");
    assert_eq!(log(&sandbox), "");
}

#[test]
fn what_a_file_once_held_does_not_come_back() {
    let Some((sandbox, mount)) = mounted("64M") else { return };
    let at = mount.at.join("f");
    type Growth = fn(&File, u64) -> u64;
    let growths: &[(&str, Growth)] = &[
        ("a write in the same block", |file, end| {
            file.write_all_at(&[7; 9], end + 100).unwrap();
            end + 109
        }),
        ("a write in the next block", |file, end| {
            file.write_all_at(&[7; 9], end + BLOCK).unwrap();
            end + BLOCK + 9
        }),
        ("a larger size", |file, end| {
            file.set_len(end + BLOCK + 3).unwrap();
            end + BLOCK + 3
        }),
        ("blocks taken past the end", |file, end| {
            rustix::fs::fallocate(file, FallocateFlags::empty(), end + 5, BLOCK).unwrap();
            end + 5 + BLOCK
        }),
        ("blocks taken past the end, and a size", |file, end| {
            rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, end, BLOCK).unwrap_or_default();
            file.set_len(end + 77).unwrap();
            end + 77
        }),
    ];
    for end in [0, 1, BLOCK / 2, BLOCK, BLOCK + 4097] {
        for (name, grow) in growths {
            fs::write(&at, vec![0xff; 2 * BLOCK as usize + 5]).unwrap();
            let file = OpenOptions::new().write(true).open(&at).unwrap();
            file.set_len(end).unwrap();
            let size = grow(&file, end);
            drop(file);
            let now = sandbox.ok("cat region.img /f").stdout;
            let (kept, added) = now.split_at(end as usize);
            assert!(kept.iter().all(|byte| *byte == 0xff), "{name} after {end} bytes");
            assert!(added.iter().all(|byte| matches!(byte, 0 | 7)), "{name} after {end} bytes");
            assert_eq!(now.len() as u64, size, "{name} after {end} bytes");
        }
    }
    end(&sandbox, mount);
}

#[test]
fn content_that_is_overwritten_loses_its_seal() {
    let Some((sandbox, mount)) = mounted("64M") else { return };
    fs::write(mount.at.join("a"), vec![1; 7 << 20]).unwrap();
    sandbox.ok("seal region.img");
    let file = OpenOptions::new().write(true).open(mount.at.join("a")).unwrap();
    file.write_all_at(b"x", 3 << 20).unwrap();
    let told = sandbox.gmfs("verify region.img --json").json();
    let file_told = &told["files"][0];
    assert_eq!(told["result"], "unknown", "a part has no seal: {told}");
    assert_eq!((&file_told["blocks_changed"], &file_told["blocks_same"]), (&0.into(), &3.into()));
    drop(file);
    end(&sandbox, mount);
    assert_eq!(sandbox.ok("fsck -n --data region.img").code, 0);
}

#[test]
fn memory_of_a_guest_is_not_touched() {
    let Some((sandbox, mount)) = mounted("32M") else { return };
    for name in ["a", "b"] {
        fs::write(mount.at.join(name), vec![1; 4 << 20]).unwrap();
    }
    let told = sandbox.ok("stat region.img /a --json").json();
    let first = &told["files"][0]["extents"][0];
    let span = Span::new(first["address"].as_u64().unwrap(), 4 << 20);
    let Some(guest) = Guest::new(&sandbox.path("region.img"), span) else { return };
    std::thread::sleep(Duration::from_millis(200));
    let a = mount.at.join("a");
    let open = || OpenOptions::new().write(true).open(&a).unwrap();
    let holder = open();
    assert_eq!(errno(holder.write_all_at(b"x", 0)), Some(Errno::BUSY));
    assert_eq!(errno(open().set_len(1)), Some(Errno::BUSY));
    assert_eq!(errno(fs::remove_file(&a)), Some(Errno::BUSY));
    assert_eq!(errno(fs::rename(mount.at.join("b"), &a)), Some(Errno::BUSY));
    drop(holder);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(errno(fs::remove_file(&a)), Some(Errno::BUSY));
    assert!(
        log(&sandbox).contains(&format!("cannot change /a: /a is mapped by {}", guest.named())),
        "{}",
        log(&sandbox)
    );
    // Its name can change.
    fs::rename(&a, mount.at.join("c")).unwrap();
    drop(guest);
    std::thread::sleep(Duration::from_millis(200));
    fs::remove_file(mount.at.join("c")).unwrap();
    end(&sandbox, mount);
}

#[test]
fn what_other_commands_change_meanwhile_is_noticed() {
    let Some((sandbox, mount)) = mounted("64M") else { return };
    let at = &mount.at;
    fs::write(at.join("a"), b"first").unwrap();
    let file = OpenOptions::new().read(true).write(true).open(at.join("a")).unwrap();
    file.write_all_at(b"F", 0).unwrap();
    // An idle mount holds no lock.
    sandbox.write("other", b"other");
    sandbox.ok("put region.img other /b --wait 0");
    sandbox.ok("create region.img /c --size 8M --wait 0");
    fs::write(at.join("d"), vec![4; 6 << 20]).unwrap();
    assert_eq!(fs::read(at.join("b")).unwrap(), b"other");
    assert_eq!(fs::read(at.join("c")).unwrap(), vec![0; 8 << 20]);
    // The file was not changed by them, so that its record is written.
    file.sync_all().unwrap();
    assert_eq!(sandbox.ok("cat region.img /a").stdout, b"First");
    drop(file);
    // Somebody else changes it. A process of its own writes, because a program that this one starts closes, and so
    // flushes, what is open here.
    let script = "import os
file = os.open('mnt/a', os.O_RDWR)
os.pwrite(file, b'longer than it was', 0)
print('written', flush=True)
input()
os.fsync(file)
";
    let mut python = Command::new("python3");
    python.args(["-c", script]).current_dir(sandbox.path(".")).env("LC_ALL", "C");
    let Ok(mut writing) = python.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() else {
        eprintln!("skipped: no python3 is here to write to a file");
        return;
    };
    writing.stdout.as_mut().unwrap().read_exact(&mut [0; 8]).unwrap();
    sandbox.ok("truncate region.img /a --size 3 --wait 0");
    writing.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let done = writing.wait_with_output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && said.contains("Input/output error"), "{said}");
    assert!(log(&sandbox).contains("what was written to /a last may not be in it"), "{}", log(&sandbox));
    // Somebody else removes it, and its inode becomes another file.
    let file = OpenOptions::new().write(true).open(at.join("a")).unwrap();
    sandbox.ok("rm region.img /a --wait 0");
    sandbox.ok("put region.img other /e --wait 0");
    assert_eq!(errno(file.write_all_at(b"x", 0)), Some(Errno::STALE));
    assert_eq!(fs::read(at.join("e")).unwrap(), b"other");
    drop(file);
    end(&sandbox, mount);
}

#[test]
fn what_cannot_be_changed_is_refused_with_what_to_do() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    fs::create_dir(sandbox.path("mnt")).unwrap();
    sandbox.ok("dump region.img -o region.meta");
    let done = sandbox.fails("mount region.meta mnt -o rw", "cannot mount region.meta for changing");
    assert!(done.stderr.contains("next: -o ro mounts it for reading"), "{done:?}");
    sandbox.ok("inject region.img GM0301");
    let done = sandbox.fails("mount region.img mnt -o rw", "the region is damaged and is not changed");
    assert!(done.stderr.contains("-o ro mounts it as it is"), "{done:?}");
    let Some(mount) = Mounted::with(&sandbox, "region.meta", "ro") else { return };
    assert_eq!(errno(File::create(mount.at.join("x"))), Some(Errno::ROFS));
    assert_eq!(errno(fs::create_dir(mount.at.join("x"))), Some(Errno::ROFS));
    mount.unmount(&sandbox);
}

/// fio writes a file, and reads it back.
fn verified_by_fio(sandbox: &Sandbox) {
    if Command::new("fio").arg("--version").output().is_ok() {
        for engine in ["psync", "mmap"] {
            let fio = ["--name=v", "--filename=mnt/fio", "--size=16M", "--rw=randwrite", "--bs=64k", "--verify=crc32c"];
            let more = ["--verify_fatal=1", "--do_verify=1", "--randseed=7", "--fallocate=none", "--end_fsync=1"];
            let args: Vec<String> = fio.iter().chain(&more).map(|arg| (*arg).to_owned()).collect();
            let engine = format!("--ioengine={engine}");
            let args: Vec<&str> = args.iter().map(String::as_str).chain([engine.as_str()]).collect();
            output("fio", &args, sandbox);
            fs::remove_file(sandbox.path("mnt/fio")).unwrap();
        }
    } else {
        eprintln!("skipped: no fio is here");
    }
}

#[test]
fn programs_work_in_a_mount() {
    let Some((sandbox, mount)) = mounted("128M") else { return };
    let tree = sandbox.path("tree");
    fs::create_dir_all(tree.join("some/where")).unwrap();
    let content: Vec<u8> = (0..9_000_001_u32).map(|n| (n / 5 % 253) as u8).collect();
    fs::write(tree.join("some/where/large"), &content).unwrap();
    fs::write(tree.join("some/small name"), b"small").unwrap();
    fs::write(tree.join("empty"), b"").unwrap();
    fs::set_permissions(tree.join("empty"), fs::Permissions::from_mode(0o640)).unwrap();
    output("touch", &["-d", "2020-02-03 04:05:06", "tree/some/small name", "tree/some/where", "tree/some"], &sandbox);
    output("cp", &["-a", "tree", "mnt/copy"], &sandbox);
    let details = |at: &str| output("find", &[at, "-printf", "%P %y %m %s\\n"], &sandbox);
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).filter(|line| !line.contains(" d ")).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(details("mnt/copy")), sorted(details("tree")));
    let time = |path: &str| fs::metadata(sandbox.path(path)).unwrap().mtime();
    for path in ["some/small name", "some/where", "some"] {
        assert_eq!(time(&format!("mnt/copy/{path}")), time(&format!("tree/{path}")), "{path}");
    }
    output("diff", &["-r", "tree", "mnt/copy"], &sandbox);
    if Command::new("rsync").arg("--version").output().is_ok() {
        output("rsync", &["-a", "tree/", "mnt/synced"], &sandbox);
        fs::write(tree.join("some/small name"), b"changed").unwrap();
        output("rsync", &["-a", "--inplace", "--checksum", "tree/", "mnt/synced"], &sandbox);
        output("diff", &["-r", "tree", "mnt/synced"], &sandbox);
        output("rm", &["-r", "mnt/synced"], &sandbox);
    } else {
        eprintln!("skipped: no rsync is here");
    }
    let python = "import mmap, sys
file = open(sys.argv[1], 'r+b')
memory = mmap.mmap(file.fileno(), 0)
assert memory[4000000:4000003] == bytes([(n // 5) % 253 for n in range(4000000, 4000003)])
memory[4000000:4000006] = b'mapped'
memory[8999990:8999996] = b'mapped'
memory.flush()
memory.close()
";
    match Command::new("python3").args(["-c", python]).arg(sandbox.path("mnt/copy/some/where/large")).output() {
        Ok(done) => {
            assert!(done.status.success(), "{done:?}");
            let mut expected = content;
            expected[4_000_000..4_000_006].copy_from_slice(b"mapped");
            expected[8_999_990..8_999_996].copy_from_slice(b"mapped");
            assert!(sandbox.ok("cat region.img /copy/some/where/large").stdout == expected);
        }
        Err(_) => eprintln!("skipped: no python3 is here to map a file"),
    }
    verified_by_fio(&sandbox);
    output("df", &["mnt"], &sandbox);
    output("rm", &["-r", "mnt/copy"], &sandbox);
    assert_eq!(output("find", &["mnt", "-mindepth", "1"], &sandbox), "");
    end(&sandbox, mount);
    assert_eq!(log(&sandbox), "");
}

/// mount(8) calls the helper of either type, with what it makes of the options of a line of /etc/fstab.
#[test]
fn a_block_device_is_changed_like_a_file() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 32M");
    let Some(device) = Loop::new(&sandbox.path("region.img"), 0) else { return };
    let Some(mount) = Mounted::with(&sandbox, &device.path, "rw") else { return };
    let content: Vec<u8> = (0..5 << 20).map(|at| (at % 251) as u8).collect();
    let made = File::create(mount.at.join("a")).unwrap();
    made.write_all_at(&content, 0).unwrap();
    made.write_all_at(b"other", 3 << 20).unwrap();
    made.sync_all().unwrap();
    // What was synced is on the device, and in the file behind it, while the mount goes on.
    let mut expected = content.clone();
    expected[3 << 20..(3 << 20) + 5].copy_from_slice(b"other");
    let now = sandbox.ok("cat region.img /a").stdout;
    let differs = (0..expected.len()).find(|at| now.get(*at) != expected.get(*at));
    assert_eq!((now.len(), differs), (expected.len(), None), "{:?}", sandbox.ok("stat region.img /a").text());
    fs::create_dir(mount.at.join("d")).unwrap();
    fs::rename(mount.at.join("a"), mount.at.join("d/b")).unwrap();
    File::create(mount.at.join("c")).unwrap().set_len(4 << 20).unwrap();
    fs::remove_file(mount.at.join("c")).unwrap();
    drop(made);
    mount.unmount(&sandbox);
    drop(device);
    clean(&sandbox);
    assert!(sandbox.ok("cat region.img /d/b").stdout == expected);
}

#[test]
fn mount_8_mounts_by_fstab() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 32M");
    let (at, fstab) = (sandbox.path("mnt"), sandbox.path("fstab"));
    fs::create_dir(&at).unwrap();
    let image = sandbox.path("region.img");
    let image = image.display();
    let rows = [
        ("gmfs", "defaults,noauto,nofail,_netdev,x-systemd.automount,x-gvfs-hide", "rw"),
        ("gmfs", "ro,user,noauto,nofail", "ro"),
        ("fuse.gmfs", "rw,exec,noatime,comment=x,wait=3", "rw"),
        ("fuse.gmfs", "ro", "ro"),
    ];
    // In a namespace of its own, where the folder of the helpers has these alone.
    let script =
        "mount -t tmpfs none /usr/sbin && ln -s \"$1\" /usr/sbin/mount.gmfs && ln -s \"$1\" /usr/sbin/mount.fuse.gmfs \
        && [ /sbin -ef /usr/sbin ] || { echo impossible; exit; }
        mount --fstab \"$2\" \"$3\" && grep \" $3 \" /proc/self/mountinfo | cut -d ' ' -f 6; umount \"$3\"";
    for (kind, options, access) in rows {
        fs::write(&fstab, format!("{image} {} {kind} {options} 0 0\n", at.display())).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", crate::sandbox::GMFS]).args([&fstab, &at]);
        let Ok(done) = command.env("LC_ALL", "C").output() else {
            eprintln!("skipped: no unshare is here");
            return;
        };
        let (said, told) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        if said.contains("impossible") || told.contains("unshare failed") || told.contains("FUSE cannot mount") {
            eprintln!("skipped: {told}");
            return;
        }
        assert!(said.starts_with(access), "{kind} {options}: {said} {told}");
    }
    clean(&sandbox);
}

#[test]
fn a_full_region_says_so() {
    let Some((sandbox, mount)) = mounted("16M") else { return };
    let file = File::create(mount.at.join("f")).unwrap();
    let mut written = 0;
    let error = loop {
        match file.write_all_at(&[1; 1 << 20], written) {
            Ok(()) => written += 1 << 20,
            Err(error) => break error,
        }
    };
    assert_eq!(Errno::from_io_error(&error), Some(Errno::NOSPC));
    assert_eq!(written % BLOCK, 0);
    assert_eq!(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 100 << 20), Err(Errno::NOSPC));
    drop(file);
    assert_eq!(fs::read(mount.at.join("f")).unwrap(), vec![1; written as usize]);
    let mut made = 0;
    let error = loop {
        match File::create(mount.at.join(format!("n{made}"))) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(made > 3 && Errno::from_io_error(&error) == Some(Errno::NOSPC), "{made}: {error}");
    end(&sandbox, mount);
}
