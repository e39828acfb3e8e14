//! Lists the files of the store in an image: a region file, a device, or a memory dump.
//!
//! ```text
//! cargo run -p gmfs --example list -- vmcore
//! ```

use std::path::PathBuf;

use gmfs::{ImageSpec, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: list IMAGE")?);
    let store = Store::open(ImageSpec::from(image.as_path()).locate(None, &())?)?;
    let found = store.inodes();
    for inode in found.tree.inodes() {
        let path = found.tree.path(inode.ino).unwrap_or_default();
        let mut line = format!("{:>16} {}\n", inode.size, gmfs_format::name::escape(&path));
        for run in store.runs(|ino| ino == inode.ino).files.get(&inode.ino).into_iter().flatten() {
            line += &format!("{:>16} bytes from {:#x} at {:#x}\n", run.len, run.offset, store.place.base + run.at);
        }
        std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())?;
    }
    Ok(())
}
