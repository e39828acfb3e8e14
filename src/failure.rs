//! What gmfs adds to errors: a stable code for programs, and what to do next.

use std::error::Error;
use std::io::{self, ErrorKind};

use gmfs::in_use::Mapped;
use gmfs::new_file::Refused;
use gmfs::put::Unfit;
use gmfs_dump::flat::FlatError;
use gmfs_dump::kdump::KdumpError;
use gmfs_dump::lime::LimeError;
pub(crate) use gmfs_format::name::printable;
use gmfs_format::native::geometry::GeometryError;
use gmfs_host::kexec::{self, KexecError, UnknownRelease};
use gmfs_host::running::RunningError;
use gmfs_image::file::FileError;
use gmfs_image::mapped::MapError;
use gmfs_image::metadump::MetaDumpError;
use gmfs_image::probe::{self, DumpError};
use gmfs_image::undo::UndoError;
use gmfs_io::WriteError;
use gmfs_kernel::image::ImageError;
use gmfs_volume::content::ContentError;
use gmfs_volume::restore::RestoreError;
use gmfs_volume::{ChangeError, OpenError};

/// What to do about a release that is newer than this gmfs.
const OTHER_KERNEL: &str = "give its kernel image instead of its release, or use a newer gmfs";
/// What to do about memory that is in use.
const MAPPED: &str = "end that process first; --in-use-ok goes on, and its memory changes under it";

/// An error that the command line layer itself detects.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    code: &'static str,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// `code` is for programs: stable, lower case, no spaces.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The code of the error, for programs.
    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    /// What to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Writing to standard output failed. It is no error if the reader has closed the pipe; see
