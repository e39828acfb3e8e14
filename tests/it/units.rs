//! The units of `contrib/systemd`, which systemd must understand, and the commands in them and in `docs/LIVE-UPDATE.md`.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gmfs_testing::machine::lay_out;

use crate::sandbox::{GMFS, NOW, Sandbox};
use crate::vm;

const UNITS: [&str; 4] =
    ["gmfs-seal@.service", "gmfs-preflight@.service", "gmfs-verify@.service", "example-guest.service"];

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd").join(name)).unwrap()
}

/// Runs `systemd-analyze verify` on the units, with programs that this machine has; `None` where it is not installed.
fn verify(change: impl Fn(&str, String) -> String) -> Option<(bool, String)> {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        assert!(env::var_os("CI").is_none_or(|value| value != "true"), "systemd-analyze is missing (Debian: systemd)");
        eprintln!("skipped: no systemd-analyze on this machine");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in UNITS {
        let text = text(name).replace("/usr/bin/gmfs ", &format!("{GMFS} ")).replace("/usr/bin/udevadm", "/bin/true");
        // Manual pages are installed by packages.
        let text = text.lines().filter(|line| !line.starts_with("Documentation=")).collect::<Vec<_>>().join("\n");
        fs::write(folder.path().join(name), change(name, text)).unwrap();
    }
    let instance = |name: &str| folder.path().join(name.replace('@', "@dev-dax0.0"));
    let mut verify = Command::new("systemd-analyze");
    let output = verify.args(["verify", "--man=no"]).args(UNITS.map(instance)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It looks at units of the machine that these ones need, too.
    let own: Vec<&str> = said.lines().filter(|line| line.contains("gmfs") || line.contains("example-guest")).collect();
    Some((output.status.success() && own.is_empty(), said))
}

#[test]
fn systemd_understands_the_units() {
    let Some((good, said)) = verify(|_, text| text) else { return };
    assert!(good, "{said}");
    let wrong = |name: &str, text: String| {
        if name.starts_with("gmfs-seal") { text.replace("ExecStart=", "ExecStrat=") } else { text }
    };
    assert!(!verify(wrong).unwrap().0, "systemd-analyze finds nothing wrong with a unit that starts nothing");
}

/// The command lines of the units, on a region file in the place of a device.
#[test]
fn the_units_call_commands_that_exist() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 64M -q");
    sandbox.write("content", &[7; 3 << 20]);
    sandbox.ok("put region.img content /vm1.mem -q");
    let mut tried = 0;
    for (name, codes) in [(UNITS[0], 0..=0), (UNITS[1], 1..=2), (UNITS[2], 0..=0)] {
        for line in text(name).lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/bin/gmfs ")) {
            let words = line.replace("%f", "region.img");
            let words: Vec<&str> = words.split_whitespace().filter(|word| !word.starts_with('$')).collect();
            let done = sandbox.run(&words);
            assert!(codes.contains(&done.code) && !done.stderr.contains("Usage"), "{line}: {done:?}");
            tried += 1;
        }
    }
    assert_eq!(tried, 4);
    // No guest starts on memory that did not survive.
    assert!(
        text(UNITS[3]).contains("\nRequires=gmfs-verify@dev-dax0.0.service\nAfter=gmfs-verify@dev-dax0.0.service\n")
    );
    sandbox.write("region.img", &[0; 64 << 10]);
    assert_eq!(sandbox.gmfs("verify region.img").code, 2);
}

