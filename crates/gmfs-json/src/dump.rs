//! What an image is, as `inspect --image` and `scan` print it, and how much of a region it holds.

use std::collections::BTreeMap;

use gmfs_image::DumpFacts;
use gmfs_io::{Absence, Span};
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::region;
use crate::time;
use gmfs::presence;
use gmfs::survey::{About, There};

/// The image, with what it says of itself if it is a dump.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ImageFacts {
    /// The image.
    #[serde(flatten)]
    pub image: region::Image,
    /// Bytes in the image; of a dump, the address past its last byte. Null if unknown.
    pub end: Option<u64>,
    /// What the dump tells of itself; null if the image is no dump.
    pub dump: Option<Dump>,
}

impl From<&About> for ImageFacts {
    fn from(about: &About) -> Self {
        let image = region::Image::new(about.kind, &about.path);
        Self { image, end: about.end, dump: about.dump.as_ref().map(Into::into) }
    }
}

/// The answer of `dump`: what was dumped.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Dumped {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Whether this is what would be done, and nothing was written.
    pub dry_run: bool,
    /// The file that was made; null if none is.
    pub output: String,
    /// How many pages of metadata are in the dump.
    pub pages_dumped: u64,
    /// How many pages of metadata the image does not hold.
    pub absent_pages: u64,
    /// Whether names were replaced.
    pub obfuscated: bool,
}

/// What a dump says of itself: `null` for what it does not say.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Dump {
    /// Format of the dump.
    pub format: Word,
    /// Version of the format; null if unknown.
    pub version: Option<u32>,
    /// Whether the dump is a flattened stream.
    pub flattened: bool,
    /// Program that wrote it, with its version; null if unknown.
    pub writer: Option<Word>,
    /// Architecture of the machine that was dumped.
    pub architecture: Option<String>,
    /// Width of the machine's addresses, 32 or 64.
    pub bits: Option<u8>,
    /// Byte order of the machine, little or big.
    pub byte_order: Option<Word>,
    /// Bytes in a page of the dumped kernel.
    pub page_size: Option<u64>,
    /// How the dump's pages are compressed.
    pub codec: Option<Word>,
    /// What makedumpfile left out, as a mask.
    pub dump_level: Option<u32>,
    /// Release of the kernel that was dumped.
    pub kernel: Option<String>,
    /// When the machine crashed (RFC 3339).
    pub crashed: Option<String>,
    /// When the dump was written (RFC 3339).
    pub dumped: Option<String>,
    /// Whether the dump lacks its end.
    pub incomplete: bool,
    /// Whether a part of the dump's file cannot be decoded.
    pub damaged: bool,
    /// Bytes of memory in the dump that have no address.
    pub unaddressed: u64,
    /// Parts of a split dump.
    pub parts: Vec<region::Span>,
}

impl From<&DumpFacts> for Dump {
    fn from(facts: &DumpFacts) -> Self {
        let when = |seconds: Option<u64>| time::rfc3339(seconds?.saturating_mul(1_000_000_000));
        Self {
            format: facts.format.into(),
            version: facts.version,
            flattened: facts.flattened.is_some(),
            writer: facts.writer.map(Into::into),
            architecture: facts.architecture.clone(),
            bits: facts.bits,
            byte_order: facts.big_endian.map(|big| if big { "big".into() } else { "little".into() }),
            page_size: facts.page_size,
            codec: facts.codec.map(Into::into),
            dump_level: facts.dump_level,
            kernel: facts.release.clone(),
            crashed: when(facts.crash_time),
            dumped: when(facts.dump_time),
            incomplete: facts.incomplete,
            damaged: facts.damaged,
            unaddressed: facts.unaddressed,
            parts: facts.parts.iter().map(|part| region::Span { base: part.offset, size: part.len }).collect(),
        }
    }
}

/// A range of memory that a dump describes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Memory {
    /// Where it begins in the image, in bytes: a physical address where the image has physical addresses, otherwise an
    /// offset.
    pub base: u64,
    /// Bytes in it; null if unknown.
    pub size: u64,
    /// State, in a word.
    pub state: Word,
}

impl Memory {
    /// A range that is present, or absent for this reason.
    pub fn new(span: Span, why: Option<Absence>) -> Self {
        Self { base: span.offset, size: span.len, state: why.map_or("present", Absence::name).into() }
    }
}

/// Bytes, counted by whether they are present.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Tally {
    /// How many bytes, in the image or not.
    pub bytes: u64,
    /// How much of it is in the image.
    pub present: u64,
    /// Bytes that the image does not hold, by the reason.
    pub absent: BTreeMap<Word, u64>,
}

impl From<&presence::Tally> for Tally {
    fn from(tally: &presence::Tally) -> Self {
        let absent = tally.absent.iter().map(|(why, bytes)| (why.name().into(), *bytes)).collect();
        Self { bytes: tally.total(), present: tally.present, absent }
    }
}

/// Blocks with data, counted by whether they are present.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct BlocksThere {
    /// How much of it is in the image.
    pub present: u64,
    /// How many blocks with data are in the image in part.
    pub partly: u64,
    /// How many blocks with data are not in the image.
    pub absent: u64,
}

/// How much of a region the image holds, in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Presence {
    /// How much of the metadata in use is in the image.
    pub metadata: Tally,
    /// How much of the files' blocks is in the image.
    pub data: Tally,
    /// How many blocks with data are in the image.
    pub blocks: BlocksThere,
    /// How many pages of the table cannot be read: the list is incomplete if it is not 0.
    pub lost_pages: u64,
}

impl From<&presence::Presence> for Presence {
    fn from(found: &presence::Presence) -> Self {
        let presence::Blocks { present, partly, absent, .. } = found.blocks;
        Self {
            metadata: (&found.metadata).into(),
            data: (&found.data).into(),
            blocks: BlocksThere { present, partly, absent },
            lost_pages: found.lost_pages,
        }
    }
}

/// The answer of `inspect --image`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct InspectImage {
    /// The image that the command was given.
    pub image: ImageFacts,
    /// The region that the answer is about; null if there is none.
    pub store: Option<region::Store>,
    /// Ranges of memory that the dump describes: the first ones.
    pub memory: Vec<Memory>,
    /// How many ranges of memory are not listed.
    pub more_memory: u64,
    /// Where the region is in the image.
    pub region: Option<region::Span>,
    /// How much of the region is in the image; null if the image holds no region that can be read.
    pub presence: Option<Presence>,
    /// How much of the region's range is in the image, used or not.
    pub range: Option<Tally>,
    /// Bytes of the region that are holes in a file of raw memory; null if the image is none.
    pub hole_bytes: Option<u64>,
}

impl InspectImage {
    /// The answer for an image, with its region, if there is one.
    pub fn new(about: &About, there: Option<&There>) -> Self {
        let store = |there: &There| {
            let Span { offset, len } = there.span;
            let unknown = region::Store::unknown(offset, Some(len));
            there.superblock.as_ref().map_or(unknown, |found| region::Store::new(offset, found))
        };
        Self {
            image: about.into(),
            store: there.map(store),
            memory: about.memory.ranges.iter().map(|(span, why)| Memory::new(*span, *why)).collect(),
            more_memory: about.memory.more(),
            region: there.map(|there| region::Span { base: there.span.offset, size: there.span.len }),
            presence: there.and_then(|there| there.presence.as_ref()).map(Into::into),
            range: there.map(|there| (&there.range).into()),
            hole_bytes: there.and_then(|there| there.holes),
        }
    }
}
