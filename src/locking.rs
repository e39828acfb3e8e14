//! How commands take locks: how long they wait, what they print meanwhile, and which regions they read without a lock.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use gmfs::open::Unlocked;
use gmfs_image::Locking;
use gmfs_image::lock::Holders;
use gmfs_io::Span;

use crate::ctx::{self, Ctx};
use crate::exit::{self, Exit};
use crate::interrupt;

/// How long to wait for a lock.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// How long to wait while another process has the region locked; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(help_heading = crate::parse::IMAGE_OPTIONS)]
    pub(crate) wait: u32,
}

impl Wait {
    /// How to lock this range of an image.
    pub(crate) const fn locking(self, span: Option<Span>) -> Locking<'static> {
        Locking { span, limit: Duration::from_secs(self.wait as u64), announce: &announce, go_on: &go_on }
    }
}

fn announce(path: &Path, holders: &Holders) {
    ctx::note(&format!("waiting for {}, which is locked by {holders}", path.display()));
}

fn go_on() -> bool {
    !interrupt::asked()
}

thread_local! {
    /// Commands run in one thread.
    static UNLOCKED: RefCell<Vec<Unlocked>> = const { RefCell::new(Vec::new()) };
}

/// Remembers that a region is read without a lock.
pub(crate) fn without_lock(unlocked: Unlocked) {
    UNLOCKED.with_borrow_mut(|list| list.push(unlocked));
}

/// Whether everything that was read without a lock is unchanged since. Warns about each region that has changed.
fn settled(ctx: &Ctx) -> bool {
    let list = UNLOCKED.take();
    let mut settled = true;
    for unlocked in list.iter().filter(|unlocked| unlocked.has_changed()) {
        settled = false;
        let path = unlocked.path().display();
        ctx.warn(&format!(
            "the region in {path} was changed while it was read without a lock: what was read may mix two states"
        ));
    }
    settled
}

/// The exit status of a command that may have read without a lock.
pub(crate) fn settle(exit: Exit, ctx: &Ctx) -> Exit {
    match (settled(ctx), exit) {
        (true, exit) => exit,
        (false, Exit::Done | Exit::No) => Exit::No,
        (false, Exit::Failed) => Exit::Failed,
        (false, Exit::Fsck(bits)) => Exit::Fsck(bits | exit::OPERATIONAL),
    }
}
