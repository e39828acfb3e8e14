//! Words and strings of letters for what the format stores as bits.

use std::fmt::Write as _;

use gmfs_format::model::Kind;
use gmfs_format::native::features::Features;
use gmfs_format::native::raw::BlockRaw;
use gmfs_format::native::superblock::{STATE_ACTIVE, STATE_CLEAN, STATE_FLAGS, STATE_SEALED};
use gmfs_format::native::tables::{
    BLOCK_CRC_VALID, BLOCK_FLAGS, BLOCK_ZERO, INODE_ALIGN_1G, INODE_DOUBTFUL, INODE_FLAGS, INODE_IMMUTABLE,
    INODE_LOST_DATA,
};

/// `drwxr-xr-x`
pub fn mode(kind: Kind, mode: u16) -> String {
    let mut text = String::with_capacity(10);
    text.push(match kind {
        Kind::Directory => 'd',
        Kind::File => '-',
        _ => '?',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// The named bits of a mask, and the rest of it in hexadecimal.
fn bits(mask: u64, names: &[(u64, &str)], known: u64) -> String {
    let mut text = String::new();
    for (bit, name) in names {
        if mask & bit != 0 {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}{name}");
        }
    }
    if mask & !known != 0 {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{:#x}", mask & !known);
    }
    text
}

/// What makedumpfile leaves out at this level, in words.
pub fn dump_level(level: u32) -> String {
    let names = [(1, "zero pages"), (2, "page cache"), (4, "private cache"), (8, "user pages"), (16, "free pages")];
    let named: Vec<&str> = names.iter().filter(|(bit, _)| level & bit != 0).map(|(_, name)| *name).collect();
    if named.is_empty() { "nothing".to_owned() } else { named.join(", ") }
}

/// `clean`, `active`, `clean,sealed`; `none` if no flag is set.
pub fn state(flags: u32) -> String {
    let names =
        [(u64::from(STATE_CLEAN), "clean"), (u64::from(STATE_ACTIVE), "active"), (u64::from(STATE_SEALED), "sealed")];
    let text = bits(flags.into(), &names, STATE_FLAGS.into());
    if text.is_empty() { "none".to_owned() } else { text }
}

/// `immutable,align-1g`; empty if no flag is set.
pub fn inode_flags(flags: u64) -> String {
    let names = [
        (INODE_IMMUTABLE, "immutable"),
        (INODE_ALIGN_1G, "align-1g"),
        (INODE_LOST_DATA, "lost-data"),
        (INODE_DOUBTFUL, "doubtful"),
    ];
    bits(flags, &names, INODE_FLAGS)
}

/// `free`, `data`; a state that does not exist is shown as a number.
pub fn block_state(entry: &BlockRaw) -> String {
    entry.state().map_or_else(|| format!("unknown ({})", entry.state), |state| state.name().to_owned())
}

/// `crc,zero`; empty if no flag is set.
pub fn block_flags(flags: u8) -> String {
    let names = [(u64::from(BLOCK_CRC_VALID), "crc"), (u64::from(BLOCK_ZERO), "zero")];
    bits(flags.into(), &names, BLOCK_FLAGS.into())
}

/// The three masks, or `none` if they are empty.
pub fn features(features: Features) -> String {
    if features == Features::default() {
        return "none".to_owned();
    }
    format!("compat {:#x}, ro-compat {:#x}, incompat {:#x}", features.compat, features.ro_compat, features.incompat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_names_and_unknown_ones_a_number() {
        assert_eq!(mode(Kind::Directory, 0o755), "drwxr-xr-x");
        assert_eq!(mode(Kind::File, 0o5600), "-rwS-----T");
        assert_eq!(state(1), "clean");
        assert_eq!(state(0x15), "clean,sealed,0x10");
        assert_eq!(state(0), "none");
        assert_eq!(inode_flags(2), "align-1g");
        assert_eq!(block_flags(0), "");
        assert_eq!(block_state(&BlockRaw::FREE), "free");
        assert_eq!(block_state(&BlockRaw { state: 77, ..BlockRaw::FREE }), "unknown (77)");
    }
}
