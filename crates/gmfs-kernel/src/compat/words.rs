//! Judgements in words: the answer, why, and what to do about it.

use crate::abi::{self, Family};
use crate::cmdline::{BOOTMEM_SINCE, LEAST_ALIGNMENT};
use crate::compat::{Evidence, Judgement, Kernel, Mechanism, Next, Old, Reason, RegionRuling, Ruling, Verdict};
use crate::release::Series;
use gmfs_format::name::printable;
use gmfs_format::size;

/// The words for the judgement of a kexec.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    old: &'a Old,
    next: &'a Next,
    from: String,
    to: String,
    how_to_say: fn(Missing<'_>) -> Option<String>,
}

/// What a judgement would need, and nobody has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing<'a> {
    /// Which regions the old kernel has.
    Regions,
    /// The address of a region.
    Address {
        /// Its label, as it can be shown.
        label: &'a str,
    },
}

impl Verdict {
    /// The verdict in words for people.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::None => "none in use",
            Self::Kept => "kept",
            Self::Refused => "refused at load",
            Self::Held => "held",
            Self::NotKnown => "not known",
            Self::Lost => "lost",
            Self::RevivedButFree => "revived but free",
            Self::Corrupt => "corrupt",
            Self::Panic => "panic",
        }
    }
}

impl Kernel {
    /// All its versions in words, or that it has no KHO.
    #[must_use]
    pub fn versions_in_words(&self) -> String {
        if self.abi.has(Family::Kho) { versions(self, &Family::ALL) } else { "no KHO".to_owned() }
    }
}

impl<'a> Words<'a> {
    /// For a kexec of two kernels, and what they are called in sentences: a release, for instance. If both have the same
    /// name, they are told apart as the old and the next one.
    #[must_use]
    pub fn new(old: &'a Old, next: &'a Next, from: String, to: String) -> Self {
        let (from, to) = match from == to {
            true => (format!("the old {from}"), format!("the next {to}")),
            false => (from, to),
        };
        Self { old, next, from, to, how_to_say: |_| None }
    }

