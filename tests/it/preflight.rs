//! `gmfs preflight`: each line's verdict, where it is right and where it is not, on captured machines.

use gmfs_io::Span;
use gmfs_kernel::Codec;
use gmfs_kernel::fuzzing::made::{self, Recipe};
use gmfs_testing::machine::lay_out;
use serde_json::Value;

use crate::beside::Guest;
use crate::sandbox::{Done, Sandbox};

const RESERVED: &str = include_str!("../../crates/gmfs-host/tests/machines/reserved.txt");
const PERSISTENT: &str = include_str!("../../crates/gmfs-host/tests/machines/persistent.txt");
const TWO_SOCKETS: &str = include_str!("../../crates/gmfs-host/tests/machines/two-sockets.txt");
const LAPTOP: &str = include_str!("../../crates/gmfs-host/tests/machines/efi-laptop.txt");
const SMALL: &str = include_str!("../../crates/gmfs-host/tests/machines/small.txt");
const ARM64: &str = include_str!("../../crates/gmfs-host/tests/machines/arm64.txt");

/// A sealed region whose superblock says that it is at this address, and a captured machine.
fn sandbox(base: &str, machine: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.ok(&format!("mkfs region.img --size 64M -N 1024 --base {base} -q"));
    sandbox.write("content", &[7; 3 << 20]);
    sandbox.ok("put region.img content /vm.mem -q");
    sandbox.ok("seal region.img -q");
    lay_out(machine, &sandbox.path("machine"));
    sandbox
}

/// A sealed region at 4 GiB of a machine that sets this memory apart.
fn good() -> Sandbox {
    sandbox("4G", RESERVED)
}

fn preflight(sandbox: &Sandbox, more: &[&str]) -> Done {
    sandbox.run(&[&["preflight", "region.img", "--root", "machine"], more].concat())
}

/// The verdict of a line, what it says, and what to do.
fn line(sandbox: &Sandbox, check: &str, more: &[&str]) -> (String, String, String) {
    let done = preflight(sandbox, &[more, &["--json"]].concat());
    let answer = done.json();
    let checks = answer["checks"].as_array().unwrap();
    let verdicts: Vec<&str> = checks.iter().map(|check| check["verdict"].as_str().unwrap()).collect();
    let (result, code) = if verdicts.contains(&"fails") {
        ("fails", 1)
    } else if verdicts.contains(&"unknown") {
        ("unknown", 2)
    } else {
        ("ok", 0)
    };
    assert_eq!((&answer["result"], done.code), (&result.into(), code), "{answer:#}");
    for check in checks {
        assert_eq!(check["advice"].is_null(), check["verdict"] == "ok", "{check}");
    }
    let found = checks.iter().find(|line| line["check"] == check).unwrap_or_else(|| panic!("{check}: {answer:#}"));
    let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("message"), text("advice"))
}

