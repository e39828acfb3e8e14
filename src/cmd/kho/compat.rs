//! `gmfs kho compat`: whether the next kernel takes over what this one hands over.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::OsStringValueParser;
use clap::{Args as Arguments, ValueEnum, ValueHint};
use gmfs_host::kexec::{Kexec, Question, Side};
use gmfs_kernel::cmdline::CommandLine;
use gmfs_kernel::compat::{Judgement, Mechanism, Missing, Reason, RegionRuling, Remark, Ruling, Uses, Verdict, Words};

use crate::ctx::Ctx;
use crate::exit::Exit;
use crate::failure::printable;
use crate::render::json;
use crate::render::json::kho::KhoCompat;
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
    #[arg(long, value_name = "LABEL=ADDRESS", value_parser = address)]
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

/// `LABEL=ADDRESS`
fn address(text: &str) -> Result<(String, u64), String> {
    let (label, address) = text.rsplit_once('=').ok_or("write LABEL=ADDRESS, such as guests=0x1680000000")?;
    Ok((label.to_owned(), gmfs_format::spec::parse_amount(address).map_err(|error| error.to_string())?))
}

pub(super) fn run(args: &Args, ctx: &mut Ctx) -> Result<Exit> {
    let side = |text| Side::of(text, Path::new("/"));
    let (from, to) = (side(&args.old)?, side(&args.next)?);
    let has = |used| args.uses.contains(&used);
    let uses =
        || Uses { regions: has(Used::Regions), luo: has(Used::Luo), sessions: has(Used::Sessions), assumed: false };
    let question = Question {
        old_line: args.from_cmdline.as_ref().map(line),
        next_line: args.cmdline.as_ref().map(line),
        initrd: args.initrd.as_deref(),
        uses: (!args.uses.is_empty()).then(uses),
        at: &args.at,
    };
    let kexec = Kexec::judge(from, to, &question)?;
    let words = kexec.words().with_missing(how_to_say);
    let notes: Vec<String> = kexec.remarks.iter().map(note).collect();
    if ctx.json {
        json::print(ctx, "kho-compat", &KhoCompat::new(&kexec, &words, notes))?;
    } else {
        show(&kexec, &words, ctx)?;
        notes.iter().for_each(|note| ctx.note(note));
    }
    Ok(if kexec.judgement.is_kept() { Exit::Done } else { Exit::No })
}

/// A command line of a kernel. It need not be UTF-8: what decides is ASCII.
fn line(text: &OsString) -> CommandLine {
    CommandLine::parse(&text.to_string_lossy())
}

/// A remark, with the option by which its user can say more.
fn note(remark: &Remark) -> String {
    match remark {
        Remark::OldLineAssumed => format!("{remark}; --from-cmdline says with what"),
        Remark::NextLineAssumed { .. } => format!("{remark}; --cmdline says with what"),
        _ => remark.to_string(),
    }
}

/// The option by which the user can say what is missing.
fn how_to_say(missing: Missing<'_>) -> Option<String> {
    match missing {
        Missing::Regions => Some("say what FROM was started with: --from-cmdline TEXT".to_owned()),
        Missing::Address { label } => Some(format!("say where it is: --at {label}=ADDRESS")),
        _ => None,
    }
}

/// How a verdict is shown.
const fn role(verdict: Verdict) -> Role {
    match verdict {
        Verdict::None => Role::Dim,
        Verdict::Kept => Role::Good,
        Verdict::Refused | Verdict::Held | Verdict::NotKnown => Role::Warn,
        Verdict::Lost | Verdict::RevivedButFree | Verdict::Corrupt | Verdict::Panic => Role::Bad,
    }
}

fn show(kexec: &Kexec, words: &Words<'_>, ctx: &mut Ctx) -> Result<()> {
    let judgement = &kexec.judgement;
    let mut kernels = Table::bare(&[]);
    for (which, side) in [("From", &kexec.from), ("To", &kexec.to)] {
        let what = format!("{}, {}: {}", side.name(), side.origin(), side.kernel.versions_in_words());
        kernels.row([which, &what]);
    }
    kernels.print(ctx)?;
    ctx.line("")?;
    let answer = words.answer(judgement);
    ctx.line(&paint(ctx.colour, judgement.worst().map_or(Role::Good, role), &wrap::hang(&answer, ctx.width, 4)))?;
    if !judgement.rulings.is_empty() {
        ctx.line("")?;
        rulings(judgement, words, ctx.verbose).print(ctx)?;
    }
    let told = |region: &RegionRuling| Some(region.reason) == regions_reason(judgement) && !is_own(region.reason);
    if judgement.regions.iter().any(|region| !told(region)) {
        ctx.line("")?;
        let mut table = Table::new(&["Region", "Size", "Verdict", "Why"]).dispensable(&["Size"]);
        for region in &judgement.regions {
            let (why, _) = words.of_region(region);
            table.styled([
                (&printable(&region.region.label), Role::Plain),
                (&size::human(region.region.size), Role::Plain),
                (region.verdict.in_words(), role(region.verdict)),
                (&why, Role::Plain),
            ]);
        }
        table.print(ctx)?;
    }
    let advice = words.all_advice(judgement);
    if !advice.is_empty() {
        ctx.line("")?;
    }
    for advice in advice {
        ctx.line(&wrap::hang(&format!("next: {advice}"), ctx.width, 6))?;
    }
    Ok(())
}

/// A row for each mechanism; one for several with the same reason.
fn rulings(judgement: &Judgement, words: &Words<'_>, verbose: bool) -> Table {
    let mut table = if verbose {
        Table::new(&["In use", "Verdict", "Rule", "From", "Why"]).dispensable(&["From", "Rule"])
    } else {
        Table::new(&["In use", "Verdict", "Why"])
    };
    let mut rows: Vec<(String, &Ruling, String)> = Vec::new();
    for ruling in &judgement.rulings {
        let why = words.why(ruling);
        match rows.last_mut().filter(|row| row.1.verdict == ruling.verdict && row.2 == why) {
            Some(row) => row.0 = format!("{}, {}", row.0, ruling.mechanism.name()),
            None => rows.push((ruling.mechanism.name().to_owned(), ruling, why)),
        }
    }
    for (names, ruling, why) in &rows {
        let verdict = (ruling.verdict.in_words(), role(ruling.verdict));
        let (names, why) = ((names.as_str(), Role::Plain), (why.as_str(), Role::Plain));
        if verbose {
            let rule = (ruling.reason.name(), Role::Plain);
            table.cells([names, verdict, rule, (ruling.evidence.name(), Role::Plain), why]);
        } else {
            table.cells([names, verdict, why]);
        }
    }
    table
}

fn regions_reason(judgement: &Judgement) -> Option<Reason> {
    judgement.rulings.iter().find(|ruling| ruling.mechanism == Mechanism::Regions).map(|ruling| ruling.reason)
}

/// Whether a reason is about one region alone.
const fn is_own(reason: Reason) -> bool {
    matches!(reason, Reason::LabelMissing | Reason::SizeDiffers | Reason::Misaligned | Reason::AddressUnknown)
}
