//! What an image is, as `inspect --image` and `scan` print it, and how much of a region it holds.

use std::collections::BTreeMap;

use gmfs_image::DumpFacts;
use gmfs_io::{Absence, Span};
use serde::Serialize;

use crate::render::json::region;
use crate::render::time;
use gmfs::presence;

/// The image, with what it says of itself if it is a dump.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ImageFacts {
    #[serde(flatten)]
    pub(crate) image: region::Image,
    /// How many bytes there are from the start, or, in a dump, the address past the last byte; `null` if that is not
    /// known.
    pub(crate) end: Option<u64>,
    pub(crate) dump: Option<Dump>,
}

/// The answer of `dump`: what was dumped.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Dumped {
    pub(crate) image: region::Image,
    pub(crate) store: region::Store,
    pub(crate) dry_run: bool,
    pub(crate) output: String,
    /// Pages in the dump.
    pub(crate) pages_dumped: u64,
    /// Pages that the image does not hold or that cannot be read.
    pub(crate) absent_pages: u64,
    pub(crate) obfuscated: bool,
}

/// What a dump says of itself: `null` for what it does not say.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Dump {
    format: &'static str,
    version: Option<u32>,
    flattened: bool,
    writer: Option<&'static str>,
    architecture: Option<String>,
    bits: Option<u8>,
    byte_order: Option<&'static str>,
    page_size: Option<u64>,
    codec: Option<&'static str>,
    dump_level: Option<u32>,
    kernel: Option<String>,
    crashed: Option<String>,
    dumped: Option<String>,
    incomplete: bool,
    damaged: bool,
    /// Bytes of memory in the file that have no address.
    unaddressed: u64,
    /// The parts of a split dump.
    parts: Vec<region::Span>,
}

impl From<&DumpFacts> for Dump {
    fn from(facts: &DumpFacts) -> Self {
        let when = |seconds: Option<u64>| time::rfc3339(seconds?.saturating_mul(1_000_000_000));
        Self {
            format: facts.format,
            version: facts.version,
            flattened: facts.flattened.is_some(),
            writer: facts.writer,
            architecture: facts.architecture.clone(),
            bits: facts.bits,
            byte_order: facts.big_endian.map(|big| if big { "big" } else { "little" }),
            page_size: facts.page_size,
            codec: facts.codec,
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
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Memory {
    base: u64,
    size: u64,
    /// `present`, or the reason why its bytes are absent.
    state: &'static str,
}

impl Memory {
    pub(crate) fn new(span: Span, why: Option<Absence>) -> Self {
        Self { base: span.offset, size: span.len, state: why.map_or("present", Absence::name) }
    }
}

/// Bytes, counted by whether they are present.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Tally {
    bytes: u64,
    present: u64,
    absent: BTreeMap<&'static str, u64>,
}

impl From<&presence::Tally> for Tally {
    fn from(tally: &presence::Tally) -> Self {
        let absent = tally.absent.iter().map(|(why, bytes)| (why.name(), *bytes)).collect();
        Self { bytes: tally.total(), present: tally.present, absent }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct BlocksThere {
    present: u64,
    partly: u64,
    absent: u64,
}

/// How much of a region the image holds, in bytes.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Presence {
    metadata: Tally,
    data: Tally,
    blocks: BlocksThere,
    /// Pages of the block table that are good in neither copy. The blocks that they assign to files are not counted.
    lost_pages: u64,
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
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct InspectImage {
    pub(crate) image: ImageFacts,
    pub(crate) store: Option<region::Store>,
    /// The first of the ranges of memory.
    pub(crate) memory: Vec<Memory>,
    /// How many ranges are not listed.
    pub(crate) more_memory: u64,
    /// The region that was named or found.
    pub(crate) region: Option<region::Span>,
    /// How much the image holds of a region whose superblock can be read.
    pub(crate) presence: Option<Presence>,
    /// How much the image holds of the range that the region is in, used or not.
    pub(crate) range: Option<Tally>,
    /// Bytes of that range that are holes in a file of raw memory.
    pub(crate) hole_bytes: Option<u64>,
}
