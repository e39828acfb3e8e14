//! What the tests need on the machine that runs them, and what happens if it is missing.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// How to install everything on Debian, for the message that names what is missing.
const APT: &str = "INITRD=No apt-get install --no-install-recommends \
    linux-image-cloud-amd64 qemu-system-x86 busybox-static kexec-tools makedumpfile e2fsprogs";

/// The programs and the kernel of a guest, as found on this machine.
pub(crate) struct Tools {
    /// The emulator.
    pub(crate) qemu: PathBuf,
    /// Runs a program that ends with its parent.
    pub(crate) setpriv: PathBuf,
    /// Statically linked busybox, the guest's user space.
    pub(crate) busybox: PathBuf,
    /// kexec-tools' `kexec`; its shared libraries are found when the guest is packed.
    pub(crate) kexec: PathBuf,
    /// The kernel image, for the first boot and for kexec.
    pub(crate) kernel: PathBuf,
    /// The directory of that kernel's modules.
    pub(crate) modules: PathBuf,
}

impl Tools {
    /// Finds them all, or names what is missing.
    ///
    /// `GMFS_VM_KERNEL` and `GMFS_VM_MODULES` select another kernel than the newest one in `/boot`.
    pub(crate) fn find() -> Result<Self> {
        let kernel = match env::var_os("GMFS_VM_KERNEL") {
            Some(path) => PathBuf::from(path),
            None => newest_kernel(Path::new("/boot"))?,
        };
        let modules = match env::var_os("GMFS_VM_MODULES") {
            Some(path) => PathBuf::from(path),
            None => Path::new("/lib/modules").join(release_of(&kernel)),
        };
        Ok(Self {
            qemu: program("qemu-system-x86_64")?,
            setpriv: program("setpriv")?,
            busybox: program("busybox")?,
            kexec: program("kexec")?,
            kernel,
            modules,
        })
    }
}

/// The path of the static gmfs binary, from `GMFS_STATIC`.
pub(crate) fn static_gmfs() -> Result<PathBuf> {
    let path =
        env::var_os("GMFS_STATIC").map(PathBuf::from).context("GMFS_STATIC does not name a statically linked gmfs")?;
    fs::canonicalize(&path).with_context(|| format!("GMFS_STATIC={}", path.display()))
}

/// A QEMU that is new enough for `gmfs vm`, from `GMFS_QEMU`, as `scripts/newer-qemu.sh` prints it. Not every mirror has one,
/// so that a test without it is skipped wherever it runs.
pub(crate) fn newer_qemu() -> Result<Option<PathBuf>> {
    let found = env::var_os("GMFS_QEMU").map(PathBuf::from);
    if found.is_none() {
        writeln!(io::stderr(), "skipped: GMFS_QEMU names no QEMU, as scripts/newer-qemu.sh prints it")?;
    }
    Ok(found)
}

/// Skips a test if the machine lacks something: prints a line on stderr and returns `None`. Under CI it is an error.
pub(crate) fn or_skip<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(missing) if env::var_os("CI").is_some_and(|value| value == "true") => {
            Err(missing.context("a VM test may not be skipped under CI=true"))
        }
        Err(missing) => {
            // eprintln is not used, because the test harness hides it while the test passes.
            writeln!(io::stderr(), "skipped: {missing:#}")?;
            Ok(None)
        }
    }
}

/// Finds a program in the search path, or where programs for root usually are.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("no {name} on this machine (Debian: {APT})"))
}

/// The newest kernel in a directory. Debian's cloud flavour is preferred, because it boots fastest.
fn newest_kernel(boot: &Path) -> Result<PathBuf> {
    let mut kernels: Vec<PathBuf> = fs::read_dir(boot)
        .with_context(|| format!("cannot list {}", boot.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| !release_of(path).is_empty())
        .collect();
    kernels.sort_by_key(|path| {
        let release = release_of(path);
        (release.ends_with("-cloud-amd64"), numbers_in(&release))
    });
    match kernels.pop() {
        Some(kernel) => Ok(kernel),
        None => bail!("no vmlinuz-* in {} (Debian: {APT})", boot.display()),
    }
}

/// The release in the name of a kernel image: `6.1.0-1-amd64` for `/boot/vmlinuz-6.1.0-1-amd64`; empty if it has none.
fn release_of(kernel: &Path) -> String {
    kernel
        .file_name()
        .and_then(OsStr::to_str)
        .and_then(|name| name.strip_prefix("vmlinuz-"))
        .unwrap_or_default()
        .to_owned()
}

/// The numbers in a version, for a natural order: 6.9 before 6.10.
fn numbers_in(version: &str) -> Vec<u32> {
    version.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}
