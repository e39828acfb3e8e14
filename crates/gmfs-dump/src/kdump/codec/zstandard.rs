//! Decodes one Zstandard page.

#[cfg(feature = "zstd-c")]
pub(super) use c::Context;
#[cfg(not(feature = "zstd-c"))]
pub(super) use rust::Context;

/// Whether `from` starts with the header of a frame that decodes to `page` bytes, with a window no larger than that,
/// and without a dictionary. It is checked before the decoder sees the frame, because decoders allocate as much as the
/// header says.
pub(crate) fn frame_fits(from: &[u8], page: usize) -> bool {
    let Some((magic, rest)) = from.split_first_chunk::<4>() else { return false };
    let Some((descriptor, rest)) = rest.split_first() else { return false };
    let single = descriptor & 0x20 != 0;
    // Refuses a dictionary, and the reserved bit.
    if *magic != [0x28, 0xb5, 0x2f, 0xfd] || descriptor & 0x0b != 0 {
        return false;
    }
    let page = u64::try_from(page).unwrap_or(u64::MAX);
    let mut size = rest;
    if !single {
        let Some((window, rest)) = rest.split_first() else { return false };
        let base = 1_u64.checked_shl(u32::from(window >> 3).saturating_add(10)).unwrap_or(u64::MAX);
        let window = base.saturating_add((base >> 3).saturating_mul(u64::from(window & 7)));
        if window > page.max(1024) {
            return false;
        }
        size = rest;
    }
    let width = match (descriptor >> 6, single) {
        (0, true) => 1,
        (0, false) => return false,
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    let mut bytes = [0; 8];
    let (Some(to), Some(from)) = (bytes.get_mut(..width), size.get(..width)) else { return false };
    to.copy_from_slice(from);
    let content = u64::from_le_bytes(bytes).saturating_add(if width == 2 { 256 } else { 0 });
    content == page
}

/// ruzstd.
#[cfg(any(test, feature = "fuzzing", not(feature = "zstd-c")))]
pub(crate) mod rust {
    use std::io::Read as _;

    use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

    pub(crate) struct Context(FrameDecoder);

    impl Context {
        pub(crate) fn new() -> Self {
            Self(FrameDecoder::new())
        }

        pub(crate) fn decode(&mut self, from: &[u8], page: &mut [u8]) -> bool {
            let length = u64::try_from(page.len()).unwrap_or(u64::MAX);
            self.0.set_max_window_size(length.max(1024));
            let mut rest = from;
            if self.0.init(&mut rest).is_err() {
                return false;
            }
            // Decodes block by block, at most 128 KiB each, and stops as soon as the frame gives more than a page.
            let mut filled = 0;
            loop {
                let Ok(last) = self.0.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(1)) else {
                    return false;
                };
                let room = page.get_mut(filled..).unwrap_or_default();
                let Ok(now) = self.0.read(room) else { return false };
                filled = filled.saturating_add(now);
                if self.0.can_collect() != 0 {
                    return false;
                }
                if last {
                    break;
                }
            }
            let intact = match self.0.get_checksum_from_data() {
                Some(sum) => self.0.get_calculated_checksum() == Some(sum),
                None => true,
            };
            filled == page.len() && rest.is_empty() && intact
        }
    }
}

/// The C library.
#[cfg(feature = "zstd-c")]
pub(crate) mod c {
    /// `None` if the library could not allocate its context.
    pub(crate) struct Context(Option<zstd::bulk::Decompressor<'static>>);

    impl Context {
        pub(crate) fn new() -> Self {
            Self(zstd::bulk::Decompressor::new().ok())
        }

        pub(crate) fn decode(&mut self, from: &[u8], page: &mut [u8]) -> bool {
            let Some(context) = &mut self.0 else { return false };
            // The library would also decode further frames, and skip skippable ones. A page is exactly one frame.
            zstd::zstd_safe::find_frame_compressed_size(from) == Ok(from.len())
                && context.decompress_to_buffer(from, page).ok() == Some(page.len())
        }
    }
}
