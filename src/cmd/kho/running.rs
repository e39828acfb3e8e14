//! The kernel that runs: what it says of itself in /proc and in debugfs, and what its image says.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use gmfs_kernel::abi::Family;
use gmfs_kernel::cmdline::{CommandLine, Region};
use gmfs_kernel::compat::Uses;
use gmfs_kernel::{Kernel, Release, memblock};

use super::side;
use crate::failure::Failure;

/// Where an image of a release may be.
const IMAGES: [&str; 4] = ["boot/vmlinuz-", "usr/lib/modules/", "lib/modules/", "boot/vmlinux-"];
/// Symbols that are there only if the kernel was built with a format.
const SYMBOLS: [(Family, &str); 3] = [(Family::Kho, "kho_"), (Family::Luo, "luo_"), (Family::Memfd, "memfd_luo_")];

/// What is known of the kernel that runs.
pub(super) struct Running {
    pub(super) kernel: Kernel,
    /// The image that it was started from.
    pub(super) image: Option<PathBuf>,
    pub(super) line: CommandLine,
    /// Whether KHO is on; `None` if only the command line can tell.
    pub(super) kho: Option<bool>,
    /// The regions that it hands over, with their addresses if it shows them.
    pub(super) regions: Vec<Region>,
    /// The sizes of its scratch areas.
    pub(super) scratch: Option<Vec<u64>>,
    /// Where its memory ends.
    pub(super) memory_end: Option<u64>,
    /// Whether a process has a session open; `None` if not all processes can be looked at.
    pub(super) sessions: Option<bool>,
}

impl Running {
    /// Looks at the kernel whose files are below `root`.
    pub(super) fn look(root: &Path) -> Result<Self> {
        let text = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("cannot read /{path}"));
        let release = text("proc/sys/kernel/osrelease")?;
        let unclear = || Failure::new("release", format!("the release of the running kernel is unclear: {release:?}"));
        let release = Release::parse(release.trim_end()).ok_or_else(unclear)?;
        let line = CommandLine::parse(&text("proc/cmdline")?);
        let (image, kernel) = match image_of(root, &release) {
            Some((path, kernel)) => (Some(path), kernel),
            None => (None, by_symbols(root, release)?),
        };
        let debug = root.join("sys/kernel/debug/kho/out");
        Ok(Self {
            kernel,
            image,
            regions: regions(&debug, &line),
            kho: debug.is_dir().then_some(true),
            scratch: ["scratch_len", "bootmem_len"].into_iter().find_map(|name| numbers(&debug.join(name))),
            memory_end: memory_end(&root.join("proc/iomem")),
            sessions: sessions(&root.join("proc")),
            line,
        })
    }

    /// What is in use, as far as that can be seen.
    pub(super) fn uses(&self) -> Uses {
        let kho = self.kho.unwrap_or(self.line.kho == Some(true));
        let luo = kho && self.line.liveupdate == Some(true);
        // A kernel without KHO, too, has regions that somebody may want to be kept.
        let regions = !self.regions.is_empty() || !self.kernel.abi.has(Family::Kho);
        Uses { regions, luo, sessions: luo && self.sessions.unwrap_or(true), assumed: true }
    }
}

/// The image of a release, if it is there and says so itself.
fn image_of(root: &Path, release: &Release) -> Option<(PathBuf, Kernel)> {
    let paths = IMAGES.iter().map(|start| match start.strip_suffix('/') {
        Some(_) => root.join(format!("{start}{release}/vmlinuz")),
        None => root.join(format!("{start}{release}")),
    });
    paths.into_iter().find_map(|path| {
        let found = side::read(&path).ok()?;
        (found.release.as_ref() == Some(release)).then(|| (path, found.into()))
    })
}

