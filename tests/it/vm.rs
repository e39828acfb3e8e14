//! Virtual machines: with a QEMU of the tests' own, which does what a test wants of it, well or badly.

use std::collections::BTreeMap;
use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

use crate::images::{self, BLOCK};
use crate::sandbox::{Done, GMFS, NOW, Sandbox};

/// The state of the guest's devices.
const STATE: &[u8] = b"the state of the guest's devices";

/// What a QEMU does at a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Hang,
    Die,
    Refuse,
    /// Answers with something else than QMP.
    Babble,
    /// Begins with the state, and goes no further with it.
    HalfHang,
    /// Begins with the state, and fails.
    HalfFail,
}

/// A QEMU of the tests.
#[derive(Clone)]
struct Qemu {
    version: [u64; 3],
    /// At which command it does not do what it should.
    trouble: Option<(String, How)>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    status: String,
    /// File, offset and size of the guest's memory.
    memory: Vec<(String, u64, u64)>,
    commands: Vec<String>,
    descriptors: BTreeMap<String, OwnedFd>,
    migration: &'static str,
    loaded: Vec<u8>,
    quit: bool,
    resumes: bool,
    /// The mode of migrations, and whether they leave shared memory where it is.
    settings: (String, bool),
}

impl Shared {
    /// Writes the state, as far as it gets.
    fn migrate(&mut self, given: &Value, how: Option<How>) {
        let mut stream = UnixStream::from(self.descriptors.remove("gmfs-state").unwrap());
        assert_eq!(given["uri"], "fd:gmfs-state");
        "finish-migrate".clone_into(&mut self.status);
        match how {
            Some(How::HalfHang) => {
                stream.write_all(&STATE[..5]).unwrap();
                self.migration = "active";
                self.descriptors.insert("kept".to_owned(), stream.into());
            }
            Some(How::HalfFail) => {
                stream.write_all(&STATE[..5]).unwrap();
                self.migration = "failed";
            }
            _ => {
                stream.write_all(STATE).unwrap();
                self.migration = "completed";
                "postmigrate".clone_into(&mut self.status);
            }
        }
    }
}

/// Reads one line, and takes the descriptors that come with it.
fn line(stream: &UnixStream, buffer: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> Option<Value> {
    loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            return Some(serde_json::from_slice(&line).unwrap());
        }
        let mut piece = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut piece)], &mut control, flags).ok()?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(given) = message {
                descriptors.extend(given);
            }
        }
        if got.bytes == 0 {
            return None;
        }
        buffer.extend(&piece[..got.bytes]);
    }
}

impl Qemu {
    fn new(status: &str, memory: Vec<(String, u64, u64)>) -> Self {
        let shared = Shared { status: status.to_owned(), memory, migration: "none", ..Shared::default() };
        Self { version: [9, 0, 2], trouble: None, shared: Arc::new(Mutex::new(shared)) }
    }

    fn trouble(mut self, command: &str, how: How) -> Self {
        self.trouble = Some((command.to_owned(), how));
        self
    }

    fn commands(&self) -> Vec<String> {
        self.shared.lock().unwrap().commands.clone()
    }

    fn status(&self) -> String {
        self.shared.lock().unwrap().status.clone()
    }

    /// Serves clients one after the other, until it is told to quit or dies.
    fn serve(&self, listener: &UnixListener) {
        for stream in listener.incoming() {
            let alive = self.talk(&stream.unwrap());
            let shared = self.shared.lock().unwrap();
            // One that was started to resume a guest ends once the client that has resumed it goes.
            let resumed = shared.resumes && shared.status == "running";
            if !alive || shared.quit || resumed {
                return;
            }
        }
    }

