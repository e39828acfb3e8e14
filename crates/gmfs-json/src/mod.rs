//! The JSON answers. Each is one object that names its schema. The types here are only serialised, and describe nothing
//! but the output. An addition keeps the number of the schema.

pub(crate) mod actions;
pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod dump;
pub(crate) mod files;
pub(crate) mod guestmemfs;
pub(crate) mod host;
pub(crate) mod kho;
pub(crate) mod luo;
#[cfg(test)]
mod names;
pub(crate) mod pkernfs;
pub(crate) mod region;
#[cfg(test)]
mod schema;
pub(crate) mod seals;
pub(crate) mod space;
pub(crate) mod vm;

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::ctx::{Ctx, OutputError};
use crate::render::VERSION;

#[derive(Serialize)]
struct Envelope<'a, T> {
    schema: String,
    gmfs: &'static str,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ErrorBody {
    error: Told,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Told {
    code: &'static str,
    message: String,
    causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
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

/// The name of an answer's schema.
fn schema_of(command: &str) -> String {
    let version = VERSIONS.iter().find(|(name, _)| *name == command).map_or(1, |(_, version)| *version);
    format!("gmfs.{command}/{version}")
}

/// Prints the answer of a command.
pub(crate) fn print<T: Serialize>(ctx: &mut Ctx, command: &str, body: &T) -> Result<(), OutputError> {
    let envelope = Envelope { schema: schema_of(command), gmfs: VERSION, body };
    let mut serializer = Serializer::with_formatter(ctx.writer(), Plain::default());
    envelope.serialize(&mut serializer).map_err(|error| OutputError::from(io::Error::from(error)))?;
    ctx.line("")
}

/// Prints an operational error.
pub(crate) fn error(
    ctx: &mut Ctx,
    code: &'static str,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
) -> Result<(), OutputError> {
    print(ctx, "error", &ErrorBody { error: Told { code, message, causes, hint } })
}

/// Bytes that are usually text. If they are UTF-8, the string is exact. Otherwise it is escaped, and the bytes come
/// with it in hexadecimal.
pub(crate) fn text(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (gmfs_format::name::escape(bytes), Some(hex(bytes))),
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A flag mask, a checksum or a magic. It is a string, because many readers of JSON have exact numbers only up to 2^53.
pub(crate) fn mask(bits: u64) -> String {
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
