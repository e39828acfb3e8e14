//! A guest keeps its memory while the kernel of its host changes: `gmfs vm` with a QEMU within the guest of these tests,
//! which is the host here.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use gmfs_testing::guest::{self as counting, Counted};
use serde_json::Value;
use tempfile::TempDir;

use crate::disk::{self, Disk, MOUNTED};
use crate::guest::{Config, Guest, KexecCall};
use crate::initramfs::{self, Contents};
use crate::scenario::Image;
use crate::{PERSISTENT, REGION, RESERVED, devdax, tools, tools_and_gmfs};

/// For QEMU, its libraries, and the firmware of the guest.
const DISK_SIZE: u64 = 256 << 20;
/// Those of [`devdax::MODULES`] and of [`disk::MODULES`].
const MODULES: [&str; 6] = ["nd_e820", "nd_pmem", "dax_pmem", "device_dax", "virtio_pci", "virtio_blk"];
/// The guest's serial port: a file of the kernel that runs.
const SERIAL: &str = "/tmp/serial";
/// The guest, and its memory.
const DIRECTORY: &str = "/vms/a";
const MEMORY: u64 = 8 << 20;

/// A host, and the image that holds the memory of its guests.
struct Host<'a> {
    machine: Guest,
    image: Image<'a>,
}

impl Host<'_> {
    /// Boots it, with QEMU on a disk.
    fn boot<'a>(parameters: &str, image: Image<'a>, directory: &Path) -> Result<Option<Host<'a>>> {
        let (Some((tools, gmfs)), Some(qemu)) = (tools::or_skip(tools_and_gmfs())?, tools::newer_qemu()?) else {
            return Ok(None);
        };
        let content = directory.join("content");
        pack(&qemu, &content)?;
        let disk = Disk::create(directory.join("disk"), DISK_SIZE, Some(&content))?;
        let config = Config {
            parameters,
            disk: Some(disk.path()),
            contents: Contents {
                programs: vec![(gmfs, "bin/gmfs".to_owned())],
                modules: &MODULES,
                ..Contents::default()
            },
            ..Config::default()
        };
        let mut host = Host { machine: Guest::boot(&tools, &config)?, image };
        disk::mount(&mut host.machine)?;
        Ok(Some(host))
    }

    fn line(&self, command: &str, more: &str) -> String {
        format!("gmfs {command} {} {} {more}", self.image.path, self.image.region)
    }

    fn gmfs(&mut self, command: &str, more: &str) -> Result<String> {
        let line = self.line(command, more);
        self.machine.check(&line)
    }

    /// A command must fail, and say so.
    fn refuses(&mut self, command: &str, more: &str, status: i32, saying: &str) -> Result<()> {
        let line = self.line(command, more);
        let output = self.machine.run(&line)?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), output.stderr);
        ensure!(output.status == status && said.contains(saying), "{line}: {}: {said}", output.status);
        Ok(())
    }

    /// Starts `gmfs vm run` or `resume`, which go on as long as QEMU does, and waits until the guest has written more than
    /// `lines` lines.
    fn start(&mut self, command: &str, more: &str, lines: u32) -> Result<Counted> {
        let line = self.line(command, more);
        self.machine.check(&format!(
            "rm -f {SERIAL}; touch {SERIAL}
             {line} >/tmp/log 2>&1 &
             for i in $(seq 1200); do
                 [ $(wc -l <{SERIAL}) -gt {lines} ] && exit 0
                 kill -0 $! || break
                 sleep 0.1
             done
             cat /tmp/log >&2; exit 1"
        ))?;
        Ok(counting::counted(&self.output()?)?)
    }

    /// All that the guest has written since this kernel started.
    fn output(&mut self) -> Result<String> {
        self.machine.check(&format!("cat {SERIAL}"))
    }

    /// QEMU's command line, without what gmfs adds.
    fn qemu() -> String {
        format!(
            "-- {MOUNTED}/qemu -accel tcg,tb-size=16 -nodefaults -display none -bios {MOUNTED}/firmware \
             -chardev file,id=serial,path={SERIAL},append=on -serial chardev:serial"
        )
    }

    /// The address of a byte of the guest's memory, in the image.
    fn address(&mut self, offset: u64) -> Result<u64> {
        let answer: Value = serde_json::from_str(&self.gmfs("stat --json", &format!("{DIRECTORY}/mem"))?)?;
        let extents = answer["files"][0]["extents"].as_array().context("no extents")?.clone();
        let number = |extent: &Value, name: &str| extent[name].as_u64().unwrap_or_default();
        let extent = extents.iter().rfind(|extent| number(extent, "offset") <= offset).context("no extent")?;
        Ok(number(extent, "address") + offset - number(extent, "offset"))
    }

    /// A guest runs, is saved, and goes on under the next kernel. Before it does, `between` has a look.
    fn guest_survives(&mut self, between: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.gmfs("mkfs", "")?;
        self.start("vm run", &format!("{DIRECTORY} --memory 8M {}", Self::qemu()), 3)?;
        self.refuses("vm run", &format!("{DIRECTORY} {}", Self::qemu()), 2, "cannot run '/vms/a'")?;
        self.refuses("rm", &format!("{DIRECTORY}/mem"), 2, "is mapped by process")?;
        self.machine.load_kernel(KexecCall::FileLoad, "")?;
        self.refuses("preflight", "", 1, "has the region mapped")?;
        self.gmfs("vm save", DIRECTORY)?;
        let output = self.output()?;
        let saved = counting::counted(&output)?;
        ensure!(saved.first == 1, "{saved:?}");
        self.refuses("vm run", &format!("{DIRECTORY} {}", Self::qemu()), 2, "the guest was saved")?;

        // The next kernel is loaded with the command line of this one.
        self.gmfs("preflight", "")?;
        self.refuses("preflight --cmdline console=ttyS0", "", 1, "apart: the next kernel uses it")?;
        disk::unmount(&mut self.machine)?;
        self.machine.start_loaded_kernel()?;

        disk::mount(&mut self.machine)?;
        self.gmfs("fsck -n", "")?;
        self.gmfs("verify", "")?;
        between(self)?;
        self.start("vm resume", DIRECTORY, 3)?;
        // The kexec may be in the middle of a line.
        let output = output + &self.output()?;
        let after = counting::counted(&output).with_context(|| saved_and(saved, &output))?;
        ensure!(after.first == 1 && after.last > saved.last && after.sum == saved.sum, "{saved:?}, {after:?}");
        self.refuses("vm resume", DIRECTORY, 2, "its state was used already")
    }
}

