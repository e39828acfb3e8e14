//! User and group of files, as chown(1) takes them.

use std::str::FromStr;

/// A user, a group, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Number of the user; `None` leaves it as it is.
    pub uid: Option<u32>,
    /// Number of the group; `None` leaves it as it is.
    pub gid: Option<u32>,
}

/// Why a text names no owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OwnerError {
    /// Nothing is on either side of the colon.
    #[error("an owner, a group, or both belong here: OWNER, OWNER:GROUP or :GROUP")]
    Empty,
    /// The name is no number, and not in this file of the system.
    #[error("'{name}' is no number, and not in {file}")]
    Unknown {
        /// The name.
        name: String,
        /// The file.
        file: &'static str,
    },
}

impl FromStr for Owner {
    type Err = OwnerError;

    /// Reads `OWNER`, `OWNER:GROUP` or `:GROUP`. Names are looked up in `/etc/passwd` and `/etc/group`.
    fn from_str(text: &str) -> Result<Self, OwnerError> {
        parse(text, |file| std::fs::read_to_string(file).unwrap_or_default())
    }
}

fn parse(text: &str, read: impl Fn(&str) -> String) -> Result<Owner, OwnerError> {
    let (owner, group) = text.split_once(':').unwrap_or((text, ""));
    if owner.is_empty() && group.is_empty() {
        return Err(OwnerError::Empty);
    }
    let number = |name: &str, file: &'static str| {
        if name.is_empty() {
            return Ok(None);
        }
        let found = name.parse().ok().or_else(|| number_in(&read(file), name));
        found.map(Some).ok_or_else(|| OwnerError::Unknown { name: name.to_owned(), file })
    };
    Ok(Owner { uid: number(owner, "/etc/passwd")?, gid: number(group, "/etc/group")? })
}

/// The number of a name in a file with lines like `name:password:number:…`.
fn number_in(text: &str, name: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split(':').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers_or_names() {
        let read = |file: &str| match file {
            "/etc/passwd" => "root:x:0:0:root:/root:/bin/sh\nqemu:x:107:107::/:/bin/false\n".to_owned(),
            _ => "kvm:x:36:qemu\n".to_owned(),
        };
        let parse = |text| parse(text, read).map(|owner| (owner.uid, owner.gid));
        assert_eq!(parse("qemu:kvm"), Ok((Some(107), Some(36))));
        assert_eq!(parse("5"), Ok((Some(5), None)));
        assert_eq!(parse(":7"), Ok((None, Some(7))));
        assert_eq!(parse("4294967295:0"), Ok((Some(u32::MAX), Some(0))));
        for wrong in ["", ":", "qem", "qemu:nobody", "-1", "root:x:0"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