    /// With a program's own words for how its user can say what is missing. Without them there is no advice about that.
    #[must_use]
    pub fn with_missing(self, how_to_say: fn(Missing<'_>) -> Option<String>) -> Self {
        Self { how_to_say, ..self }
    }

    /// The answer in one sentence.
    #[must_use]
    pub fn answer(&self, judgement: &Judgement) -> String {
        let rulings = &judgement.rulings;
        let all = |verdict: Verdict| {
            let in_use: Vec<_> = rulings.iter().filter(|ruling| ruling.verdict != Verdict::None).collect();
            !in_use.is_empty() && in_use.iter().all(|ruling| ruling.verdict == verdict)
        };
        let Self { from, to, .. } = self;
        if rulings.iter().all(|ruling| ruling.verdict == Verdict::None) {
            return format!("Yes: {from} hands nothing over that is in use.");
        }
        if all(Verdict::Kept) {
            return "Yes: all that is in use is kept.".to_owned();
        }
        if all(Verdict::Panic) {
            return format!("No: {to} panics, and everything is lost.");
        }
        if all(Verdict::Refused) {
            return format!("No: the load of {to} is refused. Nothing is lost by it: {from} goes on.");
        }
        if all(Verdict::Lost) {
            return match rulings.first().map(|ruling| ruling.reason) {
                Some(Reason::NextWithoutKho) => format!("No: everything will be lost. {to} has no KHO."),
                Some(Reason::OldWithoutKho) => format!("No: everything will be lost. {from} has no KHO."),
                _ => "No: everything will be lost.".to_owned(),
            };
        }
        if rulings.iter().all(|ruling| ruling.verdict.is_kept() || ruling.verdict == Verdict::NotKnown) {
            return "Not known whether all that is in use is kept.".to_owned();
        }
        "No: not all that is in use is kept.".to_owned()
    }

    /// What to do, about what is in use and about each region: no sentence twice in a row.
    #[must_use]
    pub fn all_advice(&self, judgement: &Judgement) -> Vec<String> {
        let mut all: Vec<String> = judgement.rulings.iter().filter_map(|ruling| self.advice(ruling)).collect();
        all.extend(judgement.regions.iter().filter_map(|region| self.of_region(region).1));
        all.dedup();
        all
    }

    /// Why something becomes of what a mechanism hands over.
    #[expect(clippy::too_many_lines, reason = "one sentence for each reason")]
    #[must_use]
    pub fn why(&self, ruling: &Ruling) -> String {
        let Self { from, to, old, next, .. } = self;
        let nobody = "nobody reaches the files, and their memory is held until the next reboot";
        match ruling.reason {
            Reason::OldWithoutKho => format!("there is no kho-v… in {from}: it hands nothing over"),
            Reason::OldKhoOff => format!("{from} was not started with kho=on: it hands nothing over"),
            Reason::OtherArchitecture => format!("{from} and {to} are for different machines"),
            Reason::KernelDoesNotFit => format!(
                "{to} takes {} of memory in one piece, and the largest scratch area of {from} has {}",
                size::human(next.kernel.load_size.unwrap_or(0)),
                self.largest_area()
            ),
            Reason::InitrdDoesNotFit => format!(
                "the initrd has {}, and the largest scratch area of {from} has {}",
                size::human(next.initrd.unwrap_or(0)),
                self.largest_area()
            ),
            Reason::NextWithoutKho => {
                format!("there is no kho-v… in {to}: it gives all memory that was handed over to its allocator")
            }
            Reason::KhoDiffers => format!(
                "{from} hands over {} and {to} takes {}: it gives all that memory to its allocator",
                versions(&old.kernel, &[Family::Kho]),
                versions(&next.kernel, &[Family::Kho])
            ),
            Reason::SeveralVersions => {
                "a kernel has several versions of one format, and which of them it writes is not known".to_owned()
            }
            Reason::OldWithoutLuo => format!("there is no luo-v… in {from}: it has no sessions"),
            Reason::OldLuoOff => format!("{from} was not started with liveupdate=on: it has no sessions"),
            Reason::NoRegion => format!("{from} was started without reserve_mem="),
            Reason::MapGrew => format!(
                "both have kho-v1, but {from} writes maps of 512 bytes and {to} reads 4096: it panics as soon as a region is handed over"
            ),
            Reason::MapShrank if ruling.mechanism == Mechanism::Regions => format!(
                "both have kho-v1, but {from} writes maps of 4096 bytes and {to} reads 512: it announces the regions as revived, while pages of them that are past the first 16 MiB of each 128 MiB are in its free lists"
            ),
            Reason::MapShrank => format!("there is no luo-v… in {to}, and a part of the memory is in its free lists"),
            Reason::MapUnknown => {
                "both have kho-v1, whose map has two forms, and which of them a kernel has is not known".to_owned()
            }
            Reason::FlbMissing => format!(
                "LUO is on in {from}, and {to} needs luo-flb, which {from} does not write: it panics, with or without a session, whatever liveupdate= says"
            ),
            Reason::LuoDiffers => format!(
                "{from} hands over {} and {to} takes {}: it panics",
                versions(&old.kernel, &LUO),
                versions(&next.kernel, &LUO)
            ),
            Reason::RegionTableDiffers => format!(
                "{from} has {} and {to} has {}: the regions are new and empty, the old memory is held until the next reboot",
                versions(&old.kernel, &TABLE),
                versions(&next.kernel, &TABLE)
            ),
            Reason::MemoryEnds => {
                let mem = size::human(next.mem.unwrap_or(0));
                let then = if ruling.verdict == Verdict::Panic {
                    "it panics, at once or later"
                } else {
                    "it hands regions and files out without an error, and with wrong bytes"
                };
                format!("mem= ends the memory of {to} at {mem}, before that of {from}: {then}")
            }
            Reason::UnknownSeries => {
                "the versions are the same, but one of the kernels is none that gmfs knows; kernels with the same versions have panicked (6.17 to 6.18, 6.19 to 7.0)".to_owned()
            }
            Reason::NextWithoutLuo => format!("there is no luo-v… in {to}: {nobody}"),
            Reason::NextKhoOff => format!("{to} is not started with kho=on, so it has no /dev/liveupdate: {nobody}"),
            Reason::NextLuoOff => format!("{to} is not started with liveupdate=on: {nobody}"),
            Reason::MemfdMissing => {
                format!("there is no memfd-v… in {to}: /dev/liveupdate cannot be opened (EIO), and {nobody}")
            }
            Reason::MemfdDiffers => format!(
                "{from} hands over {} and {to} takes {}: /dev/liveupdate cannot be opened (EIO), and {nobody}",
                versions(&old.kernel, &[Family::Memfd]),
                versions(&next.kernel, &[Family::Memfd])
            ),
            Reason::Agree => {
                let families: &[Family] = match ruling.mechanism {
                    Mechanism::Regions => &[Family::Kho],
                    Mechanism::Luo => &[Family::Kho, Family::Luo],
                    Mechanism::Sessions => &[Family::Kho, Family::Luo, Family::Memfd],
                };
                format!("both have {}", versions(&old.kernel, families))
            }
            Reason::RegionsUnknown => format!("which regions {from} has is not known"),
            Reason::LabelMissing | Reason::SizeDiffers | Reason::Misaligned => {
                "a region is not found again: its old memory is held until the next reboot".to_owned()
            }
            Reason::AddressUnknown => "whether a region is found again depends on its address".to_owned(),
        }
    }

    /// What to do about it; `None` if nothing is to be done, or nothing helps.
    #[must_use]
    pub fn advice(&self, ruling: &Ruling) -> Option<String> {
        let Self { from, to, old, .. } = self;
        let off = "leave kho= out of the next command line: regions are kept, and the files of sessions are held";
        Some(match ruling.reason {
            Reason::OldWithoutKho | Reason::NextWithoutKho => {
                "use a kernel built with CONFIG_KEXEC_HANDOVER=y (sessions: CONFIG_LIVEUPDATE=y and CONFIG_LIVEUPDATE_MEMFD=y); memory that both kernels are told not to use (memmap=SIZE$BASE) needs no KHO".to_owned()
            }
            Reason::OldKhoOff => "kho=on has to be in the command line of the kernel that hands over, so boot it once more".to_owned(),
            Reason::OtherArchitecture => "use a kernel for this machine".to_owned(),
            Reason::KernelDoesNotFit | Reason::InitrdDoesNotFit => {
                let series = old.kernel.series();
                let word = if series.is_some_and(|series| series >= BOOTMEM_SINCE) { "kho_bootmem" } else { "kho_scratch" };
                format!("boot {from} with larger scratch areas ({word}=LOW,GLOBAL,NODE), or without {word}=")
            }
            Reason::KhoDiffers => match with(&old.kernel) {
                Some(series) => format!("use a next kernel with the same version: Linux has it in {series}"),
                None => "use a next kernel with the same version".to_owned(),
            },
            Reason::MapGrew => format!("reboot into {to} instead; only without reserve_mem= regions the kexec boots"),
            Reason::MapShrank => "use a next kernel of 6.18, 6.19 or 7.0".to_owned(),
            Reason::FlbMissing => format!("{off}; or boot {from} without liveupdate=on, if only regions are in use"),
            Reason::LuoDiffers => off.to_owned(),
            Reason::MemoryEnds => "leave mem= out of the next command line".to_owned(),
            Reason::SeveralVersions | Reason::MapUnknown | Reason::UnknownSeries => {
                "try it on a machine without guests first".to_owned()
            }
            Reason::NextWithoutLuo => "use a next kernel built with CONFIG_LIVEUPDATE=y".to_owned(),
            Reason::NextKhoOff | Reason::NextLuoOff => "add kho=on liveupdate=on to the next command line".to_owned(),
            Reason::MemfdMissing => "use a next kernel built with CONFIG_LIVEUPDATE_MEMFD=y".to_owned(),
            Reason::RegionsUnknown => return (self.how_to_say)(Missing::Regions),
            Reason::MemfdDiffers | Reason::RegionTableDiffers => "use a next kernel with the same version".to_owned(),
            Reason::LabelMissing
            | Reason::SizeDiffers
            | Reason::Misaligned
            | Reason::AddressUnknown
            | Reason::OldWithoutLuo
            | Reason::OldLuoOff
            | Reason::NoRegion
            | Reason::Agree => return None,
        })
    }

    /// Why something becomes of a region, and what to do about it.
    #[must_use]
    pub fn of_region(&self, region: &RegionRuling) -> (String, Option<String>) {
        let label = printable(&region.region.label);
        let next = region.next.as_ref();
        let old_size = size::both(region.region.size);
        // The alignment that its address has already.
        let align = region.region.align.max(LEAST_ALIGNMENT);
        let word = || {
            let (size, align) = (parsed(region.region.size), parsed(align));
            Some(format!("put reserve_mem={size}:{align}:{label} into the next command line"))
        };
        match region.reason {
            Reason::LabelMissing => ("the next command line has no region of that name".to_owned(), word()),
            Reason::SizeDiffers => {
                let other = size::both(next.map_or(0, |next| next.size));
                (format!("the next command line gives it {other} instead of {old_size}"), word())
            }
            Reason::Misaligned => {
                let align = size::human(next.map_or(0, |next| next.align));
                let at = region.region.address.map_or_else(String::new, |at| format!(" {}", size::hex(at)));
                (format!("its address{at} is no multiple of {align}"), word())
            }
            Reason::AddressUnknown => {
                let align = size::human(next.map_or(0, |next| next.align));
                let why = format!("its address has to be a multiple of {align}, and is not known");
                (why, (self.how_to_say)(Missing::Address { label: &label }))
            }
            reason => {
                let (mechanism, evidence) = (Mechanism::Regions, Evidence::Run);
                let ruling = Ruling { mechanism, verdict: region.verdict, reason, evidence };
                (self.why(&ruling), None)
            }
        }
    }

    fn largest_area(&self) -> String {
        size::human(self.old.scratch.iter().flatten().max().copied().unwrap_or(0))
    }
}

const LUO: [Family; 3] = [Family::Luo, Family::LuoSession, Family::LuoFlb];
const TABLE: [Family; 2] = [Family::Memblock, Family::ReserveMem];

/// A size as the kernel's command line has it.
fn parsed(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "G"), (20, "M"), (10, "K")];
    let unit = UNITS.into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift && bytes > 0);
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// The versions of some formats.
fn versions(kernel: &Kernel, families: &[Family]) -> String {
    let all: Vec<String> = kernel
        .abi
        .iter()
        .filter(|version| families.contains(&version.family))
        .map(|version| version.to_string())
        .collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// The series in which Linux has the version of KHO that a kernel has.
fn with(kernel: &Kernel) -> Option<String> {
    let number = kernel.abi.of(Family::Kho).next()?;
    let spans: Vec<(Series, Series)> = abi::upstream_with(Family::Kho, number).collect();
    let (first, last) = (spans.first()?.0, spans.last()?.1);
    Some(if first == last { first.to_string() } else { format!("{first} to {last}") })
}