    /// False if it dies.
    fn talk(&self, stream: &UnixStream) -> bool {
        let mut out = stream.try_clone().unwrap();
        let mut say = |value: &Value| writeln!(out, "{value}").is_ok();
        let [major, minor, micro] = self.version;
        say(&json!({"QMP": {"version": {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": ""}}}));
        let (mut buffer, mut descriptors) = (Vec::new(), Vec::new());
        while let Some(asked) = line(stream, &mut buffer, &mut descriptors) {
            let command = asked["execute"].as_str().unwrap().to_owned();
            self.shared.lock().unwrap().commands.push(command.clone());
            say(&json!({"event": "SOMETHING", "data": {}}));
            let how = self.trouble.as_ref().filter(|(at, _)| *at == command).map(|(_, how)| *how);
            match how {
                // Until the client goes.
                Some(How::Hang) => {
                    while line(stream, &mut buffer, &mut descriptors).is_some() {}
                    return true;
                }
                Some(How::Die) => return false,
                Some(How::Refuse) => {
                    let error = json!({"class": "GenericError", "desc": "it is \u{1b}[2Jnot possible"});
                    say(&json!({"error": error, "id": asked["id"]}));
                    continue;
                }
                Some(How::Babble) => {
                    say(&json!("babble"));
                    let _ = stream.try_clone().unwrap().write_all(&vec![b'x'; 3 << 20]);
                    return true;
                }
                _ => {}
            }
            let returned = self.carry_out(&command, &asked["arguments"], &mut descriptors, how);
            say(&json!({"return": returned, "id": asked["id"]}));
            if command == "quit" {
                self.shared.lock().unwrap().quit = true;
                return true;
            }
        }
        true
    }

    fn carry_out(&self, command: &str, given: &Value, descriptors: &mut Vec<OwnedFd>, how: Option<How>) -> Value {
        let mut shared = self.shared.lock().unwrap();
        match command {
            "query-status" => json!({"status": shared.status, "running": shared.status == "running"}),
            "query-memdev" => {
                let backends = shared.memory.iter().enumerate();
                backends.map(|(n, (_, _, size))| json!({"id": format!("m{n}"), "size": size})).collect()
            }
            "qom-get" => {
                let n: usize = given["path"].as_str().unwrap().trim_start_matches("/objects/m").parse().unwrap();
                let (path, offset, _) = &shared.memory[n];
                match given["property"].as_str().unwrap() {
                    "mem-path" => json!(path),
                    "offset" => json!(offset),
                    "share" => json!(true),
                    other => panic!("{other}"),
                }
            }
            "getfd" => {
                let name = given["fdname"].as_str().unwrap().to_owned();
                shared.descriptors.insert(name, descriptors.pop().expect("a descriptor comes with it"));
                json!({})
            }
            "migrate" => {
                shared.migrate(given, how);
                json!({})
            }
            "migrate_cancel" => {
                shared.migration = "cancelled";
                json!({})
            }
            "query-migrate" => json!({"status": shared.migration}),
            "migrate-set-parameters" => {
                given["mode"].as_str().unwrap().clone_into(&mut shared.settings.0);
                json!({})
            }
            "migrate-set-capabilities" => {
                assert_eq!(given["capabilities"][0]["capability"], "x-ignore-shared");
                shared.settings.1 = given["capabilities"][0]["state"].as_bool().unwrap();
                json!({})
            }
            "migrate-incoming" => {
                let mut stream = UnixStream::from(shared.descriptors.remove("gmfs-state").unwrap());
                shared.migration = "active";
                let shared = Arc::clone(&self.shared);
                std::thread::spawn(move || {
                    let mut state = Vec::new();
                    stream.read_to_end(&mut state).unwrap();
                    let mut shared = shared.lock().unwrap();
                    (shared.loaded, shared.migration) = (state, "completed");
                    "paused".clone_into(&mut shared.status);
                });
                json!({})
            }
            "cont" => {
                "running".clone_into(&mut shared.status);
                json!({})
            }
            _ => json!({}),
        }
    }
}

/// A QEMU that serves in a thread of the test.
fn listen(sandbox: &Sandbox, qemu: &Qemu) -> std::thread::JoinHandle<()> {
    let _ = std::fs::remove_file(sandbox.path("qmp"));
    let listener = UnixListener::bind(sandbox.path("qmp")).unwrap();
    let qemu = qemu.clone();
    std::thread::spawn(move || qemu.serve(&listener))
}

/// A region with a directory that has memory, and where that is.
pub(crate) fn sandbox() -> (Sandbox, Vec<(String, u64, u64)>) {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.write("content", &images::content()[..4 << 20]);
    sandbox.ok("mkdir region.img /vms/a");
    sandbox.ok("put region.img content /vms/a/mem");
    let memory = memory(&sandbox, "/vms/a/mem");
    (sandbox, memory)
}

fn memory(sandbox: &Sandbox, path: &str) -> Vec<(String, u64, u64)> {
    let file = sandbox.ok(&format!("stat region.img {path} --json")).json()["files"][0].clone();
    let image = sandbox.path("region.img").display().to_string();
    let extents = file["extents"].as_array().unwrap();
    let number = |extent: &Value, name: &str| extent[name].as_u64().unwrap();
    extents.iter().map(|extent| (image.clone(), number(extent, "address"), number(extent, "length"))).collect()
}

const SAVE: &str = "vm save region.img /vms/a --qmp qmp --timeout 1 --reserve 4M";

pub(crate) fn state(sandbox: &Sandbox) -> Value {
    sandbox.succeeds("vm list region.img --json").json()["guests"][0]["state"].clone()
}

/// Nothing is left that could be resumed, and the region is clean.
fn nothing_was_saved(sandbox: &Sandbox, what: &str) {
    let guests = sandbox.succeeds("vm list region.img --json").json()["guests"].clone();
    assert!(guests.as_array().unwrap().iter().all(|guest| guest["state"] != "saved"), "{what}: {guests}");
    assert!(!sandbox.gmfs("ls region.img /vms/a").text().contains("state"), "{what}");
    sandbox.ok("fsck -n region.img");
    let verified = sandbox.gmfs("verify region.img /vms/a/mem");
    assert!(verified.text().contains("not sealed"), "{what}: {verified:?}");
}

#[test]
fn a_guest_is_saved_whole_and_qemu_ends() {
    for (status, running) in [("running", true), ("suspended", true), ("paused", false)] {
        let (sandbox, memory) = sandbox();
        let qemu = Qemu::new(status, memory);
        let served = listen(&sandbox, &qemu);
        let done = sandbox.gmfs(&format!("{SAVE} --json"));
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
        served.join().unwrap();
        let guest = done.json()["guests"][0].clone();
        assert_eq!((&guest["running"], &guest["path"]), (&running.into(), &"/vms/a".into()));
        assert_eq!(guest["state_size"], STATE.len());
        let commands = qemu.commands();
        let place = |name: &str| commands.iter().position(|command| command == name).unwrap();
        assert!(place("migrate-set-capabilities") < place("migrate") && place("migrate") < place("quit"));
        assert!(!commands.contains(&"cont".to_owned()), "{commands:?}");
        assert_eq!(sandbox.ok("cat region.img /vms/a/state").stdout, STATE);
        assert_eq!(state(&sandbox), "saved");
        sandbox.ok("verify region.img /vms/a");
        sandbox.ok("fsck -n region.img");
    }
}

/// A later migration, for example to another host, must take the memory along.
#[test]
fn qemu_keeps_no_setting_of_a_save_that_failed_or_of_a_resume() {
    let settings = |qemu: &Qemu| qemu.shared.lock().unwrap().settings.clone();
    let usual = (String::new(), false);
    let (sandbox, memory) = sandbox();
    for (command, line) in [("getfd", SAVE), ("migrate", SAVE), ("query-memdev", SAVE)] {
        let qemu = Qemu::new("running", memory.clone()).trouble(command, How::Refuse);
        let served = listen(&sandbox, &qemu);
        sandbox.fails(line, "it is");
        let _ =
            UnixStream::connect(sandbox.path("qmp")).map(|mut stream| stream.write_all(b"{\"execute\":\"quit\"}\n"));
        served.join().unwrap();
        let found = settings(&qemu);
        assert!(found == usual || found == ("normal".to_owned(), false), "{command}: {found:?}");
    }
    let qemu = Qemu::new("running", memory.clone());
    let served = listen(&sandbox, &qemu);
    sandbox.ok(SAVE);
    served.join().unwrap();
    assert_eq!(settings(&qemu), ("cpr-reboot".to_owned(), true));
    let qemu = Qemu::new("inmigrate", memory);
    let served = listen(&sandbox, &qemu);
    sandbox.ok("vm resume region.img /vms/a --qmp qmp --timeout 5");
    let _ = UnixStream::connect(sandbox.path("qmp")).map(|mut stream| stream.write_all(b"{\"execute\":\"quit\"}\n"));
    served.join().unwrap();
    assert_eq!(settings(&qemu), ("normal".to_owned(), false));
}

#[test]
fn whatever_qemu_does_the_guest_goes_on_or_was_not_touched() {
    let (sandbox, memory) = sandbox();
    let before = ["qmp_capabilities", "query-status", "query-memdev", "migrate-set-capabilities", "getfd"];
    let after = ["migrate", "query-migrate"];
    let mut cases = Vec::new();
    for command in before.iter().chain(&after) {
        cases.extend([How::Hang, How::Die, How::Refuse].map(|how| (*command, how)));
    }
    cases.extend([("query-status", How::Babble), ("migrate", How::HalfHang), ("migrate", How::HalfFail)]);
    for (command, how) in cases {
        let what = format!("{how:?} at {command}");
        let qemu = Qemu::new("running", memory.clone()).trouble(command, how);
        let served = listen(&sandbox, &qemu);
        let began = Instant::now();
        let done = sandbox.gmfs(SAVE);
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        assert_eq!(done.code, 2, "{what}: {done:?}");
        assert!(done.stderr.starts_with("gmfs: cannot save '/vms/a'") && !done.stderr.contains('\x1b'), "{done:?}");
        // Nothing else connects to it any more.
        let _ =
            UnixStream::connect(sandbox.path("qmp")).map(|mut stream| stream.write_all(b"{\"execute\":\"quit\"}\n"));
        served.join().unwrap();
        let commands = qemu.commands();
        if before.contains(&command) {
            assert!(!commands.contains(&"migrate".to_owned()), "{what}: {commands:?}");
        }
        // A QEMU that died or hangs cannot be helped.
        if matches!(how, How::Refuse | How::HalfHang | How::HalfFail) {
            assert_eq!(qemu.status(), "running", "{what}: {done:?}");
        }
        nothing_was_saved(&sandbox, &what);
    }
    // And then it works.
    let qemu = Qemu::new("running", memory);
    let served = listen(&sandbox, &qemu);
    sandbox.ok(SAVE);
    served.join().unwrap();
}

#[test]
fn what_can_be_refused_is_refused_before_the_guest_is_stopped() {
    let (sandbox, memory) = sandbox();
    let refused = |qemu: &Qemu, line: &str, saying: &str| {
        let served = listen(&sandbox, qemu);
        let done = sandbox.fails(line, saying);
        let _ =
            UnixStream::connect(sandbox.path("qmp")).map(|mut stream| stream.write_all(b"{\"execute\":\"quit\"}\n"));
        served.join().unwrap();
        let commands = qemu.commands();
        assert!(!commands.iter().any(|command| command == "migrate" || command == "stop"), "{commands:?}");
        done
    };
    let mut old = Qemu::new("running", memory.clone());
    old.version = [7, 2, 22];
    refused(&old, SAVE, "QEMU 7.2.22 is too old");
    refused(&Qemu::new("inmigrate", memory.clone()), SAVE, "the guest is in state 'inmigrate'");
    let other = vec![(memory[0].0.clone(), memory[0].1 + BLOCK, memory[0].2)];
    refused(&Qemu::new("running", other), SAVE, "does not have '/vms/a/mem' as its memory");
    let elsewhere = vec![("/dev/null".to_owned(), memory[0].1, memory[0].2)];
    refused(&Qemu::new("running", elsewhere), SAVE, "not in this image");
    let much = SAVE.replace("4M", "1G");
    refused(&Qemu::new("running", memory.clone()), &much, "no space");
    // A region that is nearly full, and the space that is reserved if nothing is said about it.
    sandbox.ok("create region.img /filler --size 30M");
    refused(&Qemu::new("running", memory.clone()), &SAVE.replace("--reserve 4M", ""), "no space");
    sandbox.ok("rm region.img /filler");
    std::fs::remove_file(sandbox.path("qmp")).unwrap();
    sandbox.fails(SAVE, "cannot connect to QEMU");
    sandbox.fails("vm save region.img /vms/a", "no record says");
    sandbox.fails("vm save region.img /none --qmp qmp", "cannot connect to QEMU");
    nothing_was_saved(&sandbox, "refused");
}

/// Who may not talk to QEMU, or not write to the region, is told so before the guest is stopped.
#[test]
fn without_permission_the_guest_goes_on() {
    let (sandbox, memory) = sandbox();
    let mode = |name: &str, mode| {
        std::fs::set_permissions(sandbox.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let root = rustix::process::geteuid().is_root();
    if root && Command::new("setpriv").arg("--version").output().is_err() {
        return eprintln!("skipped: root may do everything, and there is no setpriv");
    }
    // The program may be where only root can reach it.
    std::fs::copy(GMFS, sandbox.path("gmfs")).unwrap();
    mode("", 0o755);
    let unprivileged = |line: &str| {
        let mut command = Command::new(if root { "setpriv" } else { "env" });
        if root {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        }
        command.arg("./gmfs").args(line.split_whitespace()).current_dir(sandbox.path("")).env("SOURCE_DATE_EPOCH", NOW);
        Done::from(command.output().unwrap())
    };
    let qemu = Qemu::new("running", memory);
    let served = listen(&sandbox, &qemu);
    for (socket, region, saying) in [
        (0o000, 0o666, "cannot connect to QEMU"),
        (0o777, 0o444, "no permission to open region.img for writing"),
        (0o777, 0o000, "no permission to open region.img"),
    ] {
        mode("qmp", socket);
        mode("region.img", region);
        let done = unprivileged(SAVE);
        assert!(done.code == 2 && done.stderr.contains(saying), "{done:?}");
        let commands = qemu.commands();
        assert!(!commands.iter().any(|command| command == "migrate" || command == "stop"), "{commands:?}");
        assert_eq!(qemu.status(), "running");
    }
    mode("qmp", 0o777);
    mode("region.img", 0o666);
    nothing_was_saved(&sandbox, "refused");
    // With both permissions it works.
    let done = unprivileged(SAVE);
    assert_eq!(done.code, 0, "{done:?}");
    served.join().unwrap();
}

/// Not a test: the QEMU that `gmfs vm run` and `gmfs vm resume` start, in a process of its own.
#[test]
fn a_qemu_in_a_process_of_its_own() {
    let Ok(args) = std::env::var("GMFS_TEST_QEMU") else { return };
    let words: Vec<&str> = args.split(' ').collect();
    let value = |name: &str| words.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1]).collect::<Vec<_>>();
    let mut memory = Vec::new();
    for object in value("-object") {
        let fields: BTreeMap<&str, &str> = object.split(',').filter_map(|field| field.split_once('=')).collect();
        let offset = u64::from_str_radix(fields["offset"].trim_start_matches("0x"), 16).unwrap();
        memory.push((fields["mem-path"].to_owned(), offset, fields["size"].parse().unwrap()));
    }
    let incoming = words.contains(&"-incoming");
    assert_eq!(incoming, words.contains(&"-S"));
    let qemu = Qemu::new(if incoming { "inmigrate" } else { "running" }, memory);
    let socket = value("-qmp")[0].trim_start_matches("unix:").split(',').next().unwrap();
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    qemu.shared.lock().unwrap().resumes = incoming;
    qemu.serve(&listener);
    if incoming {
        let shared = qemu.shared.lock().unwrap();
        std::fs::write("resumed", format!("{} {}", shared.status, String::from_utf8_lossy(&shared.loaded))).unwrap();
    }
}

/// A program that is called like QEMU.
pub(crate) fn program(sandbox: &Sandbox, version: &str) -> PathBuf {
    let path = sandbox.path("qemu");
    let me = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'QEMU emulator version {version} (Test)'; exit; fi\n\
         GMFS_TEST_QEMU=\"$*\" exec {} vm::a_qemu_in_a_process_of_its_own --exact --test-threads 1 >qemu.log 2>&1\n",
        me.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits until something is so.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn start(sandbox: &Sandbox, line: &str) -> Child {
    let args: Vec<&str> = line.split_whitespace().collect();
    let mut command: Command = sandbox.command(&args);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

pub(crate) fn listens(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

fn run(sandbox: &Sandbox) -> Child {
    run_with(sandbox, "/vms/b", "q")
}

fn run_with(sandbox: &Sandbox, directory: &str, socket: &str) -> Child {
    let _ = std::fs::remove_file(sandbox.path(socket));
    let child =
        start(sandbox, &format!("vm run region.img {directory} --memory 6M --qmp {socket} -- ./qemu -nographic"));
    until("QEMU listens", || listens(&sandbox.path(socket)));
    child
}

#[test]
fn all_guests_are_saved_or_none() {
    let (sandbox, _) = sandbox();
    program(&sandbox, "10.0.2");
    let none = sandbox.succeeds("vm save region.img --all");
    assert_eq!((none.text().as_str(), none.stderr.as_str()), ("", "gmfs: note: no guest of the region runs\n"));
    let mut first = run_with(&sandbox, "/vms/b", "q");
    let mut second = run_with(&sandbox, "/vms/c", "q2");
    let states = || {
        let guests = sandbox.succeeds("vm list region.img --json").json()["guests"].clone();
        guests.as_array().unwrap().iter().map(|guest| guest["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    std::fs::rename(sandbox.path("q2"), sandbox.path("away")).unwrap();
    let said = "gmfs: cannot save '/vms/c': cannot connect to QEMU";
    let done = sandbox.fails_with(2, "vm save region.img --all --reserve 4M", said);
    assert!(done.stderr.contains("note: /vms/b goes on, and is not saved"), "{done:?}");
    assert_eq!(states(), ["running", "running"]);
    assert!(!sandbox.ok("ls region.img /vms/b").text().contains("state"));
    sandbox.fails("vm resume region.img /vms/b", "the guest was not saved");

    let done = sandbox.gmfs("vm save region.img --all --keep-going --reserve 4M");
    assert_eq!((done.code, done.text().as_str()), (2, "/vms/b: saved, a state of 32 B\n"), "{done:?}");
    assert!(done.stderr.contains("cannot save '/vms/c'"), "{done:?}");
    assert!(first.wait().unwrap().success());
    assert_eq!(states(), ["saved", "running"]);

    std::fs::rename(sandbox.path("away"), sandbox.path("q2")).unwrap();
    let guests = sandbox.ok("vm save region.img --all --reserve 4M --json").json()["guests"].clone();
    assert_eq!((guests.as_array().unwrap().len(), &guests[0]["path"]), (1, &"/vms/c".into()));
    assert!(second.wait().unwrap().success());
    assert_eq!(states(), ["saved", "saved"]);
    sandbox.ok("verify region.img /vms/b /vms/c");
}

/// Arguments may have names of files that are relative to where `vm run` was called.
#[test]
fn qemu_is_started_again_where_it_was_started_first() {
    let (sandbox, _) = sandbox();
    program(&sandbox, "10.0.2");
    let mut child = run(&sandbox);
    sandbox.ok("vm save region.img /vms/b --reserve 4M");
    child.wait().unwrap();
    let elsewhere = sandbox.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let image = sandbox.path("region.img");
    let mut command = sandbox.command(&["vm", "resume", image.to_str().unwrap(), "/vms/b", "--timeout", "5"]);
    let done = Done::from(command.current_dir(&elsewhere).output().unwrap());
    assert_eq!((done.code, done.text().as_str()), (0, "/vms/b: runs again\n"), "{done:?}");
    assert!(sandbox.exists("resumed"));
}

const RESUME: &str = "vm resume region.img /vms/b --timeout 5";

#[test]
fn a_guest_runs_is_saved_and_goes_on_once() {
    let (sandbox, _) = sandbox();
    program(&sandbox, "10.0.2");
    let mut child = run(&sandbox);
    assert_eq!(memory(&sandbox, "/vms/b/mem").iter().map(|(_, _, size)| size).sum::<u64>(), 3 * BLOCK);
    let guests = sandbox.succeeds("vm list region.img --json").json()["guests"].clone();
    assert_eq!((&guests[0]["path"], &guests[0]["state"]), (&"/vms/b".into(), &"running".into()));

    // Nobody takes its memory, and others can be changed.
    for line in [
        "rm region.img /vms/b/mem",
        "rm -r region.img /vms",
        "truncate region.img /vms/b/mem --size 2M",
        "put -f region.img content /vms/b/mem",
    ] {
        let done = sandbox.gmfs(line);
        assert!(done.code == 2 && done.stderr.contains("/vms/b/mem is mapped by"), "{line}: {done:?}");
    }
    sandbox.fails("vm run region.img /vms/b --qmp q2 -- ./qemu", "its memory is in use by process");
    // This QEMU maps nothing, and holds the lock.
    let checks = sandbox.gmfs("preflight region.img --json").json()["checks"].clone();
    let mappings = checks.as_array().unwrap().iter().find(|check| check["check"] == "mappings").unwrap().clone();
    assert_eq!(mappings["verdict"], "fails");
    assert!(mappings["message"].as_str().unwrap().ends_with(") uses memory of the region"), "{mappings}");
    sandbox.ok("rm region.img /vms/a/mem");

    let saved = sandbox.ok("vm save region.img /vms/b --reserve 4M");
    assert!(saved.text().contains("/vms/b: saved"), "{saved:?}");
    assert!(child.wait().unwrap().success());
    assert_eq!(state(&sandbox), "saved");
    sandbox.ok("verify region.img /vms/b/mem /vms/b/state");
    sandbox.fails("vm run region.img /vms/b --qmp q -- ./qemu", "the guest was saved");

    // A block that is changed is named, and then put back.
    let (_, at, _) = memory(&sandbox, "/vms/b/mem")[0].clone();
    images::poke(&sandbox, "region.img", at + BLOCK + 7, b"!");
    let refused = sandbox.fails(RESUME, "'/vms/b/mem' has changed since the guest was saved: 1 block");
    assert!(refused.stderr.contains(&format!("{:#x}", at + BLOCK)), "{refused:?}");
    images::poke(&sandbox, "region.img", at + BLOCK + 7, b"\0");

    let resumed = sandbox.ok(RESUME);
    assert_eq!(resumed.text(), "/vms/b: runs again\n");
    assert_eq!(sandbox.read("resumed"), [b"running ", STATE].concat());
    sandbox.fails(RESUME, "its state was used already");
    assert_eq!(state(&sandbox), "stopped");
    let unsealed = sandbox.gmfs("verify region.img /vms/b/mem");
    assert!(unsealed.text().contains("not sealed"), "{unsealed:?}");
    sandbox.ok("fsck -n region.img");
}

/// One command line, as that of a unit, starts a guest the first time and after each save.
#[test]
fn a_guest_that_was_saved_goes_on_where_one_that_was_not_is_started() {
    let (sandbox, _) = sandbox();
    program(&sandbox, "10.0.2");
    let line = "vm run region.img /vms/b --memory 6M --qmp q --timeout 5 --resume -- ./qemu -nographic";
    let mut first = start(&sandbox, line);
    until("QEMU listens", || listens(&sandbox.path("q")));
    assert_eq!(state(&sandbox), "running");
    sandbox.ok("vm save region.img /vms/b --reserve 4M");
    assert!(first.wait().unwrap().success() && !sandbox.exists("resumed"));
    sandbox.ok(line);
    assert_eq!(sandbox.read("resumed"), [b"running ", STATE].concat());
    // A state that was used, and one that was given up, are none.
    std::fs::remove_file(sandbox.path("resumed")).unwrap();
    let mut again = start(&sandbox, line);
    until("QEMU listens", || listens(&sandbox.path("q")));
    sandbox.ok("vm save region.img /vms/b --reserve 4M");
    assert!(again.wait().unwrap().success() && !sandbox.exists("resumed"));
    sandbox.ok("rm region.img /vms/b/state");
    let mut anew = start(&sandbox, line);
    until("QEMU listens", || listens(&sandbox.path("q")));
    sandbox.ok("vm save region.img /vms/b --reserve 4M");
    assert!(anew.wait().unwrap().success() && !sandbox.exists("resumed"));
    // Memory that has changed is not started by it either.
    let (_, at, _) = memory(&sandbox, "/vms/b/mem")[0].clone();
    images::poke(&sandbox, "region.img", at + 7, b"!");
    sandbox.fails(line, "'/vms/b/mem' has changed since the guest was saved");
}

#[test]
fn a_state_of_another_memory_is_refused() {
    let (sandbox, _) = sandbox();
    program(&sandbox, "10.0.2");
    let mut child = run(&sandbox);
    sandbox.ok("vm save region.img /vms/b --reserve 4M");
    child.wait().unwrap();
    sandbox.ok("save region.img -o kept.img");
    let refused = |line: &str, saying: &str| {
        sandbox.succeeds("save kept.img -o region.img -f");
        for line in line.split(" + ") {
            sandbox.ok(line);
        }
        sandbox.fails(RESUME, saying);
        assert!(!sandbox.exists("resumed"));
    };
    refused("rm region.img /vms/b/mem + create region.img /vms/b/mem --size 6M", "state belongs to another memory");
    refused("put -f region.img content /vms/b/state", "'/vms/b/state' is not the file");
    refused("unseal region.img /vms/b/mem", "sealed again, changed or unsealed");
    refused("rm region.img /vms/b/state", "there is no '/vms/b/state'");
    refused("put -f region.img content /vms/b/vm.json", "bytes, which no record has");
    refused("mv region.img /vms/b /vms/c + mkdir region.img /vms/b", "has no vm.json");
    // Under another name it is the same guest.
    sandbox.succeeds("save kept.img -o region.img -f");
    sandbox.ok("mv region.img /vms/b /vms/c");
    let done = sandbox.ok("vm resume region.img /vms/c --timeout 5");
    assert_eq!(done.text(), "/vms/c: runs again\n");
}

#[test]
fn a_qemu_that_does_not_take_the_state_leaves_it_unused() {
    let (sandbox, _) = sandbox();
    program(&sandbox, "10.0.2");
    let mut child = run(&sandbox);
    sandbox.ok("vm save region.img /vms/b --reserve 4M");
    child.wait().unwrap();
    program(&sandbox, "8.1.9");
    sandbox.fails(RESUME, "QEMU 8.1.9 is too old");
    sandbox.fails("vm resume region.img /vms/b -- /bin/true", "does not answer as QEMU does");
    sandbox.fails("vm resume region.img /vms/b -- /none/qemu", "cannot run /none/qemu");
    let memory = memory(&sandbox, "/vms/b/mem");
    let line = "vm resume region.img /vms/b --qmp qmp --timeout 1";
    for command in ["query-status", "migrate-set-parameters", "getfd", "migrate-incoming", "query-migrate"] {
        for how in [How::Die, How::Refuse, How::Hang] {
            let qemu = Qemu::new("inmigrate", memory.clone()).trouble(command, how);
            let served = listen(&sandbox, &qemu);
            let done: Done = sandbox.gmfs(line);
            assert!(done.code == 2 && done.stderr.contains("cannot resume"), "{how:?} at {command}: {done:?}");
            let _ = UnixStream::connect(sandbox.path("qmp"))
                .map(|mut stream| stream.write_all(b"{\"execute\":\"quit\"}\n"));
            served.join().unwrap();
            drop(qemu);
            assert_eq!(state(&sandbox), "saved", "{how:?} at {command}");
        }
    }
    let qemu = Qemu::new("running", memory.clone());
    let served = listen(&sandbox, &qemu);
    sandbox.fails(line, "not waiting for a guest");
    drop(qemu);
    let _ = UnixStream::connect(sandbox.path("qmp")).map(|mut stream| stream.write_all(b"{\"execute\":\"quit\"}\n"));
    served.join().unwrap();
    // One that waits takes it, and holds the lock.
    let qemu = Qemu::new("inmigrate", memory);
    let served = listen(&sandbox, &qemu);
    let done = sandbox.ok(&format!("{line} --json")).json();
    assert_eq!((&done["running"], qemu.status().as_str()), (&true.into(), "running"));
    assert_eq!(qemu.shared.lock().unwrap().loaded, STATE);
    sandbox.fails(line, "used already");
    assert_eq!(state(&sandbox), "running");
    let _ = UnixStream::connect(sandbox.path("qmp")).map(|mut stream| stream.write_all(b"{\"execute\":\"quit\"}\n"));
    served.join().unwrap();
}

#[test]
fn what_cannot_be_run_is_refused_and_changes_nothing() {
    let (sandbox, _) = sandbox();
    program(&sandbox, "7.2.22");
    let before = sandbox.read("region.img");
    let line = "vm run region.img /vms/b --memory 6M --qmp q -- ./qemu";
    let done = sandbox.fails(line, "QEMU 7.2.22 is too old");
    assert!(done.stderr.contains("next:") && done.stderr.contains("newer QEMU"), "{done:?}");
    sandbox.fails(&format!("{line} -m 4G"), "'-m' is among the arguments");
    sandbox.fails("vm run region.img /vms/b --memory 6M --qmp q -- ./none", "cannot run ./none");
    program(&sandbox, "8.2.0");
    sandbox.fails("vm run region.img /vms/b --memory 1M --qmp q -- ./qemu", "not a number of whole blocks");
    sandbox.fails("vm run region.img /vms/b --qmp q -- ./qemu", "there is no '/vms/b/mem'");
    sandbox.fails("vm run region.img /vms/a --memory 6M --qmp q -- ./qemu", "has 4194304 bytes");
    assert!(sandbox.gmfs("ls region.img /vms/b").code != 0);
    sandbox.ok("fsck -n region.img");
    drop(before);
}
