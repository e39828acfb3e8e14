//! `gmfs kho compat`: whether the next kernel takes over what this one hands over.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::OsStringValueParser;
use clap::{Args as Arguments, ValueEnum, ValueHint};
use gmfs_kernel::Series;
use gmfs_kernel::cmdline::{BOOTMEM_SINCE, CommandLine};
use gmfs_kernel::compat::{self, Evidence, Judgement, Mechanism, Next, Old, Reason, Uses, Verdict};
use gmfs_kernel::{Release, abi::Family};

use super::side::{self, Side, Source};
use super::words::{self, Asked};
use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::{Failure, printable};
use crate::render::json;
use crate::render::json::kho::{KhoCompat, KhoKernel, KhoRegion, KhoRuling};
use crate::render::size;
use crate::render::style::{Role, paint};
use crate::render::table::Table;
use crate::render::wrap;

/// Tell whether the next kernel takes over what this one hands over
///
/// FROM is the kernel that hands over, TO the one that takes over. Each is a kernel image (bzImage, vmlinux, Image of arm64, EFI
/// zboot, compressed in any of the kernel's ways), a release such as 6.19.11, which stands for what Linux itself does in that
/// release, or `running`. A file whose name is a release is given as ./6.19.11.
///
/// The answer says what becomes of reserve_mem= regions, of LUO (whether /dev/liveupdate can be opened), and of sessions
/// with their files: kept; held, which is unreachable until the next reboot; lost, which is given to the allocator; revived
/// but free, which is announced as kept and given to the allocator; corrupt, which is handed out with wrong bytes; panic;
/// refused at load, where nothing is lost; or not known. It follows from the versions of KHO and LUO in both kernels, from
/// their releases and command lines, and from whether TO and its initrd fit into the scratch areas of FROM. The exit status
/// is 0 if all that is in use is kept, 1 if not, 2 if FROM or TO cannot be read.
#[derive(Arguments, Debug)]
#[command(after_long_help = "Examples:
  gmfs kho compat running /boot/vmlinuz-7.3.4 --initrd /boot/initrd.img-7.3.4
  gmfs kho compat 6.19.11 7.0.13 --uses regions")]
pub(super) struct Args {
    /// The kernel that hands over: an image, a release, or `running`
    #[arg(value_name = "FROM", value_hint = ValueHint::FilePath, value_parser = kernel())]
    old: OsString,
    /// The kernel that takes over: an image, a release, or `running`
    #[arg(value_name = "TO", value_hint = ValueHint::FilePath, value_parser = kernel())]
    next: OsString,
    /// Command line that TO is started with; the default is that of FROM
    #[arg(long, value_name = "TEXT")]
    cmdline: Option<OsString>,
    /// Command line that FROM was started with; the default is kho=on liveupdate=on, and for `running` its own
    #[arg(long, value_name = "TEXT")]
    from_cmdline: Option<OsString>,
    /// The initrd that is loaded with TO
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    initrd: Option<PathBuf>,
    /// What is in use and has to be kept: regions, luo, sessions
    ///
    /// The default is all that FROM can hand over; for `running`, what is found to be in use.
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', hide_possible_values = true)]
    uses: Vec<Used>,
    /// Physical address of a region of FROM, to compare with an alignment; `running` knows it
    #[arg(long, value_name = "LABEL=ADDRESS", value_parser = side::address)]
    at: Vec<(String, u64)>,
}

/// See [`Mechanism`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Used {
    /// reserve_mem= regions
    Regions,
    /// Live updates as such
    Luo,
    /// Sessions with their files
    Sessions,
}

fn kernel() -> impl clap::builder::TypedValueParser<Value = OsString> {
    use clap::builder::TypedValueParser as _;
    OsStringValueParser::new().try_map(|text| {
        if text.is_empty() { Err("a kernel is an image, a release or the word running") } else { Ok(text) }
    })
}

