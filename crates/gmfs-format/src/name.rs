//! File names: which ones are allowed, and how they are shown.

use std::fmt::Write as _;

/// The maximum length of a name in bytes.
pub const MAX_NAME: usize = 255;

/// Stands for a slash, in names of a layout whose names can have one: a NUL, which no layout has in a name, and a byte that
/// makes it no text. [`escape`] shows it as `\x2f`.
const SLASH: [u8; 2] = [0, 0xaf];
/// Stands for an empty name, shown as `\x00`.
const NOTHING: [u8; 2] = [0, 0x80];

/// What stands for something in the name of an entry.
struct Stand {
    bytes: [u8; 2],
    /// The bytes that the name has in its own layout.
    own: &'static [u8],
    /// How they are shown.
    shown: &'static str,
    /// An overlong form of them in UTF-8, which text does not have and a file's name can have.
    overlong: [u8; 2],
}

static STANDS: [Stand; 2] = [
    Stand { bytes: SLASH, own: b"/", shown: "\\x2f", overlong: [0xc0, 0xaf] },
    Stand { bytes: NOTHING, own: b"", shown: "\\x00", overlong: [0xc0, 0x80] },
];

/// A name in pieces: bytes that stand for themselves, and after each piece what stands for something else; after the last piece
/// nothing.
fn pieces(name: &[u8]) -> impl Iterator<Item = (&[u8], Option<&'static Stand>)> {
    let mut rest = Some(name);
    std::iter::from_fn(move || {
        let here = rest?;
        let stands = |pair: &[u8]| STANDS.iter().find(|stand| stand.bytes == pair);
        let next = here.windows(2).enumerate().find_map(|(at, pair)| Some((at, stands(pair)?)));
        match next {
            Some((at, stands)) => {
                rest = here.get(at.saturating_add(2)..);
                Some((here.get(..at)?, Some(stands)))
            }
            None => {
                rest = None;
                Some((here, None))
            }
        }
    })
}

/// A name or a path with something else for what [`entry`] put there.
fn with(name: &[u8], bytes: impl Fn(&'static Stand) -> &'static [u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(name.len());
    for (piece, stand) in pieces(name) {
        all.extend_from_slice(piece);
        all.extend_from_slice(stand.map(&bytes).unwrap_or_default());
    }
    all
}

/// Converts the name of a directory entry, or a path, to the bytes that it has in its own layout.
#[must_use]
pub fn own(name: &[u8]) -> Vec<u8> {
    with(name, |stand| stand.own)
}

/// Names that a file outside of the store can have instead of that of a directory entry, the better ones first. They are
/// different for different entries, but another entry may have such a name of its own. None if the name itself will do.
#[must_use]
pub fn substitutes(name: &[u8]) -> Vec<Vec<u8>> {
    if pieces(name).all(|(_, stand)| stand.is_none()) {
        return Vec::new();
    }
    // An overlong form among other bytes that look like one can be that of another name.
    let overlong = (!name.contains(&0xc0)).then(|| with(name, |stand| &stand.overlong));
    overlong.into_iter().chain([escape(name).into_bytes()]).collect()
}

/// Converts a name of a layout in which names can have slashes, or can be empty, to the name of a directory entry.
#[must_use]
pub fn entry(name: &[u8]) -> Box<[u8]> {
    if name.is_empty() {
        return NOTHING.into();
    }
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
    parts.join(&SLASH[..]).into()
}

/// Converts the name of a directory entry to a name that a file outside of the store can have.
#[must_use]
pub fn outside(name: &[u8]) -> Vec<u8> {
    with(name, |stand| stand.shown.as_bytes())
}

/// Converts a path with the escapes that [`escape`] makes to bytes. `\x2f` is a slash in a name. Returns `None` if
/// there is no escape in the path, or an invalid one.
#[must_use]
pub fn unescape(path: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (kind, after) = rest.split_first()?;
        rest = after;
        match kind {
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'r' => bytes.push(b'\r'),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                match u8::from_str_radix(digits, 16).ok()? {
                    b'/' => bytes.extend_from_slice(&SLASH),
                    0 => bytes.extend_from_slice(&NOTHING),
                    byte => bytes.push(byte),
                }
                rest = rest.get(2..)?;
            }
            b'u' => {
                let text = std::str::from_utf8(rest).ok()?.strip_prefix('{')?;
                let (digits, after) = text.split_once('}')?;
                let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after.as_bytes();
            }
            _ => return None,
        }
    }
    (bytes != path).then_some(bytes)
}

/// Why bytes cannot be a file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no bytes.
    #[error("the name is empty")]
    Empty,
    /// The name has more than [`MAX_NAME`] bytes.
    #[error("the name has {0} bytes; it may have at most {MAX_NAME}")]
    TooLong(usize),
    /// The name contains a NUL or a slash.
    #[error("the name contains a {}", if *.0 == 0 { "NUL byte" } else { "'/'" })]
    Forbidden(u8),
    /// The name is `.` or `..`.
    #[error("'.' and '..' cannot be names of files")]
    Dots,
}

/// Checks that `name` can be a directory entry (not the root's).
///
/// # Errors
/// [`NameError`].
pub fn check(name: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong(name.len()));
    }
    if let Some(byte) = name.iter().find(|byte| matches!(byte, 0 | b'/')) {
        return Err(NameError::Forbidden(*byte));
    }
    if matches!(name, b"." | b"..") {
        return Err(NameError::Dots);
    }
    Ok(())
}

