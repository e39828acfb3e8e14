//! What a kexec from one kernel to another does to memory that is handed over.
//!
//! `RULES` is a table of rules; the first rule that applies decides what becomes of the memory. The rules were checked
//! against kexecs between seven kernels, from 6.17 to 7.3; [`Evidence`] says where each rule comes from. [`Words`] puts a
//! judgement into sentences, and a [`Remark`] is what else is to be known.

mod remark;
mod words;

pub use remark::{Remark, Which};
pub use words::{Missing, Words};

use crate::abi::{Abi, Family, MapForm, map_form};
use crate::cmdline::{CommandLine, Region};
use crate::image::{Architecture, KernelImage};
use crate::release::{Release, Series};

/// What hands memory over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// `reserve_mem=` regions.
    Regions,
    /// Live updates as such: the hand-over is taken in, and `/dev/liveupdate` can be opened.
    Luo,
    /// Sessions of live updates, with the files in them.
    Sessions,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Regions, Self::Luo, Self::Sessions];

    /// A word for programs and people: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regions => "regions",
            Self::Luo => "luo",
            Self::Sessions => "sessions",
        }
    }
}

/// What becomes of memory, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// There is none.
    None,
    /// It is where it was, and its user finds it.
    Kept,
    /// gmfs does not know.
    NotKnown,
    /// The load is refused: the old kernel goes on, and nothing is lost.
    Refused,
    /// Nothing reaches it until the next reboot, and nothing writes to it.
    Held,
    /// The next kernel boots, and gives it to its allocator.
    Lost,
    /// The next kernel says that it has it, and gives pages of it to its allocator.
    RevivedButFree,
    /// The next kernel hands it out without an error, with wrong bytes.
    Corrupt,
    /// The next kernel does not boot.
    Panic,
}

impl Verdict {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kept => "kept",
            Self::Refused => "refused",
            Self::Held => "held",
            Self::NotKnown => "not-known",
            Self::Lost => "lost",
            Self::RevivedButFree => "revived-but-free",
            Self::Corrupt => "corrupt",
            Self::Panic => "panic",
        }
    }

    /// Whether its user loses nothing of it.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        matches!(self, Self::None | Self::Kept)
    }
}

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Kexecs in which it happened.
    Run,
    /// The kernel's source.
    Source,
    /// It is assumed, because nothing shows the contrary.
    Assumed,
}

impl Evidence {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Source => "source",
            Self::Assumed => "assumed",
        }
    }
}

/// The reason for what becomes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The old kernel has no KHO.
    OldWithoutKho,
    /// KHO is not on in the old kernel.
    OldKhoOff,
    /// The kernels are for different machines.
    OtherArchitecture,
    /// The next kernel fits into none of the scratch areas.
    KernelDoesNotFit,
    /// The initrd fits into none of the scratch areas.
    InitrdDoesNotFit,
    /// The next kernel has no KHO.
    NextWithoutKho,
    /// The kernels have different versions of KHO.
    KhoDiffers,
    /// A kernel has several versions of KHO or LUO.
    SeveralVersions,
    /// The old kernel has no LUO.
    OldWithoutLuo,
    /// LUO is not on in the old kernel.
    OldLuoOff,
    /// The old kernel has no region.
    NoRegion,
    /// The next kernel reads the map of the old one as a larger one.
    MapGrew,
    /// The next kernel reads the map of the old one as a smaller one.
    MapShrank,
    /// Which form the map of a kernel has is not known.
    MapUnknown,
    /// The next kernel needs a part of LUO's table that the old one does not write.
    FlbMissing,
    /// The kernels have different versions of LUO.
    LuoDiffers,
    /// The kernels have different versions of the table of regions.
    RegionTableDiffers,
    /// `mem=` ends the memory of the next kernel before that of the old one.
    MemoryEnds,
    /// One of the kernels is newer than this version of gmfs, or has another version of KHO than Linux in that series.
    UnknownSeries,
    /// The next kernel has no LUO.
    NextWithoutLuo,
    /// KHO is not on in the next kernel.
    NextKhoOff,
    /// LUO is not on in the next kernel.
    NextLuoOff,
    /// The next kernel cannot take the memory of memfds.
    MemfdMissing,
    /// The kernels have different versions of the memory of memfds.
    MemfdDiffers,
    /// The kernels agree.
    Agree,
    /// Which regions the old kernel has is not known.
    RegionsUnknown,
    /// The next command line has no region of that name.
    LabelMissing,
    /// The next command line gives the region another size.
    SizeDiffers,
    /// The region's address is no multiple of the alignment in the next command line.
    Misaligned,
    /// The region's address is not known, and the alignment in the next command line is larger.
    AddressUnknown,
}

