//! Counts the results of a group of cases.

use std::collections::BTreeMap;
use std::fmt;

use crate::oracle::Judged;

/// How many examples of each kind are printed.
const SHOWN: usize = 3;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cases: u64,
    /// Cases with a violation.
    bad: u64,
    pub(crate) kinds: BTreeMap<&'static str, u64>,
    asked: u64,
    gated: u64,
    /// Cases in which all pages of a true state exist, and how many of these were repaired completely.
    can: u64,
    full: u64,
    reserved: u64,
    pub(crate) examples: BTreeMap<&'static str, Vec<String>>,
}

impl Tally {
    pub(crate) fn add(&mut self, judged: &Judged, can: bool, what: impl FnOnce() -> String) {
        self.cases += 1;
        self.asked += u64::from(judged.asked);
        self.gated += u64::from(judged.gated);
        self.can += u64::from(can);
        self.full += u64::from(can && judged.full && judged.violations.is_empty());
        self.reserved += u64::from(judged.reserved);
        let mut kinds = judged.violations.clone();
        kinds.sort_unstable();
        kinds.dedup();
        self.bad += u64::from(!kinds.is_empty());
        let mut text = None;
        for kind in &kinds {
            *self.kinds.entry(kind).or_default() += 1;
        }
        if !kinds.is_empty() {
            let what = text.get_or_insert_with(what);
            for kind in kinds {
                let shown = self.examples.entry(kind).or_default();
                if shown.len() < SHOWN {
                    shown.push(what.clone());
                }
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.cases += other.cases;
        self.bad += other.bad;
        self.asked += other.asked;
        self.gated += other.gated;
        self.can += other.can;
        self.full += other.full;
        self.reserved += other.reserved;
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (kind, examples) in other.examples {
            let shown = self.examples.entry(kind).or_default();
            let room = SHOWN.saturating_sub(shown.len());
            shown.extend(examples.into_iter().take(room));
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let full = if self.can == 0 { "-".into() } else { format!("{:.1} %", percent(self.full, self.can)) };
        let (asked, reserved) = (percent(self.asked, self.cases), self.reserved as f64 / self.cases.max(1) as f64);
        write!(f, "| {} | {} | {full} | {asked:.1} % | {reserved:.2} | {} |", self.cases, self.bad, self.gated)?;
        for (kind, count) in &self.kinds {
            write!(f, " {kind}: {count}")?;
        }
        Ok(())
    }
}
