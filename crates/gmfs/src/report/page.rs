//! The page. Everything that is put into it by `( )` is escaped by maud; the style and the script are the only parts that are
//! not.

use gmfs_check::Severity;
use gmfs_format::Layout;
use gmfs_io::num::len64;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{File, Options, Owners, Report, Sealed};
use crate::picture::{Lengths, Mix, Use};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// What the browser may do with the page: nothing is loaded, and only this style and this script count. The numbers are the
/// SHA-256 of both, which a test compares.
const POLICY: &str = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; \
     style-src 'sha256-o2go4SbuJEBSDehRFUXlfsfM/CYE6H+SqbjMwIj6NkI='; \
     script-src 'sha256-onpBVXQ1S6ZTMfVx5zOHilKemIZ8nnRdOeKgB+aAcLw='";

/// A number that programs can read: the words for it, and the number itself in `value`.
fn number(id: &str, value: u64, words: impl AsRef<str>) -> Markup {
    html! { data id=(id) value=(value) { (words.as_ref()) } }
}

fn plain(id: &str, value: u64) -> Markup {
    number(id, value, value.to_string())
}

/// A part of a whole, in parts of `of`.
fn share(part: u64, whole: u64, of: u64) -> u64 {
    let product = u128::from(part).saturating_mul(of.into());
    product.checked_div(whole.into()).and_then(|share| share.try_into().ok()).unwrap_or_default()
}

/// One with its noun, or several.
fn count(n: u64, one: &str, several: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { several })
}

pub(super) fn page(report: &Report, options: &Options<'_>) -> String {
    let sections = [
        ("allocation", "Memory", Some(allocation(report, options)).filter(|_| report.picture.is_some())),
        ("files", "Files", Some(files(report, options))),
        ("fragmentation", "Fragmentation", Some(fragmentation(report, options))),
        ("findings", "Findings", Some(findings(report))),
        ("seals", "Seals", report.seals.as_ref().map(|_| seals(report, options))),
        ("history", "History of writes", Some(history(report, options))),
        ("store", "About this store", Some(about(report, options))),
    ];
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                meta name="robots" content="noindex";
                meta name="generator" content=(options.program);
                // Without it browsers ask for one.
                link rel="icon" href="data:,";
                title { "gmfs: " (report.image) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { span.mono { (report.image) } " " (badge(report)) }
                    p.dim {
                        @if !report.label.is_empty() { (report.label) " · " }
                        "layout " (report.layout.name())
                        @if let Some(uuid) = &report.uuid { " · " span.mono { (uuid) } }
                        " · as of " (time(options, options.now))
                    }
                    nav aria-label="Sections" {
                        @for (id, title, content) in &sections {
                            @if content.is_some() { a href=(format!("#{id}")) { (title) } }
                        }
                    }
                }
                main {
                    (tiles(report, options))
                    @for (id, title, content) in &sections {
                        @if let Some(content) = content {
                            section id=(id) {
                                h2 { (title) }
                                (content)
                            }
                        }
                    }
                }
                footer.dim.small {
                    p { "Made by " (options.program) ". This page is one file: it loads nothing, and sends nothing." }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    markup.into_string()
}

fn time(options: &Options<'_>, nanoseconds: u64) -> String {
    (options.time)(nanoseconds)
}

fn badge(report: &Report) -> Markup {
    let verdict = report.health.verdict.name();
    html! { span #verdict class={ "badge v-" (verdict) } { (verdict) } }
}

fn tiles(report: &Report, options: &Options<'_>) -> Markup {
    let size = options.size;
    let findings = report.health.all();
    html! {
        ul.tiles {
            @if let Some(free) = &report.free {
                li { b { (number("size", report.size, size(report.size))) } span { "size" } }
                li {
                    b { (number("free_bytes", free.bytes, size(free.bytes))) }
                    span { "free, " (share(free.bytes, report.size, 100)) " %" }
                }
                @let largest = free.largest.map_or(0, |run| run.len);
                li { b { (number("largest_free_run", largest, size(largest))) } span { "largest free run" } }
            }
            li {
                b { (plain("file_count", report.file_count)) }
                span { @if report.file_count == 1 { "file" } @else { "files" } }
            }
            li {
                b { (plain("finding_count", findings)) }
                span { @if findings == 1 { "finding" } @else { "findings" } }
            }
            @if let Some(seals) = &report.seals {
                li {
                    b { (plain("blocks_sealed", seals.blocks)) }
                    span { "sealed of " (plain("data_blocks", report.usage.data)) " data blocks" }
                }
            }
            @if let Some(history) = &report.history {
                li { b { (plain("write_count", history.commits)) } span { "commits" } }
            }
        }
    }
}

/// The class and the meaning of a use.
const fn use_words(of: Use) -> (&'static str, &'static str) {
    match of {
        Use::Free => ("free", "free"),
        Use::File => ("file", "files"),
        Use::Metadata => ("metadata", "metadata"),
        Use::Tail => ("tail", "past the last whole block"),
        Use::Leaked => ("leaked", "marked as used, and nothing owns it"),
        Use::Reserved => ("reserved", "reserved by a repair"),
        Use::Unknown => ("unknown", "unknown"),
        Use::Bad => ("bad", "hardware errors"),
    }
}

/// The class of a cell that is partly free.
const PART: &str = "part";

fn class(cell: &Mix) -> &'static str {
    match cell.seen() {
        Some((Use::File | Use::Metadata, false)) => PART,
        Some((of, _)) => use_words(of).0,
        None => "free",
    }
}

fn allocation(report: &Report, options: &Options<'_>) -> Markup {
    let Some(picture) = &report.picture else { return html! {} };
    let size = options.size;
    let uses = || Use::ALL.into_iter().filter(|of| picture.total.bytes(*of) > 0);
    let base = report.physical.unwrap_or_default();
    let owners = Owners::default();
    html! {
        p.small.dim {
            "Each cell is " (number("cell_bytes", picture.cell_bytes, size(picture.cell_bytes)))
            ", from the start of the region to its end. Point at a cell, tap it, or use the arrow keys to see what it holds. Two \
             shades tell files apart that are next to each other."
        }
        ul.key {
            @for of in uses() {
                @let (class, meaning) = use_words(of);
                @let bytes = picture.total.bytes(of);
                li { i class=(class) {} span { (meaning) ": " (number(&format!("use_{class}"), bytes, size(bytes))) } }
            }
            @if picture.cells.iter().any(|cell| class(cell) == PART) { li { i class=(PART) {} "partly free" } }
        }
        div #map tabindex="0" role="group" aria-label="What the memory is used for, cell by cell" aria-describedby="cell" {
            @for (number, cell) in (0_u64..).zip(&picture.cells) {
                @let owners = report.owners.get(gmfs_io::num::small(number)).unwrap_or(&owners);
                @let at = number.saturating_mul(picture.cell_bytes);
                @let end = at.saturating_add(picture.cell_bytes).min(report.size);
                i class={ (class(cell)) @if owners.other { " other" } } title=(cell_words((base.saturating_add(at), base.saturating_add(end)), cell, owners, options)) {}
            }
        }
        p #cell.small aria-live="polite" { "No cell is chosen." }
    }
}