/// A kexec, as it is asked about.
struct Kexec {
    from: Side,
    to: Side,
    old: Old,
    next: Next,
    uses: Uses,
    notes: Vec<String>,
}

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let mut kexec = asked(args, Side::of(&args.old)?, Side::of(&args.next)?)?;
    let judgement = compat::judge(&kexec.old, &kexec.next, kexec.uses);
    remark(&mut kexec, &judgement);
    let exit = if judgement.is_kept() { Exit::Done } else { Exit::No };
    if ctx.json {
        json::print(ctx, "kho-compat", &wire(&kexec, &judgement))?;
        return Ok(exit);
    }
    show(&kexec, &judgement, ctx.verbose, ctx)?;
    Ok(exit)
}

/// What becomes of what the running kernel hands over.
pub(in crate::cmd) enum HandOver {
    /// Nothing is handed over, for this reason.
    None(&'static str),
    /// Something is handed over, and it is not known to which kernel.
    NoKernel,
    /// The next kernel was judged.
    Judged {
        /// What is worst.
        verdict: Verdict,
        /// The answer in a sentence.
        answer: String,
        /// What to do about it.
        advice: Option<String>,
    },
}

/// What a kexec from the running kernel, whose files are below `root`, does to what it hands over.
pub(in crate::cmd) fn of_running(root: &Path, kernel: Option<&Path>, cmdline: Option<&OsString>) -> Result<HandOver> {
    let from = Side::running_at(root)?;
    if let Some(running) = from.running() {
        let uses = running.uses();
        if !running.kernel.abi.has(Family::Kho) {
            return Ok(HandOver::None("the running kernel has no kexec handover"));
        }
        if !running.kho.unwrap_or(running.line.kho == Some(true)) {
            return Ok(HandOver::None("kexec handover is off (no kho=on)"));
        }
        if !uses.regions && !uses.luo && !uses.sessions {
            return Ok(HandOver::None("kexec handover is on, and hands nothing over"));
        }
    }
    let Some(kernel) = kernel else { return Ok(HandOver::NoKernel) };
    let args = Args {
        old: "running".into(),
        next: kernel.into(),
        cmdline: cmdline.cloned(),
        from_cmdline: None,
        initrd: None,
        uses: Vec::new(),
        at: Vec::new(),
    };
    let to = Side::image(kernel)?;
    let kexec = asked(&args, from, to)?;
    let judgement = compat::judge(&kexec.old, &kexec.next, kexec.uses);
    let asked = asked_of(&kexec);
    let advice = judgement.rulings.iter().find_map(|ruling| asked.advice(ruling));
    let advice = advice.or_else(|| judgement.regions.iter().find_map(|region| asked.of_region(region).1));
    let worst = judgement.rulings.iter().map(|ruling| ruling.verdict).max();
    let verdict = if judgement.is_kept() { Verdict::Kept } else { worst.unwrap_or(Verdict::NotKnown) };
    Ok(HandOver::Judged { verdict, answer: words::answer(&judgement.rulings, &asked), advice })
}

/// Finds out what is asked about.
fn asked(args: &Args, from: Side, to: Side) -> Result<Kexec> {
    let mut notes = Vec::new();
    let uses = match (args.uses.as_slice(), from.running()) {
        ([], Some(running)) => running.uses(),
        ([], None) => Uses::ALL,
        (named, _) => {
            let has = |used| named.contains(&used);
            Uses { regions: has(Used::Regions), luo: has(Used::Luo), sessions: has(Used::Sessions), assumed: false }
        }
    };
    let own = |side: &Side| side.running().map(|running| running.line.clone());
    let old_line = args.from_cmdline.as_ref().map(side::line).or_else(|| own(&from));
    let given = args.cmdline.as_ref().map(side::line).or_else(|| own(&to));
    if old_line.is_none() {
        notes.push("FROM is taken to have been started with what is needed; --from-cmdline says with what".to_owned());
    }
    if given.is_none() {
        let same = if old_line.is_some() { "with the command line of FROM" } else { "with what is needed" };
        notes.push(format!("TO is taken to be started {same}; --cmdline says with what"));
    }
    let next_line = given.or_else(|| old_line.clone());
    for (line, which, side) in [(&old_line, "FROM", &from), (&next_line, "TO", &to)] {
        notes.extend(line.iter().flat_map(|line| not_understood(line, which, side)));
    }
    let mut old = Old::new(from.kernel.clone(), old_line.as_ref(), uses);
    if let Some(running) = from.running().filter(|_| args.from_cmdline.is_none()) {
        old.kho = running.kho.unwrap_or(old.kho);
        old.regions = Some(running.regions.clone());
        old.scratch = running.scratch.clone().or(old.scratch);
        old.memory_end = running.memory_end;
    }
    place(&mut old, &args.at)?;
    let mut next = Next::new(to.kernel.clone(), next_line.as_ref());
    next.initrd = args.initrd.as_deref().map(side::length).transpose()?;
    Ok(Kexec { from, to, old, next, uses, notes })
}

/// Words of a command line that have no effect.
fn not_understood(line: &CommandLine, which: &str, side: &Side) -> Vec<String> {
    let renamed = side.kernel.series().is_some_and(|series| series >= BOOTMEM_SINCE) && line.scratch.is_some();
    let renamed = renamed.then(|| format!("{which} does not know kho_scratch=, which is kho_bootmem= there"));
    let ignored = line.ignored.iter().map(|word| format!("{which} ignores '{}'", printable(word)));
    ignored.chain(renamed).collect()
}

/// Takes the addresses of regions that the user knows.
fn place(old: &mut Old, at: &[(String, u64)]) -> Result<(), Failure> {
    for (label, address) in at {
        let found = old.regions.iter_mut().flatten().find(|region| region.label == *label);
        let Some(region) = found else {
            let message = format!("FROM has no region '{}'", printable(label));
            return Err(Failure::new("no-such-region", message)
                .hint("--from-cmdline TEXT says with which reserve_mem= regions FROM was started"));
        };
        region.address = Some(*address);
    }
    Ok(())
}

/// Adds what else is to be known.
fn remark(kexec: &mut Kexec, judgement: &Judgement) {
    /// From this series on nothing has to be finalised before the kexec.
    const STATELESS: Series = Series::new(7, 1);
    let Kexec { old, next, .. } = &*kexec;
    let verdict = |mechanism| judgement.verdict(mechanism);
    let kept = |mechanism| verdict(mechanism) == Some(Verdict::Kept);
    let mut notes = Vec::new();
    if kept(Mechanism::Sessions) && next.kernel.abi.is(Family::Memfd, 1) {
        notes.push("memfd-v1 does not carry seals: every file that is retrieved has seals 1 (F_SEAL_SEAL)".to_owned());
    }
    let finalizes = old.kernel.release.as_ref().map(Release::series).filter(|series| *series < STATELESS && !old.luo);
    if let Some(series) = finalizes.filter(|_| kept(Mechanism::Regions)) {
        let when = if series < Series::new(6, 19) { ", before the kernel is loaded" } else { "" };
        notes.push(format!("FROM hands regions over only after `echo 1 > /sys/kernel/debug/kho/out/finalize`{when}"));
    }
    let no_region = judgement.rulings.iter().any(|ruling| ruling.reason == Reason::NoRegion);
    if no_region && old.kernel.abi.agrees(&next.kernel.abi, Family::Kho) && grows(old, next) {
        notes
            .push("TO reads the map of FROM wrongly, and has about 3 MiB less memory until the next reboot".to_owned());
    }
    if old.kho
        && old.scratch.is_none()
        && verdict(Mechanism::Regions) != Some(Verdict::Refused)
        && old.kernel.abi.has(Family::Kho)
    {
        let what = match (next.kernel.load_size, next.initrd) {
            (Some(size), _) => format!("TO takes {} in one piece", size::human(size)),
            (None, Some(size)) => format!("the initrd has {}", size::human(size)),
            (None, None) => String::new(),
        };
        if !what.is_empty() {
            notes.push(format!(
                "the sizes of the scratch areas of FROM are not known: {what}, and is refused where it fits into none"
            ));
        }
    }
    if kept(Mechanism::Regions) && !next.kho {
        notes.push("without kho=on TO hands nothing on to the kernel after it".to_owned());
    }
    if judgement.rulings.iter().any(|ruling| ruling.verdict.is_kept() && ruling.evidence == Evidence::Assumed) {
        notes.push(
            "no kexec between these two kernels has been tried: try it on a machine without guests first".to_owned(),
        );
    }
    if judgement.rulings.iter().any(|ruling| ruling.verdict == Verdict::Kept) {
        notes.push("only kexec_file_load hands over: load with `kexec -s`, not with `kexec -c`".to_owned());
    }
    kexec.notes.extend(notes);
}

/// Whether the next kernel takes the map of the old one for a larger one.
fn grows(old: &Old, next: &Next) -> bool {
    let before = |kernel: &gmfs_kernel::Kernel| kernel.series().is_some_and(|series| series < Series::new(6, 18));
    before(&old.kernel) && !before(&next.kernel)
}

fn show(kexec: &Kexec, judgement: &Judgement, verbose: bool, ctx: &mut Ctx) -> Result<()> {
    let asked = asked_of(kexec);
    let mut kernels = Table::bare(&[]);
    for (which, side) in [("From", &kexec.from), ("To", &kexec.to)] {
        let what = format!("{}, {}: {}", side.name(), side.kind(), words::all_versions(&side.kernel));
        kernels.row([which, &what]);
    }
    kernels.print(ctx)?;
    ctx.line("")?;
    let answer = words::answer(&judgement.rulings, &asked);
    let role = judgement.rulings.iter().map(|ruling| ruling.verdict).max().map_or(Role::Good, words::role);
    ctx.line(&paint(ctx.colour, role, &wrap::hang(&answer, ctx.width, 4)))?;
    if !judgement.rulings.is_empty() {
        ctx.line("")?;
        rulings(judgement, &asked, verbose)?.print(ctx)?;
    }
    let told =
        |region: &compat::RegionRuling| Some(region.reason) == regions_reason(judgement) && !is_own(region.reason);
    if judgement.regions.iter().any(|region| !told(region)) {
        ctx.line("")?;
        let mut table = Table::new(&["Region", "Size", "Verdict", "Why"]).dispensable(&["Size"]);
        for region in &judgement.regions {
            let (why, _) = asked.of_region(region);
            table.styled([
                (&printable(&region.region.label), Role::Plain),
                (&size::human(region.region.size), Role::Plain),
                (words::verdict(region.verdict), words::role(region.verdict)),
                (&why, Role::Plain),
            ]);
        }
        table.print(ctx)?;
    }
    let mut advice: Vec<String> = judgement.rulings.iter().filter_map(|ruling| asked.advice(ruling)).collect();
    advice.extend(judgement.regions.iter().filter_map(|region| asked.of_region(region).1));
    advice.dedup();
    if !advice.is_empty() {
        ctx.line("")?;
    }
    for advice in advice {
        ctx.line(&wrap::hang(&format!("next: {advice}"), ctx.width, 6))?;
    }
    for note in &kexec.notes {
        ctx.note(note);
    }
    Ok(())
}

/// A row for each mechanism; one for several with the same reason.
fn rulings(judgement: &Judgement, asked: &Asked<'_>, verbose: bool) -> Result<Table> {
    let mut table = if verbose {
        Table::new(&["In use", "Verdict", "Rule", "From", "Why"]).dispensable(&["From", "Rule"])
    } else {
        Table::new(&["In use", "Verdict", "Why"])
    };
    let mut rows: Vec<(String, &compat::Ruling, String)> = Vec::new();
    for ruling in &judgement.rulings {
        let why = asked.why(ruling);
        match rows.last_mut().filter(|row| row.1.verdict == ruling.verdict && row.2 == why) {
            Some(row) => row.0 = format!("{}, {}", row.0, ruling.mechanism.name()),
            None => rows.push((ruling.mechanism.name().to_owned(), ruling, why)),
        }
    }
    for (names, ruling, why) in &rows {
        let verdict = (words::verdict(ruling.verdict), words::role(ruling.verdict));
        let (names, why) = ((names.as_str(), Role::Plain), (why.as_str(), Role::Plain));
        if verbose {
            let rule = (ruling.reason.name(), Role::Plain);
            table.cells([names, verdict, rule, (ruling.evidence.name(), Role::Plain), why]);
        } else {
            table.cells([names, verdict, why]);
        }
    }
    Ok(table)
}

fn regions_reason(judgement: &Judgement) -> Option<Reason> {
    judgement.rulings.iter().find(|ruling| ruling.mechanism == Mechanism::Regions).map(|ruling| ruling.reason)
}

/// Whether a reason is about one region alone.
const fn is_own(reason: Reason) -> bool {
    matches!(reason, Reason::LabelMissing | Reason::SizeDiffers | Reason::Misaligned | Reason::AddressUnknown)
}

fn asked_of(kexec: &Kexec) -> Asked<'_> {
    let (mut from, mut to) = (kexec.from.name(), kexec.to.name());
    if from == to {
        (from, to) = (format!("the old {from}"), format!("the next {to}"));
    }
    Asked { old: &kexec.old, next: &kexec.next, from, to }
}

