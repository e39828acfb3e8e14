//! Lists the fields of a metadata page by name, whatever they hold. A damaged page is listed like any other.

use uuid::Uuid;

use crate::native::raw::{
    BlockRaw, BlockTablePage, ErrorRecord, Field, InodeRaw, InodeTablePage, OnMemory, PageHeader, PageTrailer,
    SuperblockPage, SuperblockRaw,
};
use crate::native::seal::PageKind;
use crate::native::units::{PAGE_SIZE, PageBytes};

/// A field of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedField {
    /// Its name within the page, such as `header.uuid` or `inodes[3].size`.
    pub name: String,
    /// Its offset in the page, in bytes.
    pub offset: usize,
    /// How it is declared.
    pub field: Field,
    /// What it holds.
    pub value: Value,
}

/// The value of a field, as its declaration says that it is to be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// A number.
    Number(u64),
    /// A number of which each bit, or each digit in base 16, has a meaning.
    Mask(u64),
    /// Permission bits.
    Mode(u64),
    /// Nanoseconds since the epoch, not 0.
    Time(u64),
    /// A number that stands for a letter, not 0.
    Letter(u8),
    /// A UUID.
    Uuid(Uuid),
    /// Text, without the zeros that follow it.
    Text(String),
    /// Bytes that are no text.
    Bytes(Vec<u8>),
}

/// The fields of a page.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The name of the page's structure.
    pub structure: &'static str,
    /// Its fields in order.
    pub fields: Vec<NamedField>,
    /// Entries that are left out because they are all zero.
    pub zero_entries: u64,
}

/// Lists the fields of a page as if it were of this kind.
#[must_use]
pub fn list(page: &PageBytes, kind: PageKind) -> Listed {
    let (header, trailer) = (size_of::<PageHeader>(), PAGE_SIZE.saturating_sub(size_of::<PageTrailer>()));
    let mut listed = Listed { structure: "", fields: Vec::new(), zero_entries: 0 };
    listed.push(page, "header", 0, PageHeader::FIELDS);
    match kind {
        PageKind::Superblock => {
            listed.structure = SuperblockPage::NAME;
            listed.push(page, "", header, SuperblockRaw::FIELDS);
        }
        PageKind::BlockTable => {
            listed.structure = BlockTablePage::NAME;
            listed.entries::<BlockRaw>(page, "entries", header..trailer);
        }
        PageKind::InodeTable => {
            listed.structure = InodeTablePage::NAME;
            listed.entries::<InodeRaw>(page, "inodes", header..trailer);
        }
    }
    listed.push(page, "trailer", trailer, PageTrailer::FIELDS);
    listed
}

impl Listed {
    /// Adds the fields of the entries of a table page.
    fn entries<T: OnMemory>(&mut self, page: &PageBytes, name: &str, range: std::ops::Range<usize>) {
        let entries = page.get(range.clone()).unwrap_or_default().chunks_exact(size_of::<T>());
        for ((number, entry), start) in entries.enumerate().zip((range.start..).step_by(size_of::<T>())) {
            if entry.iter().all(|byte| *byte == 0) {
                self.zero_entries = self.zero_entries.saturating_add(1);
            } else {
                self.push(page, &format!("{name}[{number}]"), start, T::FIELDS);
            }
        }
    }

    /// Adds the fields of a structure that starts at `start`.
    fn push(&mut self, page: &PageBytes, prefix: &str, start: usize, fields: &[Field]) {
        for field in fields {
            let range = field.range();
            let (offset, end) = (start.saturating_add(range.start), start.saturating_add(range.end));
            let dot = if prefix.is_empty() { "" } else { "." };
            let name = format!("{prefix}{dot}{}", field.name);
            if field.kind == ErrorRecord::NAME {
                self.push(page, &name, offset, ErrorRecord::FIELDS);
                continue;
            }
            let value = value(field, page.get(offset..end).unwrap_or_default());
            self.fields.push(NamedField { name, offset, field: *field, value });
        }
    }
}

