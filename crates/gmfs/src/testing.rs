//! Stores for the tests of this crate.

use std::path::{Path, PathBuf};

use gmfs_format::native::geometry::Geometry;
use gmfs_format::native::units::PmdShift;
use gmfs_volume::{CreateOptions, FormatOptions, PutOptions, Stamp, Writer, WriterOptions};
use uuid::Uuid;

use crate::store::Store;
use crate::{Error, ImageSpec};

/// The bytes of the file `/vms/a`: three blocks and a bit, of which the second is zero.
pub(crate) fn content() -> Vec<u8> {
    let byte = |n: usize| if n >> 21 == 1 { 0 } else { u8::try_from(n % 251).unwrap() };
    (0..(3 << 21) + 5000).map(byte).collect()
}

/// A region file in a directory, with the files `/vms/a` and `/vms/deep/b` and the empty directory `/empty`.
pub(crate) fn region(dir: &Path) -> PathBuf {
    let geometry = Geometry::plan(32 << 20, PmdShift::M2, 64).unwrap();
    let stamp = Stamp { now: 1, writer: "test".to_owned() };
    let (uuid, label) = (Uuid::from_u128(7), String::new());
    let options = FormatOptions { geometry, uuid, birth: 1, label, base: 0, owner: (0, 0), stamp, forget: Vec::new() };
    let mut bytes = vec![0; 32 << 20];
    gmfs_volume::format(&mut bytes, &options).unwrap();
    let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || 1_000_000_000 };
    let (mut writer, _) = Writer::open(bytes, options).unwrap();
    for path in ["/vms/deep", "/empty"] {
        writer.mkdir(path.as_bytes(), true, 0o700, (0, 0)).unwrap();
    }
    let create = CreateOptions { size: 0, sparse: true, align_1g: false, mode: 0o600, owner: (0, 0) };
    let put = PutOptions { create, replace: false };
    writer.put(b"/vms/a", &mut content().as_slice(), &put).unwrap();
    writer.put(b"/vms/deep/b", &mut &b"small"[..], &put).unwrap();
    let path = dir.join("region.img");
    std::fs::write(&path, writer.close().unwrap()).unwrap();
    path
}

/// The store in an image.
pub(crate) fn open(image: &Path) -> Result<Store, Error> {
    Store::open(ImageSpec::from(image).locate(None, &())?)
}