/// What is printed, without the line that depends on what this user may see.
fn shown(done: &Done) -> String {
    let text = done.text();
    let depends = |line: &str| ["mappings", "next: run it "].iter().any(|start| line.starts_with(start));
    let lines = text.lines().filter(|line| !depends(line));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

/// Whether this user may look at all processes: otherwise nobody can tell who maps what.
fn sees_all(sandbox: &Sandbox) -> bool {
    line(sandbox, "mappings", &[]).0 == "ok"
}

#[test]
fn all_is_well() {
    let sandbox = good();
    let done = preflight(&sandbox, &[]);
    let seen = sees_all(&sandbox);
    assert_eq!(done.code, if seen { 0 } else { 2 }, "{done:?}");
    insta::assert_snapshot!("preflight_good", shown(&done));
    for check in ["metadata", "seals", "kernel", "command line", "overlaps", "hand-over"] {
        assert_eq!(line(&sandbox, check, &[]).0, "ok", "{check}");
    }
    let answer = preflight(&sandbox, &["--json"]).json();
    assert_eq!(answer["window"], serde_json::json!({"physical": 4_u64 << 30, "size": 64 << 20}));
}

#[test]
fn all_is_wrong() {
    let sandbox = sandbox("0x4000000", TWO_SOCKETS);
    sandbox.ok("unseal region.img -q");
    sandbox.write("machine/sys/kernel/kexec_loaded", b"0\n");
    let done = preflight(&sandbox, &["--cmdline", "memmap=64M\\$0x4000000"]);
    assert_eq!(done.code, 1);
    insta::assert_snapshot!("preflight_bad", shown(&done));
}

#[test]
fn damaged_metadata_and_missing_seals_fail() {
    let sandbox = good();
    sandbox.ok("inject region.img GM0402 -q");
    let (verdict, said, advice) = line(&sandbox, "metadata", &[]);
    assert!(verdict == "fails" && said.contains("problems") && advice.contains("gmfs fsck"), "{said} {advice}");
    let sandbox = good();
    sandbox.ok("put region.img content /new.mem -q");
    let (verdict, said, advice) = line(&sandbox, "seals", &[]);
    assert_eq!((verdict.as_str(), said.as_str()), ("fails", "1 of 2 files is not sealed"));
    assert!(advice.contains("gmfs seal"));
    sandbox.ok("rm region.img /new.mem /vm.mem");
    assert_eq!(line(&sandbox, "seals", &[]).1, "no file has content");
}

#[test]
fn a_process_that_has_the_region_mapped_fails() {
    let sandbox = good();
    let Some(guest) = Guest::new(&sandbox.path("region.img"), Span::new(4 << 20, 2 << 20)) else { return };
    let (verdict, said, advice) = line(&sandbox, "mappings", &[]);
    assert_eq!((verdict.as_str(), said), ("fails", format!("{} has the region mapped", guest.named())));
    assert!(advice.contains("stop or save that guest"), "{advice}");
    drop(guest);
    assert_ne!(line(&sandbox, "mappings", &[]).0, "fails");
}

#[test]
fn a_kernel_that_is_not_loaded_fails() {
    let sandbox = good();
    sandbox.write("machine/sys/kernel/kexec_loaded", b"0\n");
    let (verdict, _, advice) = line(&sandbox, "kernel", &[]);
    assert!(verdict == "fails" && advice.contains("kexec -s -l"), "{advice}");
    std::fs::remove_file(sandbox.path("machine/sys/kernel/kexec_loaded")).unwrap();
    assert_eq!(line(&sandbox, "kernel", &[]).0, "unknown");
    let sandbox = good();
    let recipe = Recipe { release: "6.12.95", strings: &[], load_size: 0x80_0000 };
    sandbox.write("vmlinuz", &made::bz_image(&recipe, Codec::Zstd));
    let (verdict, said, _) = line(&sandbox, "kernel", &["--kernel", "vmlinuz"]);
    assert!(verdict == "ok" && said.ends_with("FILE is Linux 6.12.95"), "{said}");
    for wrong in ["content", "none", "."] {
        assert_eq!(line(&sandbox, "kernel", &["--kernel", wrong]).0, "fails", "{wrong}");
    }
}

#[test]
fn the_next_command_line_decides_about_the_window() {
    let sandbox = good();
    let verdict = |text: &str| {
        let (verdict, said, advice) = line(&sandbox, "command line", &["--cmdline", text]);
        assert!(verdict == "ok" || advice.contains("memmap="), "{text}: {advice}");
        (verdict, said)
    };
    for good in ["memmap=4G$4G", "memmap=64M$0x100000000", "memmap=4G!4G quiet", "mem=3G memmap=4G$4G"] {
        assert_eq!(verdict(good).0, "ok", "{good}");
    }
    for (bad, why) in [
        ("quiet", "does not set 64 MiB at 0x100000000 apart"),
        ("quiet -- memmap=4G$4G", "does not set"),
        ("memmap=32M$4G", "leaves 32 MiB at 0x102000000"),
        ("memmap=64M\\$4G", "backslash"),
        ("memmap=64Mx100000000", "has lost the sign"),
        ("memmap=64M@4G", "the next kernel's own"),
        ("crashkernel=256M@4G", "crash dumps"),
    ] {
        let (verdict, said) = verdict(bad);
        assert!(verdict == "fails" && said.contains(why), "{bad}: {said}");
    }
    for unclear in ["guestmemfs=64M:4G", "mem=2G", "memmap=exactmap memmap=4G$4G"] {
        assert_eq!(verdict(unclear).0, "unknown", "{unclear}");
    }
    std::fs::remove_file(sandbox.path("machine/proc/cmdline")).unwrap();
    assert_eq!(line(&sandbox, "command line", &[]).0, "unknown");
}

#[test]
fn a_device_has_to_begin_and_end_where_it_does() {
    let sandbox = sandbox("0x100200000", PERSISTENT);
    assert_eq!(
        preflight(&sandbox, &["--json"]).json()["window"]["size"],
        4_u64 << 30,
        "the device's, not the region's"
    );
    let verdict = |text: &str| line(&sandbox, "command line", &["--cmdline", text]);
    assert_eq!(line(&sandbox, "command line", &[]).0, "ok");
    assert_eq!(verdict("memmap=4G!0x100000000").0, "ok");
    let (wrong, said, advice) = verdict("memmap=5G!4G");
    assert!(wrong == "fails" && said.contains("begins or ends elsewhere") && advice.contains("memmap=4G!0x100000000"));
    let (wrong, said, _) = verdict("memmap=4G$4G");
    assert!(wrong == "fails" && said.contains("makes no device"), "{said}");
    assert_eq!(verdict("quiet").0, "fails");
}

#[test]
fn memory_that_the_firmware_keeps_needs_no_word() {
    let sandbox = sandbox("0x440000000", PERSISTENT);
    let (verdict, said, _) = line(&sandbox, "command line", &["--cmdline", "quiet"]);
    assert!(verdict == "ok" && said.contains("firmware"), "{said}");
    assert_eq!(line(&sandbox, "overlaps", &[]).0, "ok");
}

#[test]
fn what_else_is_in_the_same_memory_is_named() {
    for (base, machine, more, what) in [
        ("0x4d000000", TWO_SOCKETS, None, "Crash kernel at 0x4d000000"),
        ("0x1a2e000000", TWO_SOCKETS, None, "Kernel code"),
        ("0x2080000000", TWO_SOCKETS, None, "System RAM"),
        ("0x100000000", LAPTOP, None, "EFI's runtime services"),
        ("0x30000000", SMALL, None, "scratch area of kexec handover is at 0x30000000"),
        ("0x40000000", SMALL, None, "knows no memory at 0x40000000"),
        ("0x100000000", RESERVED, Some("memmap=4G$4G crashkernel=1G@4G"), "crashkernel=1G@4G"),
    ] {
        let sandbox = sandbox(base, machine);
        let more: Vec<&str> = more.into_iter().flat_map(|text| ["--cmdline", text]).collect();
        let (verdict, said, advice) = line(&sandbox, "overlaps", &more);
        assert!(verdict == "fails" && said.contains(what) && advice.contains("gmfs plan"), "{base}: {said}");
    }
    let sandbox = good();
    sandbox.write("machine/proc/iomem", b"00000000-00000000 : System RAM\n");
    let (verdict, _, advice) = line(&sandbox, "overlaps", &[]);
    assert_eq!((verdict.as_str(), advice.as_str()), ("unknown", "run it as root"));
}

#[test]
fn what_is_handed_over_needs_a_kernel_that_takes_it() {
    let none = |machine: &str, why: &str| {
        let (verdict, said, _) = line(&sandbox("4G", machine), "hand-over", &[]);
        assert!(verdict == "ok" && said.contains(why), "{said}");
    };
    none(RESERVED, "has no kexec handover");
    none(&RESERVED.replace("6.12.95", "7.3.4"), "is off");
    none(&RESERVED.replace("6.12.95", "7.3.4").replace("crashkernel=256M", "kho=on"), "hands nothing over");
    let words = "kho=on liveupdate=on reserve_mem=2M:4096:alpha";
    let machine = RESERVED.replace("crashkernel=256M", words).replace("6.12.95", "7.3.4");
    let sandbox = sandbox("4G", &machine);
    let (verdict, _, advice) = line(&sandbox, "hand-over", &[]);
    assert!(verdict == "unknown" && advice.contains("--kernel FILE"), "{advice}");
    let image = |name: &str, release: &str, strings: &[&str]| {
        sandbox.write(name, &made::bz_image(&Recipe { release, strings, load_size: 0x80_0000 }, Codec::Zstd));
    };
    image("old", "6.12.95", &[]);
    image("same", "7.3.4", &["kho-v4", "luo-v5", "memfd-v2", "memblock-v1", "reserve-mem-v1"]);
    let (verdict, said, _) = line(&sandbox, "hand-over", &["--kernel", "old"]);
    assert!(verdict == "fails" && said.contains("everything will be lost"), "{said}");
    let (verdict, said, advice) = line(&sandbox, "hand-over", &["--kernel", "same"]);
    assert_eq!(verdict, "ok", "{said} {advice}");
}

#[test]
fn what_cannot_be_told_is_not_called_right() {
    let sandbox = sandbox("4G", ARM64);
    assert_eq!(line(&sandbox, "command line", &[]).0, "unknown");
    let sandbox = good();
    sandbox.ok("mkfs nowhere.img --size 16M -q");
    let done = sandbox.run(&["preflight", "nowhere.img", "--root", "machine", "--json"]);
    let answer = done.json();
    assert!(done.code == 2 && answer["window"].is_null(), "{answer:#}");
    let unknown = |line: &&Value| line["verdict"] == "unknown";
    assert!(answer["checks"].as_array().unwrap().iter().filter(unknown).count() >= 2);
    sandbox.fails("preflight content --root machine", "no region");
}
