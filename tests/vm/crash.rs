//! A kernel crashes (by sysrq-c), and the kernel after it saves a region: from memory, with the hook for kdump, and
//! from the dump, in each format that makedumpfile writes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::disk::{self, Disk, MOUNTED};
use crate::guest::{Config, Guest, KexecCall};
use crate::initramfs::Contents;
use crate::scenario::{self, Image, Sight};
use crate::tools::{self, Tools};
use crate::{BASE, PERSISTENT, REGION, RESERVED, SIZE, dump_all, tools_and_gmfs};

/// Memory for the region, for a crash kernel at whatever address the kernel itself is, and for the initramfs.
const MEMORY: &str = "640M";
const CRASH_KERNEL: &str = "crashkernel=160M";
/// The disk is sparse, and the dumps need far less than this.
const DISK_SIZE: u64 = 6 << 30;
const DEV_MEM: Image<'_> = Image { path: "/dev/mem", region: REGION };
const VMCORE: Image<'_> = Image { path: "/proc/vmcore", region: "" };
/// The hook for kdump, and its path in the guest.
const HOOK: &str = "contrib/kdump/gmfs-kdump-save";
const HOOK_IN_GUEST: &str = "/sbin/gmfs-kdump-save";

/// A guest with a region in it and a capture kernel loaded, and what is known about the region.
struct Scene {
    guest: Guest,
    disk: Disk,
    /// The directory of the disk, and of files that are taken from it.
    directory: TempDir,
    gmfs: PathBuf,
    sight: Sight,
    /// The region's bytes before the crash, as QEMU reads them.
    before: PathBuf,
}

/// How the capture kernel gets the memory map for its `/proc/vmcore`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MemoryMap {
    /// From the running kernel, whose map does not include reserved ranges.
    Kernel,
    /// From a `/proc/iomem` in which the range is called System RAM.
    WithRegion,
}

#[test]
fn the_hook_saves_a_region_that_the_dump_lacks() -> Result<()> {
    let Some(found) = tools::or_skip(tools_and_gmfs())? else {
        return Ok(());
    };
    hook_saves(&found, RESERVED)
}

#[test]
fn the_hook_saves_a_region_in_persistent_memory() -> Result<()> {
    let Some(found) = tools::or_skip(tools_and_gmfs())? else {
        return Ok(());
    };
    hook_saves(&found, PERSISTENT)
}

fn hook_saves(found: &(Tools, PathBuf), reservation: &str) -> Result<()> {
    let mut scene = set(found, reservation, &[], MemoryMap::Kernel)?;
    scene.guest.crash()?;
    let Scene { guest, disk, directory, gmfs, sight, before } = &mut scene;

    lacks_the_region(guest)?;
    guest.check(&format!("mkdir -p {MOUNTED}"))?;
    let said = guest.check(&format!("{HOOK_IN_GUEST} 2>&1; echo status $?; dmesg | grep gmfs-kdump-save"))?;
    ensure!(said.contains("status 0") && said.contains("all saved in"), "{said}");
    assert_eq!(*sight, scenario::look(guest, DEV_MEM)?, "in the capture kernel");

    // If there is no space for another range in the settings, the rest must be saved nevertheless.
    let said = guest.check(&format!(
        "printf 'SPARE_MIB=9999999\\n' >>/etc/gmfs/kdump.conf; {HOOK_IN_GUEST} 2>&1; echo status $?"
    ))?;
    ensure!(said.contains("status 1") && said.contains("no room") && said.contains("dump of"), "{said}");
    guest
        .check(&format!("cd {MOUNTED}/crash; set -- gmfs-*; mv $1 ../first; mv $2 ../second; ls ../first ../second"))?;
    disk::unmount(guest)?;

    let name = format!("region-{BASE:#x}");
    let image = disk.take(&format!("first/{name}.img"), directory.path())?;
    ensure!(fs::read(&image)? == fs::read(before)?, "the saved region is not what it was");
    scenario::compare_on_host(gmfs, &[image.as_os_str()], sight)?;
    for time in ["first", "second"] {
        let metadata = disk.take(&format!("{time}/{name}.meta"), directory.path())?;
        scenario::compare_metadata_on_host(gmfs, &metadata, sight)?;
    }
    ensure!(disk.take(&format!("second/{name}.img"), directory.path()).is_err(), "copied without room");
    Ok(())
}

