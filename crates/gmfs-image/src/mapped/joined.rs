//! Parts of a file or device, mapped one after the other into one range of addresses: memory for a VMM.
//!
//! A range of addresses is reserved for all of it. Then each part is mapped over its place there (`MAP_FIXED`), which
//! replaces nothing but the reservation. All of it is unmapped at once.
//!
//! What is in the memory is never accessed here. A bus error, or a guest that writes, is the matter of the VMM, to which
//! only the address is given.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::ptr::{self, NonNull};

use gmfs_io::Span;

use super::chunks::refused;
use super::{MapError, fault};
use crate::file::{Access, Node, node_of, open_device, open_to_map};
use crate::iomem::IoMem;
use crate::sysfs;

/// The largest page of x86-64 and arm64 that the kernel maps: memory is placed so that it can be mapped by such pages.
const LARGEST_PAGE: usize = 1 << 30;

/// Parts of a file or device in one range of addresses, until this value is dropped. They are mapped shared, for reading
/// and writing.
///
/// The memory can be written by others at any time, and a page of it may raise SIGBUS. Therefore no reference to it is
/// given out, only its [address](Self::as_ptr).
#[derive(Debug)]
pub struct Joined {
    reserved: Reserved,
    /// Where the first part starts in what is reserved.
    skip: usize,
    len: usize,
}

impl Joined {
    /// Maps parts of `/dev/mem` or of another node of it. `resources` is what `/proc/iomem` says.
    ///
    /// # Errors
    /// [`MapError::Held`] if a part is used by the kernel or by a device; [`MapError::File`], [`MapError::Unaligned`],
    /// [`MapError::Window`], [`MapError::Refused`].
    pub fn dev_mem(path: &Path, parts: &[Span], resources: &IoMem) -> Result<Self, MapError> {
        parts.iter().try_for_each(|part| resources.writable(*part))?;
        let file = open_device(path, Access::Write)?;
        Self::map(&file, path, parts, fault::page_size())
    }

    /// Maps parts of the devdax device at `path`.
    ///
    /// # Errors
    /// [`MapError::NotDevDax`], [`MapError::Outside`], and those of [`dev_mem`](Self::dev_mem) except `Held`.
    pub fn dev_dax(path: &Path, parts: &[Span]) -> Result<Self, MapError> {
        let no_devdax = || MapError::NotDevDax { path: path.to_owned() };
        let Node::Char { major, minor } = node_of(path)? else { return Err(no_devdax()) };
        let device = sysfs::dev_dax(Path::new("/sys"), major, minor)?.ok_or_else(no_devdax)?;
        within(path, parts, device.size)?;
        let file = open_device(path, Access::Write)?;
        Self::map(&file, path, parts, device.align.max(fault::page_size()))
    }

    /// Maps parts of the regular file or block device at `path`.
    ///
    /// # Errors
    /// [`MapError::Outside`], and those of [`dev_mem`](Self::dev_mem) except `Held`.
    pub fn file(path: &Path, parts: &[Span]) -> Result<Self, MapError> {
        let (file, size) = open_to_map(path)?;
        within(path, parts, size)?;
        Self::map(&file, path, parts, fault::page_size())
    }

