//! The test of every kind of image: a region is made and filled, carried to other kernels and into dumps, and must look
//! the same everywhere.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::guest::Guest;

/// The path of the files that are put into the region, in the first kernel. Later kernels do not have them.
const SOURCES: &str = "/sources";
/// The files by name and size: empty, one byte, a page, exactly a block, a block and a byte, and several blocks.
const FILES: [(&str, usize); 6] = [
    ("empty", 0),
    ("byte", 1),
    ("page", 4 << 10),
    ("block", 2 << 20),
    ("block-and-byte", (2 << 20) + 1),
    ("memory", (7 << 20) + 12_345),
];
/// The directories of the region.
const DIRECTORIES: [&str; 2] = ["/vms", "/vms/first"];
/// A file that is created, and never written.
const CREATED: &str = "/vms/created";
const CREATED_SIZE: usize = 6 << 20;

/// An image, and the option that says where the region is in it; empty if gmfs has to find the region.
#[derive(Clone, Copy)]
pub(crate) struct Image<'a> {
    pub(crate) path: &'a str,
    pub(crate) region: &'a str,
}

impl Image<'_> {
    /// A gmfs command line: command and options, the image, and the operands after it.
    fn command(self, command: &str, operands: &str) -> String {
        format!("gmfs {command} {} {operands} {}", self.path, self.region)
    }
}

/// Everything about a region that must not change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    uuid: String,
    tree: String,
    listing: String,
    /// The SHA-256 of each file's content, from `gmfs cat`.
    digests: Vec<(String, String)>,
}

/// The files to put into the region, by their path in the guest, for the guest's [`Contents`].
///
/// [`Contents`]: crate::initramfs::Contents
pub(crate) fn sources() -> Vec<(String, Vec<u8>)> {
    FILES.iter().map(|(name, size)| (format!("{SOURCES}/{name}"), content(name, *size))).collect()
}

/// Formats the region and fills it.
pub(crate) fn fill(guest: &mut Guest, image: Image<'_>) -> Result<()> {
    guest.check(&image.command("mkfs", ""))?;
    for directory in DIRECTORIES {
        guest.check(&image.command("mkdir", directory))?;
    }
    for (name, _) in FILES {
        let operands = format!("{SOURCES}/{name} {}", path_of(name));
        guest.check(&image.command("put", &operands))?;
    }
    let operands = format!("{CREATED} --size {CREATED_SIZE}");
    guest.check(&image.command("create", &operands))?;
    Ok(())
}

/// Reads the region from within the guest. It must be clean, and have the content that was put into it.
pub(crate) fn look(guest: &mut Guest, image: Image<'_>) -> Result<Sight> {
    guest.check(&image.command("fsck -n", ""))?;
    let inspection: Value = serde_json::from_str(&guest.check(&image.command("inspect --json", ""))?)?;
    let mut digests = Vec::new();
    for path in paths() {
        let digest = digest_of(guest, &image.command("cat", &path))?;
        digests.push((path, digest));
    }
    Ok(Sight {
        uuid: uuid_of(&inspection)?,
        tree: guest.check(&image.command("tree", ""))?,
        listing: guest.check(&image.command("ls", "/vms/first"))?,
        digests,
    })
}

/// Reads the source files in the first kernel. The region's files must have the same digests.
pub(crate) fn compare_with_sources(guest: &mut Guest, sight: &Sight) -> Result<()> {
    for (name, _) in FILES {
        let expected = digest_of(guest, &format!("cat {SOURCES}/{name}"))?;
        let found = sight.digests.iter().find(|(path, _)| *path == path_of(name));
        let found = found.map_or("nothing", |(_, digest)| digest.as_str());
        ensure!(found == expected, "{name}: {found}, put in as {expected}");
    }
    Ok(())
}

/// Reads a dump or a copy of the region on the host, with the same binary, which has to find the region by itself.
///
/// The image is given as words of a command line: for a split dump, one part, and `--part` with each other one.
pub(crate) fn compare_on_host(gmfs: &Path, image: &[&OsStr], sight: &Sight) -> Result<()> {
    let inspection: Value = serde_json::from_slice(&host(gmfs, &["inspect", "--json"], image, &[])?)?;
    ensure!(inspection["schema"] == "gmfs.inspect/2", "another schema: {inspection}");
    ensure!(inspection["health"]["verdict"] == "clean", "not clean: {inspection}");
    ensure!(uuid_of(&inspection)? == sight.uuid, "another region than {}: {inspection}", sight.uuid);
    host(gmfs, &["fsck", "-n"], image, &[])?;
    let tree = String::from_utf8(host(gmfs, &["tree"], image, &[])?)?;
    ensure!(tree == sight.tree, "in the guest:\n{}on the host:\n{tree}", sight.tree);
    for (name, size) in FILES {
        let found = host(gmfs, &["cat"], image, &[&path_of(name)])?;
        ensure!(found == content(name, size), "{name} is another one");
    }
    let created = host(gmfs, &["cat"], image, &[CREATED])?;
    ensure!(created == vec![0; CREATED_SIZE], "{CREATED} is not zeros");
    Ok(())
}

