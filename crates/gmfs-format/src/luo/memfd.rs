//! The record of a memfd.

use gmfs_io::ReadAt;

use super::Fault;
use super::raw::{MemfdV1Raw, MemfdV2Raw, VmallocRaw};
use crate::kho::{PAGE, is_page, read};

/// All seals that there are.
const SEALS: u32 = 0x3f;
/// Folios in a page of the array.
pub(super) const PER_PAGE: u64 = 256;
/// No file in memory is larger.
const MAX_SIZE: u64 = 1 << 52;

/// The form of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemfdVersion {
    /// `memfd-v1`: 6.19 and 7.0. It has no seals.
    V1,
    /// `memfd-v2`: 7.1 and later.
    V2,
}

impl MemfdVersion {
    /// The form that a handler writes, if it hands memfds over.
    #[must_use]
    pub fn of(handler: &[u8]) -> Option<Self> {
        match handler {
            b"memfd-v1" => Some(Self::V1),
            b"memfd-v2" => Some(Self::V2),
            _ => None,
        }
    }

    /// The handler.
    #[must_use]
    pub const fn handler(self) -> &'static str {
        match self {
            Self::V1 => "memfd-v1",
            Self::V2 => "memfd-v2",
        }
    }

    /// Bytes of a record.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::V1 => 40,
            Self::V2 => 48,
        }
    }
}

/// The record of a memfd, with numbers that agree with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memfd {
    /// Where the record is: the start of a page.
    pub at: u64,
    /// Its form.
    pub version: MemfdVersion,
    /// Position in the file.
    pub position: u64,
    /// Size in bytes.
    pub size: u64,
    /// The seals; `None` in a form that does not hand them over.
    pub seals: Option<u32>,
    /// Folios that the file has.
    pub folios: u64,
    /// First chunk of the list of pages of the array of folios; 0 if there are no folios.
    pub list: u64,
    /// Pages of that array.
    pub pages: u32,
    /// Each entry of the list stands for 2^order pages.
    pub order: u32,
}

impl Memfd {
    /// Reads the record at an address.
    ///
    /// # Errors
    /// It is not there, or its numbers contradict one another: its page has another owner now, or is damaged.
    pub fn read(source: &dyn ReadAt, version: MemfdVersion, at: u64) -> Result<Self, Fault> {
        if !is_page(at) {
            return Err(Fault::BadLink { holder: 0, value: at });
        }
        let unreadable = |_| Fault::Unreadable { at };
        let (found, flags, array) = match version {
            MemfdVersion::V1 => {
                let raw: MemfdV1Raw = read(source, at).map_err(unreadable)?;
                ((raw.position.get(), raw.size.get(), None, raw.folios.get()), 0, raw.array)
            }
            MemfdVersion::V2 => {
                let raw: MemfdV2Raw = read(source, at).map_err(unreadable)?;
                let seals = Some(raw.seals.get());
                ((raw.position.get(), raw.size.get(), seals, raw.folios.get()), raw.flags.get(), raw.array)
            }
        };
        let (position, size, seals, folios) = found;
        let (list, pages, order) = (array.first.get(), array.pages.get(), u32::from(array.order.get()));
        let record = Self { at, version, position, size, seals, folios, list, pages, order };
        record.check(flags, &array)?;
        Ok(record)
    }

    fn check(&self, flags: u32, array: &VmallocRaw) -> Result<(), Fault> {
        let at = self.at;
        let bad = |field, value| Err(Fault::BadRecord { at, field, value });
        if self.position > i64::MAX.unsigned_abs() {
            return bad("the position", self.position);
        }
        if self.size > MAX_SIZE {
            return bad("the size", self.size);
        }
        if let Some(seals) = self.seals.filter(|seals| *seals > SEALS) {
            return bad("the seals", seals.into());
        }
        if flags != 0 {
            return bad("the flags", flags.into());
        }
        // A file without bytes has no folios, and the rest of its record is zero.
        if (self.folios == 0) != (self.size == 0) || self.folios > self.size.div_ceil(PAGE) {
            return bad("the number of folios", self.folios);
        }
        if self.folios == 0 {
            let rest = [
                ("the list of its folios' pages", self.list),
                ("the pages of the array", self.pages.into()),
                ("the flags of the array", array.flags.get().into()),
                ("the order of the array", self.order.into()),
            ];
            let odd = rest.into_iter().find(|(_, value)| *value != 0);
            return odd.map_or(Ok(()), |(field, value)| bad(field, value));
        }
        if self.order > 10 {
            return bad("the order of the array", self.order.into());
        }
        if array.flags.get() == 0 || array.flags.get() > 3 {
            return bad("the flags of the array", array.flags.get().into());
        }
        let unit = 1_u64.checked_shl(self.order).unwrap_or(1);
        if self.folios.div_ceil(PER_PAGE).checked_next_multiple_of(unit) != Some(self.pages.into()) {
            return bad("the pages of the array", self.pages.into());
        }
        if !is_page(self.list) {
            return Err(Fault::BadLink { holder: at, value: self.list });
        }
        Ok(())
    }

    /// Whether all of it is zero: an empty file without seals, or a page that was given back.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        let numbers = [self.position, self.size, self.seals.unwrap_or_default().into(), self.list, self.pages.into()];
        numbers.iter().all(|number| *number == 0)
    }
}
