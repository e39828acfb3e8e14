//! What a running kernel shows of its hand-over in debugfs: a folder as `/sys/kernel/debug/kho`, or a copy of it.
//!
//! In `in` is what the kernel before left, in `out` what this one prepares. The files have the roots and the data of users,
//! and not the records: those are in memory only. The file `out/fdt` is cut off at the length that it had when it was made,
//! and is absent in a kernel that a hand-over started.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use gmfs_format::kho::{self, Metadata, ReserveMem, Tree, User};
use gmfs_format::luo::{Root, RootError};
use gmfs_io::Span;
use gmfs_io::num::len64;

/// Longer files are not read: what a user leaves is a page, or a small device tree.
const MAX_BYTES: u64 = 1 << 20;
/// More users than this there are not.
const MAX_USERS: usize = 256;
/// More scratch areas than this there are not: one for each node, and two.
const MAX_AREAS: usize = 1026;

/// What a folder of debugfs says.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Debugfs {
    /// What the kernel before left; `None` if this kernel was not started by a hand-over.
    pub taken: Option<Side>,
    /// What this kernel prepares for the next one.
    pub prepared: Option<Side>,
    /// The address of the root that was handed over, by the boot protocol.
    pub root: Option<u64>,
}

/// One direction.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Side {
    /// Its device tree, or why it cannot be used; `None` if there is no file.
    pub tree: Option<Result<Tree, String>>,
    /// Its users, by name.
    pub users: Vec<Shown>,
    /// Scratch areas, which only the direction to the next kernel has.
    pub scratch: Vec<Span>,
    /// Until 7.0: whether it was finalised.
    pub finalised: Option<bool>,
}

/// What a user left, as far as it is known what it means.
#[derive(Debug)]
#[non_exhaustive]
pub struct Shown {
    /// The user.
    pub name: String,
    /// Bytes that it left.
    pub size: u64,
    /// What they are.
    pub what: Data,
}

/// What the bytes of a user are.
#[derive(Debug)]
pub enum Data {
    /// Which kernel it is.
    Metadata(Metadata),
    /// Memory that `reserve_mem=` set aside.
    ReserveMem(Vec<ReserveMem>),
    /// The root of LUO.
    Luo(Root),
    /// They cannot be used, for this reason: in a kernel that took a hand-over of 7.2 or later, LUO's page has another owner.
    Bad(String),
    /// A user that is not known.
    Unknown,
}

/// Whether a path is such a folder.
#[must_use]
pub fn is_debugfs(path: &Path) -> bool {
    path.join("in/sub_fdts").is_dir() || path.join("out/sub_fdts").is_dir()
}

impl Debugfs {
    /// Reads the files of a folder. What cannot be read is absent.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        let side = |name: &str| Some(folder.join(name)).filter(|path| path.is_dir()).map(|path| Side::read(&path));
        // A copy has the records of the boot protocol beside it; the kernel's own are elsewhere.
        let records = [folder.join("boot_params/setup_data"), PathBuf::from("/sys/kernel/boot_params/setup_data")];
        let own = folder.starts_with("/sys");
        let record = records.iter().take(if own { 2 } else { 1 }).find_map(|records| root(records));
        Self { taken: side("in"), prepared: side("out"), root: record }
    }
}

impl Side {
    fn read(folder: &Path) -> Self {
        let tree = bytes(&folder.join("fdt")).map(|found| {
            let says = gmfs_format::fdt::claimed_size(&found, 0).unwrap_or_default();
            Tree::read(&found, 0).map_err(|error| {
                if says > len64(found.len()) {
                    format!("only {} of its {says} bytes are shown", found.len())
                } else {
                    error.to_string()
                }
            })
        });
        let mut users: Vec<Shown> = names(&folder.join("sub_fdts"))
            .filter_map(|path| {
                let name = path.file_name()?.to_string_lossy().into_owned();
                let found = bytes(&path)?;
                Some(Shown { what: Data::of(&name, &found), size: len64(found.len()), name })
            })
            .collect();
        users.sort_by(|one, other| one.name.cmp(&other.name));
        let numbers = |name: &str| -> Vec<u64> {
            let text = bytes(&folder.join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let number = |line: &str| u64::from_str_radix(line.trim().trim_start_matches("0x"), 16).ok();
            text.lines().filter_map(number).take(MAX_AREAS).collect()
        };
        // From 7.4 on the areas are called bootmem.
        let either = |one: &str, other: &str| {
            Some(numbers(one)).filter(|found| !found.is_empty()).unwrap_or_else(|| numbers(other))
        };
        let (starts, sizes) = (either("scratch_phys", "bootmem_phys"), either("scratch_len", "bootmem_len"));
        let scratch = starts.into_iter().zip(sizes).map(|(start, len)| Span::new(start, len)).collect();
        let finalised = bytes(&folder.join("finalize")).map(|text| text.first() == Some(&b'1'));
        Self { tree, users, scratch, finalised }
    }
}

impl Data {
    fn of(name: &str, found: &[u8]) -> Self {
        let user = User { name: name.as_bytes().into(), data: Some(0), size: Some(len64(found.len())), children: 0 };
        match name {
            "kexec-metadata" => {
                kho::metadata(&found, &user).map_or_else(|error| Self::Bad(error.to_string()), Self::Metadata)
            }
            "memblock" => {
                let regions = kho::reserve_mem(&found, &user).map(|found| found.regions);
                regions.map_or_else(|error| Self::Bad(error.to_string()), Self::ReserveMem)
            }
            "LUO" => match Root::read(&found, &user) {
                Ok(root) => Self::Luo(root),
                Err(RootError::Other { .. }) => {
                    Self::Bad("the bytes are no root of LUO: its page has another owner now".to_owned())
                }
                Err(error) => Self::Bad(error.to_string()),
            },
            _ => Self::Unknown,
        }
    }
}

/// The root in a record of the boot protocol: of type 10, with an address, a page's size, and the scratch areas.
fn root(records: &Path) -> Option<u64> {
    names(records).find_map(|record| {
        let kind = bytes(&record.join("type"))?;
        let data = bytes(&record.join("data"))?;
        let number = |at: usize| Some(u64::from_le_bytes(*data.get(at..)?.first_chunk()?));
        let fits = kind.trim_ascii() == b"0xa" && data.len() == 32 && number(8) == Some(kho::PAGE);
        fits.then(|| number(0)).flatten()
    })
}

/// The entries of a folder, or none.
fn names(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let found = std::fs::read_dir(folder).into_iter().flatten().take(MAX_USERS);
    found.filter_map(|entry| Some(entry.ok()?.path()))
}

/// The bytes of a file, if it is one and can be read.
fn bytes(path: &Path) -> Option<Vec<u8>> {
    // Looked at first: to open a pipe would wait for its writer.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let mut found = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut found).ok()?;
    Some(found)
}
