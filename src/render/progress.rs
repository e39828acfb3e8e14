//! A line on standard error that shows the progress of work that takes longer than half a second. It is shown only on a
//! terminal, and is erased before anything else is written there.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use unicode_width::UnicodeWidthStr as _;

use crate::ctx::Ctx;
use crate::line;
use crate::render::size;

/// Work that takes no longer than this shows no progress.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time between two updates of the line.
const PAUSE: Duration = Duration::from_millis(100);
/// Columns of the bar.
const BAR: u64 = 24;
/// The columns to assume if the terminal does not report how many it has.
const COLUMNS: u16 = 80;

/// Progress of one piece of work, in bytes.
pub(crate) struct Progress {
    shown: bool,
    doing: &'static str,
    patience: Duration,
    started: Instant,
    drawn: Cell<Option<Instant>>,
    /// 0 if it is not known.
    total: Cell<u64>,
    done: Cell<u64>,
    /// Bytes that were passed without being read or written.
    skipped: Cell<u64>,
    /// The text that was shown last.
    line: RefCell<String>,
}

impl Progress {
    /// `total` is 0 if it is not known.
    pub(crate) fn new(ctx: &Ctx, doing: &'static str, total: u64) -> Self {
        Self::shown(ctx.progress, doing, total)
    }

    /// As [`new`](Self::new), if the caller knows whether progress is shown at all.
    pub(crate) fn shown(shown: bool, doing: &'static str, total: u64) -> Self {
        Self {
            shown,
            doing,
            patience: PATIENCE,
            started: Instant::now(),
            drawn: Cell::new(None),
            total: Cell::new(total),
            done: Cell::new(0),
            skipped: Cell::new(0),
            line: RefCell::new(String::new()),
        }
    }

    /// Progress of a total that is not known yet. `shown`: progress is shown at all; `forced`: it is shown from the
    /// start.
    pub(crate) fn forced(shown: bool, doing: &'static str, forced: bool) -> Self {
        let mut progress = Self::shown(shown, doing, 0);
        if forced {
            progress.patience = Duration::ZERO;
        }
        progress
    }

    /// `done` of `total` bytes are done.
    pub(crate) fn at_of(&self, done: u64, total: u64) {
        self.total.set(total);
        self.at(done);
    }

    /// The first `done` bytes are done.
    pub(crate) fn at(&self, done: u64) {
        self.done.set(self.done.get().max(done));
        self.show(false);
    }

    /// The first `done` bytes are done; those since the last call were neither read nor written.
    pub(crate) fn skip_to(&self, done: u64) {
        self.skipped.set(self.skipped.get().saturating_add(done.saturating_sub(self.done.get())));
        self.at(done);
    }

    /// Everything is done: the line shows that, and is erased.
    pub(crate) fn done(&self) {
        if self.drawn.get().is_some() {
            self.done.set(self.done.get().max(self.total.get()));
            self.show(true);
        }
        self.end();
    }

    fn end(&self) {
        if self.drawn.take().is_some() {
            line::clear();
        }
    }

    fn show(&self, now: bool) {
        let since = self.drawn.get().unwrap_or(self.started);
        let pause = if self.drawn.get().is_some() { PAUSE } else { self.patience };
        if !self.shown || (!now && since.elapsed() < pause) {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        let (done, total) = (self.done.get(), self.total.get());
        let moved = done.saturating_sub(self.skipped.get());
        let text = text(self.doing, done, total, moved, self.started.elapsed());
        let columns = rustix::termios::tcgetwinsize(io::stderr().as_fd()).map_or(COLUMNS, |size| size.ws_col);
        let text = fit(text, usize::from(if columns == 0 { COLUMNS } else { columns }));
        if *self.line.borrow() != text || !line::is_shown() {
            line::show(&text);
            self.line.replace(text);
        }
    }
}

/// The parts of the line, the most important first.
fn text(doing: &str, done: u64, total: u64, moved: u64, taken: Duration) -> Vec<String> {
    let mut parts = vec![doing.to_owned()];
    if let Some(percent) = percent(done, total) {
        parts.push(format!("{percent}%"));
    }
    parts.push(size::human(done));
    let milliseconds = taken.as_millis().max(1);
    let rate = u64::try_from(u128::from(moved) * 1000 / milliseconds).unwrap_or(u64::MAX);
    parts.push(format!("{}/s", size::human(rate)));
    if done > 0 && total > done {
        let left = taken.as_secs_f64() * ((total - done) as f64 / done as f64);
        let left = left.ceil() as u64;
        let time = if left < 60 { format!("{left}s") } else { format!("{}m{:02}s", left / 60, left % 60) };
        parts.push(format!("{time} left"));
    }
    if total > 0 {
        let full = u64::try_from(u128::from(done.min(total)) * u128::from(BAR) / u128::from(total)).unwrap_or(BAR);
        let bar: String = (0..BAR).map(|at| if at < full { '=' } else { ' ' }).collect();
        parts.push(format!("[{bar}]"));
    }
    parts
}

/// The part of a whole in percent: 100 only when all is done.
fn percent(done: u64, total: u64) -> Option<u64> {
    u128::from(done.min(total)).saturating_mul(100).checked_div(u128::from(total)).and_then(|part| part.try_into().ok())
}

/// As many of the parts as fit, the bar before the numbers.
fn fit(mut parts: Vec<String>, columns: usize) -> String {
    let length = |parts: &[String]| parts.iter().map(|part| part.width() + 1).sum::<usize>();
    while parts.len() > 1 && length(&parts) > columns {
        parts.pop();
    }
    if let Some(bar) = parts.pop_if(|part| part.starts_with('[')) {
        parts.insert(1, bar);
    }
    parts.join(" ")
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_bytes_that_were_moved() {
        let shown = |done, moved, columns| fit(text("saving", done, 8 << 30, moved, Duration::from_secs(2)), columns);
        assert_eq!(shown(4 << 30, 2 << 30, 80), "saving [============            ] 50% 4 GiB 1 GiB/s 2s left");
        assert_eq!(shown(8 << 30, 0, 80), "saving [========================] 100% 8 GiB 0 B/s");
        assert_eq!(shown((8 << 30) - 1, 0, 80).split_whitespace().last(), Some("left"));
        assert_eq!(percent((8 << 30) - 1, 8 << 30), Some(99));
        assert_eq!(shown(4 << 30, 2 << 30, 40), "saving 50% 4 GiB 1 GiB/s 2s left");
        assert_eq!(shown(4 << 30, 2 << 30, 12), "saving 50%");
        assert_eq!(fit(text("copying", 1 << 20, 0, 1 << 20, Duration::from_secs(1)), 80), "copying 1 MiB 1 MiB/s");
    }
}