/// [`is_broken_pipe`](Self::is_broken_pipe).
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(crate) struct OutputError(#[from] io::Error);

impl OutputError {
    /// Whether the reader has closed the pipe.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

impl From<Mapped> for Failure {
    fn from(mapped: Mapped) -> Self {
        Self::new("mapped", mapped.to_string()).hint(MAPPED)
    }
}

/// Code and next step of an error.
pub(crate) type Told = (&'static str, Option<String>);

/// Code and next step of an error: those of the first of its causes for which they are known.
pub(crate) fn told(error: &anyhow::Error) -> Option<Told> {
    error.chain().find_map(known)
}

/// Code and next step of one error in a chain of causes.
fn known(cause: &(dyn Error + 'static)) -> Option<Told> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some((failure.code, failure.hint.clone()));
    }
    // An I/O error may wrap an error that says what the medium could not do.
    let within = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    if let Some(error) = within.and_then(|error| error.downcast_ref()) {
        return Some(undo(error));
    }
    cause
        .downcast_ref()
        .map(image)
        .or_else(|| cause.downcast_ref().map(file))
        .or_else(|| cause.downcast_ref().map(region))
        .or_else(|| cause.downcast_ref().map(change))
        .or_else(|| cause.downcast_ref().map(content))
        .or_else(|| cause.downcast_ref::<Mapped>().map(|_| with("mapped", MAPPED)))
        .or_else(|| cause.downcast_ref::<gmfs::Error>().map(|_| ("store", None)))
        .or_else(|| cause.downcast_ref().map(geometry))
        .or_else(|| cause.downcast_ref().map(kexec_file))
        .or_else(|| cause.downcast_ref().and_then(kexec))
        .or_else(|| cause.downcast_ref().and_then(running))
        .or_else(|| cause.downcast_ref::<UnknownRelease>().map(|_| with("unknown-release", OTHER_KERNEL)))
        .or_else(|| cause.downcast_ref().map(metadump))
        .or_else(|| cause.downcast_ref().map(undo))
        .or_else(|| cause.downcast_ref().map(restore))
        .or_else(|| cause.downcast_ref().and_then(refused))
        .or_else(|| cause.downcast_ref().and_then(unfit))
        .or_else(|| cause.downcast_ref().map(write))
        .or_else(|| cause.downcast_ref::<OutputError>().map(|_| ("output", None)))
        .or_else(|| cause.downcast_ref().and_then(system))
}

/// Code and next step of an error of the system, if its kind says enough.
fn system(error: &io::Error) -> Option<Told> {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(with("no-space", "make room, or write elsewhere")),
        ErrorKind::FileTooLarge => {
            Some(with("too-large", "write to a filesystem, and with a limit, that allows such a file"))
        }
        _ => None,
    }
}

fn with(code: &'static str, hint: &str) -> Told {
    (code, Some(hint.to_owned()))
}

fn image(error: &probe::OpenError) -> Told {
    match error {
        probe::OpenError::File(error) => file(error),
        probe::OpenError::Map(error) => match error {
            MapError::File(error) => file(error),
            MapError::Held(_) => with(
                "memory-in-use",
                "reserve the range when the kernel boots (memmap=SIZE$BASE), or correct the base of --region",
            ),
            MapError::Window { .. } | MapError::Outside { .. } => with("outside", "correct --region SIZE:BASE"),
            _ => ("device", None),
        },
        probe::OpenError::WindowNeeded { .. } => with("no-window", "give --region SIZE:BASE"),
        probe::OpenError::Format { .. } => ("dump-format", None),
        probe::OpenError::Elf { .. } => with(
            "elf",
            "a dump is an ELF core of a whole machine: /proc/vmcore, or what dump-guest-memory and `virsh dump --memory-only` write",
        ),
        probe::OpenError::Dump { source, .. } => dump(source),
        probe::OpenError::Parts { source, .. } => parts(source),
        probe::OpenError::NotRaw { .. } => with("not-raw", "leave --base out: it tells its own addresses"),
        probe::OpenError::DumpForWriting { .. } => {
            with("read-only", "`gmfs save IMAGE -o FILE` copies the region into a file, which can be changed")
        }
        probe::OpenError::IoMemRead { .. } | probe::OpenError::IoMem(_) => with("memory-map", "run as root"),
        probe::OpenError::Read { .. } => ("read", None),
        _ => ("image", None),
    }
}

fn dump(error: &DumpError) -> Told {
    match error {
        DumpError::Kdump(error @ KdumpError::MissingParts { .. }) => parts(error),
        DumpError::Kdump(KdumpError::Version { .. })
        | DumpError::Flat(FlatError::Version { .. })
        | DumpError::Lime(LimeError::Version { .. }) => with("dump-version", "use a newer gmfs"),
        DumpError::Inside { cut: true } | DumpError::Kdump(KdumpError::Short { .. }) => {
            with("dump-cut", "copy the dump again, whole")
        }
        _ => ("dump", None),
    }
}

fn parts(error: &KdumpError) -> Told {
    match error {
        KdumpError::MissingParts { .. } => with("missing-part", "give each other part of the dump with --part FILE"),
        KdumpError::NotSplit { .. } => with("not-split", "--part is for dumps of `makedumpfile --split` only"),
        KdumpError::Stranger { .. } => with("other-dump", "give the parts of one dump, and no others"),
        KdumpError::Overlap { .. } => with("same-part", "give each part once"),
        KdumpError::Part { source, .. } => parts(source),
        _ => ("parts", None),
    }
}

fn file(error: &FileError) -> Told {
    match error {
        FileError::NotFound { .. } => ("not-found", None),
        FileError::Denied { .. } => ("permission", None),
        FileError::ReadOnly { .. } => ("read-only", None),
        FileError::InUse { .. } => ("in-use", None),
        FileError::Locked { .. } => with(
            "locked",
            "wait until that process is done, or longer with --wait SECONDS; what only reads takes --no-lock",
        ),
        FileError::NotWaited { .. } => ("interrupted", None),
        FileError::WrongKind { path, .. } if gmfs::debugfs::is_debugfs(path) => with(
            "wrong-kind",
            "`gmfs inspect` shows what debugfs says of a hand-over; sessions and files are in memory only: in /proc/kcore",
        ),
        FileError::WrongKind { .. } => {
            with("wrong-kind", "IMAGE is a region file, a block device, /dev/mem, a devdax device or a crash dump")
        }
        FileError::Exists { .. } => ("exists", None),
        FileError::NoSpace { .. } => ("no-space", None),
        FileError::TooLarge { .. } => ("too-large", None),
        _ => ("io", None),
    }
}

fn region(error: &OpenError) -> Told {
    match error {
        OpenError::NoRegion { .. } => with(
            "no-region",
            "`gmfs scan IMAGE` looks for regions anywhere in it; --region SIZE:BASE says where one lies; `gmfs mkfs IMAGE` makes one",
        ),
        OpenError::Incompatible(_) => with("features", "`gmfs inspect IMAGE superblock` shows what can be told"),
        OpenError::ReadOnlyFeatures(_) => ("features", None),
        OpenError::Short { .. } => with("short", "work on a whole copy of the region"),
        OpenError::Damaged { .. } | OpenError::Doubt => with("damaged", "`gmfs fsck IMAGE` tells what is wrong"),
        OpenError::Contended { .. } => {
            with("several-regions", "`gmfs fsck -y --uuid UUID.BIRTH IMAGE` repairs the one that you name")
        }
        OpenError::Read(_) => ("read", None),
        OpenError::Write(error) => write(error),
        _ => ("region", None),
    }
}

fn change(error: &ChangeError) -> Told {
    match error {
        ChangeError::NotFound(_) => with("not-found", "`gmfs tree IMAGE` shows what is there"),
        ChangeError::Exists(_) => ("exists", None),
        ChangeError::NotDirectory(_) => ("not-directory", None),
        ChangeError::IsDirectory(_) => ("is-directory", None),
        ChangeError::NotEmpty(_) => with("not-empty", "`gmfs rm -r` removes a directory with all that is in it"),
        ChangeError::Root => ("root", None),
        ChangeError::IntoItself(_) => ("into-itself", None),
        ChangeError::SameFile(..) => ("same-file", None),
        ChangeError::HardwareError { .. } => {
            with("bad-block", "`gmfs extract --sparse-absent IMAGE PATH` copies out what is left of it")
        }
        ChangeError::Immutable(_) => ("immutable", None),
        ChangeError::Name { .. } => ("name", None),
        ChangeError::NoSpace { .. } | ChangeError::NoAlignedSpace { .. } => {
            with("no-space", "`gmfs inspect IMAGE` shows what is free, `gmfs rm` frees")
        }
        ChangeError::InUse { .. } | ChangeError::SpaceInUse { .. } => with("mapped", MAPPED),
        ChangeError::NoInodes(_) => {
            with("no-inodes", "remove files; how many inodes a region has is decided by `gmfs mkfs -N`")
        }
        ChangeError::TooLarge(_) => ("too-large", None),
        ChangeError::Mapping(_) | ChangeError::Damaged { .. } => {
            with("damaged", "`gmfs fsck IMAGE` tells what is wrong")
        }
        ChangeError::NotData(_) => ("not-data", None),
        ChangeError::Unfinished => ("unfinished", None),
        ChangeError::Stopped => ("interrupted", None),
        ChangeError::Content(_) => ("content", None),
        ChangeError::Read(_) => ("read", None),
        ChangeError::Write(error) => write(error),
        _ => ("change", None),
    }
}

fn geometry(error: &GeometryError) -> Told {
    match error {
        GeometryError::TooSmall { .. } => with("too-small", "give it more room, fewer inodes or smaller blocks"),
        GeometryError::TooLarge { .. } => with("too-large", "larger blocks make larger regions possible: --pmd-size"),
        GeometryError::Inodes(_) => ("inodes", None),
    }
}

/// Of errors that only wrap others, the causes tell more.
fn kexec(error: &KexecError) -> Option<Told> {
    match error {
        KexecError::Release(_) => Some(with("unknown-release", OTHER_KERNEL)),
        KexecError::Running(error) => running(error),
        KexecError::NoSuchRegion(_) => {
            Some(with("no-such-region", "--from-cmdline TEXT says with which reserve_mem= regions FROM was started"))
        }
        _ => None,
    }
}

fn running(error: &RunningError) -> Option<Told> {
    matches!(error, RunningError::Release(_)).then_some(("release", None))
}

fn kexec_file(error: &kexec::FileError) -> Told {
    match error {
        kexec::FileError::NotFound => {
            with("not-found", "FROM and TO are kernel images, releases such as 6.19.11, or the word running")
        }
        kexec::FileError::Denied => with("permission", "run it as root"),
        kexec::FileError::NotFile => ("wrong-kind", None),
        kexec::FileError::Image(error) => kernel_image(error),
        _ => ("io", None),
    }
}

/// An image of a kernel that cannot be read.
fn kernel_image(error: &ImageError) -> Told {
    match error {
        ImageError::NotKernel { efi: true } => with(
            "not-kernel",
            "if it is a unified kernel image, take the kernel out of it: `objcopy -O binary --only-section=.linux`",
        ),
        ImageError::NotKernel { .. } => with("not-kernel", "kernel images are in /boot or /usr/lib/modules"),
        ImageError::Cut => with("image-cut", "copy or build it again, whole"),
        ImageError::Damaged { .. } => with("image-damaged", "copy or build it again"),
        ImageError::NoPayload => ("image-old", None),
        ImageError::UnknownCodec => with("image-codec", "give the vmlinux that it was made from"),
        ImageError::TooLarge { .. } => ("image-large", None),
        _ => ("read", None),
    }
}

fn metadump(error: &MetaDumpError) -> Told {
    match error {
        MetaDumpError::Signature => {
            with("wrong-kind", "`gmfs dump IMAGE -o FILE` makes one, and `gmfs restore IMAGE FILE` puts it back")
        }
        MetaDumpError::Version(_) => with("version", "use the gmfs that made it"),
        MetaDumpError::Read(_) => ("read", None),
        _ => with("dump-damaged", "use another copy of the dump, or make it again"),
    }
}

fn undo(error: &UndoError) -> Told {
    match error {
        UndoError::File { source, .. } => match source.kind() {
            ErrorKind::AlreadyExists => with("exists", "name a new file: each undo file belongs to one command"),
            kind if is_full(kind) => with("no-space", "--undo FILE with FILE where there is room"),
            _ => ("undo-file", None),
        },
        UndoError::NotUndo(_) => {
            with("wrong-kind", "`gmfs undo IMAGE FILE` takes back what a command with --undo FILE recorded")
        }
        UndoError::Damaged { .. } => with("undo-damaged", "use another copy of the undo file"),
        UndoError::Unfinished(_) => with(
            "undo-unfinished",
            "`gmfs undo -f` undoes what it holds, on a copy of the image first: if the file was cut, that is a part only",
        ),
        UndoError::Changed { .. } => with(
            "changed",
            "`gmfs undo -f` undoes it nevertheless, and with it what has changed since: only on the right image",
        ),
        UndoError::Length { .. } | UndoError::Unrelated => with("wrong-image", "name the image that the file is of"),
        UndoError::Write(error) => write(error),
        _ => ("read", None),
    }
}

fn restore(error: &RestoreError) -> Told {
    match error {
        RestoreError::Missing { .. } => with("absent", "dump a copy of the region that holds them"),
        RestoreError::Write(error) => write(error),
        _ => ("restore", None),
    }
}

fn unfit(error: &Unfit) -> Option<Told> {
    match error {
        Unfit::Itself => Some(with("same-file", "copy the region first: gmfs save IMAGE -o FILE")),
        Unfit::Link | Unfit::Special => Some(with("wrong-kind", "put what it leads to by its own name")),
        _ => None,
    }
}

/// Code and next step for an output file that was not made.
fn refused(error: &Refused) -> Option<Told> {
    Some(match error {
        Refused::Slash => with("not-directory", "name a file"),
        Refused::Exists => with("exists", "-f replaces it"),
        Refused::Input => ("same-file", None),
        Refused::WrongKind => ("wrong-kind", None),
        Refused::Partials(_) => with("exists", "wait until they are whole, or remove those that nobody is making"),
        Refused::System(error) => return system(error),
        _ => return None,
    })
}

/// Code and next step for a failed write.
fn write(error: &WriteError) -> Told {
    if let Some(error) = error.source.get_ref().and_then(|error| error.downcast_ref()) {
        return undo(error);
    }
    match error.source.kind() {
        kind if is_full(kind) => with("no-space", "make room where IMAGE is, then run it again"),
        _ => ("write", None),
    }
}

fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

fn content(_: &ContentError) -> Told {
    with("damaged", "`gmfs fsck IMAGE` tells what is wrong")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_cause_gives_code_and_hint() {
        let error = anyhow::Error::new(ChangeError::NotEmpty("/d".to_owned())).context("cannot remove /d");
        let (code, hint) = error.chain().find_map(known).unwrap();
        assert_eq!(code, "not-empty");
        assert!(hint.unwrap().contains("rm -r"));
    }
}