/// What there was, and what came of it.
fn saved_and(saved: Counted, output: &str) -> String {
    let tail: Vec<&str> = output.lines().rev().take(20).collect();
    format!("saved: {saved:?}; at the end, backwards: {tail:?}")
}

/// The content of the disk.
fn pack(qemu: &Path, to: &Path) -> Result<()> {
    let share = qemu.ancestors().nth(2).context("QEMU is in no usr/bin")?.join("share/qemu");
    for directory in ["lib", "usr/bin", "usr/share/qemu"] {
        fs::create_dir_all(to.join(directory))?;
    }
    let copy = |from: &Path, to: &Path| -> Result<()> {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    };
    copy(qemu, &to.join("usr/bin/qemu-system-x86_64"))?;
    copy(&share.join("kvmvapic.bin"), &to.join("usr/share/qemu/kvmvapic.bin"))?;
    for library in initramfs::libraries(qemu)? {
        copy(&library, &to.join("lib").join(library.file_name().context("a library without a name")?))?;
    }
    fs::write(to.join("firmware"), counting::firmware(0))?;
    let program = to.join("qemu");
    let exec = format!("exec {MOUNTED}/usr/bin/qemu-system-x86_64 \"$@\"");
    fs::write(&program, format!("#!/bin/sh\nLD_LIBRARY_PATH={MOUNTED}/lib {exec}\n"))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[test]
fn a_guest_on_devdax_survives_the_kexec_of_its_host() -> Result<()> {
    let directory = TempDir::with_prefix("gmfs-vm-")?;
    let image = Image { path: devdax::DEVICE, region: "" };
    let Some(mut host) = Host::boot(PERSISTENT, image, directory.path())? else { return Ok(()) };
    devdax::create(&mut host.machine)?;
    host.guest_survives(|_| Ok(()))
}

#[test]
fn a_guest_in_dev_mem_survives_the_kexec_of_its_host_and_only_unchanged() -> Result<()> {
    let directory = TempDir::with_prefix("gmfs-vm-")?;
    let image = Image { path: "/dev/mem", region: REGION };
    let Some(mut host) = Host::boot(RESERVED, image, directory.path())? else { return Ok(()) };
    host.guest_survives(|host| {
        // A byte changes while the kernel does, in the buffer of the guest.
        let offset = (2 << 20) + 4096;
        let address = host.address(offset)?;
        let before = host.machine.check(&format!("devmem {address:#x} 8"))?;
        let other = u8::from_str_radix(before.trim().trim_start_matches("0x"), 16)? ^ 1;
        host.machine.check(&format!("devmem {address:#x} 8 {other:#x}"))?;
        let block = format!("{:#x}", address - 4096);
        host.refuses("verify", "", 1, &block)?;
        host.refuses("verify", "", 1, "/vms/a/mem")?;
        host.refuses("vm resume", DIRECTORY, 2, &block)?;
        host.machine.check(&format!("devmem {address:#x} 8 {}", before.trim()))?;
        host.gmfs("verify", "").map(drop)
    })?;
    // Saved again, its state does not fit a memory that was made since.
    host.gmfs("vm save", DIRECTORY)?;
    host.gmfs("rm", &format!("{DIRECTORY}/mem"))?;
    host.gmfs("create", &format!("{DIRECTORY}/mem --size {MEMORY}"))?;
    host.refuses("vm resume", DIRECTORY, 2, "the state belongs to another memory")
}
