//! What else is to be known of a kexec.

use std::fmt;

use gmfs_format::name::printable;
use gmfs_format::size;

use crate::abi::Family;
use crate::cmdline::{BOOTMEM_SINCE, CommandLine};
use crate::compat::{Evidence, Judgement, Kernel, Mechanism, Next, Old, Reason, Verdict};
use crate::release::Series;

/// From this series on nothing has to be finalised before the kexec.
const STATELESS: Series = Series::new(7, 1);
/// Before this series what is handed over has to be finalised before the next kernel is loaded.
const LOADS_ANY_TIME: Series = Series::new(6, 19);
/// From this series on a map of pages has 4096 bytes.
const LARGE_MAP: Series = Series::new(6, 18);

/// One of the two kernels of a kexec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The kernel that hands over.
    From,
    /// The kernel that takes over.
    To,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::From => "FROM",
            Self::To => "TO",
        })
    }
}

/// Something to know beside a judgement. In words, FROM is the kernel that hands over, and TO the one that takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remark {
    /// How the old kernel was started is not known: it counts as started with what is needed.
    OldLineAssumed,
    /// How the next kernel will be started is not known.
    NextLineAssumed {
        /// It counts as started with the command line of the old kernel, and otherwise with what is needed.
        as_old: bool,
    },
    /// A word of a command line has no effect.
    Ignored {
        /// In whose command line it is.
        which: Which,
        /// The word.
        word: String,
    },
    /// A command line has the old name of `kho_bootmem=`.
    Renamed {
        /// Whose command line it is.
        which: Which,
    },
    /// Files of sessions lose their seals.
    SealsNotCarried,
    /// The old kernel has to be told to finalise.
    Finalize {
        /// Before the next kernel is loaded, and not only before the kexec.
        before_load: bool,
    },
    /// The next kernel loses a little memory.
    MapMisread,
    /// Whether the next kernel or its initrd fits is not known.
    ScratchUnknown {
        /// Bytes in one piece that the kernel takes.
        load_size: Option<u64>,
        /// Bytes in the initrd.
        initrd: Option<u64>,
    },
    /// The next kernel hands nothing on.
    HandsNothingOn,
    /// Nobody has tried a kexec between the two.
    NotTried,
    /// There is another way to load a kernel, which hands nothing over.
    FileLoadOnly,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldLineAssumed => f.write_str("FROM is taken to have been started with what is needed"),
            Self::NextLineAssumed { as_old: true } => {
                f.write_str("TO is taken to be started with the command line of FROM")
            }
            Self::NextLineAssumed { as_old: false } => f.write_str("TO is taken to be started with what is needed"),
            Self::Ignored { which, word } => write!(f, "{which} ignores '{}'", printable(word)),
            Self::Renamed { which } => {
                write!(f, "{which} does not know kho_scratch=, which is kho_bootmem= there")
            }
            Self::SealsNotCarried => {
                f.write_str("memfd-v1 does not carry seals: every file that is retrieved has seals 1 (F_SEAL_SEAL)")
            }
            Self::Finalize { before_load } => {
                let when = if *before_load { ", before the kernel is loaded" } else { "" };
                write!(f, "FROM hands regions over only after `echo 1 > /sys/kernel/debug/kho/out/finalize`{when}")
            }
            Self::MapMisread => {
                f.write_str("TO reads the map of FROM wrongly, and has about 3 MiB less memory until the next reboot")
            }
            Self::ScratchUnknown { load_size, initrd } => {
                let what = match (load_size, initrd) {
                    (Some(size), _) => format!("TO takes {} in one piece", size::human(*size)),
                    (None, size) => format!("the initrd has {}", size::human(size.unwrap_or_default())),
                };
                write!(
                    f,
                    "the sizes of the scratch areas of FROM are not known: {what}, and is refused where it fits into none"
                )
            }
            Self::HandsNothingOn => f.write_str("without kho=on TO hands nothing on to the kernel after it"),
            Self::NotTried => f.write_str(
                "no kexec between these two kernels has been tried: try it on a machine without guests first",
            ),
            Self::FileLoadOnly => {
                f.write_str("only kexec_file_load hands over: load with `kexec -s`, not with `kexec -c`")
            }
        }
    }
}

impl Remark {
    /// About the command line of one of the kernels: words that have no effect.
    pub fn of_line(line: &CommandLine, which: Which, kernel: &Kernel) -> impl Iterator<Item = Self> {
        let renamed = kernel.series().is_some_and(|series| series >= BOOTMEM_SINCE) && line.scratch.is_some();
        let ignored = line.ignored.iter().map(move |word| Self::Ignored { which, word: word.clone() });
        ignored.chain(renamed.then_some(Self::Renamed { which }))
    }

    /// About a kexec that was judged.
    #[must_use]
    pub fn of_kexec(old: &Old, next: &Next, judgement: &Judgement) -> Vec<Self> {
        let kept = |mechanism| judgement.verdict(mechanism) == Some(Verdict::Kept);
        let any = |holds: fn(&super::Ruling) -> bool| judgement.rulings.iter().any(holds);
        let map_misread = any(|ruling| ruling.reason == Reason::NoRegion)
            && old.kernel.abi.agrees(&next.kernel.abi, Family::Kho)
            && is_before(&old.kernel, LARGE_MAP)
            && !is_before(&next.kernel, LARGE_MAP);
        let seals_lost = kept(Mechanism::Sessions) && next.kernel.abi.is(Family::Memfd, 1);
        let not_tried = any(|ruling| ruling.verdict.is_kept() && ruling.evidence == Evidence::Assumed);
        let all = [
            seals_lost.then_some(Self::SealsNotCarried),
            finalize(old).filter(|_| kept(Mechanism::Regions)),
            map_misread.then_some(Self::MapMisread),
            scratch_unknown(old, next).filter(|_| judgement.verdict(Mechanism::Regions) != Some(Verdict::Refused)),
            (kept(Mechanism::Regions) && !next.kho).then_some(Self::HandsNothingOn),
            not_tried.then_some(Self::NotTried),
            any(|ruling| ruling.verdict == Verdict::Kept).then_some(Self::FileLoadOnly),
        ];
        all.into_iter().flatten().collect()
    }
}

/// Whether a kernel is of an earlier series, as far as its series is known.
fn is_before(kernel: &Kernel, series: Series) -> bool {
    kernel.series().is_some_and(|own| own < series)
}

/// Whether the old kernel has to be told to finalise. With LUO on, LUO does that.
fn finalize(old: &Old) -> Option<Remark> {
    let series = old.kernel.series().filter(|series| *series < STATELESS && !old.luo)?;
    Some(Remark::Finalize { before_load: series < LOADS_ANY_TIME })
}

fn scratch_unknown(old: &Old, next: &Next) -> Option<Remark> {
    let (load_size, initrd) = (next.kernel.load_size, next.initrd);
    let hands_over = old.kho && old.scratch.is_none() && old.kernel.abi.has(Family::Kho);
    (hands_over && load_size.or(initrd).is_some()).then_some(Remark::ScratchUnknown { load_size, initrd })
}
