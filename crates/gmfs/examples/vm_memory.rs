//! Maps a file of a region into the memory of a guest, as a VMM does that takes a guest over after a kexec: the bytes are
//! not copied, and what the guest writes is in the region.
//!
//! ```text
//! cargo run -p gmfs --example vm-memory -- region.img /vms/a.mem
//! ```

use std::error::Error;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gmfs::model::Piece;
use gmfs::{ImageSpec, Store};
use vm_memory::{Bytes as _, FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};

/// The file at `path` in the region file at `image`, as guest memory from address 0 on.
fn guest_memory(image: &Path, path: &[u8]) -> Result<GuestMemoryMmap, Box<dyn Error>> {
    let store = Store::open(ImageSpec::from(image).locate(None, &())?)?;
    if store.place.address().is_some() {
        return Err("the bytes of a dump cannot be mapped: save the region first".into());
    }
    let inodes = store.inodes();
    let inode = inodes.tree.resolve(path).ok_or("there is no such file")?;
    let file = Arc::new(File::options().read(true).write(true).open(image)?);
    let mut ranges = Vec::new();
    for piece in store.content(inode)? {
        let Piece::Data { file: span, at, bad: false } = piece else {
            return Err(format!("bytes {} of the file have no memory", piece.file()).into());
        };
        let from = FileOffset::from_arc(Arc::clone(&file), store.place.base + at);
        ranges.push((GuestAddress(span.offset), usize::try_from(span.len)?, Some(from)));
    }
    Ok(GuestMemoryMmap::from_ranges_with_files(ranges)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let image = PathBuf::from(args.next().ok_or("usage: vm-memory IMAGE PATH")?);
    let path = args.next().ok_or("usage: vm-memory IMAGE PATH")?;
    let memory = guest_memory(&image, path.as_bytes())?;
    let first: u64 = memory.read_obj(GuestAddress(0))?;
    let text = format!("{} regions, the first 8 bytes are {first:#018x}\n", memory.num_regions());
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use gmfs_format::native::geometry::Geometry;
    use gmfs_format::native::units::PmdShift;
    use gmfs_volume::{CreateOptions, FormatOptions, PutOptions, Stamp, Writer, WriterOptions};

    use super::*;

    /// A region file with `/a`, two blocks of which each byte is its place modulo 251, and `/sparse`, which is a hole.
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
        let content: Vec<u8> = (0..4 << 20).map(|n: u32| u8::try_from(n % 251).unwrap()).collect();
        let create = CreateOptions { size: 4 << 20, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) };
        writer.put(b"/a", &mut content.as_slice(), &PutOptions { create, replace: false }).unwrap();
        writer.create(b"/sparse", &CreateOptions { sparse: true, ..create }).unwrap();
        std::fs::write(dir.join("region.img"), writer.close().unwrap()).unwrap();
        dir.join("region.img")
    }

    #[test]
    fn what_a_guest_writes_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let image = region(dir.path());
        let memory = guest_memory(&image, b"/a").unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(3 << 20)).unwrap(), u8::try_from((3_u32 << 20) % 251).unwrap());
        memory.write_obj(0x0123_4567_u32, GuestAddress(1 << 20)).unwrap();
        drop(memory);
        let store = Store::open(ImageSpec::from(image.as_path()).locate(None, &()).unwrap()).unwrap();
        let mut bytes = [0; 4];
        store.read(store.inodes().tree.resolve(b"/a").unwrap(), 1 << 20, &mut bytes).unwrap();
        assert_eq!(u32::from_ne_bytes(bytes), 0x0123_4567);
        assert!(guest_memory(&image, b"/sparse").unwrap_err().to_string().contains("no memory"));
        assert!(guest_memory(&image, b"/none").is_err());
    }
}
