//! What systemd calls the files that it hands over.
//!
//! From 261 on systemd keeps its file descriptor store in the session `systemd`. Token 0 is a file with JSON: for each unit
//! its descriptors with the tokens of their files, and the sessions that units have made themselves.

use std::collections::BTreeMap;

use serde_json::Value;

/// The session.
pub(super) const SESSION: &[u8] = b"systemd";
/// The token of the file with the names.
pub(super) const TOKEN: u64 = 0;
/// Bytes of such files that are read, of all together. A unit with 1000 descriptors takes 100 KiB.
pub(super) const MAX_BYTES: u64 = 16 << 20;
/// Such files that are used: one of each update that memory may still hold.
pub(super) const MAX_MAPS: usize = 16;
/// The longest name that is shown, in characters.
const MAX_NAME: usize = 256;

/// Names by token, and by session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) tokens: BTreeMap<u64, String>,
    pub(super) sessions: BTreeMap<String, String>,
}

/// The names in the file; `None` if it is something else.
pub(super) fn parse(bytes: &[u8]) -> Option<Names> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    let all: Value = serde_json::from_slice(bytes.get(..end)?).ok()?;
    let units = all.get("version").and_then(|_| all.get("units"))?.as_object()?;
    let mut names = Names::default();
    for (unit, what) in units {
        let Some(entries) = what.get("fdstore").and_then(Value::as_array) else { continue };
        for entry in entries {
            let text = |key: &str| entry.get(key).and_then(Value::as_str);
            let name = text("name").map_or_else(|| unit.clone(), |name| format!("{unit}: {name}"));
            let name: String = name.chars().take(MAX_NAME).collect();
            match text("type") {
                Some("luo_session") => {
                    if let Some(session) = text("sessionName") {
                        names.sessions.insert(session.to_owned(), name);
                    }
                }
                _ => {
                    if let Some(token) = entry.get("token").and_then(Value::as_u64) {
                        names.tokens.insert(token, name);
                    }
                }
            }
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_by_token_and_by_session() {
        let text = br#"{"version":1,"state":{"kexecsCount":2},"units":{
            "foo.service":{"fdstore":[{"type":"fd","name":"guest-memory","token":1},{"type":"fd","token":2}]},
            "qemu@a.service":{"fdstore":[{"type":"luo_session","name":"vm","sessionName":"a/b"}]},
            "odd.service":7}}"#;
        let found = parse(&[&text[..], &[0, 0]].concat()).unwrap();
        let tokens = [(1, "foo.service: guest-memory".to_owned()), (2, "foo.service".to_owned())];
        assert_eq!(found.tokens, tokens.into());
        assert_eq!(found.sessions, [("a/b".to_owned(), "qemu@a.service: vm".to_owned())].into());
        for other in [&b"{}"[..], b"", b"[1]", b"{\"units\":{}}", &[b'['; 100_000]] {
            assert_eq!(parse(other), None);
        }
    }
}