/// What a cell holds, in words.
fn cell_words((at, end): (u64, u64), cell: &Mix, owners: &Owners, options: &Options<'_>) -> String {
    let mut text = format!("{at:#x} to {end:#x}: ");
    let mut first = true;
    for of in Use::ALL.into_iter().rev().filter(|of| cell.bytes(*of) > 0) {
        if !first {
            text.push_str(", ");
        }
        first = false;
        text.push_str(&format!("{} {}", use_words(of).1, (options.size)(cell.bytes(of))));
    }
    if !owners.paths.is_empty() {
        text.push_str(" · ");
        text.push_str(&owners.paths.join(", "));
    }
    if owners.more {
        text.push_str(", and more files");
    }
    text
}

fn files(report: &Report, options: &Options<'_>) -> Markup {
    let size = options.size;
    let more = report.more_files();
    html! {
        p.small.dim {
            (count(report.file_count, "file", "files")) " in "
            (number("directory_count", report.directory_count, count(report.directory_count, "directory", "directories"))) "."
            @if more > 0 {
                " The largest " (plain("files_listed", len64(report.files.len()))) " are listed; "
                (plain("files_not_listed", more)) " more are not (gmfs ls -R lists all)."
            }
            @if report.lost_pages > 0 {
                " " (count(report.lost_pages, "page", "pages")) " of the inode table cannot be read: files are missing here."
            }
        }
        @if !report.files.is_empty() {
            search #search hidden {
                input #q type="search" placeholder="Search paths" aria-label="Search paths" autocomplete="off" spellcheck="false";
                span #shown.small.dim aria-live="polite" {}
            }
            div.scroll {
                table {
                    thead {
                        tr {
                            th { "Path" }
                            th.n { "Size" }
                            th.n.wide { "Blocks" }
                            th.n { "Extents" }
                            @if report.seals.is_some() { th { "Sealed" } }
                            th.wide { "Mode" }
                            th.wide { "Owner" }
                            th.wide { "Content changed" }
                        }
                    }
                    tbody { @for file in &report.files { (row(file, report, size, options)) } }
                }
            }
        }
    }
}