/// Reads a dump without pages of zeros on the host. It has everything except [`CREATED`], which is zeros. That must not
/// be shown as zeros, because the dump could have lost it in another way.
pub(crate) fn compare_without_zeros_on_host(gmfs: &Path, image: &Path, sight: &Sight) -> Result<()> {
    let image = [image.as_os_str()];
    let tree = String::from_utf8(host(gmfs, &["tree"], &image, &[])?)?;
    ensure!(tree == sight.tree, "in the guest:\n{}on the host:\n{tree}", sight.tree);
    for (name, size) in FILES {
        ensure!(host(gmfs, &["cat"], &image, &[&path_of(name)])? == content(name, size), "{name} is another one");
    }
    let output = Command::new(gmfs).arg("cat").args(image).arg(CREATED).output()?;
    ensure!(output.status.code() == Some(2), "{CREATED}: {}", output.status);
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(message.contains("left out of the dump"), "{message}");
    Ok(())
}

/// Reads a dump that lacks the region on the host. gmfs must say why, and how to take one that has it.
pub(crate) fn refused_on_host(gmfs: &Path, image: &Path, region: &str, words: &[&str]) -> Result<()> {
    let scan = Command::new(gmfs).arg("scan").arg(image).output()?;
    ensure!(scan.status.code() == Some(1), "gmfs scan: {}", scan.status);
    for (command, status) in [("fsck", 8), ("inspect", 2)] {
        let output = Command::new(gmfs).arg(command).arg(image).args(region.split(' ')).output()?;
        let message = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(status), "gmfs {command}: {}: {message}", output.status);
        for word in words {
            ensure!(message.contains(word), "gmfs {command} does not say {word}: {message}");
        }
    }
    Ok(())
}

/// Reads a metadata image on the host. Names and sizes are those of the region; the contents are absent.
pub(crate) fn compare_metadata_on_host(gmfs: &Path, image: &Path, sight: &Sight) -> Result<()> {
    let image = [image.as_os_str()];
    host(gmfs, &["fsck", "-n"], &image, &[])?;
    let tree = String::from_utf8(host(gmfs, &["tree"], &image, &[])?)?;
    ensure!(tree == sight.tree, "in the guest:\n{}on the host:\n{tree}", sight.tree);
    let output = Command::new(gmfs).arg("cat").args(image).arg(path_of("memory")).output()?;
    ensure!(!output.status.success(), "contents out of a metadata image");
    Ok(())
}

/// The SHA-256 of the output of a command in the guest.
fn digest_of(guest: &mut Guest, command: &str) -> Result<String> {
    let line = guest.check(&format!("set -o pipefail; {command} | sha256sum"))?;
    let digest = line.split_whitespace().next();
    Ok(digest.context("sha256sum said nothing")?.to_owned())
}

/// Runs gmfs on the host. It must succeed.
fn host(gmfs: &Path, command: &[&str], image: &[&OsStr], operands: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(gmfs).args(command).args(image).args(operands).output()?;
    ensure!(
        output.status.success(),
        "gmfs {} {} {}: {}\nstdout: {}\nstderr: {}",
        command.join(" "),
        image.join(OsStr::new(" ")).display(),
        operands.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

fn uuid_of(inspection: &Value) -> Result<String> {
    let uuid = inspection["superblock"]["uuid"].as_str().with_context(|| format!("no UUID: {inspection}"))?;
    Ok(uuid.to_owned())
}

fn path_of(name: &str) -> String {
    format!("/vms/first/{name}")
}

fn paths() -> Vec<String> {
    let put = FILES.iter().map(|(name, _)| path_of(name));
    put.chain([CREATED.to_owned()]).collect()
}

/// Content that looks like noise, differs from file to file, and is the same in every run.
fn content(name: &str, size: usize) -> Vec<u8> {
    let mut state = name
        .bytes()
        .fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