/// The file is a dump, but the region is in none of its ranges, which gmfs must report.
fn lacks_the_region(guest: &mut Guest) -> Result<()> {
    guest.refuses("gmfs scan /proc/vmcore", 1)?;
    for command in ["inspect", "save -o /tmp/none"] {
        let message = guest.refuses(&format!("gmfs {command} /proc/vmcore {REGION}"), 2)?;
        for words in ["the dump does not hold", "memmap=", "gmfs save /dev/mem", "docs/DUMPS.md"] {
            ensure!(message.contains(words), "gmfs {command} does not say {words}: {message}");
        }
    }
    Ok(())
}

#[test]
fn a_region_is_found_in_every_dump_that_makedumpfile_makes() -> Result<()> {
    let Some((found, makedumpfile)) = tools::or_skip(tools_and_gmfs().and_then(|found| {
        let makedumpfile = tools::program("makedumpfile")?;
        Ok((found, makedumpfile))
    }))?
    else {
        return Ok(());
    };
    let programs = [(makedumpfile, "bin/makedumpfile".to_owned())];
    let mut scene = set(&found, RESERVED, &programs, MemoryMap::WithRegion)?;
    scene.guest.crash()?;
    let Scene { guest, disk, directory, gmfs, sight, .. } = &mut scene;

    assert_eq!(*sight, scenario::look(guest, VMCORE)?, "in /proc/vmcore itself");
    disk::mount(guest)?;
    for (name, command) in DUMPS.iter().chain([&ZEROS_LEFT_OUT]) {
        guest
            .check(&format!("cd {MOUNTED} && ({command}) >/tmp/log 2>&1 || {{ cat /tmp/log >&2; false; }}"))
            .with_context(|| (*name).to_owned())?;
    }
    disk::unmount(guest)?;
    for (name, _) in DUMPS {
        let parts = parts_of(name);
        let files = parts.iter().map(|part| disk.take(part, directory.path())).collect::<Result<Vec<_>>>()?;
        compare_in_all_orders(gmfs, &files, sight).with_context(|| (*name).to_owned())?;
        files.iter().try_for_each(fs::remove_file)?;
    }
    let zeros_left_out = disk.take(ZEROS_LEFT_OUT.0, directory.path())?;
    scenario::compare_without_zeros_on_host(gmfs, &zeros_left_out, sight)?;
    fs::remove_file(zeros_left_out)?;
    // Saves the region from outside too: the memory of the crashed kernel still exists while the capture kernel runs in
    // part of it.
    let raw = directory.path().join("raw");
    guest.save_memory(BASE - SIZE, 3 * SIZE, &raw)?;
    let base = format!("--base={:#x}", BASE - SIZE);
    scenario::compare_on_host(gmfs, &[raw.as_os_str(), OsStr::new(&base)], sight).context("raw memory")?;
    for dump in dump_all(guest, directory.path(), BASE, SIZE)? {
        scenario::compare_on_host(gmfs, &[dump.as_os_str()], sight).with_context(|| format!("{}", dump.display()))?;
    }
    Ok(())
}