    /// The address of the first byte. It is valid for as long as this value exists.
    #[must_use]
    pub const fn as_ptr(&self) -> *mut u8 {
        self.reserved.start.as_ptr().wrapping_add(self.skip)
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none, which is never so.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn map(file: &File, path: &Path, parts: &[Span], granule: u64) -> Result<Self, MapError> {
        let nothing = || MapError::Window { path: path.to_owned(), window: Span::new(0, 0) };
        let first = parts.first().ok_or_else(nothing)?;
        let mut total = 0_u64;
        for part in parts {
            if part.len == 0 || part.offset.checked_add(part.len).is_none() {
                return Err(MapError::Window { path: path.to_owned(), window: *part });
            }
            if !(part.offset.is_multiple_of(granule) && part.len.is_multiple_of(granule)) {
                return Err(MapError::Unaligned { path: path.to_owned(), part: *part, granule });
            }
            total = total.saturating_add(part.len);
        }
        let all = Span::new(first.offset, total);
        let cannot = |part| move |source| MapError::Refused { path: path.to_owned(), part, source };
        let (mut reserved, skip, len) = room(first.offset, total).map_err(cannot(all))?;
        let mut at = skip;
        for part in parts {
            // It fits, because all of them do.
            let len = usize::try_from(part.len).unwrap_or(usize::MAX);
            reserved.replace(at, len, file, part.offset).map_err(explained).map_err(cannot(*part))?;
            at = at.saturating_add(len);
        }
        Ok(Self { reserved, skip, len })
    }
}

/// Refuses parts that are not within a file or device of `size` bytes. A map past the end of a file could be made, but not
/// be accessed.
fn within(path: &Path, parts: &[Span], size: u64) -> Result<(), MapError> {
    match parts.iter().find(|part| part.offset.checked_add(part.len).is_none_or(|end| end > size)) {
        Some(part) => Err(MapError::Outside { path: path.to_owned(), window: *part, size }),
        None => Ok(()),
    }
}

/// Reserves `total` bytes of addresses for parts of which the first is at `offset` of its file, and says where in them the
/// memory starts, and how long it is. A page that is large can be mapped only if its address and its offset in the file
/// have the same remainder.
fn room(offset: u64, total: u64) -> io::Result<(Reserved, usize, usize)> {
    let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
    let len = usize::try_from(total).map_err(|_| too_large())?;
    let align = 1_usize.checked_shl(len.checked_ilog2().unwrap_or(0)).unwrap_or(LARGEST_PAGE).min(LARGEST_PAGE);
    let reserved = Reserved::new(len.checked_add(align).ok_or_else(too_large)?).map_err(explained)?;
    let wanted = usize::try_from(offset & u64::try_from(align).unwrap_or(1).wrapping_sub(1)).unwrap_or(0);
    // Less than `align`, which is a power of two.
    let skip = wanted.wrapping_sub(reserved.start.addr().get()) & align.wrapping_sub(1);
    Ok((reserved, skip, len))
}

/// Adds an explanation to the errors of mmap(2) that need one.
fn explained(source: io::Error) -> io::Error {
    match source.kind() {
        io::ErrorKind::OutOfMemory => io::Error::new(
            io::ErrorKind::OutOfMemory,
            format!(
                "the process has no room for it: RLIMIT_AS, vm.max_map_count, or the size of its addresses: {source}"
            ),
        ),
        _ => refused(source),
    }
}

/// A range of addresses that belongs to this value.
#[derive(Debug)]
struct Reserved {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the value is a range of addresses, which are the same in each thread. It accesses nothing there, and what it gives
// out is a raw pointer, the use of which is unsafe.
#[expect(unsafe_code, reason = "a pointer is not Send by itself")]
unsafe impl Send for Reserved {}

// SAFETY: as for `Send`; a shared reference gives out the address and the length only.
#[expect(unsafe_code, reason = "a pointer is not Sync by itself")]
unsafe impl Sync for Reserved {}

impl Reserved {
    #[expect(unsafe_code, reason = "neither rustix nor memmap2 has a safe call for this")]
    fn new(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: without MAP_FIXED, the kernel chooses addresses at which nothing is.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
        Ok(Self { start, len })
    }

