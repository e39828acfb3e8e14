//! The kinds of cases: how regions are damaged.

use gmfs_check::Policy;

use crate::fsck::fsck;
use crate::image::{Event, Image, PAGE, Page};
use crate::oracle::{Judged, Laws, Oracle, Statement, statement};
use crate::rng::Rng;
use crate::world::{BLOCK, BLOCKS, Others, PAGES, Point, State, World, states, upstarts};
use crate::{Tallies, name_of};

/// A kind of cases. Shares are fractions of all cases, or the number of random cases for each history.
pub(crate) struct Mode {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&mut Bench<'_>),
    pub(crate) part: f64,
    pub(crate) all: f64,
}

pub(crate) const MODES: &[Mode] = &[
    Mode { name: "product", run: product, part: 0.0015, all: 1.0 },
    Mode { name: "crash-pairs", run: crash_pairs, part: 0.003, all: 1.0 },
    Mode { name: "product-crash", run: product_crash, part: 0.0001, all: 0.003 },
    Mode { name: "idle-pairs", run: idle_pairs, part: 0.12, all: 1.0 },
    Mode { name: "singles", run: singles, part: 0.06, all: 1.0 },
    Mode { name: "upstarts", run: above_all, part: 0.004, all: 1.0 },
    Mode { name: "one-copy", run: one_copy, part: 0.03, all: 0.5 },
    Mode { name: "superblocks", run: superblocks, part: 0.06, all: 1.0 },
    Mode { name: "random", run: random, part: 1200.0, all: 40000.0 },
    Mode { name: "regions", run: regions, part: 500.0, all: 15000.0 },
    Mode { name: "remains", run: remains, part: 200.0, all: 5000.0 },
    Mode { name: "short", run: short, part: 0.2, all: 1.0 },
    Mode { name: "crashed-repairs", run: crashed_repairs, part: 80.0, all: 3000.0 },
];

/// What a mode works with.
pub(crate) struct Bench<'a> {
    pub(crate) world: &'a World,
    pub(crate) others: &'a Others,
    pub(crate) rng: Rng,
    pub(crate) share: f64,
    pub(crate) tallies: Tallies,
}

/// A damaged region.
pub(crate) struct Case {
    pub(crate) image: Image,
    pub(crate) ok: u64,
    /// The locations of pages with false values, and the generation of the true page.
    lies: Vec<(u64, u64)>,
    pub(crate) what: String,
}

impl Case {
    pub(crate) fn new(point: &Point, world: &World) -> Self {
        let what = format!("{} at {}", world.name, point.name);
        Self { image: point.image.clone(), ok: point.ok, lies: Vec::new(), what }
    }

    pub(crate) fn set(&mut self, number: usize, offset: u64, state: &State) {
        use std::fmt::Write as _;
        let was = self.image.bytes(offset).and_then(|page| statement(page, offset)).map(|found| found.generation);
        self.image.set(offset, state.page.clone());
        if state.name != "cur" {
            let (copy, page) = (['A', 'B'][number / PAGES as usize], number % PAGES as usize);
            let _ = write!(self.what, ", {copy}{page} {}", state.name);
        }
        if state.lie {
            self.lies.push((offset, was.unwrap_or_default()));
        }
    }

    /// The image without the pages that claim a generation above that of the true page.
    pub(crate) fn believable(&self) -> Image {
        let mut image = self.image.clone();
        for (offset, generation) in &self.lies {
            let claimed = image.bytes(*offset).and_then(|page| statement(page, *offset)).map(|found| found.generation);
            if claimed.is_some_and(|claimed| claimed > *generation) {
                image.set(*offset, None);
            }
        }
        image
    }

    /// In which group lies put it.
    fn suffix(&self, world: &World) -> &'static str {
        let of = world.oracle.of;
        let all = || self.image.pages().filter_map(|(at, page)| statement(page, at)).filter(|found| found.of == of);
        let is_lie = |found: &Statement<'_>| {
            let place = of.offset(found.copy, found.page);
            self.lies.iter().any(|(at, _)| *at == place)
        };
        let has_twin = |(at, generation): &(u64, u64)| {
            let lie = self.image.bytes(*at).and_then(|page| statement(page, *at));
            lie.is_none_or(|lie| {
                all().any(|found| found.page == lie.page && found.generation == *generation && !is_lie(&found))
            })
        };
        match self.lies.as_slice() {
            [] => "",
            lies if lies.iter().all(has_twin) => ", lies, true twin there",
            _ if world.oracle.shows_a_lie(&self.image) => ", lies, shown by counts",
            _ => ", lies, true twin gone",
        }
    }
}

