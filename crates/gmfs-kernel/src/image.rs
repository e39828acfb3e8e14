//! Kernel images: of which kind an image is, its release, and the versions that the kernel in it contains.
//!
//! Only the decompressed kernel is searched. The bytes of an image that is compressed by LZ4 can contain names of
//! versions, and wrong ones.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use gmfs_io::num::{len64, small};
use gmfs_io::{Absence, ReadAt, ReadError};

use crate::abi::{self, Abi, Scanner};
use crate::codec::Codec;
use crate::release::Release;

/// What kind of image it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// x86: a program that unpacks the kernel in it.
    BzImage,
    /// The kernel as an ELF file: `vmlinux`.
    Elf,
    /// arm64: the kernel as it is in memory.
    Arm64Image,
    /// A program for EFI that unpacks the kernel in it: `vmlinuz.efi`.
    EfiZboot,
}

impl Format {
    /// A word for programs: stable, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BzImage => "bzImage",
            Self::Elf => "vmlinux",
            Self::Arm64Image => "arm64-image",
            Self::EfiZboot => "efi-zboot",
        }
    }
}

/// What a kernel runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// x86, of 64 or 32 bits.
    X86,
    /// arm64.
    Arm64,
}

impl Architecture {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86",
            Self::Arm64 => "arm64",
        }
    }
}

/// What an image says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelImage {
    /// What kind of image it is.
    pub format: Format,
    /// How the kernel in it is compressed; `None` if it is not.
    pub codec: Option<Codec>,
    /// What it runs on; `None` if gmfs does not know that.
    pub architecture: Option<Architecture>,
    /// Its release; `None` if neither the header nor the kernel says it.
    pub release: Option<Release>,
    /// The versions that it contains.
    pub abi: Abi,
    /// How many bytes of memory in one piece the kernel takes when it is loaded; `None` if the image does not say it.
    pub load_size: Option<u64>,
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It is no kernel image.
    #[error("it is no kernel image that gmfs knows: neither a bzImage, nor a vmlinux, nor an Image of arm64")]
    NotKernel {
        /// It is a program for EFI, which may have a kernel in it.
        efi: bool,
    },
    /// It is a bzImage of a kernel before 2.6.24, whose header does not say where the kernel is.
    #[error("its header does not say where in it the kernel is")]
    NoPayload,
    /// The kernel in it starts or ends past the end of the image.
    #[error("it is cut short")]
    Cut,
    /// The kernel in it cannot be decompressed.
    #[error("the kernel in it, compressed by {}, is damaged", codec.name())]
    Damaged {
        /// How it is compressed.
        codec: Codec,
        /// What the decoder says.
        source: io::Error,
    },
    /// The kernel in it is compressed in a way that gmfs does not know.
    #[error("the kernel in it is compressed in a way that gmfs does not know")]
    UnknownCodec,
    /// The kernel in it is larger than any kernel.
    #[error("the kernel in it has more than {limit} bytes, which no kernel has")]
    TooLarge {
        /// How many bytes are read at most.
        limit: u64,
    },
    /// The medium failed.
    #[error("it cannot be read")]
    Read(#[source] ReadError),
}

/// A decompressed kernel has at most this many bytes. Debugging information is not read.
pub const LIMIT: u64 = 512 << 20;
/// How many bytes of an image are read to find out what it is.
const HEAD: usize = 4096;
/// Bytes that are decompressed and searched at once.
const PIECE: usize = 64 << 10;

/// Reads an image. Memory is bounded whatever the image says, by about 200 MiB; so is the time, because no more than
/// [`LIMIT`] bytes are decompressed.
///
/// # Errors
/// [`ImageError`].
pub fn read(source: &dyn ReadAt) -> Result<KernelImage, ImageError> {
    read_within(source, LIMIT)
}

/// Reads an image of which no more than `limit` bytes may be decompressed.
///
/// # Errors
/// [`ImageError`].
pub fn read_within(source: &dyn ReadAt, limit: u64) -> Result<KernelImage, ImageError> {
    let mut head = vec![0; HEAD.min(source.end().map_or(HEAD, small))];
    source.read_at(0, &mut head).map_err(told)?;
    if let Some(header) = SetupHeader::of(&head) {
        return bz_image(source, &header, limit);
    }
    if head.starts_with(b"MZ") && head.get(4..8) == Some(b"zimg") {
        return zboot(source, &head, limit);
    }
    let whole = Part::new(source, 0, u64::MAX);
    if let Some(codec) = Codec::of(&head) {
        let found = decompress(Some(codec), whole, limit)?;
        let format = found.head.format.ok_or(ImageError::NotKernel { efi: false })?;
        return Ok(found.image(format, Some(codec)));
    }
    let efi = head.starts_with(b"MZ");
    let format = Head::of(&head).format.ok_or(ImageError::NotKernel { efi })?;
    Ok(decompress(None, whole, limit)?.image(format, None))
}

