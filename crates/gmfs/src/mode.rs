//! Permission bits as chmod(1) takes them: in octal, or as changes of those that are there.
//!
//! ```
//! use gmfs::mode::ModeChange;
//! let change: ModeChange = "u+w,go-rwx".parse()?;
//! assert_eq!(change.of(0o444, false), 0o600);
//! # Ok::<(), gmfs::mode::ModeError>(())
//! ```

use std::str::FromStr;

/// A text that is no permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModeError {
    /// It is not octal, or more than twelve bits.
    #[error("permission bits are octal, from 0 to 7777")]
    Octal,
    /// It is neither octal nor a list of changes.
    #[error("permission bits are octal, or changes such as u+w,go-rwx")]
    Change,
}

/// Permission bits in octal, with or without `0o`.
///
/// # Errors
/// [`ModeError::Octal`].
pub fn octal(text: &str) -> Result<u16, ModeError> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u16::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777).ok_or(ModeError::Octal)
}

/// Permission bits, or changes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeChange(Change);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Bits(u16),
    Steps(Vec<Step>),
}

/// One change: whose bits, which of them, and what happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    who: u16,
    how: char,
    bits: u16,
    /// x, for directories only.
    search: bool,
}

impl ModeChange {
    /// The bits that a file or directory with the bits `mode` gets.
    #[must_use]
    pub fn of(&self, mode: u16, directory: bool) -> u16 {
        match &self.0 {
            Change::Bits(bits) => *bits,
            Change::Steps(steps) => steps.iter().fold(mode, |mode, step| {
                let search = if step.search && directory { 0o111 } else { 0 };
                let bits = (step.bits | search) & step.who;
                match step.how {
                    '+' => mode | bits,
                    '-' => mode & !bits,
                    _ => (mode & !step.who) | bits,
                }
            }),
        }
    }
}

impl FromStr for ModeChange {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        parse(text).map(Self)
    }
}

fn parse(text: &str) -> Result<Change, ModeError> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return octal(text).map(Change::Bits);
    }
    let wrong = || ModeError::Change;
    let one = |part: &str| {
        let at = part.find(['+', '-', '=']).ok_or_else(wrong)?;
        let (who, rest) = part.split_at(at);
        let mut step = Step { who: 0, how: rest.chars().next().ok_or_else(wrong)?, bits: 0, search: false };
        for who in if who.is_empty() { "a" } else { who }.chars() {
            step.who |= match who {
                'u' => 0o700,
                'g' => 0o070,
                'o' => 0o007,
                'a' => 0o777,
                _ => return Err(wrong()),
            };
        }
        for bit in rest.chars().skip(1) {
            match bit {
                'r' => step.bits |= 0o444,
                'w' => step.bits |= 0o222,
                'x' => step.bits |= 0o111,
                'X' => step.search = true,
                _ => return Err(wrong()),
            }
        }
        Ok(step)
    };
    text.split(',').map(one).collect::<Result<_, _>>().map(Change::Steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_those_of_chmod() {
        for (text, before, directory, after) in [
            ("640", 0o777, false, 0o640),
            ("u+x", 0o644, false, 0o744),
            ("go-rwx", 0o4777, false, 0o4700),
            ("a=r", 0o4777, false, 0o4444),
            ("+w", 0o444, false, 0o666),
            ("u=rw,g=r,o=", 0o777, false, 0o640),
            ("-R", 0, false, 0),
            ("g+rX", 0o600, true, 0o650),
            ("g+rX", 0o600, false, 0o640),
        ] {
            match text.parse::<ModeChange>() {
                Ok(mode) => assert_eq!(mode.of(before, directory), after, "{text}"),
                Err(_) => assert_eq!(text, "-R"),
            }
        }
        for wrong in ["", "u", "u+z", "b+r", "888", "u+r,"] {
            assert!(wrong.parse::<ModeChange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(octal("0640"), Ok(0o640));
        assert_eq!(octal("7777"), Ok(0o7777));
        for wrong in ["8", "10000", "", "rw", "-1"] {
            assert!(octal(wrong).is_err(), "{wrong}");
        }
    }
}