    /// Maps a part of a file over `len` bytes at `at`. Nobody has been given an address here yet: the caller has the only
    /// reference.
    #[expect(unsafe_code, reason = "neither rustix nor memmap2 has a safe call for this")]
    fn replace(&mut self, at: usize, len: usize, file: &File, offset: u64) -> io::Result<()> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let place = self.start.as_ptr().wrapping_add(at).cast();
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: [place, place + len) is within the addresses that this value reserved and has not unmapped, so the map
        // replaces nothing of anybody else. No reference into it exists: none is ever made.
        let done = unsafe { libc::mmap(place, len, protection, flags, file.as_raw_fd(), offset) };
        if done == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Reserved {
    #[expect(unsafe_code, reason = "neither rustix nor memmap2 has a safe call for this")]
    fn drop(&mut self) {
        // SAFETY: these addresses are this value's own, and it is going: whoever was given a pointer to them was told that
        // it is valid only as long as the value exists.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "memory of a guest is accessed by its address")]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    /// A file of `pages` pages. Each is filled with its number plus 1.
    fn memory(pages: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..pages * PAGE).map(|at| u8::try_from(at / PAGE % 255 + 1).unwrap()).collect();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    fn byte(memory: &Joined, at: u64) -> u8 {
        assert!(at < memory.len() as u64);
        // SAFETY: the byte is in the map, which `memory` holds.
        unsafe { ptr::read_volatile(memory.as_ptr().wrapping_add(at as usize)) }
    }

    #[test]
    fn parts_in_any_order_are_one_piece_of_memory() {
        let file = memory(64);
        let parts = [(40, 3), (0, 1), (63, 1), (20, 10), (1, 19)].map(|(at, n)| Span::new(at * PAGE, n * PAGE));
        let joined = Joined::file(file.path(), &parts).unwrap();
        assert_eq!(joined.len() as u64, 34 * PAGE);
        let order: Vec<u64> = parts.iter().flat_map(|part| (part.offset / PAGE)..(part.end() / PAGE)).collect();
        for (page, origin) in order.iter().enumerate() {
            let at = page as u64 * PAGE;
            assert_eq!([byte(&joined, at), byte(&joined, at + 4095)], [u8::try_from(origin + 1).unwrap(); 2]);
        }
        // A word over the edge of two parts.
        // SAFETY: the bytes are in the map, which `joined` holds.
        unsafe { ptr::write_unaligned(joined.as_ptr().wrapping_add(3 * 4096 - 1).cast(), [0xaa_u8, 0xbb]) };
        drop(joined);
        let bytes = std::fs::read(file.path()).unwrap();
        assert_eq!((bytes[43 * 4096 - 1], bytes[0], bytes[1]), (0xaa, 0xbb, 1));
    }

    #[test]
    fn memory_is_placed_so_that_large_pages_can_map_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(5 << 30).unwrap();
        for (offset, len, page) in
            [(6_u64 << 20, 4_u64 << 20, 2_u64 << 20), (1 << 30, 3 << 30, 1 << 30), (6 << 20, 2 << 30, 1 << 30)]
        {
            let joined = Joined::file(file.path(), &[Span::new(offset, len)]).unwrap();
            assert_eq!(joined.as_ptr().addr() as u64 % page, offset % page, "{offset:#x}");
        }
    }

    #[test]
    fn nothing_stays_mapped() {
        let file = memory(4);
        let maps = || std::fs::read_to_string("/proc/self/maps").unwrap();
        let name = file.path().to_str().unwrap().to_owned();
        let joined = Joined::file(file.path(), &[Span::new(2 * PAGE, PAGE), Span::new(0, PAGE)]).unwrap();
        assert_eq!(maps().lines().filter(|line| line.contains(&name)).count(), 2);
        drop(joined);
        assert!(!maps().contains(&name));
        // The first part is mapped already when the second one fails.
        let parts = [Span::new(0, PAGE), Span::new(1 << 63, PAGE)];
        Joined::map(file.as_file(), file.path(), &parts, PAGE).unwrap_err();
        assert!(!maps().contains(&name));
    }

    #[test]
    fn what_cannot_be_mapped_is_refused() {
        let file = memory(4);
        let refused = |parts: &[(u64, u64)]| {
            let parts: Vec<Span> = parts.iter().map(|(at, len)| Span::new(*at, *len)).collect();
            Joined::file(file.path(), &parts).unwrap_err()
        };
        assert!(matches!(refused(&[]), MapError::Window { .. }));
        assert!(matches!(refused(&[(0, 0)]), MapError::Window { .. }));
        assert!(matches!(refused(&[(0, PAGE), (2 * PAGE, 4 * PAGE)]), MapError::Outside { .. }));
        assert!(matches!(refused(&[(u64::MAX - 4095, 8192)]), MapError::Outside { .. }));
        assert!(matches!(refused(&[(0, PAGE), (100, PAGE)]), MapError::Unaligned { .. }));
        assert!(matches!(refused(&[(0, 100)]), MapError::Unaligned { .. }));
        let map = IoMem::parse("00000000-0fffffff : System RAM\n10000000-13ffffff : Reserved\n").unwrap();
        let parts = [Span::new(0x1000_0000, PAGE), Span::new(0x1000, PAGE)];
        let error = Joined::dev_mem(Path::new("/dev/mem"), &parts, &map).unwrap_err();
        assert!(matches!(error, MapError::Held(_)), "{error}");
        let error = Joined::dev_dax(Path::new("/dev/null"), &parts).unwrap_err();
        assert!(matches!(error, MapError::NotDevDax { .. }), "{error}");
        let huge = room(0, u64::MAX / 2).unwrap_err();
        assert_eq!(huge.kind(), io::ErrorKind::OutOfMemory, "{huge}");
    }

    #[test]
    fn it_can_be_handed_to_another_thread() {
        fn take<T: Send + Sync>(_: &T) {}
        take(&Joined::file(memory(1).path(), &[Span::new(0, PAGE)]).unwrap());
    }
}
