//! Sizes and region specifications as the kernel's command line writes them.
//!
//! Numbers are read as the kernel's `memparse()` reads them (`lib/cmdline.c`): `simple_strtoull` with base detection
//! (0x hex, leading 0 octal, else decimal), then one suffix of K M G T P E in either case.

/// Why a size or a region specification was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No digits where a number must start.
    #[error("'{0}' is not a number: write decimal, 0x hex or 0 octal, with K, M, G, T, P or E behind it")]
    NotANumber(String),
    /// The number, with its suffix, does not fit in 64 bits.
    #[error("'{0}' does not fit in 64 bits")]
    TooLarge(String),
    /// Something stands behind the number.
    #[error("'{rest}' behind '{number}' is not understood")]
    Trailing {
        /// What was understood.
        number: String,
        /// What was not.
        rest: String,
    },
    /// A region of no bytes.
    #[error("a region of size 0")]
    Empty,
    /// The region would pass the end of the 64-bit address space.
    #[error("{size:#x} bytes from {base:#x} pass the end of the address space")]
    PastTheEnd {
        /// Size in bytes.
        size: u64,
        /// Base in bytes.
        base: u64,
    },
}

/// Reads one number with its suffix from the start of `text`; returns it with what follows.
///
/// # Errors
/// [`SpecError::NotANumber`] or [`SpecError::TooLarge`].
pub fn memparse(text: &str) -> Result<(u64, &str), SpecError> {
    let not_a_number = || SpecError::NotANumber(text.to_owned());
    let (radix, digits) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, hex),
        _ if text.starts_with('0') => (8, text),
        _ => (10, text),
    };
    // In octal the kernel stops at the first digit that is none: "08" reads as 0, followed by "8".
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    if number.is_empty() {
        return Err(not_a_number());
    }
    let too_large = || SpecError::TooLarge(text.to_owned());
    let value = u64::from_str_radix(number, radix).map_err(|_| too_large())?;
    let shift = match rest.bytes().next().map(|c| c.to_ascii_uppercase()) {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        Some(b'P') => 50,
        Some(b'E') => 60,
        _ => return Ok((value, rest)),
    };
    let scaled = value.checked_mul(1_u64 << shift).ok_or_else(too_large)?;
    Ok((scaled, rest.get(1..).unwrap_or_default()))
}

/// Reads a whole text as one size in bytes.
///
/// # Errors
/// As [`memparse`], and [`SpecError::Trailing`] if anything follows the number.
///
/// # Examples
/// ```
/// assert_eq!(gmfs_format::spec::parse_size("64M"), Ok(64 << 20));
/// assert_eq!(gmfs_format::spec::parse_size("0x10000000"), Ok(0x1000_0000));
/// assert!(gmfs_format::spec::parse_size("64MB").is_err());
/// ```
pub fn parse_size(text: &str) -> Result<u64, SpecError> {
    let (value, rest) = memparse(text)?;
    match rest {
        "" => Ok(value),
        _ => Err(trailing(text, rest)),
    }
}

/// Where a region lies: `SIZE[:BASE]`, as in the kernel parameter `guestmemfs=<size>:<base>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionSpec {
    /// Size in bytes; never 0.
    pub size: u64,
    /// First byte, if given: a physical address in memory and dumps, an offset in files.
    pub base: Option<u64>,
}

impl std::str::FromStr for RegionSpec {
    type Err = SpecError;

    /// Takes `SIZE`, `SIZE:BASE`, and the spellings of `memmap=`: `SIZE@BASE`, `SIZE$BASE`, `SIZE!BASE`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (size, rest) = memparse(text)?;
        if size == 0 {
            return Err(SpecError::Empty);
        }
        let Some(base) = rest.strip_prefix([':', '@', '$', '!']) else {
            return if rest.is_empty() { Ok(Self { size, base: None }) } else { Err(trailing(text, rest)) };
        };
        let base = parse_size(base)?;
        // A region may end at 2^64 exactly, but then its end is no address: refused, no machine has memory there.
        if base.checked_add(size).is_none() {
            return Err(SpecError::PastTheEnd { size, base });
        }
        Ok(Self { size, base: Some(base) })
    }
}

/// The error for `rest`, which must be a tail of `text`.
fn trailing(text: &str, rest: &str) -> SpecError {
    let number = text.get(..text.len().saturating_sub(rest.len())).unwrap_or_default();
    SpecError::Trailing { number: number.to_owned(), rest: rest.to_owned() }
}

/// The regions that a kernel command line names with `guestmemfs=<size>[:<base>]`.
///
/// Words that are not understood are left out: the kernel ignores them too.
#[must_use]
pub fn from_command_line(command_line: &str) -> Vec<RegionSpec> {
    command_line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("guestmemfs=")?.parse().ok()).collect()
}

/// `bytes` in the kernel's spelling: the largest suffix that divides it, else hexadecimal.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    const SUFFIXES: [(u32, char); 6] = [(60, 'E'), (50, 'P'), (40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    let zeros = if bytes == 0 { 0 } else { bytes.trailing_zeros() };
    match SUFFIXES.iter().find(|(shift, _)| zeros >= *shift) {
        Some((shift, suffix)) => format!("{}{suffix}", bytes >> shift),
        None => format!("{bytes:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_as_the_kernel_does() {
        for (text, value) in [
            ("0", 0),
            ("64M", 64 << 20),
            ("64m", 64 << 20),
            ("0x10000000", 0x1000_0000),
            ("0X1fG", 0x1f << 30),
            ("010", 8),
            ("1E", 1 << 60),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_number() {
        assert!(matches!(parse_size(""), Err(SpecError::NotANumber(_))));
        assert!(matches!(parse_size("M"), Err(SpecError::NotANumber(_))));
        assert!(matches!(parse_size("-1"), Err(SpecError::NotANumber(_))));
        assert!(matches!(parse_size("64MB"), Err(SpecError::Trailing { .. })));
        assert!(matches!(parse_size("08"), Err(SpecError::Trailing { .. })));
        assert!(matches!(parse_size("0x"), Err(SpecError::Trailing { .. })));
        assert!(matches!(parse_size("16E"), Err(SpecError::TooLarge(_))));
        assert!(matches!(parse_size("18446744073709551616"), Err(SpecError::TooLarge(_))));
    }

    #[test]
    fn reads_every_spelling_of_a_region() {
        let there = RegionSpec { size: 64 << 20, base: Some(0x1000_0000) };
        for text in ["64M:0x10000000", "64M@0x10000000", "64M$0x10000000", "64M!256M"] {
            assert_eq!(text.parse(), Ok(there), "{text}");
        }
        assert_eq!("1G".parse(), Ok(RegionSpec { size: 1 << 30, base: None }));
        assert_eq!("0:1G".parse::<RegionSpec>(), Err(SpecError::Empty));
        assert!(matches!("1G#1G".parse::<RegionSpec>(), Err(SpecError::Trailing { .. })));
        assert!(matches!("1G:0xffffffffffffffff".parse::<RegionSpec>(), Err(SpecError::PastTheEnd { .. })));
    }

    #[test]
    fn finds_the_parameter_in_a_command_line() {
        let line = "BOOT_IMAGE=/vmlinuz guestmemfs=64M:0x10000000 quiet guestmemfs=bogus\n";
        assert_eq!(from_command_line(line), [RegionSpec { size: 64 << 20, base: Some(0x1000_0000) }]);
    }

    #[test]
    fn sizes_round_trip() {
        for bytes in [0, 1, 4096, 64 << 20, (3 << 20) + 1, 1 << 63, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
    }
}
