//! gmfs on real kernels: virtual machines boot the distribution's kernel with memory reserved, fill that memory, start
//! further kernels by kexec, and are examined from outside.
//!
//! The tests need QEMU, a kernel, busybox and kexec-tools on the host, and the static gmfs binary that `GMFS_STATIC`
//! names. If something is missing they print that and pass, except under `CI=true`. They need neither root nor KVM. Those of
//! `gmfs vm` need a newer QEMU as well, which `GMFS_QEMU` names; without it they are skipped in any case.
//! `GMFS_VM_KERNEL`, `GMFS_VM_MODULES` and `GMFS_VM_ACCEL` select another kernel, its modules and QEMU's accelerator.

mod agent;
mod base64;
mod cpio;
mod crash;
mod devdax;
mod disk;
mod guest;
mod initramfs;
mod iomem;
mod joined;
mod kernel_memory;
mod live;
mod machine;
mod mapped;
mod modules;
mod qmp;
mod scenario;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::guest::{Config, Guest, KexecCall};
use crate::initramfs::Contents;
use crate::scenario::Image;
use crate::tools::Tools;

/// The range that the guests reserve: 64 MiB, well below the guest's end, where QEMU puts the initramfs.
const BASE: u64 = 0x1000_0000;
const SIZE: u64 = 64 << 20;
const RESERVED: &str = "memmap=64M$0x10000000";
const PERSISTENT: &str = "memmap=64M!0x10000000";
/// The option that names the range.
const REGION: &str = "--region 64M:0x10000000";

/// Proves with busybox alone, without gmfs, the behaviour of the kernel that gmfs relies on.
#[test]
fn the_kernel_leaves_a_reserved_range_alone() -> Result<()> {
    let Some(tools) = tools::or_skip(Tools::find())? else {
        return Ok(());
    };
    let config = Config { parameters: RESERVED, ..Config::default() };
    let mut guest = Guest::boot(&tools, &config)?;
    let last_page = BASE + SIZE - 4096;
    write_word(&mut guest, BASE, 0x1122_3344_5566_7788)?;
    write_word(&mut guest, last_page, 0x99aa_bbcc_ddee_ff00)?;
    for call in [None, Some(KexecCall::FileLoad), Some(KexecCall::Load)] {
        if let Some(call) = call {
            guest.kexec(call, "").with_context(|| format!("{call:?}"))?;
        }
        ensure!(iomem::of(&mut guest)?.name_at(BASE, SIZE) == Some("Reserved"));
        ensure!(read_word(&mut guest, BASE)? == 0x1122_3344_5566_7788);
        ensure!(read_word(&mut guest, last_page)? == 0x99aa_bbcc_ddee_ff00);
    }
    // With STRICT_DEVMEM, the kernel does not give access to memory that gmfs must never touch.
    let ram = iomem::of(&mut guest)?.system_ram(SIZE)?;
    let refusal = guest.refuses(&format!("devmem {ram:#x} 64"), 1)?;
    ensure!(refusal.contains("Operation not permitted"), "{refusal}");

    let directory = TempDir::with_prefix("gmfs-vm-")?;
    let saved = directory.path().join("region");
    guest.save_memory(BASE, SIZE, &saved)?;
    let bytes = fs::read(saved)?;
    ensure!(bytes.starts_with(&0x1122_3344_5566_7788_u64.to_le_bytes()));
    ensure!(bytes[bytes.len() - 4096..].starts_with(&0x99aa_bbcc_ddee_ff00_u64.to_le_bytes()));
    Ok(())
}

#[test]
fn a_region_in_dev_mem_survives_kexec() -> Result<()> {
    let Some((tools, gmfs)) = tools::or_skip(tools_and_gmfs())? else {
        return Ok(());
    };
    let mut guest = boot(&tools, &gmfs, RESERVED, &[])?;
    let image = Image { path: "/dev/mem", region: REGION };
    scenario::fill(&mut guest, image)?;
    let before = scenario::look(&mut guest, image)?;
    scenario::compare_with_sources(&mut guest, &before)?;
    refuses_system_ram(&mut guest)?;

    // Without --region, gmfs has to find the region, or take its location from the kernel's parameters.
    let found = Image { region: "", ..image };
    guest.kexec(KexecCall::FileLoad, "")?;
    assert_eq!(before, scenario::look(&mut guest, image)?, "kexec -s");
    assert_eq!(before, scenario::look(&mut guest, found)?, "kexec -s, search");
    guest.kexec(KexecCall::Load, "guestmemfs=64M:0x10000000")?;
    assert_eq!(before, scenario::look(&mut guest, found)?, "kexec -c, parameter");

    let directory = TempDir::with_prefix("gmfs-vm-")?;
    let dumps = dump_all(&mut guest, directory.path(), BASE, SIZE)?;
    let paged = directory.path().join("paged");
    guest.dump_paged(&paged)?;
    drop(guest);
    for dump in dumps {
        scenario::compare_on_host(&gmfs, &[dump.as_os_str()], &before)
            .with_context(|| format!("{}", dump.display()))?;
    }
    // The kernel maps only its own memory, so no page table gives the region an address.
    let words = ["paging=on (-p)", "in its file have no address", "without -p", "docs/DUMPS.md"];
    scenario::refused_on_host(&gmfs, &paged, REGION, &words)
}