/// The dumps by file name, and the commands that make them. Debian's makedumpfile supports neither snappy nor zstd.
const DUMPS: &[(&str, &str)] = &[
    ("elf", "cp /proc/vmcore elf"),
    ("elf-filtered", "makedumpfile -E -d 30 /proc/vmcore elf-filtered"),
    ("zlib", "makedumpfile -c -d 31 /proc/vmcore zlib"),
    ("lzo", "makedumpfile -l -d 1 /proc/vmcore lzo"),
    ("flat", "makedumpfile -F -c -d 31 /proc/vmcore >flat"),
    (SPLIT, "makedumpfile -l -d 31 --splitblock-size 65536 --split /proc/vmcore split.1 split.2 split.3"),
];
const SPLIT: &str = "split";
/// In an ELF dump, a page of zeros that was left out looks like one that was filtered.
const ZEROS_LEFT_OUT: (&str, &str) = ("elf-no-zeros", "makedumpfile -E -d 31 /proc/vmcore elf-no-zeros");

fn parts_of(name: &str) -> Vec<String> {
    match name {
        SPLIT => (1..=3).map(|part| format!("{name}.{part}")).collect(),
        _ => vec![name.to_owned()],
    }
}

/// Compares a dump with all of its parts. Each part comes first once.
fn compare_in_all_orders(gmfs: &Path, parts: &[PathBuf], sight: &Sight) -> Result<()> {
    for first in 0..parts.len() {
        let mut image: Vec<&OsStr> = vec![parts[first].as_os_str()];
        for part in parts.iter().cycle().skip(first + 1).take(parts.len() - 1) {
            image.extend([OsStr::new("--part"), part.as_os_str()]);
        }
        scenario::compare_on_host(gmfs, &image, sight)?;
    }
    Ok(())
}

/// Boots a guest, fills a region, and loads the capture kernel.
fn set(
    (tools, gmfs): &(Tools, PathBuf),
    reservation: &str,
    programs: &[(PathBuf, String)],
    map: MemoryMap,
) -> Result<Scene> {
    let directory = TempDir::with_prefix("gmfs-vm-")?;
    let disk = Disk::create(directory.path().join("disk"), DISK_SIZE, None)?;
    let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join(HOOK);
    let own = [(gmfs.clone(), "bin/gmfs".to_owned()), (hook, HOOK_IN_GUEST.to_owned())];
    let mut guest = Guest::boot(
        tools,
        &Config {
            parameters: &format!("{reservation} {CRASH_KERNEL}"),
            memory: MEMORY,
            disk: Some(disk.path()),
            contents: Contents {
                programs: own.iter().chain(programs).cloned().collect(),
                files: scenario::sources(),
                modules: &disk::MODULES,
            },
        },
    )?;
    scenario::fill(&mut guest, DEV_MEM)?;
    let sight = scenario::look(&mut guest, DEV_MEM)?;
    scenario::compare_with_sources(&mut guest, &sight)?;
    let before = directory.path().join("before");
    guest.save_memory(BASE, SIZE, &before)?;

    // The hook's directory is read-only, as it may be in a capture initramfs, so the hook has to make it writable.
    guest.check(&format!(
        "mkdir -p /etc/gmfs && echo '/dev/vda {MOUNTED} ext4 ro 0 0' >/etc/fstab &&
         printf 'MOUNT={MOUNTED}\\nDIR=/crash\\n' >/etc/gmfs/kdump.conf"
    ))?;
    let call = match map {
        MemoryMap::Kernel => KexecCall::FileLoad,
        MemoryMap::WithRegion => {
            call_region_ram(&mut guest)?;
            KexecCall::Load
        }
    };
    guest.load_capture_kernel(call)?;
    Ok(Scene { guest, disk, directory, gmfs: gmfs.clone(), sight, before })
}

/// Makes kexec-tools read a memory map in which the region is System RAM, as docs/DUMPS.md describes.
fn call_region_ram(guest: &mut Guest) -> Result<()> {
    guest.check(&format!(
        "sed 's/^{first:08x}-{last:08x} : Reserved$/{first:08x}-{last:08x} : System RAM/' /proc/iomem >/tmp/iomem &&
         ! cmp -s /tmp/iomem /proc/iomem && mount --bind /tmp/iomem /proc/iomem",
        first = BASE,
        last = BASE + SIZE - 1,
    ))?;
    Ok(())
}