impl Reason {
    /// A word for programs: stable, lower case, no spaces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OldWithoutKho => "old-without-kho",
            Self::OldKhoOff => "old-kho-off",
            Self::OtherArchitecture => "other-architecture",
            Self::KernelDoesNotFit => "kernel-does-not-fit",
            Self::InitrdDoesNotFit => "initrd-does-not-fit",
            Self::NextWithoutKho => "next-without-kho",
            Self::KhoDiffers => "kho-differs",
            Self::SeveralVersions => "several-versions",
            Self::OldWithoutLuo => "old-without-luo",
            Self::OldLuoOff => "old-luo-off",
            Self::NoRegion => "no-region",
            Self::MapGrew => "map-grew",
            Self::MapShrank => "map-shrank",
            Self::MapUnknown => "map-unknown",
            Self::FlbMissing => "flb-missing",
            Self::LuoDiffers => "luo-differs",
            Self::RegionTableDiffers => "region-table-differs",
            Self::MemoryEnds => "memory-ends",
            Self::UnknownSeries => "unknown-series",
            Self::NextWithoutLuo => "next-without-luo",
            Self::NextKhoOff => "next-kho-off",
            Self::NextLuoOff => "next-luo-off",
            Self::MemfdMissing => "memfd-missing",
            Self::MemfdDiffers => "memfd-differs",
            Self::Agree => "agree",
            Self::RegionsUnknown => "regions-unknown",
            Self::LabelMissing => "label-missing",
            Self::SizeDiffers => "size-differs",
            Self::Misaligned => "misaligned",
            Self::AddressUnknown => "address-unknown",
        }
    }
}

/// What is known of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// Its release.
    pub release: Option<Release>,
    /// The versions that it has.
    pub abi: Abi,
    /// What it runs on.
    pub architecture: Option<Architecture>,
    /// How many bytes of memory in one piece it takes when it is loaded.
    pub load_size: Option<u64>,
}

impl Kernel {
    /// The kernel that Linux itself released, with KHO and LUO configured; `None` for a release that is newer than this
    /// version of gmfs.
    #[must_use]
    pub fn upstream(release: Release) -> Option<Self> {
        let abi = Abi::upstream(release.series())?;
        Some(Self { release: Some(release), abi, ..Self::default() })
    }

    /// The series of its release.
    #[must_use]
    pub fn series(&self) -> Option<Series> {
        self.release.as_ref().map(Release::series)
    }

    fn has(&self, family: Family) -> bool {
        self.abi.has(family)
    }

    /// Whether it has the version of KHO that mainline Linux has in its series. A distribution may have another
    /// version.
    fn is_as_upstream(&self) -> bool {
        self.series().and_then(Abi::upstream).is_some_and(|abi| abi.agrees(&self.abi, Family::Kho))
    }

    /// Whether it is of a series between which kexecs were tried.
    fn was_run(&self) -> bool {
        self.series().is_some_and(|series| RUN.contains(&series)) && self.is_as_upstream()
    }

    fn map_form(&self) -> Option<MapForm> {
        map_form(self.series()?)
    }
}

impl From<KernelImage> for Kernel {
    fn from(image: KernelImage) -> Self {
        let KernelImage { release, abi, architecture, load_size, .. } = image;
        Self { release, abi, architecture, load_size }
    }
}

/// What is in use and has to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uses {
    /// See [`Mechanism::Regions`].
    pub regions: bool,
    /// See [`Mechanism::Luo`].
    pub luo: bool,
    /// See [`Mechanism::Sessions`].
    pub sessions: bool,
    /// It is not known what is in use, so everything that the old kernel can hand over counts as used.
    pub assumed: bool,
}

