//! Sizes for people, with the exact number beside them, and addresses.

use gmfs_format::native::geometry::Geometry;
use humansize::{BINARY, FormatSizeOptions};

/// `2 MiB`, `1.5 GiB`: two decimals at most. Not exact.
pub(crate) fn human(bytes: u64) -> String {
    let text = humansize::format_size(bytes, FormatSizeOptions::from(BINARY).decimal_places(2));
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// `bytes 2 MiB to 4 MiB`: from the first byte to the one past the last, exact, in the largest unit of which both are
/// whole numbers.
pub(crate) fn range(from: u64, to: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, " TiB"), (30, " GiB"), (20, " MiB"), (10, " KiB")];
    let zeros = (from | to).trailing_zeros();
    let (shift, unit) = UNITS.into_iter().find(|(shift, _)| zeros >= *shift && from != to).unwrap_or((0, ""));
    let one = |bytes: u64| if bytes == 0 { "0".to_owned() } else { format!("{}{unit}", bytes >> shift) };
    format!("bytes {} to {}", one(from), one(to))
}

/// `2 MiB (2097152 bytes)`; below one KiB only the bytes.
pub(crate) fn both(bytes: u64) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..1024 => format!("{bytes} bytes"),
        _ => format!("{} ({bytes} bytes)", human(bytes)),
    }
}

/// An address or an offset.
pub(crate) fn hex(address: u64) -> String {
    format!("{address:#x}")
}

/// Blocks by what they are for.
pub(crate) fn blocks(geometry: Geometry) -> String {
    format!(
        "{} of {}: {} for data, {} for metadata",
        geometry.blocks(),
        human(geometry.block_bytes()),
        geometry.data_blocks(),
        u64::from(geometry.metadata_blocks()) * 2
    )
}

/// A count with its noun, which is in the plural unless the count is 1.
pub(crate) fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_beside_the_round_ones() {
        assert_eq!(range(0, 2 << 20), "bytes 0 to 2 MiB");
        assert_eq!(range(1022 << 20, 1 << 30), "bytes 1022 MiB to 1024 MiB");
        assert_eq!(range(1 << 30, 2 << 30), "bytes 1 GiB to 2 GiB");
        assert_eq!(range(513, 1 << 30), "bytes 513 to 1073741824");
        assert_eq!(both(0), "0 bytes");
        assert_eq!(both(1), "1 byte");
        assert_eq!(both(2 << 20), "2 MiB (2097152 bytes)");
        assert_eq!(both((3 << 30) / 2), "1.5 GiB (1610612736 bytes)");
        assert_eq!(both(u64::MAX), "16 EiB (18446744073709551615 bytes)");
        assert_eq!((count(1, "page"), count(0, "page")), ("1 page".to_owned(), "0 pages".to_owned()));
    }
}
