//! The scripts of `contrib/` and `scripts/`: they must pass a shell's syntax check and shellcheck, and the kdump hook
//! must read the right ranges from its settings. What it does in a capture kernel is tested in `tests/vm`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Scripts for `/bin/sh`, which is dash or busybox in a capture kernel.
const FOR_SH: [&str; 2] = ["contrib/kdump/gmfs-kdump-save", "scripts/packaging-test.sh"];
/// Scripts for bash, the language of dracut and of the project's own scripts.
const FOR_BASH: [&str; 10] = [
    ".ci/run",
    "contrib/dracut/90gmfs-kdump/module-setup.sh",
    "scripts/attack.sh",
    "scripts/bench.sh",
    "scripts/fuzz.sh",
    "scripts/install.sh",
    "scripts/package.sh",
    "scripts/quickstart.sh",
    "scripts/test.sh",
    "scripts/try-packages.sh",
];
/// A script that dracut's hooks source, in whatever shell the initramfs has.
const SOURCED: [&str; 1] = ["contrib/dracut/90gmfs-kdump/save.sh"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn shells_can_read_the_scripts() {
    let for_sh = FOR_SH.iter().chain(&SOURCED).map(|name| ("sh", name));
    for (shell, name) in for_sh.chain(FOR_BASH.iter().map(|name| ("bash", name))) {
        let output = Command::new(shell).arg("-n").arg(path(name)).output().unwrap();
        assert!(output.status.success(), "{shell} -n {name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn shellcheck_has_nothing_to_say() {
    if Command::new("shellcheck").arg("--version").output().is_err() {
        assert!(env::var_os("CI").is_none_or(|value| value != "true"), "shellcheck is missing (Debian: shellcheck)");
        eprintln!("skipped: no shellcheck on this machine");
        return;
    }
    for (dialect, names) in [("sh", FOR_SH.as_slice()), ("sh", &SOURCED), ("bash", &FOR_BASH)] {
        // Findings below warnings are style, which is not checked.
        let mut shellcheck = Command::new("shellcheck");
        shellcheck.args(["--severity=warning", "-s", dialect]).args(names.iter().map(|name| path(name)));
        let output = shellcheck.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// The ranges that the hook reads from a setting `REGIONS`, and its messages.
fn ranges(regions: &str) -> (String, String) {
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("kdump.conf");
    fs::write(&settings, format!("REGIONS='{regions}'\n")).unwrap();
    let output =
        Command::new("sh").arg(path(FOR_SH[0])).arg("--list").env("GMFS_KDUMP_CONF", settings).output().unwrap();
    assert!(output.status.success());
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_hook_reads_ranges_as_the_kernel_does() {
    let (found, said) = ranges("64M:0x10000000 64M$256M 0x4000000!0x10000000 1g@4G 010000000:16m");
    assert_eq!(found, "67108864:268435456\n1073741824:4294967296\n", "each range once, small ones left out");
    assert_eq!(said, "");
    let (found, said) = ranges("64M 64M: :4G 64X:4G 64M:0x 64M:4Q 16M:1G");
    assert_eq!(found, "16777216:1073741824\n");
    assert_eq!(said.matches("not a range").count(), 6, "{said}");
}

#[test]
fn the_settings_file_names_every_setting_with_its_default() {
    let script = fs::read_to_string(path(FOR_SH[0])).unwrap();
    let settings = fs::read_to_string(path("contrib/kdump/kdump.conf")).unwrap();
    let defaults = script.lines().skip_while(|line| !line.starts_with("CONFIG=")).skip(1);
    let mut count = 0;
    for default in defaults.take_while(|line| !line.starts_with("PATH=")) {
        let name = default.split('=').next().unwrap();
        let commented = settings.lines().find(|line| line.starts_with(&format!("#{name}=")));
        let commented = commented.unwrap_or_else(|| panic!("kdump.conf does not have {name}"));
        // REGIONS shows an example, because its default is taken from the kernel's command line.
        assert!(name == "REGIONS" || commented == format!("#{default}"), "{commented}, the script has {default}");
        count += 1;
    }
    assert_eq!(count, 8);
}