impl Uses {
    /// Everything that the old kernel can hand over.
    pub const ALL: Self = Self { regions: true, luo: true, sessions: true, assumed: true };

    /// Whether a mechanism is in use.
    #[must_use]
    pub const fn has(self, mechanism: Mechanism) -> bool {
        match mechanism {
            Mechanism::Regions => self.regions,
            Mechanism::Luo => self.luo,
            Mechanism::Sessions => self.sessions,
        }
    }
}

/// The kernel that hands over.
#[derive(Clone, Debug)]
pub struct Old {
    /// The kernel.
    pub kernel: Kernel,
    /// KHO is on.
    pub kho: bool,
    /// LUO is on.
    pub luo: bool,
    /// Its regions; `None` if they are not known.
    pub regions: Option<Vec<Region>>,
    /// The sizes of its scratch areas; `None` if they are not known.
    pub scratch: Option<Vec<u64>>,
    /// The end of memory that its `mem=` sets.
    pub mem: Option<u64>,
    /// Where the memory of its machine ends; `None` if that is not known.
    pub memory_end: Option<u64>,
}

impl Old {
    /// A kernel that was started with a command line. Without one, everything that is in use counts as on.
    #[must_use]
    pub fn new(kernel: Kernel, line: Option<&CommandLine>, uses: Uses) -> Self {
        let kho = line.is_none_or(|line| line.kho == Some(true));
        let luo = line.map_or(uses.luo || uses.sessions, |line| kho && line.liveupdate == Some(true));
        let scratch = line.and_then(|line| line.scratch_of(kernel.series())?.areas());
        Self {
            kho,
            luo: luo && kernel.has(Family::Luo),
            regions: line.map(|line| line.regions.clone()),
            scratch,
            mem: line.and_then(|line| line.mem),
            memory_end: None,
            kernel,
        }
    }
}

/// The kernel that takes over.
#[derive(Clone, Debug)]
pub struct Next {
    /// The kernel.
    pub kernel: Kernel,
    /// KHO is on.
    pub kho: bool,
    /// LUO is on.
    pub luo: bool,
    /// The regions of its command line; `None` if they are the same as those of the old kernel.
    pub regions: Option<Vec<Region>>,
    /// The end of memory that its `mem=` sets.
    pub mem: Option<u64>,
    /// Bytes in its initrd; `None` if that is not known.
    pub initrd: Option<u64>,
}

impl Next {
    /// A kernel that is to be started with a command line. Without one, everything that it needs counts as on.
    #[must_use]
    pub fn new(kernel: Kernel, line: Option<&CommandLine>) -> Self {
        Self {
            kho: line.is_none_or(|line| line.kho == Some(true)),
            luo: line.is_none_or(|line| line.liveupdate == Some(true)),
            regions: line.map(|line| line.regions.clone()),
            mem: line.and_then(|line| line.mem),
            initrd: None,
            kernel,
        }
    }
}

/// What a rule looks at.
struct Case<'a> {
    old: &'a Old,
    new: &'a Next,
    uses: Uses,
}