#[test]
fn a_region_on_devdax_survives_kexec() -> Result<()> {
    let Some((tools, gmfs)) = tools::or_skip(tools_and_gmfs())? else {
        return Ok(());
    };
    let mut guest = boot(&tools, &gmfs, PERSISTENT, &devdax::MODULES)?;
    let block_device = Image { path: devdax::BLOCK_DEVICE, region: "" };
    scenario::fill(&mut guest, block_device)?;
    let sight = scenario::look(&mut guest, block_device)?;
    scenario::compare_with_sources(&mut guest, &sight)?;

    // The end of the range is the end of both devices. Content that is left there would look like a region on the other
    // one.
    guest.check(&format!("dd if=/dev/zero of={} bs=2M count={}", devdax::BLOCK_DEVICE, SIZE >> 21))?;
    devdax::create(&mut guest)?;
    let size = devdax::size(&mut guest)?;
    ensure!(size == SIZE - devdax::KEPT, "{} has {size} bytes", devdax::DEVICE);
    let image = Image { path: devdax::DEVICE, region: "" };
    scenario::fill(&mut guest, image)?;
    let before = scenario::look(&mut guest, image)?;
    scenario::compare_with_sources(&mut guest, &before)?;
    guest.kexec(KexecCall::FileLoad, "")?;
    assert_eq!(before, scenario::look(&mut guest, image)?, "kexec -s");

    let directory = TempDir::with_prefix("gmfs-vm-")?;
    let region = directory.path().join("region");
    guest.save_memory(BASE + devdax::KEPT, size, &region)?;
    drop(guest);
    scenario::compare_on_host(&gmfs, &[region.as_os_str()], &before)
}

/// Memory of a region that a running process has mapped is found through the kernel's list of mappings.
#[test]
fn mapped_memory_is_in_use() -> Result<()> {
    let Some((tools, gmfs)) = tools::or_skip(tools_and_gmfs())? else {
        return Ok(());
    };
    let mut guest = boot(&tools, &gmfs, RESERVED, &[])?;
    let image = Image { path: "/dev/mem", region: REGION };
    scenario::fill(&mut guest, image)?;
    mapped::refuses_what_is_mapped(&mut guest, image)?;
    mapped::excludes_by_range(&mut guest, image)?;
    drop(guest);
    let mut guest = boot(&tools, &gmfs, PERSISTENT, &devdax::MODULES)?;
    devdax::create(&mut guest)?;
    let image = Image { path: devdax::DEVICE, region: "" };
    scenario::fill(&mut guest, image)?;
    mapped::refuses_what_is_mapped(&mut guest, image)?;
    mapped::excludes_by_range(&mut guest, image)
}

/// The memory of the running kernel is an image, in both forms that Linux has for it.
#[test]
fn the_kernel_s_own_memory_is_read() -> Result<()> {
    let Some((tools, gmfs)) = tools::or_skip(tools_and_gmfs())? else {
        return Ok(());
    };
    let mut guest = boot(&tools, &gmfs, RESERVED, &[])?;
    kernel_memory::has_no_handover(&mut guest)?;
    kernel_memory::finds_what_is_reserved(&mut guest)?;
    kernel_memory::finds_what_is_mapped(&mut guest)
}

/// Everything that a test of gmfs needs, except the guest's kernel.
fn tools_and_gmfs() -> Result<(Tools, PathBuf)> {
    Ok((Tools::find()?, tools::static_gmfs()?))
}

/// Boots a guest with gmfs and the files of the scenario.
fn boot(tools: &Tools, gmfs: &Path, parameters: &str, modules: &[&str]) -> Result<Guest> {
    Guest::boot(
        tools,
        &Config {
            parameters,
            contents: Contents {
                programs: vec![(gmfs.to_owned(), "bin/gmfs".to_owned())],
                files: scenario::sources(),
                modules,
            },
            ..Config::default()
        },
    )
}

/// gmfs must not format memory that the kernel uses: neither a range within it, nor one that overlaps it.
fn refuses_system_ram(guest: &mut Guest) -> Result<()> {
    let within = iomem::of(guest)?.system_ram(SIZE)?;
    for base in [within, BASE + SIZE / 2, BASE - (2 << 20)] {
        let command = format!("gmfs mkfs --force /dev/mem --region 64M:{base:#x}");
        let message = guest.refuses(&command, 2)?;
        ensure!(message.contains("System RAM"), "{command} does not say why: {message}");
    }
    Ok(())
}

/// Saves the guest's memory in all ways that a host has: two kinds of crash dump, and the range alone.
fn dump_all(guest: &mut Guest, directory: &Path, base: u64, size: u64) -> Result<[PathBuf; 3]> {
    let [elf, kdump, region] = ["elf", "kdump", "region"].map(|name| directory.join(name));
    guest.dump_elf(&elf)?;
    guest.dump_kdump(&kdump)?;
    guest.save_memory(base, size, &region)?;
    Ok([elf, kdump, region])
}

/// Writes 8 bytes of physical memory, through a mapping of `/dev/mem`.
fn write_word(guest: &mut Guest, address: u64, value: u64) -> Result<()> {
    guest.check(&format!("devmem {address:#x} 64 {value:#x}"))?;
    Ok(())
}

/// Reads 8 bytes of physical memory, through a mapping of `/dev/mem`.
fn read_word(guest: &mut Guest, address: u64) -> Result<u64> {
    let text = guest.check(&format!("devmem {address:#x} 64"))?;
    let digits = text.trim().trim_start_matches("0x");
    u64::from_str_radix(digits, 16).with_context(|| format!("not a number: {text:?}"))
}
