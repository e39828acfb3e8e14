//! Kernel images made for tests: the headers that gmfs reads, and a kernel that contains only what gmfs searches for.

use std::io::Write as _;

use crate::abi::Family;
use crate::{Codec, Release, abi::Abi};

/// What an image is to say.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// The release, in the header and in what the kernel prints first.
    pub release: &'a str,
    /// The versions.
    pub strings: &'a [&'a str],
    /// init_size, or the size in memory of an Image of arm64.
    pub load_size: u32,
}

/// The versions that Linux has in a release.
///
/// # Panics
/// If gmfs does not know the release.
#[must_use]
pub fn upstream(release: &str) -> Vec<String> {
    let series = Release::parse(release).expect("it is a release").series();
    Abi::upstream(series).expect("it is in the table").iter().map(|version| version.to_string()).collect()
}

/// The bytes of a kernel that are neither header nor table.
fn body(recipe: &Recipe<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    let filler: Vec<u8> = (0..1500_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()).collect();
    body.extend_from_slice(&filler);
    body.extend_from_slice(b"%s version %s (%s)\0Linux version %s\0");
    body.extend_from_slice(format!("Linux version {} (a@b) (cc) #1\0", recipe.release).as_bytes());
    for (n, string) in recipe.strings.iter().enumerate() {
        body.extend_from_slice(&filler[n * 64..n * 64 + 160]);
        // The byte before the name of memfds belongs to something else.
        body.push(if string.starts_with(Family::Memfd.stem()) { 0xff } else { 0 });
        body.extend_from_slice(string.as_bytes());
        body.push(0);
    }
    body.extend_from_slice(&filler[..400]);
    body
}

/// A vmlinux: a 64-bit ELF file with one segment. Something for debuggers follows, which is no part of the kernel.
#[must_use]
pub fn vmlinux(recipe: &Recipe<'_>) -> Vec<u8> {
    const START: u64 = 64 + 56;
    let body = body(recipe);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend_from_slice(&2_u16.to_le_bytes());
    file.extend_from_slice(&62_u16.to_le_bytes());
    file.resize(32, 0);
    file.extend_from_slice(&64_u64.to_le_bytes());
    file.resize(54, 0);
    file.extend_from_slice(&56_u16.to_le_bytes());
    file.extend_from_slice(&1_u16.to_le_bytes());
    file.resize(64, 0);
    file.extend_from_slice(&1_u32.to_le_bytes());
    file.extend_from_slice(&5_u32.to_le_bytes());
    for word in [START, 0xffff_ffff_8100_0000, 0x100_0000, body.len() as u64, body.len() as u64, 0x20_0000] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&body);
    file
}

/// An Image of arm64.
#[must_use]
pub fn arm64(recipe: &Recipe<'_>) -> Vec<u8> {
    let mut file = b"MZ\x40\xfa".to_vec();
    file.resize(16, 0);
    file.extend_from_slice(&u64::from(recipe.load_size).to_le_bytes());
    file.resize(0x38, 0);
    file.extend_from_slice(b"ARM\x64");
    file.resize(4096, 0);
    file.extend_from_slice(&body(recipe));
    file
}

/// A bzImage whose setup code has three sectors.
#[must_use]
pub fn bz_image(recipe: &Recipe<'_>, codec: Codec) -> Vec<u8> {
    bz_image_with(recipe, &with_size(codec, &vmlinux(recipe)))
}

/// A bzImage with a payload that is compressed already.
#[must_use]
pub fn bz_image_with(recipe: &Recipe<'_>, payload: &[u8]) -> Vec<u8> {
    const SECTORS: u8 = 3;
    const OFFSET: u32 = 0x2c4;
    let mut file = vec![0; (usize::from(SECTORS) + 1) * 512 + OFFSET as usize];
    file[..2].copy_from_slice(b"MZ");
    file[0x1f1] = SECTORS;
    file[0x1fe..0x200].copy_from_slice(&0xaa55_u16.to_le_bytes());
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    file[0x20e..0x210].copy_from_slice(&0x400_u16.to_le_bytes());
    file[0x248..0x24c].copy_from_slice(&OFFSET.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).expect("it is small").to_le_bytes());
    file[0x260..0x264].copy_from_slice(&recipe.load_size.to_le_bytes());
    let text = format!("{} (a@b) #1 SMP\0", recipe.release);
    file[0x600..0x600 + text.len()].copy_from_slice(text.as_bytes());
    file.extend_from_slice(payload);
    // The rest of the unpacking program.
    file.extend_from_slice(&[0xcc; 300]);
    file
}

/// An EFI program that unpacks an Image of arm64.
#[must_use]
pub fn zboot(recipe: &Recipe<'_>, codec: Codec) -> Vec<u8> {
    const OFFSET: u32 = 4096;
    let image = arm64(recipe);
    let payload = compress(codec, &image);
    let mut file = vec![0; OFFSET as usize];
    file[..8].copy_from_slice(b"MZ\0\0zimg");
    file[8..12].copy_from_slice(&OFFSET.to_le_bytes());
    file[12..16].copy_from_slice(&u32::try_from(payload.len()).expect("it is small").to_le_bytes());
    file[24..24 + codec.name().len()].copy_from_slice(codec.name().as_bytes());
    file.extend_from_slice(&payload);
    file.extend_from_slice(&u32::try_from(image.len()).expect("it is small").to_le_bytes());
    file
}

