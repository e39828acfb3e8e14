//! The kernel that runs: what it says of itself in /proc and in debugfs, and what its image says.

use std::fs;
use std::io::{self, BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use gmfs_image::iomem::IoMem;
use gmfs_kernel::abi::Family;
use gmfs_kernel::cmdline::{CommandLine, Region};
use gmfs_kernel::compat::Uses;
use gmfs_kernel::{Kernel, Release, memblock};

use crate::files::{self, numbers};
use crate::kernel::{UnknownRelease, of_release, read_image};

/// Where an image of a release may be.
const IMAGES: [&str; 4] = ["boot/vmlinuz-", "usr/lib/modules/", "lib/modules/", "boot/vmlinux-"];
/// Symbols that are there only if the kernel was built with a format.
const SYMBOLS: [(Family, &str); 3] = [(Family::Kho, "kho_"), (Family::Luo, "luo_"), (Family::Memfd, "memfd_luo_")];

/// Why the kernel that runs is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunningError {
    /// One of its files cannot be read.
    #[error("cannot read /{path}")]
    Read {
        /// The file, below the folder that stands for `/`.
        path: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// What it calls its release is no release.
    #[error("the release of the running kernel is unclear: {0:?}")]
    Release(String),
    /// Neither its image nor its release says what it has.
    #[error("no image of the running kernel was found in /boot")]
    NoImage(#[source] UnknownRelease),
}

/// What is known of the kernel that runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Running {
    /// Its release and versions.
    pub kernel: Kernel,
    /// The image that it was started from, if that was found.
    pub image: Option<PathBuf>,
    /// Its command line.
    pub line: CommandLine,
    /// Whether KHO is on; `None` if only the command line can tell.
    pub kho: Option<bool>,
    /// The regions that it hands over, with their addresses if it shows them.
    pub regions: Vec<Region>,
    /// The sizes of its scratch areas in bytes; `None` if it does not show them.
    pub scratch: Option<Vec<u64>>,
    /// The physical address at which its memory ends; `None` if it does not show it, as to users who are not root.
    pub memory_end: Option<u64>,
    /// Whether a process has a session open; `None` if not all processes can be looked at.
    pub sessions: Option<bool>,
}

impl Running {
    /// Looks at the kernel whose `proc`, `sys` and `boot` are below `root`: `/` for the kernel that runs here.
    ///
    /// # Errors
    /// Its release or its command line cannot be read, or nothing tells which versions it has.
    pub fn look(root: &Path) -> Result<Self, RunningError> {
        let text =
            |path: &'static str| files::text(&root.join(path)).map_err(|source| RunningError::Read { path, source });
        let release = text("proc/sys/kernel/osrelease")?;
        let release = Release::parse(release.trim_end()).ok_or(RunningError::Release(release))?;
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
    #[must_use]
    pub fn uses(&self) -> Uses {
        let luo = self.has_kho_on() && self.line.liveupdate == Some(true);
        // A kernel without KHO, too, has regions that somebody may want to be kept.
        let regions = !self.regions.is_empty() || !self.kernel.abi.has(Family::Kho);
        Uses { regions, luo, sessions: luo && self.sessions.unwrap_or(true), assumed: true }
    }

    /// Whether KHO is on: as debugfs tells, otherwise as the command line says.
    #[must_use]
    pub fn has_kho_on(&self) -> bool {
        self.kho.unwrap_or(self.line.kho == Some(true))
    }
}

/// The image of a release, if it is there and says so itself.
fn image_of(root: &Path, release: &Release) -> Option<(PathBuf, Kernel)> {
    let paths = IMAGES.iter().map(|start| match start.strip_suffix('/') {
        Some(_) => root.join(format!("{start}{release}/vmlinuz")),
        None => root.join(format!("{start}{release}")),
    });
    paths.into_iter().find_map(|path| {
        let found = read_image(&path).ok()?;
        (found.release.as_ref() == Some(release)).then(|| (path, found.into()))
    })
}

/// What Linux has in a release, less what is not among the symbols of the kernel that runs.
fn by_symbols(root: &Path, release: Release) -> Result<Kernel, RunningError> {
    let mut kernel = of_release(release).map_err(RunningError::NoImage)?;
    for family in missing_symbols(&root.join("proc/kallsyms")) {
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

/// The formats of which a list of symbols has none; none if it has no symbols at all, because it is not shown.
fn missing_symbols(list: &Path) -> Vec<Family> {
    let mut found = [false; SYMBOLS.len()];
    let mut any = false;
    let lines = fs::File::open(list).into_iter().flat_map(|list| BufReader::new(list).split(b'\n'));
    for line in lines.map_while(Result::ok) {
        any = true;
        let name = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
        for (found, (_, start)) in found.iter_mut().zip(SYMBOLS) {
            *found |= name.starts_with(start.as_bytes());
        }
    }
    SYMBOLS.iter().zip(found).filter(|(_, found)| any && !found).map(|((family, _), _)| *family).collect()
}

/// The regions that the kernel hands over: those that it shows, otherwise those of its command line.
fn regions(debug: &Path, line: &CommandLine) -> Vec<Region> {
    let table = files::bytes(&debug.join("sub_fdts/memblock")).ok().and_then(|table| memblock::regions(&table));
    let Some(mut table) = table else { return line.regions.clone() };
    for region in &mut table {
        let own = line.regions.iter().find(|own| own.label == region.label);
        region.align = own.map_or(region.align, |own| own.align);
    }
    table
}

/// Where memory ends; root alone is told.
fn memory_end(iomem: &Path) -> Option<u64> {
    let iomem = IoMem::parse(&files::text(iomem).ok()?).ok()?;
    let ram = iomem.resources().iter().filter(|resource| resource.name == "System RAM");
    ram.map(|resource| resource.span.end()).max()
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
                all_seen &= error.kind() == ErrorKind::NotFound;
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
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

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
        assert!(gmfs_io::with_causes(&newer.err().unwrap()).contains("newer than this gmfs"));
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
