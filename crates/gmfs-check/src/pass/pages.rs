//! Reports problems of the two copies of a page.

use gmfs_format::native::copies::{Judgement, Standing};
use gmfs_format::native::raw::PageHeader;
use gmfs_format::native::seal::SealFault;
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PageBytes, PageNo};
use gmfs_io::Span;
use gmfs_volume::Superblocks;
use gmfs_volume::census::Census;
use gmfs_volume::sweep::{Frame, Visit as _};

use crate::finding::{Reason, Subject};
use crate::problem::{Problem, Text};
use crate::sink::Sink;
use crate::standings::PageStandings;

/// What a pass over pages has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// How many pages cannot be read in either copy.
    pub(crate) missing: u64,
    /// Whether recovery has work to do.
    pub(crate) recovery: bool,
    /// The states of the pages of both copies.
    pub(crate) standings: PageStandings,
    /// The statements of all pages, by which what was presumed is confirmed.
    pub(crate) census: Census,
}

/// Judges a table page. In the common case that both copies are whole, this costs two comparisons.
pub(crate) fn check(frame: &Frame<'_>, superblocks: &Superblocks, seen: &mut Seen, sink: &mut Sink) {
    seen.standings.add(&frame.judgement);
    if superblocks.is_presumed() {
        seen.census.visit(frame);
    }
    if !frame.judgement.is_whole() {
        judged(frame.page, frame.judgement, superblocks, sink);
        let unknown = frame.judgement.uncertain && superblocks.lacks_pages();
        seen.missing = seen.missing.saturating_add(u64::from(frame.judgement.take.is_none() || unknown));
        seen.recovery |= frame.judgement.a.is_recovery() || frame.judgement.b.is_recovery();
    }
    if let Some(bytes) = frame.taken() {
        header(frame.page, bytes, superblocks, sink);
    }
}

/// Reports what is wrong with a page's copies.
pub(crate) fn judged(page: PageNo, judgement: Judgement, superblocks: &Superblocks, sink: &mut Sink) {
    let both = subject(superblocks, page, None);
    let at = span_of(superblocks, CopyId::A, page);
    if judgement.conflict {
        sink.add(Problem::CopiesConflict {}, both, at);
    }
    // Pages that the image lacks might prove this one, so this is not damage.
    if judgement.uncertain && superblocks.lacks_pages() {
        sink.skip(both, at, Reason::MetadataMissing);
    } else if judgement.uncertain {
        sink.add(Problem::PageUncertain {}, both, at);
    }
    let absent = |copy| matches!(judgement.of(copy), Standing::Absent(_));
    if judgement.take.is_none() && !(absent(CopyId::A) && absent(CopyId::B)) {
        let word = |copy| Text::from(&Word(judgement.of(copy)));
        sink.add(Problem::PageLost { a: word(CopyId::A), b: word(CopyId::B) }, both, at);
    }
    for copy in CopyId::BOTH {
        let standing = judgement.of(copy);
        let (subject, at) = (subject(superblocks, page, Some(copy)), span_of(superblocks, copy, page));
        if let Standing::Absent(why) = standing {
            sink.skip(subject, at, Reason::Absent(why));
        } else if judgement.take.is_some()
            && let Some(problem) = problem(standing)
        {
            sink.add(problem, subject, at);
        }
    }
}

/// The problem of a copy in this state, if the other copy is good.
fn problem(standing: Standing) -> Option<Problem> {
    Some(match standing {
        Standing::Good | Standing::Absent(_) => return None,
        Standing::Uncommitted => Problem::ChangeUncommitted {},
        Standing::Lagging => Problem::MirrorLagging {},
        Standing::Interrupted => Problem::StoreInterrupted {},
        Standing::Stale => Problem::PageStale {},
        Standing::Unreadable => Problem::PageUnreadable {},
        Standing::Damaged(fault) => match fault {
            SealFault::Zeroed => Problem::PageZeroed {},
            SealFault::Overwritten => Problem::PageOverwritten {},
            SealFault::Flipped { byte, bit } => Problem::PageFlipped { byte, bit },
            SealFault::Torn => Problem::PageTorn {},
            SealFault::Version(version) => Problem::PageVersion { version },
            SealFault::Foreign(uuid) => Problem::PageForeign { uuid: Text::from(&uuid) },
            SealFault::Misplaced { .. }
            | SealFault::OtherLayout { .. }
            | SealFault::OtherBirth(_)
            | SealFault::Prepared => Problem::PageMisplaced { found: Text::from(&fault) },
        },
    })
}

/// A state as one word, so that neighbours that are lost in the same way become one finding.
struct Word(Standing);

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Standing::Good => "good",
            Standing::Uncommitted => "uncommitted",
            Standing::Lagging => "lagging",
            Standing::Interrupted => "interrupted",
            Standing::Stale => "stale",
            Standing::Damaged(fault) => fault.name(),
            Standing::Absent(_) => "absent",
            Standing::Unreadable => "unreadable",
        })
    }
}

/// Checks reserved bytes of a page with a good seal.
fn header(page: PageNo, bytes: &PageBytes, superblocks: &Superblocks, sink: &mut Sink) {
    if PageHeader::of(bytes).reserved != [0; 7] {
        let at = span_of(superblocks, CopyId::A, page);
        sink.add(Problem::PageHeaderReserved {}, subject(superblocks, page, None), at);
    }
}

/// A page as a finding's subject.
pub(crate) fn subject(superblocks: &Superblocks, page: PageNo, copy: Option<CopyId>) -> Subject {
    let kind = superblocks.geometry().page_kind(page).unwrap_or(gmfs_format::native::seal::PageKind::Superblock);
    Subject::Pages { kind, first: page, count: 1, copy }
}

/// Where a page is in the region.
pub(crate) fn span_of(superblocks: &Superblocks, copy: CopyId, page: PageNo) -> Span {
    Span::new(superblocks.geometry().page_offset(copy, page), PAGE_BYTES)
}