/// The fields of an x86 image's setup header that say where the kernel is.
struct SetupHeader {
    payload: Option<(u64, u64)>,
    version_text: Option<u64>,
    init_size: Option<u64>,
}

impl SetupHeader {
    /// The header of an image that begins like this; `None` if it has none.
    fn of(head: &[u8]) -> Option<Self> {
        if le16(head, 0x1fe)? != 0xaa55 || head.get(0x202..0x206)? != b"HdrS" {
            return None;
        }
        let protocol = le16(head, 0x206)?;
        let since = |version: u16| protocol >= version;
        let sectors = match head.get(0x1f1)? {
            0 => 4,
            sectors => u64::from(*sectors),
        };
        let setup = sectors.saturating_add(1).saturating_mul(512);
        let payload = le32(head, 0x248).zip(le32(head, 0x24c)).filter(|_| since(0x208));
        let payload = payload.map(|(offset, length)| (setup.saturating_add(offset.into()), u64::from(length)));
        let text = le16(head, 0x20e).filter(|at| *at != 0).map(|at| u64::from(at).saturating_add(0x200));
        let init_size = le32(head, 0x260).filter(|size| since(0x20a) && *size != 0).map(u64::from);
        Some(Self { payload: payload.filter(|(_, length)| *length > 0), version_text: text, init_size })
    }
}

fn bz_image(source: &dyn ReadAt, header: &SetupHeader, limit: u64) -> Result<KernelImage, ImageError> {
    let (offset, length) = header.payload.ok_or(ImageError::NoPayload)?;
    let (codec, found) = payload(source, offset, length, limit)?;
    let stated = header.version_text.and_then(|at| {
        let mut text = [0; Release::MAX_LEN + 1];
        source.read_at(at, &mut text).ok()?;
        abi::release(&text)
    });
    let mut image = found.image(Format::BzImage, codec);
    image.architecture = Some(Architecture::X86);
    image.release = stated.or(image.release);
    image.load_size = header.init_size;
    Ok(image)
}

/// Reads an EFI program that unpacks a kernel. The start of its DOS header says where the kernel is.
fn zboot(source: &dyn ReadAt, head: &[u8], limit: u64) -> Result<KernelImage, ImageError> {
    let place = le32(head, 8).zip(le32(head, 12)).filter(|(_, length)| *length > 0);
    let (offset, length) = place.ok_or(ImageError::NoPayload)?;
    let (codec, found) = payload(source, offset.into(), length.into(), limit)?;
    Ok(found.image(Format::EfiZboot, codec))
}

/// The kernel in an image.
fn payload(source: &dyn ReadAt, offset: u64, length: u64, limit: u64) -> Result<(Option<Codec>, Found), ImageError> {
    let end = offset.saturating_add(length);
    if source.end().is_some_and(|size| end > size) {
        return Err(ImageError::Cut);
    }
    let mut start = vec![0; small(length).min(64)];
    source.read_at(offset, &mut start).map_err(told)?;
    let part = Part::new(source, offset, end);
    let codec = Codec::of(&start);
    if codec.is_none() && Head::of(&start).format.is_none() {
        return Err(ImageError::UnknownCodec);
    }
    Ok((codec, decompress(codec, part, limit)?))
}