/// What Linux has in a release, less what is not among the symbols of the kernel that runs.
fn by_symbols(root: &Path, release: Release) -> Result<Kernel> {
    let mut kernel = side::of_release(release).context("no image of the running kernel was found in /boot")?;
    let Ok(symbols) = fs::File::open(root.join("proc/kallsyms")) else { return Ok(kernel) };
    let mut found = [false; SYMBOLS.len()];
    let mut any = false;
    for line in BufReader::new(symbols).split(b'\n').map_while(Result::ok) {
        any = true;
        let name = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
        for (found, (_, start)) in found.iter_mut().zip(SYMBOLS) {
            *found |= name.starts_with(start.as_bytes());
        }
    }
    let missing = SYMBOLS.iter().zip(found).filter(|(_, found)| any && !found).map(|((family, _), _)| *family);
    for family in missing.collect::<Vec<_>>() {
        kernel.abi = match family {
            Family::Kho => Default::default(),
            Family::Luo => [Family::Luo, Family::LuoSession, Family::LuoFlb, Family::Memfd]
                .into_iter()
                .fold(kernel.abi, |abi, family| abi.without(family)),
            family => kernel.abi.without(family),
        };
    }
    Ok(kernel)
}

/// The regions that the kernel hands over: those that it shows, otherwise those of its command line.
fn regions(debug: &Path, line: &CommandLine) -> Vec<Region> {
    let table = fs::read(debug.join("sub_fdts/memblock")).ok().and_then(|table| memblock::regions(&table));
    let Some(mut table) = table else { return line.regions.clone() };
    for region in &mut table {
        let own = line.regions.iter().find(|own| own.label == region.label);
        region.align = own.map_or(region.align, |own| own.align);
    }
    table
}

/// Numbers in hexadecimal, one a line.
fn numbers(path: &Path) -> Option<Vec<u64>> {
    let text = fs::read_to_string(path).ok()?;
    let number = |line: &str| u64::from_str_radix(line.trim().trim_start_matches("0x"), 16).ok();
    text.lines().map(number).collect::<Option<Vec<_>>>().filter(|numbers| !numbers.is_empty())
}

/// Where memory ends; root alone is told.
fn memory_end(iomem: &Path) -> Option<u64> {
    let text = fs::read_to_string(iomem).ok()?;
    let ends = text.lines().filter_map(|line| {
        let (range, _) = line.split_once(" : ").filter(|(_, name)| *name == "System RAM")?;
        u64::from_str_radix(range.trim().split_once('-')?.1, 16).ok()?.checked_add(1)
    });
    ends.max().filter(|end| *end > 1)
}

