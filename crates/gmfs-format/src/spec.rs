//! Sizes and region specifications, as the kernel's command line has them.
//!
//! Numbers are parsed like the kernel's `memparse()` does (`lib/cmdline.c`): `simple_strtoull` with base detection (0x
//! hex, leading 0 octal, otherwise decimal), followed by one suffix of K M G T P E in either case. People write more
//! than that: [`parse_amount`] also accepts `1.5G` and `10MiB`, and [`SizeChange`] also `+20M` and `-20M`.

/// Why a size or a region specification could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// There are no digits where a number must start.
    #[error("'{0}' is not a number: write decimal, 0x hex or 0 octal, followed by K, M, G, T, P or E if needed")]
    NotANumber(String),
    /// The number, with its suffix, does not fit in 64 bits.
    #[error("'{0}' does not fit in 64 bits")]
    TooLarge(String),
    /// Text follows the number.
    #[error("unexpected '{rest}' after '{number}'")]
    Trailing {
        /// The part that was parsed.
        number: String,
        /// The part that was not.
        rest: String,
    },
    /// The text is not a size.
    #[error(
        "'{0}' is not a size: write bytes, or a number with K, M, G, T, P or E, such as 4096, 0x1000, 64M, 1.5G or 10MiB"
    )]
    NotASize(String),
    /// The unit means powers of ten to some people and powers of two to others.
    #[error("'{text}' has a unit of two meanings: write {number}{unit} or {number}{unit}iB for powers of 1024")]
    Ambiguous {
        /// The whole text.
        text: String,
        /// The number.
        number: String,
        /// The unit's first letter.
        unit: char,
    },
    /// The fraction of a unit is not a whole number of bytes.
    #[error("'{text}' is not a whole number of bytes: write {below} or {above}")]
    Fraction {
        /// The whole text.
        text: String,
        /// The next whole number below.
        below: u64,
        /// The next whole number above.
        above: u64,
    },
    /// The new size would be less than 0.
    #[error("{size} bytes cannot be made smaller by {by}")]
    Negative {
        /// The present size.
        size: u64,
        /// How much is subtracted from it.
        by: u64,
    },
    /// The region has no bytes.
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

/// Parses one number with its suffix at the start of `text`. Returns it, and the text that follows.
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
    // In octal the kernel stops at the first other digit: "08" is 0, followed by "8".
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    if number.is_empty() {
        return Err(not_a_number());
    }
    let too_large = || SpecError::TooLarge(text.to_owned());
    let value = u64::from_str_radix(number, radix).map_err(|_| too_large())?;
    let Some(shift) = rest.chars().next().and_then(suffix_shift) else { return Ok((value, rest)) };
    let scaled = value.checked_mul(1_u64 << shift).ok_or_else(too_large)?;
    Ok((scaled, rest.get(1..).unwrap_or_default()))
}

/// How many bits a suffix shifts a number by.
const fn suffix_shift(suffix: char) -> Option<u32> {
    match suffix.to_ascii_uppercase() {
        'K' => Some(10),
        'M' => Some(20),
        'G' => Some(30),
        'T' => Some(40),
        'P' => Some(50),
        'E' => Some(60),
        _ => None,
    }
}

