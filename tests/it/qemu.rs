//! Virtual machines with a real QEMU, which `GMFS_QEMU` names: 8.2 or newer, for example that of `scripts/newer-qemu.sh`.
//! Without it these tests say so, and are skipped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gmfs_testing::guest::{self, Counted};
use serde_json::{Value, json};

use crate::sandbox::Sandbox;

/// The guest's serial port is a file, and each QEMU adds to it.
const SERIAL: &str = "-chardev file,id=serial,path=serial,append=on -serial chardev:serial";

/// A region, a guest's firmware, and QEMU.
struct Scene {
    sandbox: Sandbox,
    qemu: String,
    /// All QEMUs and programs that wait for one, which end with the test.
    children: Vec<Child>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        // A QEMU that `vm resume` has started outlives it.
        let listed = self.sandbox.gmfs("vm list region.img --json").stdout;
        let listed: Value = serde_json::from_slice(&listed).unwrap_or_default();
        for guest in listed["guests"].as_array().into_iter().flatten() {
            for user in guest["mapped_by"].as_array().into_iter().flatten() {
                let _ = Command::new("kill").args(["-KILL", &user["pid"].to_string()]).status();
            }
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Scene {
    /// `None` where there is no such QEMU. The guest suspends itself after so many lines, or never.
    fn new(suspend: u32) -> Option<Self> {
        let Some(qemu) = std::env::var_os("GMFS_QEMU").map(PathBuf::from) else {
            // The harness hides what eprintln prints.
            let _ = writeln!(std::io::stderr(), "skipped: GMFS_QEMU names no QEMU, as scripts/newer-qemu.sh prints it");
            return None;
        };
        let sandbox = Sandbox::new();
        sandbox.write("firmware", &guest::firmware(suspend));
        std::fs::File::create(sandbox.path("region.img")).unwrap().set_len(64 << 20).unwrap();
        sandbox.ok("mkfs region.img");
        Some(Self { sandbox, qemu: qemu.to_str().unwrap().to_owned(), children: Vec::new() })
    }

    /// QEMU's command line, without what gmfs adds.
    fn qemu(&self, more: &str) -> String {
        format!("{} -accel tcg -nodefaults -display none -bios firmware {more}", self.qemu)
    }

    /// Starts a program that goes on beside the test.
    fn start(&mut self, mut command: Command) {
        command.stdout(Stdio::null()).stderr(std::fs::File::create(self.sandbox.path("log")).unwrap());
        self.children.push(command.spawn().unwrap());
    }

    fn gmfs(&mut self, line: &str) {
        let command = self.sandbox.command(&line.split_whitespace().collect::<Vec<_>>());
        self.start(command);
    }

    /// Starts a guest, and waits until it has written some lines.
    fn run(&mut self, directory: &str, qmp: &str, arguments: &str) {
        let line = format!("vm run region.img {directory} --memory 8M --qmp {qmp} -- {}", self.qemu(arguments));
        self.gmfs(&line);
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let began = Instant::now();
        while !is_so() {
            let log = || String::from_utf8_lossy(&self.sandbox.read("log")).into_owned();
            assert!(began.elapsed() < Duration::from_secs(60), "{what}: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn output(&self, serial: &str) -> String {
        std::fs::read_to_string(self.sandbox.path(serial)).unwrap_or_default()
    }

    /// What the guest has written in all of its QEMUs, once that is more than `before`.
    fn counts(&self, serial: &str, before: u32) -> Counted {
        let now = || guest::counted(&self.output(serial));
        self.until("the guest goes on", || match now() {
            Ok(counted) => counted.last > before,
            Err(broken) => {
                assert!(!self.output(serial).contains('\n'), "{broken}");
                false
            }
        });
        now().unwrap()
    }

    /// Has a QEMU carry out commands, and gives what the last one returns.
    fn qmp(&self, socket: &str, commands: &[&str]) -> Value {
        let path = self.sandbox.path(socket);
        self.until("QEMU listens", || path.exists());
        let stream = UnixStream::connect(path).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut returned = Value::Null;
        for command in ["qmp_capabilities"].iter().chain(commands) {
            writeln!(&stream, "{}", json!({ "execute": command })).unwrap();
            returned = loop {
                let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
                assert!(answer.get("error").is_none(), "{command}: {answer}");
                if let Some(returned) = answer.get("return") {
                    break returned.clone();
                }
            };
        }
        returned
    }

    fn status(&self, socket: &str) -> String {
        self.qmp(socket, &["query-status"])["status"].as_str().unwrap().to_owned()
    }

    fn states(&self) -> Vec<String> {
        let guests = self.sandbox.succeeds("vm list region.img --json").json()["guests"].clone();
        guests.as_array().unwrap().iter().map(|guest| guest["state"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_guest_goes_on_where_it_was_once() {
    let Some(mut scene) = Scene::new(0) else { return };
    scene.run("/vms/a", "qmp", SERIAL);
    let before = scene.counts("serial", 3);
    scene.sandbox.fails("vm run region.img /vms/a --qmp q2 -- /bin/true", "does not answer as QEMU does");
    let second = format!("vm run region.img /vms/a --qmp q2 -- {}", scene.qemu(""));
    scene.sandbox.fails(&second, "its memory is in use by process");
    scene.sandbox.fails("rm region.img /vms/a/mem", "/vms/a/mem is mapped by process");
    scene.sandbox.ok("vm save region.img /vms/a");
    let saved = scene.counts("serial", before.last);
    assert_eq!((saved.first, saved.sum), (1, before.sum));
    // State, memory and record.
    scene.sandbox.ok("verify region.img");
    scene.sandbox.fails(&second, "the guest was saved");

    // A QEMU without the serial port cannot take the state, and leaves it as it is.
    let without = format!("vm resume region.img /vms/a -- {}", scene.qemu("-serial none"));
    let refused = scene.sandbox.gmfs(&without);
    assert!(refused.code == 2 && refused.stderr.contains("the state was not used"), "{refused:?}");
    assert!(refused.stderr.contains("QEMU ended: exit status: 1"), "{refused:?}");
    assert_eq!(scene.states(), ["saved"]);
    scene.sandbox.ok("verify region.img");

    scene.gmfs("vm resume region.img /vms/a");
    let after = scene.counts("serial", saved.last + 3);
    assert_eq!((after.first, after.sum), (1, saved.sum));
    assert_eq!(scene.states(), ["running"]);
    scene.sandbox.fails("vm resume region.img /vms/a", "its state was used already");
    // The next migration takes the memory along.
    let parameters = scene.qmp("qmp", &["query-migrate-parameters"]);
    assert_eq!(parameters["mode"], "normal");

    // Once more, by way of a pause, and without the record's arguments.
    assert_eq!(scene.qmp("qmp", &["stop", "query-status"])["status"], "paused");
    let paused = guest::counted(&scene.output("serial")).unwrap();
    let said = scene.sandbox.ok("vm save region.img /vms/a").text();
    assert!(said.contains("it was paused, and will be"), "{said}");
    let line = format!("vm resume region.img /vms/a -- {}", scene.qemu(SERIAL));
    scene.gmfs(&line);
    scene.until("it is loaded", || scene.states() == ["running"]);
    scene.until("it is paused", || scene.status("qmp") == "paused");
    assert_eq!(guest::counted(&scene.output("serial")).unwrap(), paused);
    scene.qmp("qmp", &["cont"]);
    let last = scene.counts("serial", paused.last + 3);
    assert_eq!((last.first, last.sum), (1, before.sum));
    scene.qmp("qmp", &["quit"]);
    scene.until("QEMU has ended", || scene.states() == ["stopped"]);
    scene.sandbox.ok("fsck -n region.img");
}

/// Devices that are passed through can be saved only while the guest is suspended.
#[test]
fn a_guest_that_has_suspended_itself_is_still_suspended() {
    let Some(mut scene) = Scene::new(5) else { return };
    scene.run("/vms/a", "qmp", SERIAL);
    let before = scene.counts("serial", 4);
    scene.until("it suspends itself", || scene.status("qmp") == "suspended");
    scene.sandbox.ok("vm save region.img /vms/a");
    scene.gmfs("vm resume region.img /vms/a");
    scene.until("it is loaded", || scene.states() == ["running"]);
    scene.until("it is suspended", || scene.status("qmp") == "suspended");
    assert_eq!(guest::counted(&scene.output("serial")).unwrap(), before);
    // It starts anew, writes, and suspends itself again.
    let written = scene.output("serial").len();
    scene.qmp("qmp", &["system_wakeup"]);
    scene.until("it wakes up", || scene.output("serial").len() > written);
}

/// A QEMU that the user has started takes the guest and the lock; its memory is in two places.
#[test]
fn a_guest_with_two_extents_is_given_to_a_qemu_that_waits() {
    let Some(mut scene) = Scene::new(0) else { return };
    let space = scene.sandbox.ok("df region.img --json").json()["stores"][0]["space"].clone();
    let free = space["free_bytes"].as_u64().unwrap();
    scene.sandbox.ok("create region.img /one --size 4M");
    scene.sandbox.ok("create region.img /two --size 2M");
    scene.sandbox.ok(&format!("create region.img /three --size {}", free - (10 << 20)));
    scene.sandbox.ok("rm region.img /one");
    scene.sandbox.ok("mkdir region.img /vms");
    scene.sandbox.ok("mkdir region.img /vms/a");
    scene.sandbox.ok("create region.img /vms/a/mem --size 8M");
    scene.sandbox.ok("rm region.img /three");
    let mapped = scene.sandbox.succeeds("map region.img /vms/a/mem --vmm qemu").text();
    assert_eq!(mapped.matches("memory-backend-file").count(), 2, "{mapped}");
    scene.run("/vms/a", "qmp", SERIAL);
    scene.counts("serial", 3);
    scene.sandbox.ok("vm save region.img /vms/a");
    let saved = guest::counted(&scene.output("serial")).unwrap();

    let waiting = format!("-m 8M {mapped} -S -incoming defer -qmp unix:waiting,server=on,wait=off {SERIAL}");
    let line = scene.qemu(&waiting);
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).current_dir(scene.sandbox.path(""));
    scene.start(command);
    scene.until("QEMU listens", || UnixStream::connect(scene.sandbox.path("waiting")).is_ok());
    scene.sandbox.ok("vm resume region.img /vms/a --qmp waiting");
    let after = scene.counts("serial", saved.last + 3);
    assert_eq!((after.first, after.sum), (1, saved.sum));
    scene.sandbox.fails("rm region.img /vms/a/mem", "/vms/a/mem is mapped by process");
    scene.sandbox.ok("vm save region.img /vms/a --qmp waiting");
    assert_eq!(scene.states(), ["saved"]);
}

/// If one of several guests cannot be saved, the others go on.
#[test]
fn all_guests_are_saved_or_go_on() {
    let Some(mut scene) = Scene::new(0) else { return };
    scene.run("/vms/a", "qmp", SERIAL);
    scene.run("/vms/b", "qmp2", &SERIAL.replace("path=serial", "path=serial2"));
    let before = [scene.counts("serial", 3), scene.counts("serial2", 3)];
    scene.until("both are there", || scene.states() == ["running", "running"]);
    std::fs::rename(scene.sandbox.path("qmp2"), scene.sandbox.path("away")).unwrap();
    scene.sandbox.fails_with(2, "vm save region.img --all --reserve 4M", "cannot save '/vms/b'");
    let after = scene.counts("serial", before[0].last + 3);
    assert_eq!((after.first, after.sum), (1, before[0].sum));
    assert_eq!(scene.qmp("qmp", &["query-migrate-parameters"])["mode"], "normal");
    std::fs::rename(scene.sandbox.path("away"), scene.sandbox.path("qmp2")).unwrap();
    let saved = scene.sandbox.ok("vm save region.img --all --reserve 4M").text();
    assert_eq!(saved.lines().count(), 2, "{saved}");
    assert_eq!(scene.states(), ["saved", "saved"]);
    scene.sandbox.ok("verify region.img");
    scene.gmfs("vm resume region.img /vms/b");
    let after = scene.counts("serial2", before[1].last + 3);
    assert_eq!((after.first, after.sum), (1, before[1].sum));
}
