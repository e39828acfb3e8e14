//! Patterns for paths in a store, as shells have them for files.
//!
//! `*` is any part of a name, `?` one byte of it, `[a-z]` one of these bytes, `[!a-z]` one that is none of them; a backslash
//! takes its meaning from what follows it. A pattern stands for whole names only: no `*` matches a slash. As in a shell, a dot
//! at the start of a name is matched by a dot only.
//!
//! ```
//! # fn example(store: &gmfs::Store) {
//! for path in gmfs::glob::expand(&store.inodes().tree, b"/vms/*.mem") {
//!     println!("{}", gmfs_format::name::escape(&path));
//! }
//! # }
//! ```

use gmfs_format::model::{InodeNo, Kind, Tree};

use crate::walk::{Paths, join};

/// Whether a path is a pattern: it has a character that stands for others.
#[must_use]
pub fn is_pattern(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// The paths that a pattern matches, in the order of the tree. One that ends in a slash matches directories only.
#[must_use]
pub fn expand(tree: &Tree, pattern: &[u8]) -> Vec<Vec<u8>> {
    let mut found = vec![(InodeNo::ROOT, b"/".to_vec())];
    for part in pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        let part = parse(part);
        let mut next: Vec<(InodeNo, Vec<u8>)> = Vec::new();
        for (directory, path) in found.iter().filter(|(_, path)| path.len() <= Paths::MAX_LEN) {
            for child in tree.children(*directory).filter(|child| matches(&part, &child.name)) {
                let path = join(path, &child.name);
                // Of inodes with one name, which is damage, a look-up finds the first.
                if next.last().is_none_or(|(_, last)| *last != path) {
                    next.push((child.ino, path));
                }
            }
        }
        found = next;
    }
    let directories = pattern.ends_with(b"/");
    let wanted = |ino: InodeNo| !directories || tree.get(ino).is_some_and(|inode| inode.kind == Kind::Directory);
    found.into_iter().filter(|(ino, _)| *ino != InodeNo::ROOT && wanted(*ino)).map(|(_, path)| path).collect()
}

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Byte(u8),
    Any,
    Star,
    /// One of these ranges, or none of them.
    Set(Vec<(u8, u8)>, bool),
}

impl Piece {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::Any => true,
            Self::Star => false,
            Self::Set(ranges, wanted) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) == *wanted,
        }
    }
}

fn parse(part: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = part;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        pieces.push(match first {
            b'*' => Piece::Star,
            b'?' => Piece::Any,
            b'\\' => match rest.split_first() {
                Some((quoted, after)) => {
                    rest = after;
                    Piece::Byte(*quoted)
                }
                None => Piece::Byte(b'\\'),
            },
            // A bracket that is not closed stands for itself.
            b'[' => match set(rest) {
                Some((set, after)) => {
                    rest = after;
                    set
                }
                None => Piece::Byte(b'['),
            },
            byte => Piece::Byte(*byte),
        });
    }
    pieces
}

/// What follows an opening bracket: the set, and what is after it.
fn set(text: &[u8]) -> Option<(Piece, &[u8])> {
    let (wanted, mut rest) = match text.strip_prefix(b"!").or_else(|| text.strip_prefix(b"^")) {
        Some(after) => (false, after),
        None => (true, text),
    };
    let mut ranges = Vec::new();
    loop {
        let (from, after) = rest.split_first()?;
        // A closing bracket that comes first belongs to the set.
        if *from == b']' && !ranges.is_empty() {
            return Some((Piece::Set(ranges, wanted), after));
        }
        match after {
            [b'-', to, after @ ..] if *to != b']' => {
                ranges.push((*from, *to));
                rest = after;
            }
            _ => {
                ranges.push((*from, *from));
                rest = after;
            }
        }
    }
}

/// Whether a name fits. The time is bounded by the product of both lengths.
fn matches(pattern: &[Piece], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&Piece::Byte(b'.')) {
        return false;
    }
    let (mut pieces, mut rest) = (pattern, name);
    // Where to go on if what follows the last star does not fit: with one more byte for the star.
    let mut again: Option<(&[Piece], &[u8])> = None;
    loop {
        match (pieces.split_first(), rest.split_first()) {
            (None, None) => return true,
            (Some((Piece::Star, after)), _) => {
                again = Some((after, rest));
                pieces = after;
                continue;
            }
            (Some((piece, after)), Some((byte, left))) if piece.takes(*byte) => {
                (pieces, rest) = (after, left);
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = again else { return false };
        let Some((_, left)) = from.split_first() else { return false };
        again = Some((after, left));
        (pieces, rest) = (after, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_as_in_a_shell() {
        let fits = |pattern: &str, name: &str| matches(&parse(pattern.as_bytes()), name.as_bytes());
        for (pattern, fitting, not) in [
            ("*", &["a", "abc"][..], &[".a"][..]),
            ("*.mem", &["a.mem", "a.b.mem"], &["a.memo", ".mem", "mem"]),
            ("a*b*c", &["abc", "aXbYc", "abbcc"], &["ab", "acb", "abcd"]),
            ("a?c", &["abc"], &["ac", "abbc"]),
            ("[a-cx]1", &["a1", "c1", "x1"], &["d1", "1", "-1"]),
            ("[!a]1", &["b1"], &["a1"]),
            ("[^a]1", &["b1"], &["a1"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[a", &["[a"], &["a"]),
            (r"\*", &["*"], &["a"]),
            (r"a\", &[r"a\"], &["a"]),
            (".*", &[".a"], &["a"]),
            ("**", &["a"], &[]),
        ] {
            assert!(fitting.iter().all(|name| fits(pattern, name)), "{pattern}: {fitting:?}");
            assert!(not.iter().all(|name| !fits(pattern, name)), "{pattern}: {not:?}");
        }
        // No pattern takes long.
        assert!(!fits(&"*a".repeat(120), &"a".repeat(119)));
        assert!(!fits(&format!("{}b", "*a".repeat(120)), &"a".repeat(255)));
    }

    #[test]
    fn patterns_stand_for_paths() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::open(&crate::testing::region(dir.path())).unwrap();
        let tree = store.inodes().tree;
        let found = |pattern: &str| -> Vec<String> {
            expand(&tree, pattern.as_bytes()).into_iter().map(|path| String::from_utf8(path).unwrap()).collect()
        };
        assert_eq!(found("/*"), ["/empty", "/vms"]);
        assert_eq!(found("*/*"), ["/vms/a", "/vms/deep"]);
        assert_eq!(found("/v*/*/"), ["/vms/deep"]);
        assert_eq!(found("/vms/[ab]"), ["/vms/a"]);
        assert_eq!(found("/vms/deep/?"), ["/vms/deep/b"]);
        assert!(found("/x*").is_empty() && found("/").is_empty() && found("/vms/a/*").is_empty());
        assert!(is_pattern(b"/a*") && is_pattern(b"[") && !is_pattern(b"/a"));
    }
}