/// Parses a whole text as a size in bytes, as people write it: everything that [`parse_size`] accepts, decimal
/// fractions of a unit (`1.5G`), and units of two or three letters with one meaning (`10MiB`). All units are powers of
/// 1024. The result is exact: a fraction that is not a whole number of bytes is an error.
///
/// # Errors
/// [`SpecError`], which says what is accepted.
///
/// # Examples
/// ```
/// use gmfs_format::spec::parse_amount;
/// assert_eq!(parse_amount("1.5G"), Ok(3 << 29));
/// assert_eq!(parse_amount("10MiB"), Ok(10 << 20));
/// assert_eq!(parse_amount("0x1000"), Ok(4096));
/// assert!(parse_amount("10MB").is_err() && parse_amount("1.5").is_err());
/// ```
pub fn parse_amount(text: &str) -> Result<u64, SpecError> {
    let not_a_size = || SpecError::NotASize(text.to_owned());
    if let Ok((value, rest)) = memparse(text) {
        // The text has a unit if the part before the rest ends with one.
        let read = text.get(..text.len().saturating_sub(rest.len())).unwrap_or_default();
        let unit = read.chars().last().and_then(suffix_shift).is_some();
        match rest {
            "" => return Ok(value),
            "iB" | "ib" if unit => return Ok(value),
            "B" | "b" if unit => return Err(ambiguous(text)),
            _ => {}
        }
    } else if let Err(error @ SpecError::TooLarge(_)) = parse_size(text) {
        return Err(error);
    }
    let (whole, rest) = text.split_once('.').ok_or_else(not_a_size)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (fraction, unit) = rest.split_at(end);
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    let mut letters = unit.chars();
    let shift = letters.next().and_then(suffix_shift).filter(|_| is_number(whole) && is_number(fraction));
    let shift = shift.ok_or_else(not_a_size)?;
    match letters.as_str() {
        "" | "iB" | "ib" => {}
        "B" | "b" => return Err(ambiguous(text)),
        _ => return Err(not_a_size()),
    }
    scale(text, whole, fraction, shift)
}

/// `whole.fraction` times 2^`shift`, exactly.
fn scale(text: &str, whole: &str, fraction: &str, shift: u32) -> Result<u64, SpecError> {
    let too_large = || SpecError::TooLarge(text.to_owned());
    // With more digits than 2^60 has bits, a fraction is a whole number of bytes only if the further digits are zeros.
    let fraction = fraction.trim_end_matches('0');
    let (head, is_cut) = fraction.get(..19).map_or((fraction, false), |head| (head, fraction.len() > 19));
    let whole: u128 = whole.parse::<u64>().map_err(|_| too_large())?.into();
    let digits: u128 = if head.is_empty() { 0 } else { head.parse::<u64>().map_err(|_| too_large())?.into() };
    let scale = 10_u128.checked_pow(u32::try_from(head.len()).unwrap_or(u32::MAX)).ok_or_else(too_large)?;
    // The factors are at most 2^64 · 2^60, and 10^19 · 2^60.
    let product = digits << shift;
    let (more, rest) = (product.checked_div(scale).unwrap_or(0), product.checked_rem(scale).unwrap_or(0));
    let below = u64::try_from((whole << shift).saturating_add(more)).map_err(|_| too_large())?;
    if rest == 0 && !is_cut {
        return Ok(below);
    }
    Err(SpecError::Fraction { text: text.to_owned(), below, above: below.saturating_add(1) })
}

/// `10MB` is 10^7 bytes in some programs and 10 · 2^20 in others.
fn ambiguous(text: &str) -> SpecError {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(number.len()..).and_then(|unit| unit.chars().next()).unwrap_or('K');
    SpecError::Ambiguous { text: text.to_owned(), number: number.to_owned(), unit }
}

/// A new size: absolute, or relative to the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeChange {
    /// This many bytes.
    To(u64),
    /// This many bytes more.
    Grow(u64),
    /// This many bytes less.
    Shrink(u64),
}

impl SizeChange {
    /// The new size, if the present one is `size` bytes.
    ///
    /// # Errors
    /// [`SpecError::Negative`] and [`SpecError::TooLarge`].
    pub fn of(self, size: u64) -> Result<u64, SpecError> {
        match self {
            Self::To(size) => Ok(size),
            Self::Grow(by) => size.checked_add(by).ok_or_else(|| SpecError::TooLarge(format!("{size} + {by}"))),
            Self::Shrink(by) => size.checked_sub(by).ok_or(SpecError::Negative { size, by }),
        }
    }
}

impl std::str::FromStr for SizeChange {
    type Err = SpecError;

    /// Parses what [`parse_amount`] accepts. A + or - before it makes it relative.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(by), _) => parse_amount(by).map(Self::Grow),
            (_, Some(by)) => parse_amount(by).map(Self::Shrink),
            _ => parse_amount(text).map(Self::To),
        }
    }
}