/// Decompresses a part of an image, and searches the kernel that results.
fn decompress(codec: Option<Codec>, part: Part<'_>, limit: u64) -> Result<Found, ImageError> {
    let failed = Rc::clone(&part.failed);
    let found = match codec {
        Some(codec) => codec.decoder(part).map_err(SearchError::Read).and_then(|decoder| search(decoder, limit)),
        None => search(part, limit),
    };
    let error = match found {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    // Decoders do not pass on the error of the medium.
    if let Some(error) = failed.take() {
        return Err(told(error));
    }
    Err(match (error, codec) {
        (SearchError::TooLarge, _) => ImageError::TooLarge { limit },
        (SearchError::Read(error), Some(codec)) if !is_end(&error) => ImageError::Damaged { codec, source: error },
        (SearchError::Read(_), _) => ImageError::Cut,
    })
}

/// Whether the data ended too early, which a decoder may say in an error of its own.
fn is_end(error: &io::Error) -> bool {
    let mut within: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = within {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        // `source` of an I/O error would skip the error that is wrapped in it.
        within = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

fn told(error: ReadError) -> ImageError {
    match error {
        ReadError::Absent { why: Absence::BeyondEnd | Absence::Truncated, .. } => ImageError::Cut,
        error => ImageError::Read(error),
    }
}

/// A part of a source as a stream.
struct Part<'s> {
    source: &'s dyn ReadAt,
    at: u64,
    end: u64,
    /// The error that ended the stream.
    failed: Rc<RefCell<Option<ReadError>>>,
}

impl<'s> Part<'s> {
    fn new(source: &'s dyn ReadAt, at: u64, end: u64) -> Self {
        Self { source, at, end: end.min(source.end().unwrap_or(u64::MAX)), failed: Rc::default() }
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let now = small(self.end.saturating_sub(self.at)).min(buf.len());
        let Some(buf) = buf.get_mut(..now) else { return Ok(0) };
        if let Err(error) = self.source.read_at(self.at, buf) {
            self.failed.replace(Some(error));
            return Err(io::ErrorKind::Other.into());
        }
        self.at = self.at.saturating_add(len64(now));
        Ok(now)
    }
}

/// What the first bytes of a kernel say.
#[derive(Clone, Copy, Default)]
struct Head {
    format: Option<Format>,
    architecture: Option<Architecture>,
    load_size: Option<u64>,
    /// Where the part that is loaded ends. What follows is for debuggers.
    end: Option<u64>,
}

impl Head {
    fn of(start: &[u8]) -> Self {
        if start.starts_with(b"\x7fELF") {
            let architecture = match le16(start, 18) {
                Some(3 | 62) => Some(Architecture::X86),
                Some(183) => Some(Architecture::Arm64),
                _ => None,
            };
            return Self { format: Some(Format::Elf), architecture, load_size: None, end: loaded_end(start) };
        }
        if start.get(0x38..0x3c) == Some(b"ARM\x64") {
            let load_size = start.get(16..24).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
            return Self {
                format: Some(Format::Arm64Image),
                architecture: Some(Architecture::Arm64),
                load_size: load_size.filter(|size| *size != 0),
                end: None,
            };
        }
        Self::default()
    }
}

/// Where the segments that a 64-bit ELF file loads end; `None` if the first bytes do not say it.
fn loaded_end(start: &[u8]) -> Option<u64> {
    const CLASS_64_LITTLE: [u8; 2] = [2, 1];
    const LOAD: u32 = 1;
    if start.get(4..6)? != CLASS_64_LITTLE {
        return None;
    }
    let (table, size, count) = (small(le64(start, 32)?), usize::from(le16(start, 54)?), usize::from(le16(start, 56)?));
    let table = start.get(table..table.checked_add(size.checked_mul(count)?)?)?;
    let segments = table.chunks_exact(size.max(56));
    let ends = segments.filter(|segment| le32(segment, 0) == Some(LOAD));
    ends.filter_map(|segment| le64(segment, 8)?.checked_add(le64(segment, 32)?)).max()
}

/// What a search of a kernel has found.
struct Found {
    head: Head,
    abi: Abi,
    release: Option<Release>,
}

impl Found {
    fn image(self, format: Format, codec: Option<Codec>) -> KernelImage {
        KernelImage {
            format,
            codec,
            architecture: self.head.architecture,
            release: self.release,
            abi: self.abi,
            load_size: self.head.load_size,
        }
    }
}

enum SearchError {
    Read(io::Error),
    TooLarge,
}

/// Searches a kernel. Everything that is loaded has to be there, and to have at most `limit` bytes.
fn search(mut kernel: impl Read, limit: u64) -> Result<Found, SearchError> {
    let mut scanner = Scanner::default();
    let mut buffer = vec![0; PIECE];
    let mut head = None;
    let mut done: u64 = 0;
    loop {
        // The first piece has to be whole: the head is read from it.
        let mut filled: usize = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match kernel.read(rest) {
                Ok(0) => break,
                Ok(more) => filled = filled.saturating_add(more),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SearchError::Read(error)),
            }
        }
        let piece = buffer.get(..filled).unwrap_or_default();
        let head = *head.get_or_insert_with(|| Head::of(piece));
        let ended = filled < PIECE;
        scanner.feed(piece);
        done = done.saturating_add(len64(filled));
        let loaded = head.end.is_some_and(|end| done >= end);
        if ended && !loaded && head.end.is_some() {
            return Err(SearchError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        if ended || loaded {
            let (abi, release) = scanner.finish();
            return Ok(Found { head, abi, release });
        }
        if done >= limit {
            return Err(SearchError::TooLarge);
        }
    }
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests;
