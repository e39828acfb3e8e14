//! File names: which ones are allowed, and how they are shown.

use std::fmt::Write as _;

/// The maximum length of a name in bytes.
pub const MAX_NAME: usize = 255;

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
    fn nothing_that_is_shown_can_steer_a_terminal() {
        assert_eq!(escape("guest-ü".as_bytes()), "guest-ü");
        assert_eq!(escape(b"a\nb\x1b[2J\\"), "a\\nb\\x1b[2J\\\\");
        assert_eq!(escape(b"\xff\xfeok"), "\\xff\\xfeok");
        assert_eq!(escape("\u{202e}x\u{85}".as_bytes()), "\\u{202e}x\\u{85}");
    }
}