/// A guest is saved at a kexec, and only then; the same command starts it and lets it go on.
#[test]
fn the_unit_of_a_guest_saves_it_at_a_kexec_and_resumes_it() {
    let (sandbox, _) = vm::sandbox();
    vm::program(&sandbox, "10.0.2");
    let unit = text(UNITS[3]).replace("/dev/dax0.0", "region.img").replace("/vms/a", "/vms/b");
    let of = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let begin = of("ExecStart=/usr/bin/gmfs ").replace("--memory 4G", "--memory 6M --timeout 5 --qmp q");
    let begin = begin.replace("/usr/bin/qemu-system-x86_64", "./qemu");
    let stop = of("ExecStop=/bin/sh -c '").trim_end_matches('\'').replace("/usr/bin/gmfs", GMFS);
    let stop = stop.replace("vm save", "vm save --reserve 4M");
    let stop = |jobs: &str| {
        let listed = "systemctl list-jobs --no-legend kexec.target";
        assert!(stop.contains(listed), "{stop}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &stop.replace(listed, jobs)]).current_dir(sandbox.path(".")).env("SOURCE_DATE_EPOCH", NOW);
        assert!(shell.status().unwrap().success());
    };
    let mut guest = vm::start(&sandbox, &begin);
    vm::until("QEMU listens", || vm::listens(&sandbox.path("q")));
    stop("true");
    assert_eq!(vm::state(&sandbox), "running");
    stop("echo 17 kexec.target start waiting");
    assert!(guest.wait().unwrap().success());
    assert_eq!(vm::state(&sandbox), "saved");
    sandbox.ok("verify region.img /vms/b");
    assert_eq!(sandbox.ok(&begin).text(), "/vms/b: runs again\n");
    assert!(sandbox.exists("resumed"));
}

/// The commands of the recipe, in their order, on a region file in the place of the device. What needs the kernel is not run.
#[test]
fn the_commands_of_the_recipe_work() {
    let recipe = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/LIVE-UPDATE.md")).unwrap();
    let sandbox = Sandbox::new();
    lay_out(crate::plan::TWO_SOCKETS, &sandbox.path("machine"));
    fs::File::create(sandbox.path("region.img")).unwrap().set_len(512 << 20).unwrap();
    let mut tried = Vec::new();
    // QEMU is given the commands for the state in quotes.
    let lines =
        recipe.lines().map(|line| line.split_once("exec:").map_or(line, |(_, command)| command.trim_end_matches('"')));
    let qemu = env::var("GMFS_QEMU").ok();
    let mut guests: Vec<Child> = Vec::new();
    for line in lines.filter(|line| line.starts_with("gmfs ")) {
        let words = line.strip_prefix("gmfs ").unwrap().replace("/dev/dax0.0", "region.img");
        if words.starts_with("vm ") {
            if let Some(qemu) = &qemu {
                of_guest(&sandbox, &words, qemu, &mut guests);
            }
            tried.push(words);
            continue;
        }
        let done = match words.split(' ').next().unwrap() {
            "plan" => sandbox.gmfs(&format!("{words} --root machine")),
            "preflight" => {
                let done = sandbox.gmfs(&format!("{words} --json"));
                let checks = done.json()["checks"].as_array().unwrap().clone();
                let verdict =
                    |name: &str| checks.iter().find(|check| check["check"] == name).unwrap()["verdict"].clone();
                assert_eq!((verdict("metadata"), verdict("seals")), ("ok".into(), "ok".into()), "{done:?}");
                assert!(done.code == 1 || done.code == 2, "a file is no memory: {done:?}");
                tried.push(words);
                continue;
            }
            "put" => sandbox.feed(&words, b"the state of devices"),
            _ => sandbox.gmfs(&words),
        };
        assert_eq!(done.code, 0, "{line}: {done:?}");
        if words.starts_with("cat") {
            assert_eq!(done.stdout, b"the state of devices");
        }
        tried.push(words);
    }
    let commands: Vec<&str> = tried.iter().filter_map(|words| words.split(' ').next()).collect();
    let expected = ["plan", "mkfs", "vm", "vm", "preflight", "fsck", "verify", "vm"];
    let without = ["create", "map", "put", "seal", "verify", "cat", "rm"];
    assert_eq!(commands, [expected.as_slice(), &without].concat());
}

/// A command of the recipe that starts, saves or resumes a guest, with a real QEMU.
fn of_guest(sandbox: &Sandbox, words: &str, qemu: &str, guests: &mut Vec<Child>) {
    let state = || sandbox.gmfs("vm list region.img --json").json()["guests"][0]["state"].clone();
    let words = words.replace(" -- qemu-system-x86_64 ", &format!(" --qmp qmp -- {qemu} -accel tcg "));
    if words.starts_with("vm save ") {
        sandbox.succeeds(&words);
        assert_eq!(state(), "saved");
        return;
    }
    let mut command = sandbox.command(&words.split(' ').collect::<Vec<_>>());
    guests.push(command.stdout(Stdio::null()).spawn().unwrap());
    let began = Instant::now();
    while state() != "running" || std::os::unix::net::UnixStream::connect(sandbox.path("qmp")).is_err() {
        assert!(began.elapsed() < Duration::from_secs(60), "{words}: {}", state());
        std::thread::sleep(Duration::from_millis(50));
    }
    if words.starts_with("vm resume ") {
        // What follows in the recipe is about another guest.
        sandbox.succeeds("vm save region.img --all");
        sandbox.ok("rm -r region.img /vms");
    }
    if guests.len() == 2 {
        guests.iter_mut().for_each(|guest| assert!(guest.wait().unwrap().success()));
    }
}
