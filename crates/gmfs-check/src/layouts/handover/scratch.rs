//! The scratch areas, into which the next kernel is put: what is wrong with them, and what is in them.

use gmfs_format::kho::{NoScratch, OddArea};
use gmfs_format::reading::Lack;
use gmfs_io::Span;

use super::{Check, page};
use crate::finding::{Reason, Subject};
use crate::problem::{Address, Problem, Text};

const AREAS: Subject = Subject::Part("scratch areas");

impl Check<'_> {
    /// The array of areas by itself.
    pub(super) fn scratch(&mut self) {
        match &self.store.scratch {
            Ok(scratch) => {
                if let Some(OddArea { array, entry, area, why }) = scratch.odd {
                    let problem = Problem::KhoScratchOdd {
                        entry,
                        address: Address(area.offset),
                        length: area.len,
                        why: Text::from(&why),
                    };
                    self.found.add(problem, AREAS, page(array), None);
                }
            }
            Err(NoScratch::NoRecord) => self.found.skip(AREAS, self.tree(), Reason::NotFound),
            Err(NoScratch::Unreadable { at }) => {
                let why = self.source.read_at(*at, &mut [0; 16]).err();
                let why = why.map_or(Reason::MetadataMissing, |error| Lack::from(&error).into());
                self.found.skip(AREAS, page(*at), why);
            }
            Err(NoScratch::NoArray { at }) => self.found.skip(AREAS, page(*at), Reason::SomethingElse),
        }
    }

    /// Bytes of a range that are in scratch areas.
    pub(super) fn scratch_overlap(&self, span: Span) -> u64 {
        let areas = self.store.scratch.iter().flat_map(|scratch| &scratch.areas);
        let common = areas.map(|area| area.end().min(span.end()).saturating_sub(area.offset.max(span.offset)));
        common.fold(0, u64::saturating_add)
    }
}