/// A rule: when it applies, and what then becomes of regions, LUO and sessions. For those about which it says nothing,
/// a later rule decides.
struct Rule {
    reason: Reason,
    evidence: Evidence,
    applies: fn(&Case<'_>) -> bool,
    regions: Option<Verdict>,
    luo: Option<Verdict>,
    sessions: Option<Verdict>,
}

/// A rule with one verdict for regions, LUO and sessions.
const fn all(reason: Reason, evidence: Evidence, verdict: Verdict, applies: fn(&Case<'_>) -> bool) -> Rule {
    let verdict = Some(verdict);
    Rule { reason, evidence, applies, regions: verdict, luo: verdict, sessions: verdict }
}

/// A rule with one verdict for LUO and sessions, and none for regions.
const fn live(reason: Reason, evidence: Evidence, verdict: Verdict, applies: fn(&Case<'_>) -> bool) -> Rule {
    Rule { regions: None, ..all(reason, evidence, verdict, applies) }
}

/// From this series on, a kernel whose memory ends too early panics.
const PANICS_WITHOUT_MEMORY: Series = Series::new(7, 0);

/// The series between which kexecs were tried.
const RUN: std::ops::RangeInclusive<Series> = Series::new(6, 17)..=Series::new(7, 3);

/// The rules, in the order in which they are tried.
const RULES: &[Rule] = {
    use Evidence::{Assumed, Run, Source};
    use Verdict::{Corrupt, Held, Kept, Lost, NotKnown, Panic, Refused, RevivedButFree};
    &[
        all(Reason::OldWithoutKho, Run, Lost, |case| !case.old.kernel.has(Family::Kho)),
        all(Reason::OldKhoOff, Run, Lost, |case| !case.old.kho),
        live(Reason::OldWithoutLuo, Run, Verdict::None, |case| !case.old.kernel.has(Family::Luo)),
        live(Reason::OldLuoOff, Run, Verdict::None, |case| !case.old.luo),
        Rule {
            regions: Some(Verdict::None),
            ..Rule::nothing(Reason::NoRegion, Run, |case| case.old.regions.as_ref().is_some_and(Vec::is_empty))
        },
        all(Reason::OtherArchitecture, Assumed, Refused, |case| {
            case.old.kernel.architecture.zip(case.new.kernel.architecture).is_some_and(|(old, new)| old != new)
        }),
        all(Reason::KernelDoesNotFit, Run, Refused, |case| case.does_not_fit(case.new.kernel.load_size)),
        all(Reason::InitrdDoesNotFit, Run, Refused, |case| case.does_not_fit(case.new.initrd)),
        all(Reason::NextWithoutKho, Run, Lost, |case| !case.new.kernel.has(Family::Kho)),
        all(Reason::KhoDiffers, Run, Lost, |case| !case.agrees(Family::Kho)),
        all(Reason::SeveralVersions, Assumed, NotKnown, |case| case.is_ambiguous(Family::Kho)),
        all(Reason::MapGrew, Run, Panic, |case| {
            case.has_regions() && case.maps() == (Some(MapForm::Small), Some(MapForm::Page))
        }),
        Rule {
            luo: Some(Lost),
            sessions: Some(Lost),
            ..all(Reason::MapShrank, Run, RevivedButFree, |case| {
                case.maps() == (Some(MapForm::Page), Some(MapForm::Small))
            })
        },
        all(Reason::MapUnknown, Assumed, NotKnown, |case| {
            case.old.kernel.abi.is(Family::Kho, 1) && !case.is_same_release() && {
                let (old, new) = case.maps();
                old.is_none() || new.is_none()
            }
        }),
        all(Reason::FlbMissing, Run, Panic, |case| {
            case.takes_luo() && !case.old.kernel.has(Family::LuoFlb) && case.new.kernel.has(Family::LuoFlb)
        }),
        all(Reason::LuoDiffers, Source, Panic, |case| {
            let flb = case.old.kernel.has(Family::LuoFlb) && case.new.kernel.has(Family::LuoFlb);
            case.takes_luo()
                && !(case.agrees(Family::Luo)
                    && case.agrees(Family::LuoSession)
                    && (!flb || case.agrees(Family::LuoFlb)))
        }),
        all(Reason::MemoryEnds, Run, Panic, |case| {
            case.memory_ends() && case.new.kernel.series().is_none_or(|series| series >= PANICS_WITHOUT_MEMORY)
        }),
        all(Reason::MemoryEnds, Run, Corrupt, |case| case.memory_ends()),
        all(Reason::UnknownSeries, Assumed, NotKnown, |case| {
            let (old, new) = (&case.old.kernel, &case.new.kernel);
            !(old.is_as_upstream() && new.is_as_upstream()) && (old.series().is_none() || old.series() != new.series())
        }),
        Rule {
            regions: Some(Held),
            ..Rule::nothing(Reason::RegionTableDiffers, Source, |case| {
                !case.agrees(Family::Memblock) || !case.agrees(Family::ReserveMem)
            })
        },
        live(Reason::NextWithoutLuo, Run, Held, |case| !case.new.kernel.has(Family::Luo)),
        live(Reason::NextKhoOff, Run, Held, |case| !case.new.kho),
        live(Reason::NextLuoOff, Run, Held, |case| !case.new.luo),
        live(Reason::SeveralVersions, Assumed, NotKnown, |case| {
            [Family::Luo, Family::LuoSession, Family::LuoFlb, Family::Memfd]
                .into_iter()
                .any(|family| case.is_ambiguous(family))
        }),
        live(Reason::MemfdMissing, Run, Held, |case| case.uses.sessions && !case.new.kernel.has(Family::Memfd)),
        live(Reason::MemfdDiffers, Source, Held, |case| case.uses.sessions && !case.agrees(Family::Memfd)),
        all(Reason::Agree, Run, Kept, |_| true),
    ]
};

impl Rule {
    /// A rule without a verdict.
    const fn nothing(reason: Reason, evidence: Evidence, applies: fn(&Case<'_>) -> bool) -> Self {
        Self { reason, evidence, applies, regions: None, luo: None, sessions: None }
    }

    const fn says(&self, mechanism: Mechanism) -> Option<Verdict> {
        match mechanism {
            Mechanism::Regions => self.regions,
            Mechanism::Luo => self.luo,
            Mechanism::Sessions => self.sessions,
        }
    }
}

impl Case<'_> {
    fn agrees(&self, family: Family) -> bool {
        self.old.kernel.abi.agrees(&self.new.kernel.abi, family)
    }

    fn is_ambiguous(&self, family: Family) -> bool {
        let ambiguous = self.old.kernel.abi.is_ambiguous(family) || self.new.kernel.abi.is_ambiguous(family);
        ambiguous && !self.is_same_release()
    }

    /// Whether both kernels have the same release, and so count as one kernel.
    fn is_same_release(&self) -> bool {
        self.old.kernel.release.is_some() && self.old.kernel.release == self.new.kernel.release
    }

    fn maps(&self) -> (Option<MapForm>, Option<MapForm>) {
        let form = |kernel: &Kernel| kernel.map_form().filter(|_| kernel.abi.is(Family::Kho, 1));
        (form(&self.old.kernel), form(&self.new.kernel))
    }

    /// Whether the old kernel hands regions over.
    fn has_regions(&self) -> bool {
        self.old.regions.as_ref().map_or(self.uses.regions, |regions| !regions.is_empty())
    }

    /// Whether the next kernel reads LUO's table: it does so whatever `liveupdate=` says.
    fn takes_luo(&self) -> bool {
        self.old.luo && self.new.kho && self.new.kernel.has(Family::Luo)
    }

    fn does_not_fit(&self, size: Option<u64>) -> bool {
        let areas = self.old.scratch.as_ref().zip(size);
        areas.is_some_and(|(areas, size)| areas.iter().all(|area| *area < size))
    }

    /// Whether the memory of the next kernel ends before that of the old one.
    fn memory_ends(&self) -> bool {
        let before = self.old.mem.into_iter().chain(self.old.memory_end).min();
        self.new.mem.is_some_and(|mem| before.is_none_or(|before| mem < before))
    }
}

/// What becomes of what one mechanism hands over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Where the rule comes from.
    pub evidence: Evidence,
}

/// What becomes of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionRuling {
    /// The region, as it is in the old kernel.
    pub region: Region,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The region of that name in the next command line.
    pub next: Option<Region>,
}

/// What a kexec does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What becomes of what is in use.
    pub rulings: Vec<Ruling>,
    /// What becomes of each region, where regions are in use and known.
    pub regions: Vec<RegionRuling>,
}