impl Bench<'_> {
    /// Repairs a case in both classes and judges it.
    fn judge(&mut self, group: &str, case: &Case) {
        let group = format!("{group}{}", case.suffix(self.world));
        let safe = self.repair(&group, case, Policy::Safe);
        if !safe.full || self.rng.chance(0.05) {
            self.repair(&group, case, Policy::Lossy);
        }
    }

    fn repair(&mut self, group: &str, case: &Case, policy: Policy) -> Judged {
        let laws = Laws { safe: policy == Policy::Safe && case.lies.is_empty(), told: false, nothing: false };
        self.repair_by(group, case, policy, laws)
    }

    fn repair_by(&mut self, group: &str, case: &Case, policy: Policy, laws: Laws) -> Judged {
        let oracle = &self.world.oracle;
        let mut after = case.image.clone();
        let ended = fsck(&mut after, policy);
        let may = oracle.acceptable(&case.believable(), case.ok);
        let judged = oracle.judge(&case.image, may, case.ok, &after, &ended, laws);
        let can = oracle.is_present(&case.image, may);
        let tally = self.tallies.entry(format!("{} {group}", name_of(policy))).or_default();
        tally.add(&judged, can, || match &ended.failed {
            Some(failed) => format!("{}: {}", case.what, failed.chars().take(400).collect::<String>()),
            None => case.what.clone(),
        });
        judged
    }

    /// All pages, with their states at a point.
    fn pages(&self, point: &Point) -> Vec<(u64, Vec<State>)> {
        let slots = self.world.slots();
        slots.into_iter().map(|offset| (offset, states(point, offset, self.others))).collect()
    }

    fn idle(&self) -> Point {
        self.world.points().pop().unwrap()
    }
}

fn group_of(point: &Point) -> &'static str {
    if point.name == "idle" { "idle" } else { "crash" }
}

/// Every point, alone and with one damaged page.
fn singles(bench: &mut Bench<'_>) {
    for point in bench.world.points() {
        let group = group_of(&point);
        bench.judge(&format!("{group}, nothing else"), &Case::new(&point, bench.world));
        for (number, (offset, states)) in bench.pages(&point).iter().enumerate() {
            for state in &states[1..] {
                if group == "idle" || bench.rng.chance(bench.share) {
                    let mut case = Case::new(&point, bench.world);
                    case.set(number, *offset, state);
                    bench.judge(&format!("{group}, one page"), &case);
                }
            }
        }
    }
}

/// One page of a table claims a generation above that of every other page and has false values, alone and with one more
/// damaged page.
fn above_all(bench: &mut Bench<'_>) {
    for point in bench.world.points() {
        let group = format!("{}, a page above all", group_of(&point));
        let pages = bench.pages(&point);
        for (number, (offset, _)) in pages.iter().enumerate() {
            for upstart in upstarts(&point, *offset) {
                let with = |other: usize, at: u64, state: &State| {
                    let mut case = Case::new(&point, bench.world);
                    case.set(number, *offset, &upstart);
                    if other != number {
                        case.set(other, at, state);
                    }
                    case
                };
                if group_of(&point) == "idle" || bench.rng.chance(bench.share) {
                    bench.judge(&group, &with(number, *offset, &upstart));
                }
                for (other, (at, others)) in pages.iter().enumerate().filter(|(other, _)| *other != number) {
                    for state in &others[1..] {
                        if bench.rng.chance(bench.share) {
                            bench.judge(&format!("{group}, one page"), &with(other, *at, state));
                        }
                    }
                }
            }
        }
    }
}