/// The answer as JSON.
fn wire(kexec: &Kexec, judgement: &Judgement) -> KhoCompat {
    let asked = asked_of(kexec);
    let rulings = judgement.rulings.iter().map(|ruling| KhoRuling {
        mechanism: ruling.mechanism.name().into(),
        verdict: ruling.verdict.name().into(),
        reason: ruling.reason.name().into(),
        evidence: ruling.evidence.name().into(),
        message: asked.why(ruling),
        advice: asked.advice(ruling),
    });
    let regions = judgement.regions.iter().map(|region| {
        let (message, advice) = asked.of_region(region);
        KhoRegion {
            label: region.region.label.clone(),
            size: region.region.size,
            physical: region.region.address,
            verdict: region.verdict.name().into(),
            reason: region.reason.name().into(),
            message,
            advice,
        }
    });
    KhoCompat {
        kept: judgement.is_kept(),
        rulings: rulings.collect(),
        reserved_regions: regions.collect(),
        from: wire_kernel(&kexec.from, kexec.old.kho, kexec.old.luo),
        to: wire_kernel(&kexec.to, kexec.next.kho, kexec.next.kho && kexec.next.luo),
        scratch_areas: kexec.old.scratch.clone(),
        initrd_size: kexec.next.initrd,
        notes: kexec.notes.clone(),
    }
}

fn wire_kernel(side: &Side, kho: bool, luo: bool) -> KhoKernel {
    let kernel = &side.kernel;
    let (source, path, format, codec) = match &side.source {
        Source::Image { path, format, codec } => {
            ("image", Some(path), Some(format.name()), codec.map(|codec| codec.name()))
        }
        Source::Release => ("release", None, None, None),
        Source::Running(running) => ("running", running.image.as_ref(), None, None),
    };
    KhoKernel {
        source: source.into(),
        path: path.map(|path| path.display().to_string()),
        release: kernel.release.as_ref().map(ToString::to_string),
        format: format.map(Into::into),
        codec: codec.map(Into::into),
        architecture: kernel.architecture.map(|architecture| architecture.name().into()),
        load_size: kernel.load_size,
        versions: kernel.abi.iter().map(|version| version.to_string()).collect(),
        kho: kho && kernel.abi.has(Family::Kho),
        liveupdate: luo && kernel.abi.has(Family::Luo),
    }
}
