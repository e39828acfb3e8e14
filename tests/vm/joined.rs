//! A VMM that maps a file by the library for C: on devdax and in /dev/mem, before and after a kexec. And live memory compared
//! with copies of it.

use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::guest::{Config, Guest, KexecCall};
use crate::initramfs::Contents;
use crate::scenario::Image;
use crate::{PERSISTENT, REGION, RESERVED, devdax, tools, tools_and_gmfs};

const BLOCK: u64 = 2 << 20;

/// Maps a file of two extents, as memory of a guest that writes into it.
fn memory_is_mapped(machine: &mut Guest, image: Image<'_>) -> Result<()> {
    let Image { path, region } = image;
    let place = region.trim_start_matches("--region ");
    let place = if place.is_empty() { "-" } else { place };
    let gmfs = |command: &str, more: &str| format!("gmfs {command} {path} {region} {more}");
    machine.check(&gmfs("mkfs", ""))?;
    for (command, more) in
        [("create", "/a --size 2M"), ("create", "/behind-it --size 2M"), ("truncate", "/a --size 6M")]
    {
        machine.check(&gmfs(command, more))?;
    }
    let vmm = |more: &str| format!("vmm {path} '{place}' /a {more}");
    let said = machine.check(&vmm("fill"))?;
    ensure!(said == "6291456 bytes, 2 extents\n", "{said}");
    machine.check(&gmfs("save", "-o /copy"))?;
    machine.check(&gmfs("dump", "-o /metadata"))?;
    machine.check(&format!("gmfs diff {path} /copy {region} --data"))?;
    machine.check(&format!("gmfs diff /copy {path} {} --data", region.replace("--region", "--other-region")))?;
    machine.check(&format!("gmfs diff {path} /metadata {region}"))?;

    // The guest that runs meanwhile writes over the edge of the extents, and another VMM does not get the memory.
    let byte = |at: u64| gmfs("cat", &format!("/a | od -A n -t u1 -j {at} -N 1"));
    for at in [8, BLOCK + 8, 2 * BLOCK + 4104] {
        let said = machine.check(&byte(at))?;
        ensure!(said.trim() == (at / BLOCK + 1).to_string(), "{at}: {said}");
    }
    let written = gmfs("cat", &format!("/a | od -A n -c -j {} -N 5 | tr -d ' ' | grep -qx guest", BLOCK - 3));
    machine.check(&written)?;
    machine.check(&gmfs("rm", "/behind-it"))?;
    let said = machine.run(&format!("gmfs diff {path} /copy {region} --data"))?;
    let shown = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(said.status == 1 && shown.contains("/behind-it: only in the second image"), "{shown}");

    machine.check("rm /copy /metadata")?;
    machine.kexec(KexecCall::FileLoad, "")?;
    machine.check(&gmfs("fsck -n", ""))?;
    machine.check(&written)?;
    let said = machine.check(&vmm(""))?;
    ensure!(said == "6291456 bytes, 2 extents\n", "{said}");
    Ok(())
}

#[test]
fn a_vmm_in_c_maps_live_memory() -> Result<()> {
    let Some((tools, gmfs)) = tools::or_skip(tools_and_gmfs())? else { return Ok(()) };
    let Some(_) = tools::or_skip(tools::program("gcc"))? else { return Ok(()) };
    let directory = TempDir::with_prefix("gmfs-vm-")?;
    let vmm = directory.path().join("vmm");
    gmfs_testing::capi::compile(gmfs_testing::capi::libraries().0.as_os_str(), &vmm);
    // The file system of the guest is in its memory.
    ensure!(Command::new("strip").arg(&vmm).status()?.success(), "strip");
    let programs = vec![(gmfs, "bin/gmfs".to_owned()), (vmm, "bin/vmm".to_owned())];
    let boot = |parameters| {
        let contents = Contents { programs: programs.clone(), modules: &devdax::MODULES, ..Contents::default() };
        Guest::boot(&tools, &Config { parameters, memory: "768M", contents, ..Config::default() })
    };
    memory_is_mapped(&mut boot(RESERVED)?, Image { path: "/dev/mem", region: REGION })?;
    let mut machine = boot(PERSISTENT)?;
    devdax::create(&mut machine)?;
    memory_is_mapped(&mut machine, Image { path: devdax::DEVICE, region: "" })
}
