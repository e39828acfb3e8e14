//! The JSON documents of gmfs: what each command of the program prints with `--json`.
//!
//! Each document is one object, which names its schema (`gmfs.ls/1`) and the version of gmfs that made it; what is in it
//! is a type of this crate. The types are made from those of the crate [`gmfs`], so that a program that uses the library
//! prints the same documents, and are read back from a document:
//!
//! ```
//! use gmfs_json::files::Listing;
//!
//! let printed = r#"{
//!   "schema": "gmfs.ls/1",
//!   "gmfs": "0.1.0",
//!   "image": { "kind": "file", "path": "region.img" },
//!   "store": { "layout": "native", "uuid": null, "base": 0, "size": 1073741824 },
//!   "entries": [
//!     { "path": "/guest.mem", "ino": 2, "kind": "file", "parent": 1, "name": "guest.mem", "size": 4096, "blocks": 1 }
//!   ],
//!   "lost_pages": 0,
//!   "not_shown": []
//! }"#;
//! let answer = gmfs_json::read::<Listing>("ls", printed.as_bytes())?;
//! for entry in &answer.body.entries {
//!     println!("{:?}: {:?} bytes", entry.path.path, entry.inode.size);
//! }
//! # assert_eq!(answer.body.entries[0].inode.size, Some(4096));
//! # Ok::<(), gmfs_json::ReadError>(())
//! ```
//!
//! `docs/schema/` of the repository has the JSON Schema of each document; tests of this crate make it from these types.
//! With the feature `schema`, the types implement [`schemars::JsonSchema`](https://docs.rs/schemars).
//!
//! An addition keeps the number of the schema: a document may have names that this version of the crate does not know,
//! and ignores. Words such as `kind` are text, not enums, for the same reason.
#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod actions;
pub mod check;
pub mod diff;
pub mod dump;
pub mod files;
pub mod guestmemfs;
pub mod host;
pub mod kho;
pub mod luo;
pub mod pkernfs;
pub mod region;
#[cfg(test)]
mod schema;
pub mod seals;
pub mod space;
pub mod time;
pub mod vm;

use std::borrow::Cow;
use std::io::{self, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// A word of a document, such as the name of a layout: one of a few when it is written, any text when it is read.
pub type Word = Cow<'static, str>;

/// A document: its schema, the version of gmfs that made it, and what is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer<T> {
    /// Name and version of the schema, such as `gmfs.ls/1`.
    pub schema: String,
    /// The version of gmfs.
    pub gmfs: String,
    /// What the command answers.
    #[serde(flatten)]
    pub body: T,
}

/// What a command answers that could not do what it was asked to: `gmfs.error/1`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ErrorBody {
    /// The error.
    pub error: Told,
}

/// An error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Told {
    /// Code of the problem, such as GM0402; of an error, a word.
    pub code: Word,
    /// In words, for people.
    pub message: String,
    /// What led to the error, from the outermost to the innermost.
    pub causes: Vec<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Why a document cannot be read as the answer of a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The command could not do what it was asked to.
    #[error("gmfs answers an error: {}", .0.message)]
    Failed(Box<Told>),
    /// It has another schema.
    #[error("the document is {found}, not {expected}")]
    Another {
        /// The schema of that command's answer.
        expected: String,
        /// The schema of the document.
        found: String,
    },
    /// It is not JSON, or lacks something.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Answers in which a name has changed its type or its meaning, with the number of their schema. All others have 1.
const VERSIONS: [(&str, u32); 11] = [
    ("bad-list", 2),
    ("dump", 2),
    ("extract", 2),
    ("fsck", 2),
    ("inspect", 2),
    ("map", 2),
    ("mkfs", 2),
    ("repair", 2),
    ("save", 2),
    ("stat", 2),
    ("who", 2),
];

/// The name of the schema of a command's answer, such as `gmfs.ls/1`; of an error, the command is `error`.
pub fn schema_of(command: &str) -> String {
    let version = VERSIONS.iter().find(|(name, _)| *name == command).map_or(1, |(_, version)| *version);
    format!("gmfs.{command}/{version}")
}

/// Writes the answer of a command, as made by the version `gmfs` of the program.
pub fn write<T: Serialize>(writer: impl Write, command: &str, gmfs: &str, body: &T) -> io::Result<()> {
    let answer = Answer { schema: schema_of(command), gmfs: gmfs.to_owned(), body };
    let mut serializer = Serializer::with_formatter(writer, Plain::default());
    Ok(answer.serialize(&mut serializer)?)
}

/// Reads the answer of a command.
///
/// # Errors
///
/// If the document is no answer of that command, or of another version of its schema; and with what it says if it is the
/// answer of a command that failed.
pub fn read<T: DeserializeOwned>(command: &str, document: &[u8]) -> Result<Answer<T>, ReadError> {
    /// What every document has.
    #[derive(Deserialize)]
    struct Head {
        schema: String,
    }

    let (head, expected) = (serde_json::from_slice::<Head>(document)?, schema_of(command));
    if head.schema == expected {
        return Ok(serde_json::from_slice(document)?);
    }
    if head.schema == schema_of("error") {
        let told: Answer<ErrorBody> = serde_json::from_slice(document)?;
        return Err(ReadError::Failed(Box::new(told.body.error)));
    }
    Err(ReadError::Another { expected, found: head.schema })
}

/// Bytes that are usually text. If they are UTF-8, the string is exact. Otherwise it is escaped, and the bytes come
/// with it in hexadecimal.
pub fn text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (gmfs_format::name::escape(bytes), Some(hex(&gmfs_format::name::own(bytes)))),
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A flag mask, a checksum or a magic. It is a string, because many readers of JSON have exact numbers only up to 2^53.
pub fn mask(bits: u64) -> String {
    format!("{bits:#x}")
}

/// Pretty JSON in which no character controls a terminal: what serde_json leaves as it is, such as U+009B, is escaped.
#[derive(Default)]
struct Plain {
    pretty: PrettyFormatter<'static>,
}

impl Formatter for Plain {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut units = [0; 2];
        for c in fragment.chars() {
            let mut bytes = [0; 4];
            let text = c.encode_utf8(&mut bytes);
            if c.is_ascii_graphic() || c == ' ' || gmfs_format::name::escape(text.as_bytes()) == *text {
                writer.write_all(text.as_bytes())?;
            } else {
                for unit in c.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.pretty.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.pretty.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_exact_and_steer_no_terminal() {
        let hostile = "a\u{9b}b\u{202e}\u{7f}\n\"\\ü\u{1f600}\u{1b}";
        let mut bytes = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut bytes, Plain::default());
        hostile.serialize(&mut serializer).unwrap();
        let written = String::from_utf8(bytes).unwrap();
        assert_eq!(written, "\"a\\u009bb\\u202e\\u007f\\n\\\"\\\\ü\u{1f600}\\u001b\"");
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), hostile);
    }

    #[test]
    fn bytes_that_are_no_text_are_given_beside() {
        assert_eq!(text(b"ok"), ("ok".to_owned(), None));
        assert_eq!(text(b"\xffx"), ("\\xffx".to_owned(), Some("ff78".to_owned())));
    }
}