fn pairs(bench: &mut Bench<'_>, point: &Point) {
    let group = format!("{}, two pages", group_of(point));
    let pages = bench.pages(point);
    for (first, (at, states)) in pages.iter().enumerate() {
        for (second, (other, others)) in pages.iter().enumerate().skip(first + 1) {
            for state in &states[1..] {
                for and in &others[1..] {
                    if bench.rng.chance(bench.share) {
                        let mut case = Case::new(point, bench.world);
                        case.set(first, *at, state);
                        case.set(second, *other, and);
                        bench.judge(&group, &case);
                    }
                }
            }
        }
    }
}

fn idle_pairs(bench: &mut Bench<'_>) {
    let idle = bench.idle();
    pairs(bench, &idle);
}

fn crash_pairs(bench: &mut Bench<'_>) {
    for point in bench.world.points().iter().filter(|point| point.name != "idle") {
        pairs(bench, point);
    }
}

/// One copy is lost: completely, or each page in another way.
fn one_copy(bench: &mut Bench<'_>) {
    let points = bench.world.points();
    for point in &points {
        let pages = bench.pages(point);
        let half = PAGES as usize;
        for copy in 0..2 {
            for how in ["zero", "junk", "older", "mixed"] {
                for _ in 0..if how == "zero" || how == "junk" { 1 } else { 20 } {
                    if !bench.rng.chance(bench.share) {
                        continue;
                    }
                    let old = bench.world.earlier(point, &mut bench.rng);
                    let mut case = Case::new(point, bench.world);
                    let mine = copy * half..(copy + 1) * half;
                    for (number, (offset, states)) in pages.iter().enumerate().filter(|(n, _)| mine.contains(n)) {
                        let fit: Vec<&State> = states.iter().filter(|state| !state.lie).collect();
                        let state = match how {
                            "mixed" => (*bench.rng.pick(&fit)).clone(),
                            "older" => State { name: "older", page: old.page(*offset), lie: false },
                            _ => states.iter().find(|state| state.name == how).unwrap_or(&states[0]).clone(),
                        };
                        case.set(number, *offset, &state);
                    }
                    bench.judge(&format!("{}, one copy {how}", group_of(point)), &case);
                }
            }
        }
    }
}

/// Both superblocks are lost, alone and with one more damaged page.
fn superblocks(bench: &mut Bench<'_>) {
    for point in bench.world.points() {
        let (group, pages) = (group_of(&point), bench.pages(&point));
        let gone = || {
            let mut case = Case::new(&point, bench.world);
            for number in [0, PAGES as usize] {
                case.set(number, pages[number].0, &State { name: "zero", page: None, lie: false });
            }
            case
        };
        let alone = gone();
        bench.judge(&format!("{group}, superblocks lost"), &alone);
        for (number, (offset, states)) in pages.iter().enumerate().filter(|(n, _)| n % PAGES as usize != 0) {
            for state in &states[1..] {
                if group == "idle" || bench.rng.chance(bench.share) {
                    let mut case = gone();
                    case.set(number, *offset, state);
                    bench.judge(&format!("{group}, superblocks lost, one page"), &case);
                }
            }
        }
    }
}

/// Superblock, first page of block table and first page of inode table, in both copies: every combination, or a random
/// sample as large as the share.
fn combine(bench: &mut Bench<'_>, point: &Point) {
    let pages = bench.pages(point);
    let half = PAGES as usize;
    let chosen = [0, 1, 3, half, half + 1, half + 3];
    let all: usize = chosen.iter().map(|number| pages[*number].1.len()).product();
    let group = format!("{}, product", group_of(point));
    let every = bench.share >= 1.0;
    for number in 0..if every { all } else { (all as f64 * bench.share) as usize } {
        let mut which = if every { number } else { bench.rng.below(all) };
        let mut case = Case::new(point, bench.world);
        for number in chosen {
            let (offset, states) = &pages[number];
            case.set(number, *offset, &states[which % states.len()]);
            which /= states.len();
        }
        bench.judge(&group, &case);
    }
}

fn product(bench: &mut Bench<'_>) {
    let idle = bench.idle();
    combine(bench, &idle);
}

fn product_crash(bench: &mut Bench<'_>) {
    for step in ["s1:d", "s3:d"] {
        let mut points = bench.world.points();
        points.retain(|point| point.name.starts_with(step) && point.name.ends_with('-'));
        if !points.is_empty() {
            let point = bench.rng.pick(&points).clone();
            combine(bench, &point);
        }
    }
}

