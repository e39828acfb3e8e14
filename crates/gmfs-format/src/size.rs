//! Sizes, addresses and counts in words for people. [`format_size`](crate::spec::format_size) writes sizes for kernels.

use humansize::{BINARY, FormatSizeOptions};

/// The units of exact sizes, from the largest: a shift, and its name.
const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];

/// `2 MiB`, `1.5 GiB`: two decimals at most. Not exact.
///
/// ```
/// use gmfs_format::size::human;
/// assert_eq!((human(2 << 20), human(3 << 29), human(100)), ("2 MiB".into(), "1.5 GiB".into(), "100 B".into()));
/// ```
#[must_use]
pub fn human(bytes: u64) -> String {
    let text = humansize::format_size(bytes, FormatSizeOptions::from(BINARY).decimal_places(2));
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// `2 MiB (2097152 bytes)`; below one KiB only the bytes.
#[must_use]
pub fn both(bytes: u64) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..1024 => format!("{bytes} bytes"),
        _ => format!("{} ({bytes} bytes)", human(bytes)),
    }
}

/// `bytes 2 MiB to 4 MiB`: from the first byte to the one past the last, exact, in the largest unit up to TiB of which both
/// are whole numbers.
#[must_use]
pub fn range(from: u64, to: u64) -> String {
    let zeros = (from | to).trailing_zeros();
    let unit = UNITS.into_iter().find(|(shift, _)| zeros >= *shift && from != to);
    let one = |bytes: u64| match unit {
        Some((shift, unit)) if bytes > 0 => format!("{} {unit}", bytes >> shift),
        _ => bytes.to_string(),
    };
    format!("bytes {} to {}", one(from), one(to))
}

/// An address or an offset: `0x1000`.
#[must_use]
pub fn hex(address: u64) -> String {
    format!("{address:#x}")
}

/// A count with its noun, which is in the plural unless the count is 1: `2 pages`.
#[must_use]
pub fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_two_decimals_at_most() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1034, "1.01 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1024 KiB"),
            (1_234_567, "1.18 MiB"),
            (5 << 40, "5 TiB"),
            // Halves go to the even hundredth.
            (1024 + 128, "1.12 KiB"),
            (1024 + 384, "1.38 KiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }

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