fn value(field: &Field, bytes: &[u8]) -> Value {
    const TIMES: [&str; 8] = ["accessed", "modified", "changed", "created", "written", "checked", "sealed", "time"];
    const MASKS: [&str; 4] = ["crc", "state", "flags", "base"];
    if field.name == "uuid"
        && let Ok(uuid) = Uuid::from_slice(bytes)
    {
        return Value::Uuid(uuid);
    }
    if field.kind.starts_with('[') {
        return text(field.name, bytes);
    }
    let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    match (field.name, number) {
        (_, 0) => Value::Number(0),
        ("copy", _) => Value::Letter(bytes.first().copied().unwrap_or_default()),
        ("mode", _) => Value::Mode(number),
        (name, _) if TIMES.contains(&name) => Value::Time(number),
        (name, _) if MASKS.contains(&name) || name.starts_with("feature_") => Value::Mask(number),
        _ => Value::Number(number),
    }
}

/// The value of a field of bytes. It is text, without its padding, if the field is one for text and holds text.
fn text(name: &str, bytes: &[u8]) -> Value {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    let used = bytes.get(..end).unwrap_or_default();
    let is_text = !used.is_empty() && ["magic", "label", "writer", "name"].contains(&name);
    match std::str::from_utf8(used) {
        Ok(text) if is_text && !text.chars().any(char::is_control) => Value::Text(text.to_owned()),
        _ => Value::Bytes(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::units::{CopyId, InodeNo};

    fn field<'l>(listed: &'l Listed, name: &str) -> &'l NamedField {
        listed.fields.iter().find(|field| field.name == name).unwrap()
    }

    #[test]
    fn the_fields_of_a_table_have_their_place_and_meaning() {
        let mut page = [0; PAGE_SIZE];
        PageHeader::of_mut(&mut page).copy = CopyId::B.byte();
        PageHeader::of_mut(&mut page).magic = PageKind::InodeTable.magic();
        let mut inode = InodeRaw::free(InodeNo(2), 1);
        inode.set_name("gäste".as_bytes());
        (inode.mode, inode.modified, inode.flags) = (0o640.into(), 77.into(), 5.into());
        InodeTablePage::view_mut(&mut page).inodes[1] = inode;
        let listed = list(&page, PageKind::InodeTable);
        assert_eq!((listed.structure, listed.zero_entries), ("InodeTablePage", 7));
        assert_eq!(field(&listed, "header.copy").value, Value::Letter(b'B'));
        assert_eq!(field(&listed, "header.magic").value, Value::Text("GMit".to_owned()));
        let name = field(&listed, "inodes[1].name");
        assert_eq!(name.value, Value::Text("gäste".to_owned()));
        assert_eq!(&page[name.offset..][..6], "gäste".as_bytes());
        assert_eq!(field(&listed, "inodes[1].mode").value, Value::Mode(0o640));
        assert_eq!(field(&listed, "inodes[1].modified").value, Value::Time(77));
        assert_eq!(field(&listed, "inodes[1].flags").value, Value::Mask(5));
        assert_eq!(field(&listed, "inodes[1].created").value, Value::Number(0));
        assert_eq!(field(&listed, "trailer.birth").offset, PAGE_SIZE - size_of::<PageTrailer>());
    }

    #[test]
    fn every_byte_of_a_page_is_in_a_field() {
        let mut bytes = (1..=251_u8).cycle();
        let page: PageBytes = std::array::from_fn(|_| bytes.next().unwrap_or_default());
        for kind in PageKind::ALL {
            let listed = list(&page, kind);
            let mut next = 0;
            for field in &listed.fields {
                assert_eq!(field.offset, next, "{kind} {}", field.name);
                next += field.field.size;
            }
            assert_eq!(next, PAGE_SIZE, "{kind}");
        }
    }

    #[test]
    fn what_is_no_text_is_bytes() {
        assert_eq!(text("label", b"a\x1bb\0"), Value::Bytes(b"a\x1bb\0".to_vec()));
        assert_eq!(text("label", b"a\xff"), Value::Bytes(b"a\xff".to_vec()));
        assert_eq!(text("reserved", b"ab"), Value::Bytes(b"ab".to_vec()));
        assert_eq!(text("name", b"\0\0"), Value::Bytes(vec![0, 0]));
    }
}
