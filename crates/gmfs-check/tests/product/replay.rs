//! Shows one case round by round.

use std::collections::BTreeMap;

use gmfs_check::{Options, Policy, apply, check, plan};
use gmfs_volume::Class;

use crate::fsck::fsck;
use crate::image::{Event, Image};
use crate::modes::Case;
use crate::oracle::{Laws, statement};
use crate::world::{NOW, Others, PAGES, World, stamp, states, upstarts};

/// Shows the repair of a case, which is named as the test names it.
pub(crate) fn show(text: &str, worlds: &BTreeMap<&'static str, World>, others: &Others) {
    let (head, rest) = text.split_once(", ").unwrap_or((text, ""));
    let (tail, moment) = head.split_once(" at ").expect("TAIL at MOMENT");
    let world = &worlds[tail];
    for point in world.points().iter().filter(|point| point.name == moment) {
        let mut case = Case::new(point, world);
        for part in rest.split(", ").filter(|part| !part.is_empty()) {
            let (slot, name) = part.split_once(' ').expect("PAGE STATE");
            let page: usize = slot[1..].parse().expect("a page");
            let number = page + if slot.starts_with('B') { PAGES as usize } else { 0 };
            let offset = world.slots()[number];
            let all = states(point, offset, others).into_iter().chain(upstarts(point, offset)).collect::<Vec<_>>();
            case.set(number, offset, all.iter().find(|state| state.name == name).expect("a state"));
        }
        let may = world.oracle.acceptable(&case.believable(), case.ok);
        println!("{}: right are states {:b} (after a commit {:b})", case.what, may, case.ok);
        crash(&mut case.image);
        pages(&case.image);
        let mut after = case.image.clone();
        rounds(&mut after);
        pages(&after);
        let mut again = case.image.clone();
        let ended = fsck(&mut again, Policy::Safe);
        let laws = Laws { safe: true, told: false, nothing: false };
        println!("{:?}", world.oracle.judge(&case.image, may, case.ok, &again, &ended, laws));
    }
}

/// Performs the first writes of a repair, if that is asked for.
fn crash(image: &mut Image) {
    let wanted: usize = std::env::var("GMFS_PRODUCT_CRASH").ok().and_then(|groups| groups.parse().ok()).unwrap_or(0);
    let log = fsck(&mut image.clone(), Policy::Safe).log;
    let groups = log.split(|event| matches!(event, Event::Barrier)).filter(|group| !group.is_empty());
    for event in groups.take(wanted).flatten() {
        if let Event::Store(at, bytes) = event {
            image.set(*at, Some(bytes.clone()));
        }
    }
}

fn pages(image: &Image) {
    for (at, page) in image.pages() {
        let found = statement(page, at).map(|found| (char::from(found.copy), found.page, found.generation));
        println!("  {at:#x}: {found:?}");
    }
}

fn rounds(image: &mut Image) {
    let options = Options::new(NOW);
    for _ in 0..10 {
        let Ok(report) = check(&*image, &options, &|_, _| {}) else { return println!("no region") };
        let Some(state) = report.state.clone() else { return };
        println!("{:?}: {:?}, rivals {:?}", report.verdict(), state.decision(), state.rivals());
        report.findings.iter().for_each(|finding| println!("  {:?} {finding}", finding.code()));
        let next = plan(&*image, &report, Policy::Safe).unwrap();
        next.refused.iter().for_each(|refused| println!("  refused {refused:?}"));
        next.edits.iter().for_each(|planned| println!("  {}; loses {:?}", planned.edit, planned.loses));
        if next.edits.is_empty() {
            return;
        }
        println!("  applied: {:?}", apply(image, &state, &next.edits, Class::Safe, &stamp()));
    }
}