impl Judgement {
    /// Whether all that is in use is kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.rulings.iter().all(|ruling| ruling.verdict.is_kept())
    }

    /// The worst of what becomes of what is in use; `None` if nothing is in use.
    #[must_use]
    pub fn worst(&self) -> Option<Verdict> {
        self.rulings.iter().map(|ruling| ruling.verdict).max()
    }

    /// What becomes of what one mechanism hands over; `None` if it is not in use.
    #[must_use]
    pub fn verdict(&self, mechanism: Mechanism) -> Option<Verdict> {
        self.rulings.iter().find(|ruling| ruling.mechanism == mechanism).map(|ruling| ruling.verdict)
    }
}

/// Judges a kexec.
#[must_use]
pub fn judge(old: &Old, new: &Next, uses: Uses) -> Judgement {
    let case = Case { old, new, uses };
    let mut judgement = Judgement { rulings: Vec::new(), regions: Vec::new() };
    for mechanism in Mechanism::ALL.into_iter().filter(|mechanism| uses.has(*mechanism)) {
        let Some(mut ruling) = ruling(&case, mechanism) else { continue };
        if mechanism == Mechanism::Regions {
            judgement.regions = regions(&case, &ruling);
            refine(&mut ruling, &case, &judgement.regions);
        }
        if ruling.verdict == Verdict::None && mechanism != Mechanism::Regions && uses.assumed {
            continue;
        }
        // The old kernel hands no such memory over. If the user says that it is in use, the answer is that it is lost.
        if ruling.verdict == Verdict::None && mechanism != Mechanism::Regions {
            ruling.verdict = Verdict::Lost;
        }
        judgement.rulings.push(ruling);
    }
    judgement
}

