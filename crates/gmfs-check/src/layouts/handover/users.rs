//! What the users of KHO hand over, apart from the sessions and files of LUO: that it can be used, and has the size that is
//! said.

use gmfs_format::kho::fdt::Fdt;
use gmfs_format::kho::{User, Version};
use gmfs_format::name;
use gmfs_io::Span;

use super::{Check, TREE};
use crate::finding::{Reason, Subject};
use crate::problem::{Problem, Text};

/// Bytes of what the user `kexec-metadata` hands over.
const METADATA: u64 = 73;

impl Check<'_> {
    /// What users other than LUO left, and that all of it is preserved.
    pub(super) fn users(&mut self) {
        // The first of all: nothing has it before.
        let _ = self.own(self.tree(), TREE, "the device tree");
        for user in &self.store.users {
            let shown = name::escape(&user.name);
            let at = Span::new(user.at.unwrap_or(self.store.tree.at), user.size.unwrap_or(1).max(1));
            if let Some(why) = user.fault.as_ref().filter(|_| *user.name != *b"LUO") {
                if let Some(lack) = user.at.and_then(|at| self.absent(at)) {
                    self.found.lack(Subject::Page(at.offset), at, lack);
                    continue;
                }
                if self.is_later() {
                    self.found.skip(TREE, at, Reason::Overwritten);
                } else {
                    let problem = Problem::KhoUserDataBad { user: Text::from(&shown), why: Text::from(why) };
                    self.found.add(problem, TREE, at, None);
                    continue;
                }
            }
            if user.at.is_some() && user.fault.is_none() {
                let what = format!("what the user '{shown}' hands over");
                if let Some(page) = self.own(at, Subject::Page(at.offset), &what) {
                    self.shared_by_user(&shown, at, &what, page);
                }
            }
        }
        for user in &self.store.tree.users {
            self.blob_size(user);
        }
        for region in &self.store.reserve_mem {
            let what = format!("the region reserve_mem={}", name::escape(&region.label));
            let span = Span::new(region.start, region.size);
            if let Some(page) = self.own(span, Subject::Page(region.start), &what) {
                self.shared_by_user("memblock", span, &what, page);
            }
        }
    }

    /// From 7.1 on each user's node says how many bytes it hands over.
    fn blob_size(&mut self, user: &User) {
        let Some(at) = user.data.filter(|_| matches!(self.store.tree.version, Version::V3 | Version::V4)) else {
            return;
        };
        let shown = name::escape(&user.name);
        let Some(recorded) = user.size else {
            let why = Text::from(&"its node does not say how many bytes it has");
            let problem = Problem::KhoUserDataBad { user: Text::from(&shown), why };
            return self.found.add(problem, TREE, self.tree(), None);
        };
        let of_tree = || Fdt::read(self.source, at).ok().map(|fdt| u64::from(fdt.size));
        let actual = match &*user.name {
            b"kexec-metadata" => self.store.metadata.as_ref().map(|_| METADATA),
            b"memblock" | b"LUO" => of_tree(),
            _ => None,
        };
        if let Some(actual) = actual.filter(|actual| *actual != recorded) {
            let problem = Problem::KhoUserSizeDiffers { user: Text::from(&shown), recorded, actual };
            self.found.add(problem, TREE, self.tree(), None);
        }
    }

    /// Memory of a user other than LUO that something else has too.
    fn shared_by_user(&mut self, user: &str, span: Span, what: &str, page: u64) {
        let why = format!("{what} is at {page:#x} where something else is, too");
        let problem = Problem::KhoUserDataBad { user: Text::from(&user), why: Text::from(&why) };
        self.found.add(problem, Subject::Page(span.offset), span, None);
    }
}