/// Compressed bytes, followed by the uncompressed size as the kernel's build appends it: to all formats but gzip, which
/// records the size itself.
#[must_use]
pub fn with_size(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    let mut payload = compress(codec, bytes);
    if codec != Codec::Gzip {
        payload.extend_from_slice(&u32::try_from(bytes.len()).expect("it is small").to_le_bytes());
    }
    payload
}

/// Compresses bytes.
///
/// # Panics
/// If that fails.
#[must_use]
pub fn compress(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).expect("it goes to memory");
            encoder.finish().expect("it goes to memory")
        }
        Codec::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            encoder.write_all(bytes).expect("it goes to memory");
            encoder.finish().expect("it goes to memory")
        }
        Codec::Lzma => {
            let options = lzma_rust2::LzmaOptions::with_preset(6);
            let mut encoder =
                lzma_rust2::LzmaWriter::new_use_header(Vec::new(), &options, None).expect("the options are good");
            encoder.write_all(bytes).expect("it goes to memory");
            encoder.finish().expect("it goes to memory")
        }
        Codec::Xz => {
            let mut options = lzma_rust2::XzOptions::with_preset(6);
            options.set_check_sum_type(lzma_rust2::CheckType::Crc32);
            options.prepend_pre_filter(lzma_rust2::FilterType::BcjX86, 0);
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).expect("the options are good");
            encoder.write_all(bytes).expect("it goes to memory");
            encoder.finish().expect("it goes to memory")
        }
        Codec::Lzo => stored_lzop(bytes),
        Codec::Lz4 => literal_lz4(bytes),
        Codec::Zstd => ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest),
    }
}

/// A file of lzop in which no block became shorter.
fn stored_lzop(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0x89, b'L', b'Z', b'O', 0, b'\r', b'\n', 0x1a, b'\n'];
    file.extend_from_slice(&[0x10, 0x30, 0x20, 0xa0, 0x09, 0x40, 3, 9]);
    file.extend_from_slice(&1_u32.to_be_bytes());
    file.extend_from_slice(&[0; 12]);
    file.push(0);
    file.extend_from_slice(&[0; 4]);
    for block in bytes.chunks(256 << 10) {
        let length = u32::try_from(block.len()).expect("a block is small").to_be_bytes();
        file.extend_from_slice(&length);
        file.extend_from_slice(&length);
        file.extend_from_slice(&[0; 4]);
        file.extend_from_slice(block);
    }
    file.extend_from_slice(&[0; 4]);
    file
}

/// LZ4's legacy frame, of literals only: all bytes can be read in it as they are.
fn literal_lz4(bytes: &[u8]) -> Vec<u8> {
    let mut file = 0x184c_2102_u32.to_le_bytes().to_vec();
    for part in bytes.chunks(8 << 20) {
        let mut block = vec![u8::try_from(part.len().min(15)).expect("it is at most 15") << 4];
        if let Some(mut rest) = part.len().checked_sub(15) {
            while rest >= 255 {
                block.push(255);
                rest -= 255;
            }
            block.push(u8::try_from(rest).expect("it is less than 255"));
        }
        block.extend_from_slice(part);
        file.extend_from_slice(&u32::try_from(block.len()).expect("a block is small").to_le_bytes());
        file.extend_from_slice(&block);
    }
    file
}

/// The table of `reserve_mem=` regions: label, address, size.
///
/// # Panics
/// If it becomes too long.
#[must_use]
pub fn memblock(regions: &[(&str, u64, u64)]) -> Vec<u8> {
    const STRINGS: &[u8] = b"compatible\0start\0size\0";
    let mut tree = Vec::new();
    let word = |tree: &mut Vec<u8>, word: usize| {
        tree.extend_from_slice(&u32::try_from(word).expect("it is short").to_be_bytes());
    };
    let pad = |tree: &mut Vec<u8>| tree.resize(tree.len().next_multiple_of(4), 0);
    let property = |tree: &mut Vec<u8>, name: usize, value: &[u8]| {
        word(tree, 3);
        word(tree, value.len());
        word(tree, name);
        tree.extend_from_slice(value);
        pad(tree);
    };
    word(&mut tree, 1);
    word(&mut tree, 0);
    property(&mut tree, 0, b"memblock-v1\0");
    for (label, start, size) in regions {
        word(&mut tree, 1);
        tree.extend_from_slice(label.as_bytes());
        tree.push(0);
        pad(&mut tree);
        property(&mut tree, 0, b"reserve-mem-v1\0");
        property(&mut tree, 11, &start.to_ne_bytes());
        property(&mut tree, 17, &size.to_ne_bytes());
        word(&mut tree, 2);
    }
    word(&mut tree, 2);
    word(&mut tree, 9);
    let mut file = Vec::new();
    let total = 40 + 16 + tree.len() + STRINGS.len();
    for field in [0xd00d_feed_usize, total, 56, 56 + tree.len(), 40, 17, 16, 0, STRINGS.len(), tree.len()] {
        word(&mut file, field);
    }
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&tree);
    file.extend_from_slice(STRINGS);
    file
}
