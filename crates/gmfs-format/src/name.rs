//! File names: which ones are allowed, and how they are shown.

use std::fmt::Write as _;

/// The maximum length of a name in bytes.
pub const MAX_NAME: usize = 255;

/// Stands for a slash, in names of a layout whose names can have one: the two bytes of an overlong UTF-8 slash, which
/// valid text does not have. [`escape`] shows them as `\x2f`.
const SLASH: [u8; 2] = [0xc0, 0xaf];
/// Stands for an empty name: an overlong NUL, shown as `\x00`.
const NOTHING: [u8; 2] = [0xc0, 0x80];

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
    let mut rest = name;
    let mut shown = Vec::with_capacity(name.len());
    while let Some((first, after)) = rest.split_first() {
        let stands = [(SLASH, &b"\\x2f"[..]), (NOTHING, &b"\\x00"[..])];
        if let Some((bytes, text)) = stands.into_iter().find(|(bytes, _)| rest.starts_with(bytes)) {
            shown.extend_from_slice(text);
            rest = rest.get(bytes.len()..).unwrap_or_default();
        } else {
            shown.push(*first);
            rest = after;
        }
    }
    shown
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
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => shown.push_str("\\n"),
                '\t' => shown.push_str("\\t"),
                '\r' => shown.push_str("\\r"),
                '\\' => shown.push_str("\\\\"),
                c if c.is_control() && c.is_ascii() => push_hex(&mut shown, u32::from(c)),
                c if hidden(c) => shown.extend(c.escape_unicode()),
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            push_hex(&mut shown, u32::from(*byte));
        }
    }
    // Overlong bytes come out of here one by one.
    if shown.contains("\\xc0") {
        shown = shown.replace("\\xc0\\xaf", "\\x2f").replace("\\xc0\\x80", "\\x00");
    }
    shown
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

    #[test]
    fn nothing_that_is_shown_can_steer_a_terminal() {
        assert_eq!(escape("guest-ü".as_bytes()), "guest-ü");
        assert_eq!(escape(b"a\nb\x1b[2J\\"), "a\\nb\\x1b[2J\\\\");
        assert_eq!(escape(b"\xff\xfeok"), "\\xff\\xfeok");
        assert_eq!(escape("\u{202e}x\u{85}".as_bytes()), "\\u{202e}x\\u{85}");
    }
}
