//! Maps a file of a region into the memory of a guest, as a VMM does that takes a guest over after a kexec: the bytes are
//! not copied, and what the guest writes is in the region. However many extents the file has, it is one piece of memory.
//!
//! ```text
//! cargo run -p gmfs --example vm-memory -- region.img /vms/a.mem
//! ```

use std::error::Error;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use gmfs::ImageSpec;
use gmfs::memory::{Memory, MemoryFile};
use gmfs_image::Locking;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// A guest's memory.
struct Guest {
    // Before what it consists of, so that it goes first.
    memory: GuestMemoryMmap,
    /// Unmaps and unlocks the file when it is dropped.
    file: Memory,
}

/// The file at `path` in the region at `image`, as guest memory from address 0 on.
fn map_guest(image: &Path, path: &[u8]) -> Result<Guest, Box<dyn Error>> {
    let image = ImageSpec::from(image);
    let file = MemoryFile::find(&image, path, &Locking::at_once(), &())?;
    let file = file.lock(&Locking::at_once(), &())?.map()?;
    // Readable and writable, and shared, as `Memory` says: PROT_READ | PROT_WRITE, and MAP_SHARED.
    let (size, protection, flags) = (usize::try_from(file.size())?, 0x3, 0x1);
    #[expect(unsafe_code, reason = "vm-memory cannot know that the memory is mapped")]
    // SAFETY: these bytes are mapped as long as `file` exists, which is longer than `memory`.
    let region = unsafe { MmapRegion::build_raw(file.as_ptr(), size, protection, flags) }?;
    let region = GuestRegionMmap::new(region, GuestAddress(0)).ok_or("the memory is too large")?;
    Ok(Guest { memory: GuestMemoryMmap::from_regions(vec![region])?, file })
}

fn main() -> Result<(), Box<dyn Error>> {
    // Devices are read through maps, which can fail with SIGBUS.
    gmfs_image::mapped::survive_bus_errors()?;
    let mut args = std::env::args_os().skip(1);
    let image = PathBuf::from(args.next().ok_or("usage: vm-memory IMAGE PATH")?);
    let path = args.next().ok_or("usage: vm-memory IMAGE PATH")?;
    let guest = map_guest(&image, path.as_bytes())?;
    let first: u64 = guest.memory.read_obj(GuestAddress(0))?;
    let (extents, regions) = (guest.file.file().parts().len(), guest.memory.num_regions());
    let text = format!("{extents} extents in {regions} piece of memory, the first 8 bytes are {first:#018x}\n");
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use gmfs::Store;
    use gmfs_format::native::geometry::Geometry;
    use gmfs_format::native::units::PmdShift;
    use gmfs_volume::{CreateOptions, FormatOptions, Stamp, Writer, WriterOptions};

    use super::*;

    const BLOCK: u64 = 2 << 20;

    /// A region file with `/a`, three blocks in two extents of which each byte is its place modulo 251, and `/sparse`,
    /// which is a hole.
    fn region(dir: &Path) -> PathBuf {
        let geometry = Geometry::plan(32 << 20, PmdShift::M2, 64).unwrap();
        let stamp = Stamp { now: 1, writer: "example".to_owned() };
        let (uuid, label) = (uuid::Uuid::from_u128(7), String::new());
        let options =
            FormatOptions { geometry, uuid, birth: 1, label, base: 0, owner: (0, 0), stamp, forget: Vec::new() };
        let mut bytes = vec![0; 32 << 20];
        gmfs_volume::format(&mut bytes, &options).unwrap();
        let options = WriterOptions { writer: "example".to_owned(), base: None, clock: || 1 };
        let (mut writer, _) = Writer::open(bytes, options).unwrap();
        let content: Vec<u8> = (0..3 * BLOCK).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let create = CreateOptions { size: BLOCK, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };
        let ino = writer.create(b"/a", &create).unwrap();
        writer.create(b"/behind-it", &create).unwrap();
        writer.write(ino, BLOCK, 0, &content).unwrap();
        writer.create(b"/sparse", &CreateOptions { sparse: true, ..create }).unwrap();
        std::fs::write(dir.join("region.img"), writer.close().unwrap()).unwrap();
        dir.join("region.img")
    }

    #[test]
    fn what_a_guest_writes_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let image = region(dir.path());
        let guest = map_guest(&image, b"/a").unwrap();
        assert_eq!((guest.file.file().parts().len(), guest.memory.num_regions()), (2, 1));
        assert_eq!(
            guest.memory.read_obj::<u8>(GuestAddress(2 * BLOCK)).unwrap(),
            u8::try_from(2 * BLOCK % 251).unwrap()
        );
        // Over the edge of the extents.
        guest.memory.write_obj(0x0123_4567_u32, GuestAddress(BLOCK - 2)).unwrap();
        assert!(map_guest(&image, b"/a").is_err(), "a second guest has the same memory");
        drop(guest);
        let store = Store::open(ImageSpec::from(image.as_path()).locate(None, &()).unwrap()).unwrap();
        let mut bytes = [0; 4];
        store.read(store.inodes().tree.resolve(b"/a").unwrap(), BLOCK - 2, &mut bytes).unwrap();
        assert_eq!(u32::from_ne_bytes(bytes), 0x0123_4567);
        let said = |path: &[u8]| map_guest(&image, path).err().unwrap().to_string();
        assert!(said(b"/sparse").contains("no memory"));
        assert!(said(b"/none").contains("there is no '/none'"));
    }
}