/// Whether a process has a session of a live update open.
fn sessions(proc: &Path) -> Option<bool> {
    let mut all_seen = true;
    for process in fs::read_dir(proc).ok()?.filter_map(Result::ok) {
        if !process.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let files = match fs::read_dir(process.path().join("fd")) {
            Ok(files) => files,
            Err(error) => {
                // A process may have ended meanwhile.
                all_seen &= error.kind() == std::io::ErrorKind::NotFound;
                continue;
            }
        };
        let open = |link: PathBuf| link.to_string_lossy().starts_with("anon_inode:[luo_session]");
        if files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).any(open) {
            return Some(true);
        }
    }
    all_seen.then_some(false)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use gmfs_kernel::Codec;
    use gmfs_kernel::fuzzing::made::{self, Recipe};
    use tempfile::TempDir;

    use super::*;

    const LINE: &str = "BOOT_IMAGE=/vmlinuz kho=on liveupdate=on reserve_mem=2M:4096:alpha";

    /// A directory with files as a running kernel has them.
    fn root(release: &str, line: &str, files: &[(&str, &[u8])]) -> TempDir {
        let root = TempDir::with_prefix("gmfs-running-").unwrap();
        let own = [("proc/sys/kernel/osrelease", format!("{release}\n")), ("proc/cmdline", format!("{line}\n"))];
        let own = own.iter().map(|(path, text)| (*path, text.as_bytes()));
        for (path, bytes) in own.chain(files.iter().copied()) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    fn look(root: &TempDir) -> Running {
        Running::look(root.path()).unwrap()
    }

    fn image(release: &str) -> Vec<u8> {
        let strings = ["kho-v4", "luo-v5", "memfd-v2"];
        made::bz_image(&Recipe { release, strings: &strings, load_size: 0x80_0000 }, Codec::Zstd)
    }

    #[test]
    fn the_image_of_the_running_kernel_counts_if_it_is_that() {
        let own = image("7.3.4-x");
        for place in ["boot/vmlinuz-7.3.4-x", "usr/lib/modules/7.3.4-x/vmlinuz"] {
            let found = look(&root("7.3.4-x", LINE, &[(place, &own)]));
            assert!(found.image.is_some_and(|path| path.ends_with(place)));
            assert_eq!((found.kernel.abi.iter().count(), found.kernel.load_size), (3, Some(0x80_0000)));
        }
        // Another kernel was installed over it: what Linux has in that release is the better guess.
        let other = image("7.3.5-x");
        let found = look(&root("7.3.4-x", LINE, &[("boot/vmlinuz-7.3.4-x", &other)]));
        assert!(found.image.is_none() && found.kernel.abi.is(Family::Kho, 4));
    }

    #[test]
    fn without_an_image_the_symbols_tell_what_is_configured() {
        let symbols = |text: &'static str| {
            let found = look(&root("6.19.11", LINE, &[("proc/kallsyms", text.as_bytes())]));
            Family::ALL.into_iter().filter(|family| found.kernel.abi.has(*family)).count()
        };
        assert_eq!(symbols("0 T kho_preserve_folio\n0 t luo_init\n0 t memfd_luo_freeze\n"), 6);
        assert_eq!(symbols("0 T kho_preserve_folio\n0 t luo_init\n"), 5);
        assert_eq!(symbols("0 T kho_preserve_folio\n0 t xluo_init\n"), 3);
        assert_eq!(symbols("0 T schedule\n"), 0);
        // Nothing is shown to this user.
        assert_eq!(symbols(""), 6);
        let newer = Running::look(root("9.1.0", LINE, &[]).path());
        assert!(format!("{:#}", newer.err().unwrap()).contains("newer than this gmfs"));
    }

    #[test]
    fn debugfs_tells_of_regions_and_scratch_areas() {
        let table = made::memblock(&[("alpha", 0x1720_1000, 2 << 20)]);
        let found = look(&root(
            "7.3.4",
            LINE,
            &[
                ("sys/kernel/debug/kho/out/sub_fdts/memblock", &table),
                ("sys/kernel/debug/kho/out/scratch_len", b"0x1000000\n0x3000000\n0x1000000\n"),
                (
                    "proc/iomem",
                    b"00001000-0009fbff : System RAM\n00100000-17fdffff : System RAM\nfec00000-ffffffff : x\n",
                ),
            ],
        ));
        assert_eq!((found.regions[0].address, found.regions[0].align), (Some(0x1720_1000), 4096));
        assert_eq!(found.scratch.unwrap(), [16 << 20, 48 << 20, 16 << 20]);
        assert_eq!((found.kho, found.memory_end), (Some(true), Some(0x17fe_0000)));
        let less = look(&root("7.3.4", LINE, &[("proc/iomem", b"00000000-00000000 : System RAM\n")]));
        assert_eq!((less.kho, less.memory_end, less.scratch), (None, None, None));
        assert_eq!(less.regions[0].address, None);
    }

    #[test]
    fn what_is_in_use_is_looked_for() {
        let uses = |root: &TempDir| {
            let uses = look(root).uses();
            (uses.regions, uses.luo, uses.sessions)
        };
        let at = root("7.3.4", LINE, &[("proc/17/fd/0", b"")]);
        assert_eq!(uses(&at), (true, true, false));
        symlink("anon_inode:[luo_session] vm-a", at.path().join("proc/17/fd/3")).unwrap();
        assert_eq!(uses(&at), (true, true, true));
        assert_eq!(uses(&root("7.3.4", "kho=on", &[])), (false, false, false));
        assert_eq!(uses(&root("6.1.0-56-amd64", "quiet", &[])), (true, false, false));
    }
}
