//! Prints findings and plans as text.

use gmfs_check::plan::Refused;
use gmfs_check::{AffectedFile, Finding, Found, Outcome, Planned, Report, Severity, Verdict};

use crate::ctx::{Ctx, OutputError};
use crate::render::size;
use crate::render::style::{Role, paint};
use crate::render::wrap;

/// Prints findings, one per line, and what was done about each.
pub(crate) fn findings<'f>(found: impl IntoIterator<Item = &'f Found>, ctx: &mut Ctx) -> Result<(), OutputError> {
    for Found { finding, repaired, file, .. } in found {
        let code = finding.code().text();
        let done = if *repaired { " [repaired]" } else { "" };
        let text = format!("{} (at {:#x}){done}", describe(finding, file.as_ref()), finding.at.offset);
        let text = wrap::hang(&text, ctx.width, 4);
        let text = text.strip_prefix(code).unwrap_or(&text);
        let (text, done) = text.strip_suffix(done).map_or((text, ""), |text| (text, done));
        let code = paint(ctx.colour, role(finding.severity()), code);
        ctx.line(&format!("{code}{text}{}", paint(ctx.colour && *repaired, Role::Good, done)))?;
    }
    Ok(())
}

/// A finding in words: code and severity, the file and its bytes where that is known, and what is wrong.
pub(crate) fn describe(finding: &Finding, file: Option<&AffectedFile>) -> String {
    let subject = finding.subject;
    let place = match file.map(|file| (file.shown(), file.bytes)) {
        Some((path, Some(bytes))) => format!("{path}: {} ({subject})", size::range(bytes.offset, bytes.end())),
        Some((path, None)) => format!("{path} ({subject})"),
        None => subject.to_string(),
    };
    let text = format!("{} {}: {place}: {}", finding.code(), finding.severity().name(), finding.problem);
    crate::failure::printable(&text)
}

/// Prints what is not listed one by one, and what could not be checked.
pub(crate) fn rest(outcome: &Outcome, ctx: &mut Ctx) -> Result<(), OutputError> {
    for (code, more) in &outcome.more {
        let repaired = if more.repaired > 0 { format!(", {} of them repaired", more.repaired) } else { String::new() };
        ctx.line(&format!("{code} {}: {} more, not listed{repaired}", code.severity().name(), more.found))?;
    }
    let report = &outcome.last;
    for skipped in &report.unchecked {
        let text = format!("{}: {} (at {:#x})", skipped.subject, skipped.why, skipped.at.offset);
        ctx.line(&format!("{} {text}", paint(ctx.colour, Role::Dim, "not checked")))?;
    }
    if report.more_unchecked > 0 {
        let text = format!("{} more, not listed", report.more_unchecked);
        ctx.line(&format!("{}: {text}", paint(ctx.colour, Role::Dim, "not checked")))?;
    }
    Ok(())
}

/// Prints the edits of a plan.
pub(crate) fn plan(edits: &[Planned], refused: &[Refused], ctx: &mut Ctx) -> Result<(), OutputError> {
    for planned in edits {
        let codes: Vec<&str> = planned.because.iter().map(|code| code.text()).collect();
        let edit = crate::failure::printable(&planned.edit.to_string());
        ctx.line(&format!("{} {}: {edit}", codes.join("+"), planned.class.name()))?;
        if let Some(loses) = planned.losses() {
            ctx.line(&format!("  loses: {}", crate::failure::printable(&loses)))?;
        }
    }
    for left in refused {
        ctx.line(&format!(
            "{} left: {}: {}",
            left.code,
            left.subject,
            crate::failure::printable(&left.why.to_string())
        ))?;
    }
    Ok(())
}

/// Prints what repairs have lost.
pub(crate) fn lost(edits: &[Planned], ctx: &mut Ctx) -> Result<(), OutputError> {
    for planned in edits {
        let Some(loses) = planned.losses() else { continue };
        let codes: Vec<&str> = planned.because.iter().map(|code| code.text()).collect();
        ctx.line(&format!("{} lost: {}", codes.join("+"), crate::failure::printable(&loses)))?;
    }
    Ok(())
}

/// One line that sums a check up.
pub(crate) fn summary(image: &str, report: &Report, repaired: u64, ctx: &mut Ctx) -> Result<(), OutputError> {
    let verdict = report.verdict();
    let role = match verdict {
        Verdict::Clean => Role::Good,
        Verdict::Recovery | Verdict::Unknown => Role::Warn,
        Verdict::Damaged => Role::Bad,
    };
    let mut parts = Vec::new();
    for severity in [Severity::Fatal, Severity::Error, Severity::Warning, Severity::Note] {
        let count = report.count(severity);
        if count > 0 {
            // "fatal" has no plural.
            let noun = if severity == Severity::Fatal { "fatal problem" } else { severity.name() };
            parts.push(size::count(count, noun));
        }
    }
    if repaired > 0 {
        parts.push(format!("{repaired} repaired"));
    }
    if report.count_unchecked() > 0 {
        parts.push(format!("{} not checked", report.count_unchecked()));
    }
    let word = match verdict {
        Verdict::Clean => "clean",
        Verdict::Recovery => "in order, but a writer did not finish; the next one puts that right",
        Verdict::Unknown => "nothing wrong was seen, but metadata is missing: whether it is clean cannot be told",
        Verdict::Damaged => "damaged",
    };
    let detail = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    let image = crate::failure::printable(image);
    let line = format!("{image}: {}{detail}", paint(ctx.colour, role, word));
    if verdict == Verdict::Clean { ctx.success(&line) } else { ctx.line(&line) }
}

const fn role(severity: Severity) -> Role {
    match severity {
        Severity::Note => Role::Dim,
        Severity::Warning => Role::Warn,
        Severity::Error | Severity::Fatal => Role::Bad,
    }
}
