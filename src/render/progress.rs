//! A bar for what takes longer than half a second, on a terminal only.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::ctx::Ctx;

/// What takes no longer shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// Progress of one piece of work, in bytes.
pub(crate) struct Progress {
    bar: RefCell<Option<ProgressBar>>,
    shown: bool,
    started: Instant,
    doing: &'static str,
    total: Cell<u64>,
    patience: Duration,
}

impl Progress {
    /// `total` is 0 if it is not known.
    pub(crate) fn new(ctx: &Ctx, doing: &'static str, total: u64) -> Self {
        Self {
            bar: RefCell::new(None),
            shown: ctx.progress,
            started: Instant::now(),
            doing,
            total: Cell::new(total),
            patience: PATIENCE,
        }
    }

    /// As [`new`](Self::new), and shown from the start if `forced`.
    pub(crate) fn forced(ctx: &Ctx, doing: &'static str, forced: bool) -> Self {
        let mut progress = Self::new(ctx, doing, 0);
        if forced {
            (progress.shown, progress.patience) = (true, Duration::ZERO);
        }
        progress
    }

    /// So much of so much is done.
    pub(crate) fn at_of(&self, done: u64, total: u64) {
        self.total.set(total);
        self.at(done);
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.set_length(total);
        }
    }

    /// So much is done.
    pub(crate) fn at(&self, done: u64) {
        if !self.shown || (self.bar.borrow().is_none() && self.started.elapsed() < self.patience) {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        bar.get_or_insert_with(|| self.draw()).set_position(done);
    }

    /// Everything is done: the bar goes away.
    pub(crate) fn done(&self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn draw(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(self.total.get()), ProgressDrawTarget::stderr());
        let template = match self.total.get() {
            0 => "{msg} {spinner} {bytes} {bytes_per_sec}",
            _ => "{msg} [{bar:30}] {percent}% {bytes} {bytes_per_sec} {eta}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(self.doing);
        bar
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.done();
    }
}

/// Reads and tells how much has been read.
pub(crate) struct Counted<'p, R> {
    inner: R,
    progress: &'p Progress,
    done: u64,
}

impl<'p, R> Counted<'p, R> {
    pub(crate) fn new(inner: R, progress: &'p Progress) -> Self {
        Self { inner, progress, done: 0 }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buf)?;
        self.done = self.done.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        self.progress.at(self.done);
        Ok(length)
    }
}
