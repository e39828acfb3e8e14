use gmfs_io::Span;
use proptest::prelude::*;

use super::*;
use crate::fuzzing::made::{self, Recipe};

const RECIPE: Recipe<'_> =
    Recipe { release: "7.3.4", strings: &["kho-v4", "luo-v5", "memfd-v2", "memblock-v1"], load_size: 0x3c3_3000 };

/// A kernel of 4521 bytes, compressed by the commands that the kernel's build uses: `gzip -9n`, `bzip2 -9`, `lzma -9`,
/// `xz --check=crc32 --x86 --lzma2=dict=32MiB`, `lzop -9`, `lz4 -l -9`, `zstd -22 --ultra`.
const PACKED: [(Codec, &[u8]); 7] = [
    (Codec::Gzip, include_bytes!("packed/kernel.gz")),
    (Codec::Bzip2, include_bytes!("packed/kernel.bz2")),
    (Codec::Lzma, include_bytes!("packed/kernel.lzma")),
    (Codec::Xz, include_bytes!("packed/kernel.xz")),
    (Codec::Lzo, include_bytes!("packed/kernel.lzo")),
    (Codec::Lz4, include_bytes!("packed/kernel.lz4")),
    (Codec::Zstd, include_bytes!("packed/kernel.zst")),
];

fn versions(image: &KernelImage) -> String {
    image.abi.iter().map(|version| version.to_string()).collect::<Vec<_>>().join(" ")
}

fn release(image: &KernelImage) -> &str {
    image.release.as_ref().map_or("", Release::text)
}

#[test]
fn every_image_in_every_compression() {
    for codec in Codec::ALL {
        let images = [
            (Format::BzImage, made::bz_image(&RECIPE, codec)),
            (Format::EfiZboot, made::zboot(&RECIPE, codec)),
            (Format::Elf, made::compress(codec, &made::vmlinux(&RECIPE))),
            (Format::Arm64Image, made::compress(codec, &made::arm64(&RECIPE))),
            (Format::Arm64Image, made::with_size(codec, &made::arm64(&RECIPE))),
        ];
        for (format, bytes) in images {
            let image = read(&bytes).unwrap_or_else(|error| panic!("{format:?} {codec:?}: {error:?}"));
            assert_eq!((image.format, image.codec), (format, Some(codec)));
            assert_eq!((release(&image), versions(&image).as_str()), ("7.3.4", "kho-v4 memblock-v1 luo-v5 memfd-v2"));
            let arm64 = [Format::EfiZboot, Format::Arm64Image].contains(&format);
            assert_eq!(image.architecture, Some(if arm64 { Architecture::Arm64 } else { Architecture::X86 }));
            assert_eq!(image.load_size, (format != Format::Elf).then_some(0x3c3_3000), "{format:?}");
        }
    }
    for (format, bytes) in [(Format::Elf, made::vmlinux(&RECIPE)), (Format::Arm64Image, made::arm64(&RECIPE))] {
        let image = read(&bytes).unwrap();
        assert_eq!((image.format, image.codec, release(&image)), (format, None, "7.3.4"));
    }
}

#[test]
fn what_real_tools_compress() {
    for (codec, packed) in PACKED {
        let mut payload = packed.to_vec();
        if codec != Codec::Gzip {
            payload.extend_from_slice(&4521_u32.to_le_bytes());
        }
        for (format, bytes) in
            [(Format::Elf, packed.to_vec()), (Format::BzImage, made::bz_image_with(&RECIPE, &payload))]
        {
            let image = read(&bytes).unwrap_or_else(|error| panic!("{format:?} {codec:?}: {error:?}"));
            assert_eq!((image.format, image.codec, release(&image)), (format, Some(codec), "7.3.4"));
            assert_eq!(versions(&image), "kho-v4 memblock-v1 reserve-mem-v1 luo-v5 memfd-v2", "{codec:?}");
        }
    }
}

/// The bytes of an image can contain names of versions that are not the kernel's. Only the kernel itself counts.
#[test]
fn the_compressed_bytes_are_not_searched() {
    let without = Recipe { strings: &[], ..RECIPE };
    let mut image = made::bz_image(&without, Codec::Lz4);
    image.extend_from_slice(b"\0kho-v4\0luo-v52\0memfd-v2\0Linux version 9.9.9 (");
    image[0x300..0x307].copy_from_slice(b"kho-v4\0");
    let found = read(&image).unwrap();
    assert_eq!((versions(&found).as_str(), release(&found)), ("", "7.3.4"));
}