/// A name as it can be shown on a terminal or in a report. Control characters, escape sequences, backslashes and bytes
/// that are not UTF-8 are escaped (`\n`, `\x1b`, `\\`, `\xff`), so that no name can move the cursor or forge a line.
#[must_use]
pub fn escape(name: &[u8]) -> String {
    let mut shown = String::with_capacity(name.len());
    for (piece, stand) in pieces(name) {
        push_escaped(&mut shown, piece);
        shown.push_str(stand.map_or("", |stand| stand.shown));
    }
    shown
}

/// Appends bytes that stand for themselves.
fn push_escaped(shown: &mut String, name: &[u8]) {
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => shown.push_str("\\n"),
                '\t' => shown.push_str("\\t"),
                '\r' => shown.push_str("\\r"),
                '\\' => shown.push_str("\\\\"),
                c if c.is_control() && c.is_ascii() => push_hex(shown, u32::from(c)),
                c if hidden(c) => shown.extend(c.escape_unicode()),
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            push_hex(shown, u32::from(*byte));
        }
    }
}

/// Characters that are invisible or that reorder text: control characters, bidirectional marks, line separators, zero
/// width.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Appends a byte as `\xHH`.
fn push_hex(shown: &mut String, byte: u32) {
    // Writing to a String cannot fail.
    let _ = write!(shown, "\\x{byte:02x}");
}

/// A text with the characters escaped that could control a terminal. What is already escaped stays as it is.
///
/// ```
/// use gmfs_format::name::printable;
/// assert_eq!(printable("a\x1b[2Jb\nc"), "a\\x1b[2Jb\\nc");
/// assert_eq!(printable("'x\\n' ü"), "'x\\n' ü");
/// ```
#[must_use]
pub fn printable(text: &str) -> String {
    let parts: Vec<String> = text.split('\\').map(|part| escape(part.as_bytes())).collect();
    parts.join("\\")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn legal_and_illegal_names() {
        assert_eq!(check(b"vm-1.mem"), Ok(()));
        assert_eq!(check(b"\xff\n"), Ok(()));
        assert_eq!(check(&[b'x'; 255]), Ok(()));
        assert_eq!(check(&[b'x'; 256]), Err(NameError::TooLong(256)));
        assert_eq!(check(b""), Err(NameError::Empty));
        assert_eq!(check(b"a/b"), Err(NameError::Forbidden(b'/')));
        assert_eq!(check(b"a\0b"), Err(NameError::Forbidden(0)));
        assert_eq!(check(b".."), Err(NameError::Dots));
    }

    #[test]
    fn nothing_printable_steers_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a\\x1b[2Jb\\nc");
        assert_eq!(printable("'x\\n' ü"), "'x\\n' ü");
    }

    #[test]
    fn names_with_slashes_are_shown_and_typed() {
        for (name, shown) in
            [(&b"a/b"[..], "a\\x2fb"), (b"", "\\x00"), (b"/", "\\x2f"), (b"a\\b\n\xff", "a\\\\b\\n\\xff")]
        {
            let entry = entry(name);
            assert_eq!(escape(&entry), shown);
            assert_eq!(unescape(shown.as_bytes()).as_deref(), Some(&*entry));
        }
        assert_eq!(outside(&entry(b"a/b")), b"a\\x2fb");
        assert_eq!(unescape("\\u{202e}x".as_bytes()).as_deref(), Some("\u{202e}x".as_bytes()));
        for plain in ["plain", "\\q", "\\x2", "\\u{d800}", "\\"] {
            assert_eq!(unescape(plain.as_bytes()), None, "{plain}");
        }
    }

    /// Names of one layout stay different, whatever bytes they have.
    #[test]
    fn no_two_names_become_one() {
        let parts: [&[u8]; 8] = [b"/", b"", b"a", b"\xc0", b"\xaf", b"\x80", b"\\x2f", b"\\"];
        let two = parts.iter().flat_map(|one| parts.map(|other| [*one, other].concat()));
        let names: BTreeSet<Vec<u8>> = two.flat_map(|two| parts.map(|third| [&two[..], third].concat())).collect();
        let mut seen: [BTreeSet<Vec<u8>>; 3] = Default::default();
        for name in &names {
            let entry = entry(name);
            assert_eq!(own(&entry), *name);
            assert!(seen[0].insert(entry.to_vec()), "{name:?}");
            assert!(seen[1].insert(escape(&entry).into_bytes()), "{name:?}");
            for other in substitutes(&entry) {
                assert_eq!(check(&other), Ok(()), "{name:?}");
                assert!(seen[2].insert(other), "{name:?}");
            }
        }
        assert!(substitutes(b"plain \xc0\xaf").is_empty());
        assert_eq!(escape(&entry(b"a\xc0\xafb")), "a\\xc0\\xafb");
    }

    #[test]
    fn nothing_that_is_shown_can_steer_a_terminal() {
        assert_eq!(escape("guest-ü".as_bytes()), "guest-ü");
        assert_eq!(escape(b"a\nb\x1b[2J\\"), "a\\nb\\x1b[2J\\\\");
        assert_eq!(escape(b"\xff\xfeok"), "\\xff\\xfeok");
        assert_eq!(escape("\u{202e}x\u{85}".as_bytes()), "\\u{202e}x\\u{85}");
    }
}
