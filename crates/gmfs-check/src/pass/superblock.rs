//! The superblocks: checks their two pages, and the contents of the one that is used.

use gmfs_format::native::copies::{Phase, Standing};
use gmfs_format::native::raw::{PageHeader, SuperblockRaw};
use gmfs_format::native::superblock::{MAX_LABEL, SuperblockFault, check_label};
use gmfs_format::native::units::{CopyId, PAGE_BYTES, PAGE_SIZE, PageNo};
use gmfs_io::{Absence, ReadAt, Span};
use gmfs_volume::Superblocks;
use gmfs_volume::superblocks::{Slot, state_is_sound};

use crate::finding::{Reason, Subject};
use crate::pass::{in_future, pages};
use crate::problem::{Mask, Problem, Text};
use crate::sink::Sink;

/// Where the superblock that is used is in the region.
pub(crate) fn span_of(superblocks: &Superblocks) -> Span {
    let copy = superblocks.judgement().take.unwrap_or(CopyId::A);
    Span::new(superblocks.geometry().copy_offset(copy), PAGE_BYTES)
}

/// Checks both copies and the contents of the one that is used. Returns whether there was nothing to check.
pub(crate) fn check<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, now: u64, sink: &mut Sink) -> bool {
    if superblocks.are_rebuilt() {
        return lost(source, superblocks, sink);
    }
    copies(superblocks, sink);
    size(source, superblocks, sink);
    let at = span_of(superblocks);
    let mut add = |problem| sink.add(problem, Subject::Superblock, at);
    if superblocks.phase() != Phase::Idle {
        add(Problem::WriterActive {});
    }
    if superblocks.contradicts_sums() {
        add(Problem::SumsWrong {});
    }
    if let Some(misstated) = superblocks.misstated() {
        let (proven, said) = (superblocks.decision().marks, misstated.marks());
        if said != proven {
            add(Problem::PagesPastMark { table: proven.table.into(), inodes: proven.inodes.into() });
        } else {
            add(Problem::SumsWrong {});
        }
    }
    let current = superblocks.current();
    let raw = &current.raw;
    let unknown = current.features().unknown();
    if unknown.compat != 0 {
        add(Problem::FeatureCompatUnknown { mask: Mask(unknown.compat) });
    }
    if unknown.ro_compat != 0 {
        add(Problem::FeatureRoUnknown { mask: Mask(unknown.ro_compat) });
    }
    if !state_is_sound(raw.state.get()) {
        add(Problem::StateContradicts { state: Mask(raw.state.get().into()) });
    }
    if !is_legal_label(raw) {
        add(Problem::LabelIllegal {});
    }
    if !is_padded_text(&raw.writer) {
        add(Problem::WriterIllegal {});
    }
    if !reserved_is_zero(raw) {
        add(Problem::SuperblockReserved {});
    }
    for (field, time) in times(raw) {
        if in_future(time, now) {
            add(Problem::SuperblockTimeFuture { field: Text(field.into()), time });
        }
    }
    if raw.error_count.get() != 0 {
        add(Problem::ErrorsRecorded { count: raw.error_count.get() });
    }
    header(source, superblocks, sink);
    false
}

/// Reports that neither copy can be used. If the image does not hold them, it is unknown whether anything is wrong with
/// them; this function returns whether that is so.
fn lost<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, sink: &mut Sink) -> bool {
    let page = |copy| Span::new(superblocks.geometry().copy_offset(copy), PAGE_BYTES);
    let absent =
        CopyId::BOTH.map(|copy| source.next_absent(page(copy).offset..page(copy).end()).map(|(_, why)| (copy, why)));
    let [Some(a), Some(b)] = absent else {
        sink.add(Problem::SuperblocksLost {}, Subject::Superblock, span_of(superblocks));
        return false;
    };
    for (copy, why) in [a, b] {
        sink.skip(pages::subject(superblocks, PageNo(0), Some(copy)), page(copy), Reason::Absent(why));
    }
    true
}

/// Reports what is wrong with the two pages.
fn copies(superblocks: &Superblocks, sink: &mut Sink) {
    let mut judgement = superblocks.judgement();
    for (copy, slot) in CopyId::BOTH.into_iter().zip([&superblocks.a, &superblocks.b]) {
        let Slot::Bad(fault, _) = slot else { continue };
        if matches!(fault, SuperblockFault::Seal(_)) {
            continue;
        }
        // A superblock with a good seal and impossible values is not a page fault, and is reported as a problem of its
        // own.
        let standing = if copy == CopyId::A { &mut judgement.a } else { &mut judgement.b };
        *standing = Standing::Good;
        let at = Span::new(superblocks.geometry().copy_offset(copy), PAGE_BYTES);
        let subject = pages::subject(superblocks, PageNo(0), Some(copy));
        sink.add(Problem::SuperblockLies { fault: Text::from(fault) }, subject, at);
    }
    pages::judged(PageNo(0), judgement, superblocks, sink);
}

/// The image must hold all blocks. What a dump lacks is not reported here, because it is absent for other reasons.
fn size<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, sink: &mut Sink) {
    let geometry = superblocks.geometry();
    let region = geometry.without_tail().size();
    let last = region.saturating_sub(1)..region;
    let cut = matches!(source.next_absent(last), Some((_, Absence::BeyondEnd)));
    if let Some(image) = source.end().filter(|end| cut && *end < region) {
        let at = Span::new(image, region.saturating_sub(image));
        sink.add(Problem::ImageTooSmall { region: geometry.size(), image }, Subject::Region, at);
    }
}

/// Checks reserved bytes of the page header.
fn header<S: ReadAt + ?Sized>(source: &S, superblocks: &Superblocks, sink: &mut Sink) {
    let at = span_of(superblocks);
    let mut page = [0; PAGE_SIZE];
    if source.read_at(at.offset, &mut page).is_ok() && PageHeader::of(&page).reserved != [0; 7] {
        sink.add(Problem::PageHeaderReserved {}, pages::subject(superblocks, PageNo(0), None), at);
    }
}

fn is_legal_label(raw: &SuperblockRaw) -> bool {
    let end = raw.label.iter().position(|byte| *byte == 0).unwrap_or(raw.label.len());
    let (text, padding) = raw.label.split_at(end);
    let legal = std::str::from_utf8(text).is_ok_and(|label| check_label(label).is_ok());
    legal && end <= MAX_LABEL && padding.iter().all(|byte| *byte == 0)
}

fn is_padded_text(field: &[u8]) -> bool {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let (text, padding) = field.split_at(end);
    let printable = text.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    printable && !padding.is_empty() && padding.iter().all(|byte| *byte == 0)
}

fn reserved_is_zero(raw: &SuperblockRaw) -> bool {
    raw.reserved_1 == [0; 3]
        && raw.reserved_2.get() == 0
        && raw.reserved_3.iter().all(|byte| *byte == 0)
        && raw.first_error.reserved.get() == 0
        && raw.last_error.reserved.get() == 0
}

fn times(raw: &SuperblockRaw) -> [(&'static str, u64); 4] {
    [
        ("created", raw.created.get()),
        ("written", raw.written.get()),
        ("checked", raw.checked.get()),
        ("sealed", raw.sealed.get()),
    ]
}