/// The last point in half of the cases, and otherwise any.
fn any(bench: &mut Bench<'_>, points: &[Point]) -> Point {
    if bench.rng.chance(0.5) { points[points.len() - 1].clone() } else { bench.rng.pick(points).clone() }
}

/// Any number of pages, in any state.
fn damaged_at_random(bench: &mut Bench<'_>, points: &[Point], others: bool) -> Case {
    let point = any(bench, points);
    let keep = *bench.rng.pick(&[0.2, 0.4, 0.6, 0.8]);
    let (foreign, lies) = (others && bench.rng.chance(0.5), others && bench.rng.chance(0.3));
    let mut case = Case::new(&point, bench.world);
    for (number, (offset, states)) in bench.pages(&point).iter().enumerate() {
        if bench.rng.chance(keep) {
            continue;
        }
        let fits = |state: &&State| (foreign || !state.name.starts_with("fr")) && (lies || !state.lie);
        let fit: Vec<&State> = states.iter().filter(fits).collect();
        let state = (*bench.rng.pick(&fit)).clone();
        case.set(number, *offset, &state);
    }
    case
}

fn random(bench: &mut Bench<'_>) {
    let points = bench.world.points();
    for _ in 0..bench.share as usize {
        let case = damaged_at_random(bench, &points, true);
        bench.judge("random", &case);
    }
}

/// Two other regions are mixed in. The one of another size has its copy B at its own location, which is in this
/// region's data.
fn regions(bench: &mut Bench<'_>) {
    let points = bench.world.points();
    let slots = bench.world.slots();
    for _ in 0..bench.share as usize {
        let point = any(bench, &points);
        let mut case = Case::new(&point, bench.world);
        let others = bench.others;
        let zero: Page = None;
        for copy in 0..2_usize {
            let full = *bench.rng.pick(&["cur", "cur", "frS", "frL", "zero", "mix"]);
            let noise = *bench.rng.pick(&[0.0, 0.0, 0.15, 0.4]);
            for page in 0..PAGES as usize {
                let number = copy * PAGES as usize + page;
                let mut how = if full == "mix" { *bench.rng.pick(&["cur", "frS", "frL"]) } else { full };
                if bench.rng.chance(noise) {
                    how = *bench.rng.pick(&["cur", "frS", "frL", "zero"]);
                }
                let here = slots[number];
                let there = others.other.oracle.of.offset([b'A', b'B'][copy], page as u32);
                let state = |name, page| State { name, page, lie: false };
                match how {
                    "cur" => {}
                    "frS" => case.set(number, here, &state(how, others.same.idle.page(here))),
                    "zero" => case.set(number, here, &state(how, zero.clone())),
                    // Its copy A overwrites that of this region, and its copy B is in this region's data.
                    _ => case.set(number, there, &state(how, others.other.idle.page(there))),
                }
            }
        }
        bench.judge("two other regions mixed in", &case);
    }
}

/// Older regions past the marks and in data, and nested ones: what may surround a region in use.
fn remains(bench: &mut Bench<'_>) {
    let points = bench.world.points();
    let (of, same) = (bench.world.oracle.of, bench.others.same.idle.clone());
    let small = bench.others.other.idle.clone();
    for _ in 0..bench.share as usize {
        let mut case =
            if bench.rng.chance(0.3) { damaged_at_random(bench, &points, false) } else { one_fault(bench, &points) };
        let mut around = Vec::new();
        if bench.rng.chance(0.5) {
            // Pages past the marks, in one copy or both.
            for copy in *bench.rng.pick(&[&b"A"[..], b"B", b"AB"]) {
                let at = of.offset(*copy, PAGES);
                around.push((at, same.page(at)));
            }
            case.what.push_str(", pages of an older region past the marks");
        }
        if bench.rng.chance(0.5) {
            let shift = BLOCK * (20 + bench.rng.below(40) as u64);
            let moved = small.pages().map(|(at, page)| (at + shift, Some(page.clone())));
            around.extend(moved.filter(|(at, _)| *at < u64::from(BLOCKS - 1) * BLOCK));
            case.what.push_str(", a region nested in data");
        }
        if bench.rng.chance(0.3) {
            // The copy B of an older region, which is in this region's data.
            let in_b = small.pages().filter(|(at, _)| *at >= BLOCK).map(|(at, page)| (at, Some(page.clone())));
            around.extend(in_b);
            case.what.push_str(", copy B of a smaller older region");
        }
        around.into_iter().for_each(|(at, page)| case.image.set(at, page));
        bench.judge("older and nested regions around", &case);
    }
}