#[test]
fn the_release_is_that_of_the_header_and_else_that_of_the_kernel() {
    let mut image = made::bz_image(&RECIPE, Codec::Gzip);
    image[0x600..0x605].copy_from_slice(b"7.3.5");
    assert_eq!(release(&read(&image).unwrap()), "7.3.5");
    image[0x20e..0x210].fill(0);
    assert_eq!(release(&read(&image).unwrap()), "7.3.4");
    // A pointer to something else.
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    assert_eq!(release(&read(&image).unwrap()), "7.3.4");
}

#[test]
fn what_is_for_debuggers_is_no_part_of_the_kernel() {
    let mut image = made::vmlinux(&RECIPE);
    let loaded = image.len() as u64;
    image.resize(3 << 20, 0);
    image.extend_from_slice(b"\0kho-v9\0");
    let found = read_within(&image, loaded.next_multiple_of(64 << 10)).unwrap();
    assert_eq!(versions(&found), "kho-v4 memblock-v1 luo-v5 memfd-v2");
    assert!(matches!(read(&image[..3000].to_vec()), Err(ImageError::Cut)));
}

#[test]
fn what_is_no_kernel_is_refused() {
    let efi = |bytes: &[u8]| match read(&bytes) {
        Err(ImageError::NotKernel { efi }) => efi,
        other => panic!("{other:?}"),
    };
    assert!(efi(b"MZ this is a program") && !efi(b"") && !efi(b"text") && !efi(&[0; 5000]));
    assert!(!efi(&made::compress(Codec::Gzip, b"an initrd, perhaps")));
    let mut unknown = made::bz_image(&RECIPE, Codec::Zstd);
    let at = unknown.windows(4).position(|four| four == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    unknown[at] = 0;
    assert!(matches!(read(&unknown), Err(ImageError::UnknownCodec)));
    let mut old = made::bz_image(&RECIPE, Codec::Gzip);
    old[0x206..0x208].copy_from_slice(&0x207_u16.to_le_bytes());
    assert!(matches!(read(&old), Err(ImageError::NoPayload)));
}

#[test]
fn what_is_cut_is_an_error_and_no_answer() {
    for codec in Codec::ALL {
        let image = made::bz_image(&RECIPE, codec);
        let (_, payload_end) = (0, image.len() - 300);
        for end in (0..payload_end).step_by(101) {
            assert!(read(&image[..end].to_vec()).is_err(), "{codec:?} {end}");
        }
        let packed = made::compress(codec, &made::vmlinux(&RECIPE));
        // What is loaded may be complete although the end of the stream (a checksum, an end mark) is missing.
        for end in (0..packed.len() - 64).step_by(37) {
            let error = read(&packed[..end].to_vec()).unwrap_err();
            assert!(matches!(error, ImageError::Cut | ImageError::NotKernel { .. }), "{codec:?} {end}: {error:?}");
        }
    }
}

#[test]
fn bombs_end_at_the_limit() {
    let mut huge = made::arm64(&RECIPE);
    huge.resize(9 << 20, 0);
    for codec in Codec::ALL {
        let bomb = made::compress(codec, &huge);
        assert!(matches!(read_within(&bomb, 1 << 20), Err(ImageError::TooLarge { .. })), "{codec:?}");
        let image = made::bz_image_with(&RECIPE, &bomb);
        assert!(matches!(read_within(&image, 1 << 20), Err(ImageError::TooLarge { .. })), "{codec:?}");
        assert_eq!(release(&read(&bomb).unwrap()), "7.3.4", "{codec:?}");
    }
}

/// A source whose medium fails from some offset on.
struct Failing(Vec<u8>, u64);

impl ReadAt for Failing {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if offset + len64(buf.len()) > self.1 {
            let span = Span::new(offset, len64(buf.len()));
            return Err(ReadError::Io { span, source: io::ErrorKind::TimedOut.into() });
        }
        self.0.read_at(offset, buf)
    }

    fn end(&self) -> Option<u64> {
        self.0.end()
    }
}

#[test]
fn a_medium_that_fails_is_no_damage_of_the_image() {
    for codec in Codec::ALL {
        let image = Failing(made::bz_image(&RECIPE, codec), 5000);
        assert!(matches!(read(&image), Err(ImageError::Read(ReadError::Io { .. }))), "{codec:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read_within(&bytes, 1 << 20);
    }

    #[test]
    fn damage_is_an_answer_or_an_error(
        codec in 0..Codec::ALL.len(),
        zboot in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let codec = Codec::ALL[codec];
        let mut image = if zboot { made::zboot(&RECIPE, codec) } else { made::bz_image(&RECIPE, codec) };
        for (at, byte) in edits {
            let at = at.index(image.len());
            image[at] = byte;
        }
        let _ = read_within(&image, 1 << 20);
    }
}