/// The ruling of the first rule that applies and has a verdict for a mechanism.
fn ruling(case: &Case<'_>, mechanism: Mechanism) -> Option<Ruling> {
    let (rule, verdict) = RULES
        .iter()
        .filter_map(|rule| rule.says(mechanism).map(|verdict| (rule, verdict)))
        .find(|(rule, _)| (rule.applies)(case))?;
    let tried = case.old.kernel.was_run() && case.new.kernel.was_run();
    let evidence = if rule.reason == Reason::Agree && !tried { Evidence::Assumed } else { rule.evidence };
    Some(Ruling { mechanism, verdict, reason: rule.reason, evidence })
}

/// What becomes of each region of the old kernel.
fn regions(case: &Case<'_>, of_all: &Ruling) -> Vec<RegionRuling> {
    let regions = case.old.regions.iter().flatten();
    regions
        .map(|region| {
            let next = case.new.regions.as_ref().map(|next| next.iter().find(|next| next.label == region.label));
            let (verdict, reason) = match next {
                _ if of_all.verdict != Verdict::Kept => (of_all.verdict, of_all.reason),
                // The next kernel gets the same command line as the old one.
                None => (Verdict::Kept, of_all.reason),
                Some(None) => (Verdict::Held, Reason::LabelMissing),
                Some(Some(next)) if next.size != region.size => (Verdict::Held, Reason::SizeDiffers),
                Some(Some(next)) => match is_aligned(region, next.align) {
                    Some(true) => (Verdict::Kept, of_all.reason),
                    Some(false) => (Verdict::Held, Reason::Misaligned),
                    None => (Verdict::NotKnown, Reason::AddressUnknown),
                },
            };
            RegionRuling { region: region.clone(), verdict, reason, next: next.flatten().cloned() }
        })
        .collect()
}

/// Whether the address of a region fits another alignment; `None` if that depends on an address that is not known.
fn is_aligned(region: &Region, align: u64) -> Option<bool> {
    match region.address {
        Some(address) => Some(address.is_multiple_of(align)),
        None => region.align.is_multiple_of(align).then_some(true),
    }
}

/// Replaces the ruling on all regions by that on the worst of them.
fn refine(ruling: &mut Ruling, case: &Case<'_>, regions: &[RegionRuling]) {
    if ruling.verdict != Verdict::Kept {
        return;
    }
    if case.old.regions.is_none() && case.new.regions.is_some() {
        *ruling = Ruling { verdict: Verdict::NotKnown, reason: Reason::RegionsUnknown, ..ruling.clone() };
    }
    if let Some(worst) = regions.iter().max_by_key(|region| region.verdict).filter(|worst| !worst.verdict.is_kept()) {
        *ruling = Ruling { verdict: worst.verdict, reason: worst.reason, ..ruling.clone() };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::RULES;

    #[test]
    fn the_document_lists_the_rules_in_their_order() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/KHO-COMPAT.md");
        let text = std::fs::read_to_string(path).unwrap();
        let table = text.split("| rule | when |").nth(1).unwrap().split("\n\n").next().unwrap();
        let first_cells = table.lines().skip(2).filter_map(|line| line.split('|').nth(1));
        let listed: Vec<&str> = first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        let mut rules: Vec<&str> = RULES.iter().map(|rule| rule.reason.name()).collect();
        rules.dedup();
        assert_eq!(listed, rules);
    }
}