/// Parses a whole text as one size in bytes.
///
/// # Errors
/// Those of [`memparse`], and [`SpecError::Trailing`] if anything follows the number.
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

/// Size and base of a region: `SIZE[:BASE]`, as in the kernel parameter `guestmemfs=<size>:<base>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionSpec {
    /// Size in bytes; never 0.
    pub size: u64,
    /// The first byte, if given: a physical address in memory and in dumps, an offset in files.
    pub base: Option<u64>,
}

impl std::str::FromStr for RegionSpec {
    type Err = SpecError;

    /// Parses `SIZE`, `SIZE:BASE`, and the forms of `memmap=`: `SIZE@BASE`, `SIZE$BASE`, `SIZE!BASE`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (size, rest) = memparse(text)?;
        if size == 0 {
            return Err(SpecError::Empty);
        }
        let Some(base) = rest.strip_prefix([':', '@', '$', '!']) else {
            return if rest.is_empty() { Ok(Self { size, base: None }) } else { Err(trailing(text, rest)) };
        };
        let base = parse_size(base)?;
        // A region could end at 2^64 exactly, but that end is not an address. It is refused, because no machine has
        // memory there.
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
/// Words that cannot be parsed are ignored, like in the kernel.
#[must_use]
pub fn from_command_line(command_line: &str) -> Vec<RegionSpec> {
    command_line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("guestmemfs=")?.parse().ok()).collect()
}

/// `bytes` in the kernel's notation: with the largest suffix that divides it, or otherwise in hexadecimal.
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
    fn amounts_are_exact() {
        for (text, value) in [
            ("0", 0),
            ("64M", 64 << 20),
            ("0x10", 16),
            ("010", 8),
            ("1.5G", 3 << 29),
            ("0.5k", 512),
            ("010.50K", 10752),
            ("10MiB", 10 << 20),
            ("1.25TiB", 5 << 38),
            ("1.0000000000000000000000000000000000K", 1024),
            ("0.0009765625K", 1),
        ] {
            assert_eq!(parse_amount(text), Ok(value), "{text}");
        }
        let third = SpecError::Fraction { text: "0.3K".to_owned(), below: 307, above: 308 };
        assert_eq!(parse_amount("0.3K"), Err(third));
        assert!(matches!(parse_amount("0.00000000000000000001E"), Err(SpecError::Fraction { below: 0, .. })));
        for wrong in [
            "", "M", "G5", "1.5", "1.G", ".5G", "1.5.5G", "-1", "+1", "12Q", "5iB", "5B", "0x1.8G", "1,5G", "1 G", "08",
        ] {
            assert!(matches!(parse_amount(wrong), Err(SpecError::NotASize(_))), "{wrong}: {:?}", parse_amount(wrong));
        }
        for wrong in ["10MB", "1.5gb"] {
            assert!(matches!(parse_amount(wrong), Err(SpecError::Ambiguous { .. })), "{wrong}");
        }
        for wrong in ["16E", "16.5E", "18446744073709551616", "99999999999999999999.5K"] {
            assert!(matches!(parse_amount(wrong), Err(SpecError::TooLarge(_))), "{wrong}: {:?}", parse_amount(wrong));
        }
    }

    #[test]
    fn a_size_can_be_a_change() {
        assert_eq!("+1.5K".parse(), Ok(SizeChange::Grow(1536)));
        assert_eq!("-20M".parse(), Ok(SizeChange::Shrink(20 << 20)));
        assert_eq!("20".parse(), Ok(SizeChange::To(20)));
        assert!("--1".parse::<SizeChange>().is_err() && "+".parse::<SizeChange>().is_err());
        assert_eq!((SizeChange::Grow(2).of(5), SizeChange::Shrink(2).of(5)), (Ok(7), Ok(3)));
        assert!(SizeChange::Shrink(6).of(5).is_err() && SizeChange::Grow(1).of(u64::MAX).is_err());
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
