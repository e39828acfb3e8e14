//! Locks as a command takes them: how long it waits, what it says meanwhile, and what it reads without.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use gmfs_image::lock::{Holders, Mode};
use gmfs_image::{FileError, Locking, RangeLock};
use gmfs_io::{ReadAt, Span};
use gmfs_volume::Superblocks;

use crate::ctx::{self, Ctx};
use crate::exit::Exit;
use crate::interrupt;
use crate::open::ImageArgs;

/// How long to wait for a lock.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// How long to wait while another process has the region locked; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) wait: u32,
}

impl Wait {
    /// For this range of an image.
    pub(crate) const fn locking(self, span: Option<Span>) -> Locking<'static> {
        Locking { span, limit: Duration::from_secs(self.wait as u64), announce: &announce, go_on: &go_on }
    }

    /// Locks for reading.
    pub(crate) fn shared(self, path: &Path, span: Option<Span>) -> Result<RangeLock, FileError> {
        RangeLock::take(path, Mode::Shared, &self.locking(span))
    }
}

fn announce(path: &Path, holders: &Holders) {
    ctx::note(&format!("waiting for {}, which is locked by {holders}", path.display()));
}

fn go_on() -> bool {
    !interrupt::asked()
}

/// A region that is read without a lock, with the generations of its superblocks when that began.
struct Unlocked {
    image: ImageArgs,
    span: Span,
    began: Generations,
}

/// Both superblocks' generations; `None` for one that cannot be used.
type Generations = Option<[Option<u64>; 2]>;

thread_local! {
    /// Commands run in one thread.
    static UNLOCKED: RefCell<Vec<Unlocked>> = const { RefCell::new(Vec::new()) };
}

fn generations<S: ReadAt + ?Sized>(source: &S) -> Generations {
    let found = Superblocks::load(source).ok()?;
    Some([&found.a, &found.b].map(|slot| slot.good().map(|superblock| superblock.generation.0)))
}

/// Remembers that a region is read without a lock.
pub(crate) fn without_lock<S: ReadAt + ?Sized>(image: &ImageArgs, span: Span, source: &S) {
    let unlocked = Unlocked { image: image.clone(), span, began: generations(source) };
    UNLOCKED.with_borrow_mut(|list| list.push(unlocked));
}

/// Whether nothing that was read without a lock has changed meanwhile. Says so where it has.
fn settled(ctx: &Ctx) -> bool {
    let list = UNLOCKED.take();
    let changed = list.iter().filter(|unlocked| {
        let now = unlocked
            .image
            .open(Some(unlocked.span))
            .ok()
            .map(|image| generations(&gmfs_io::Window::new(image.source, unlocked.span.offset, unlocked.span.len)));
        now != Some(unlocked.began)
    });
    let mut settled = true;
    for unlocked in changed {
        settled = false;
        let path = unlocked.image.image.display();
        ctx.warn(&format!(
            "the region in {path} was changed while it was read without a lock: what was read may mix two states"
        ));
    }
    settled
}

/// What a command ends with that may have read without a lock.
pub(crate) fn settle(exit: Exit, ctx: &Ctx) -> Exit {
    match (settled(ctx), exit) {
        (true, exit) => exit,
        (false, Exit::Done | Exit::No) => Exit::No,
        (false, Exit::Failed) => Exit::Failed,
        (false, Exit::Fsck(bits)) => Exit::Fsck(bits | crate::cmd::fsck::OPERATIONAL),
    }
}