fn row(file: &File, report: &Report, size: fn(u64) -> String, options: &Options<'_>) -> Markup {
    html! {
        tr {
            td.path.mono {
                @match &file.path {
                    Some(path) => { (path) }
                    None => { "inode " (file.ino) " (no path leads to it)" }
                }
                @if file.doubtful { " " span.badge.s-warning { "doubtful" } }
            }
            td.n { data value=(file.size) { (size(file.size)) } }
            td.n.wide { data value=(file.blocks) { (file.blocks) } }
            td.n { data value=(file.extents) { (file.extents) } }
            @if report.seals.is_some() {
                td {
                    @match file.sealed {
                        Some(Sealed::Yes) => { "yes" }
                        Some(Sealed::Partly) => { "partly" }
                        Some(Sealed::No) => { "no" }
                        Some(Sealed::Empty) | None => { "–" }
                    }
                }
            }
            @if let Some(attributes) = file.attributes {
                td.wide.mono { (format!("{:04o}", attributes.mode)) }
                td.wide.n { (attributes.uid) ":" (attributes.gid) }
                td.wide.t { (time(options, attributes.modified)) }
            } @else {
                td.wide { "–" } td.wide { "–" } td.wide { "–" }
            }
        }
    }
}

fn fragmentation(report: &Report, options: &Options<'_>) -> Markup {
    let size = options.size;
    let lengths = report.picture.as_ref().map(|picture| picture.lengths.as_slice()).unwrap_or_default();
    let mut worst: Vec<&File> = report.files.iter().filter(|file| file.extents > 1).collect();
    worst.sort_by_key(|file| std::cmp::Reverse(file.extents));
    worst.truncate(10);
    html! {
        table.facts {
            tbody {
                tr { th { "Extents of all files" } td { (plain("extent_count", report.extent_count)) } }
                tr {
                    th { "Files in more than one extent" }
                    td { (plain("fragmented_files", report.fragmented_files)) " of " (report.file_count) }
                }
                @if let Some(free) = &report.free {
                    tr { th { "Free runs" } td { (plain("free_runs", free.runs)) } }
                    @let aligned = free.aligned_gib.saturating_mul(1 << 30);
                    tr {
                        th { "Free in whole GiB at multiples of 1 GiB" }
                        td { (number("aligned_bytes", aligned, size(aligned))) }
                    }
                    @if free.unknown > 0 {
                        tr {
                            th { "Free or not: unknown" }
                            td { (number("unknown_bytes", free.unknown, size(free.unknown))) }
                        }
                    }
                }
            }
        }
        @if !lengths.is_empty() { (histogram(lengths, size)) }
        @if !worst.is_empty() {
            h3 { "Files in most extents" }
            div.scroll {
                table {
                    thead { tr { th { "Path" } th.n { "Size" } th.n { "Extents" } } }
                    tbody {
                        @for file in worst {
                            tr {
                                td.path.mono { (file.path.clone().unwrap_or_else(|| format!("inode {}", file.ino))) }
                                td.n { (size(file.size)) }
                                td.n { (file.extents) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How long extents and free runs are.
fn histogram(lengths: &[Lengths], size: fn(u64) -> String) -> Markup {
    let most = |of: fn(&Lengths) -> u64| lengths.iter().map(of).max().unwrap_or_default();
    let (extents, runs) = (most(|row| row.extents), most(|row| row.free_runs));
    html! {
        h3 { "How long extents and free runs are" }
        div.scroll {
            table #lengths {
                thead {
                    tr { th.n { "Length from" } th.n { "Extents" } th.wide {} th.n { "Free runs" } th.wide {} th.n { "Free" } }
                }
                tbody {
                    @for row in lengths {
                        tr {
                            td.n { data value=(row.from) { (size(row.from)) } }
                            td.n { data value=(row.extents) { (row.extents) } }
                            td.wide { (bar(row.extents, extents)) }
                            td.n { data value=(row.free_runs) { (row.free_runs) } }
                            td.wide { (bar(row.free_runs, runs)) }
                            td.n { data value=(row.free_bytes) { (size(row.free_bytes)) } }
                        }
                    }
                }
            }
        }
    }
}

fn bar(part: u64, whole: u64) -> Markup {
    html! {
        svg.bar viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
            rect width="100" height="10" {}
            rect.x width=(share(part, whole, 100)) height="10" {}
        }
    }
}

fn findings(report: &Report) -> Markup {
    let health = &report.health;
    let meaning = match health.verdict {
        gmfs_check::Verdict::Clean => "A check of the metadata found no damage.",
        gmfs_check::Verdict::Recovery => {
            "A change was interrupted. The next program that writes finishes it or takes it back."
        }
        gmfs_check::Verdict::Unknown => "Metadata is missing from the image, so that its state is unknown.",
        gmfs_check::Verdict::Damaged => "The metadata is damaged. gmfs fsck tells what can be repaired.",
    };
    let more = report.more_findings();
    html! {
        p { (meaning) " The content of files was not read." }
        table.facts {
            tbody {
                @for (severity, count) in health.counts.iter().filter(|(severity, count)| *count > 0 || *severity == Severity::Error) {
                    tr { th { (severity.name()) } td { (plain(&format!("severity_{}", severity.name()), *count)) } }
                }
                @if health.unchecked > 0 {
                    tr { th { "ranges that were not checked" } td { (plain("unchecked", health.unchecked)) } }
                }
            }
        }
        @if !report.findings.is_empty() {
            div.scroll {
                table {
                    thead { tr { th { "Code" } th { "Severity" } th { "What is wrong" } th.wide { "Repair" } } }
                    tbody {
                        @for found in &report.findings {
                            tr {
                                td.mono { (found.code) }
                                td class={ "s-" (found.severity.name()) } { (found.severity.name()) }
                                td.path { (found.message) }
                                td.wide { (found.repair) }
                            }
                        }
                    }
                }
            }
        }
        @if more > 0 { p.small.dim { (plain("findings_not_listed", more)) " more are not listed (gmfs fsck -n --json)." } }
    }
}

fn seals(report: &Report, options: &Options<'_>) -> Markup {
    let Some(seals) = &report.seals else { return html! {} };
    html! {
        p {
            @if seals.region_sealed { "All content is sealed, and nothing was committed since." }
            @else if seals.blocks > 0 { "A part of the content is sealed." }
            @else { "No content is sealed." }
            " gmfs verify compares content with its seals; this page did not."
        }
        table.facts {
            tbody {
                tr { th { "Last sealed" } td { (time(options, seals.when)) } }
                tr { th { "Files sealed as a whole" } td { (plain("files_sealed", seals.whole)) } }
                tr { th { "Files sealed in part" } td { (plain("files_partly_sealed", seals.partly)) } }
                tr { th { "Files without a seal" } td { (plain("files_unsealed", seals.none)) } }
            }
        }
    }
}

fn history(report: &Report, options: &Options<'_>) -> Markup {
    html! {
        @match &report.history {
            Some(history) => {
                table.facts {
                    tbody {
                        tr { th { "Made" } td { (time(options, history.created)) } }
                        tr { th { "Last written" } td { (time(options, history.written)) ", by " (history.writer) } }
                        tr {
                            th { "Commits" }
                            td { (history.commits) ", generation " (plain("generation", history.generation)) }
                        }
                        @if history.checked > 0 { tr { th { "Last checked" } td { (time(options, history.checked)) } } }
                        @if history.problems > 0 { tr { th { "Recorded problems" } td { (history.problems) } } }
                    }
                }
            }
            None => { p { "This layout records no commits." } }
        }
        @if !report.events.is_empty() {
            h3 { "Latest events" }
            div.scroll {
                table {
                    thead { tr { th { "When" } th { "What" } th { "Where" } } }
                    tbody {
                        @for event in &report.events {
                            tr {
                                td.t { (time(options, event.time)) }
                                td { (event.what) }
                                td.path.mono { @if let Some(path) = &event.path { (path) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn about(report: &Report, options: &Options<'_>) -> Markup {
    let usage = &report.usage;
    let size = options.size;
    let known = report.layout != Layout::Luo;
    html! {
        table.facts {
            tbody {
                tr { th { "Image" } td.mono { (report.image) } }
                tr { th { "Kind of image" } td { (report.kind) } }
                tr { th { "Layout" } td { (report.layout.name()) } }
                tr { th { "Starts in the image at" } td.mono { (number("base", report.base, format!("{:#x}", report.base))) } }
                tr {
                    th { "Physical address" }
                    td.mono { @match report.physical { Some(at) => (format!("{at:#x}")), None => "unknown" } }
                }
                tr { th { "Block size" } td { (number("block_size", report.block_bytes, size(report.block_bytes))) } }
                @if known {
                    tr { th { "Blocks free" } td { (plain("blocks_free", usage.free)) } }
                    tr { th { "Blocks with data" } td { (plain("blocks_data", usage.data)) } }
                    tr { th { "Blocks of metadata" } td { (plain("blocks_metadata", usage.metadata)) } }
                    tr { th { "Blocks with hardware errors" } td { (plain("blocks_bad", usage.bad)) } }
                    tr { th { "Blocks reserved by a repair" } td { (plain("blocks_reserved", usage.reserved)) } }
                    @if usage.leaked > 0 { tr { th { "Blocks that nothing owns" } td { (plain("blocks_leaked", usage.leaked)) } } }
                    tr { th { "Inodes in use" } td { (plain("inodes_used", usage.inodes_used)) " of " (usage.inodes) } }
                }
            }
        }
    }
}