/// One page or none, at any point.
fn one_fault(bench: &mut Bench<'_>, points: &[Point]) -> Case {
    let point = any(bench, points);
    let mut case = Case::new(&point, bench.world);
    let pages = bench.pages(&point);
    let number = bench.rng.below(pages.len());
    let (offset, states) = &pages[number];
    let fit: Vec<&State> = states.iter().filter(|state| !state.lie && !state.name.starts_with("fr")).collect();
    let state = (*bench.rng.pick(&fit)).clone();
    case.set(number, *offset, &state);
    case
}

/// An image that ends before the region does: nothing may be written.
fn short(bench: &mut Bench<'_>) {
    let size = bench.world.size;
    let idle = bench.idle();
    let pages = bench.pages(&idle);
    let laws = Laws { safe: true, told: false, nothing: true };
    for cut in [1, PAGE, BLOCK - PAGE, BLOCK - 3 * PAGE, BLOCK, 2 * BLOCK] {
        for (number, (offset, states)) in pages.iter().enumerate() {
            for state in states {
                if !bench.rng.chance(bench.share) {
                    continue;
                }
                let mut case = Case::new(&idle, bench.world);
                case.set(number, *offset, state);
                case.image.cut(size - cut);
                case.what.push_str(&format!(", cut by {cut} bytes"));
                let group = format!("short images{}", case.suffix(bench.world));
                bench.repair_by(&group, &case, Policy::Safe, laws);
                bench.repair_by(&group, &case, Policy::Lossy, Laws { safe: false, ..laws });
            }
        }
    }
}

/// Repairs that a crash stops at each of their writes. What is left is repaired too.
fn crashed_repairs(bench: &mut Bench<'_>) {
    let points = bench.world.points();
    for _ in 0..bench.share as usize {
        let case = damaged_at_random(bench, &points, false);
        let mut after = case.image.clone();
        let ended = fsck(&mut after, Policy::Safe);
        let mut now = case.image.clone();
        for group in ended.log.split(|event| matches!(event, Event::Barrier)).filter(|group| !group.is_empty()) {
            for _ in 0..3 {
                crash_repair(bench, &case, &now, group);
            }
            for event in group {
                if let Event::Store(offset, bytes) = event {
                    now.set(*offset, Some(bytes.clone()));
                }
            }
        }
    }
}

/// A repair that is stopped with some writes of a group done and some of them torn.
fn crash_repair(bench: &mut Bench<'_>, case: &Case, now: &Image, group: &[Event]) {
    let mut left = now.clone();
    let mut letters = String::new();
    for event in group {
        let Event::Store(offset, bytes) = event else { continue };
        match bench.rng.below(5) {
            0 | 1 => letters.push('-'),
            2 | 3 => {
                left.set(*offset, Some(bytes.clone()));
                letters.push('d');
            }
            _ => {
                let mut torn = left.bytes(*offset).copied().unwrap_or([0; PAGE as usize]);
                torn[..64].copy_from_slice(&bytes[..64]);
                left.set(*offset, Some(torn.into()));
                letters.push('t');
            }
        }
    }
    let oracle: &Oracle = &bench.world.oracle;
    let may = oracle.acceptable(&case.image, case.ok);
    let can = oracle.is_present(&left, may);
    let mut after = left.clone();
    let ended = fsck(&mut after, Policy::Safe);
    let laws = Laws { safe: true, told: true, nothing: false };
    let judged = oracle.judge(&left, may, case.ok, &after, &ended, laws);
    let tally = bench.tallies.entry("-p crashes of repairs".into()).or_default();
    tally.add(&judged, can, || format!("{}, then a repair stopped at {letters}: {:?}", case.what, ended.failed));
}
