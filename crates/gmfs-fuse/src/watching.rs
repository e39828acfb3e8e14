//! Asks in a thread of its own which memory of a region is in use.
//!
//! The mappings of a process can be read only while that process does not change them. A process that unmaps a file of
//! this mount changes them, and waits meanwhile until the mount has written what is left of the file. A request that waited
//! for those mappings would wait for itself. So the thread reads them, and a request waits for a limited time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gmfs::in_use::Watch;
use gmfs_volume::{Used, Users};

/// How long a request waits. Looking takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of the memory in use. Clones share it. The thread ends with the last of them.
#[derive(Clone)]
pub(crate) struct Watching(Arc<Asker>);

struct Asker(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How often was asked, and for which of these looking was begun and ended.
    asked: u64,
    begun: u64,
    ended: u64,
    /// Since when the thread looks.
    since: Option<Instant>,
    used: Arc<[Used]>,
    /// Nobody asks any more.
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watching {
    /// Looks once at once, and then whenever it is asked.
    pub(crate) fn new(mut watch: Watch) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.lock().used = watch.used();
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name(String::from("watching")).spawn(move || look(&theirs, watch))?;
        Ok(Self(Arc::new(Asker(shared))))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}

/// Looks whenever somebody has asked since the last look.
fn look(shared: &Shared, mut watch: impl Users) {
    let mut state = shared.lock();
    while !state.over {
        if state.ended == state.asked {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        state.begun = state.asked;
        state.since = Some(Instant::now());
        drop(state);
        let used = watch.used();
        state = shared.lock();
        state.used = used;
        state.ended = state.begun;
        state.since = None;
        shared.changed.notify_all();
    }
}

impl Users for Watching {
    /// What is in use now, or what was in use at the last look that ended, if the one that goes on does not end in time.
    fn used(&mut self) -> Arc<[Used]> {
        let shared = &self.0.0;
        let mut state = shared.lock();
        state.asked = state.asked.saturating_add(1);
        let own = state.asked;
        shared.changed.notify_all();
        let asked = Instant::now();
        while state.ended < own {
            let since = state.since.unwrap_or(asked);
            let Some(left) = PATIENCE.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) else { break };
            (state, _) = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        Arc::clone(&state.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gmfs_io::Span;
    use std::sync::mpsc::{Receiver, channel};

    /// Ends a look when it is told to, and gives the number of looks so far.
    struct Slow(Receiver<()>, u64);

    impl Users for Slow {
        fn used(&mut self) -> Arc<[Used]> {
            let _ = self.0.recv();
            self.1 += 1;
            Arc::new([Used { span: Span::new(self.1, 1), by: String::from("it") }])
        }
    }

    #[test]
    fn a_look_that_does_not_end_holds_nobody_up_for_long() {
        let (end, ends) = channel();
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || look(&theirs, Slow(ends, 0)));
        let mut watching = Watching(Arc::new(Asker(shared)));
        let looks = |used: &[Used]| used.first().map(|used| used.span.offset);
        end.send(()).unwrap();
        assert_eq!(looks(&watching.used()), Some(1));
        // The first one waits, and what was seen before counts.
        let began = Instant::now();
        assert_eq!(looks(&watching.used()), Some(1));
        assert!(began.elapsed() >= PATIENCE);
        assert_eq!(looks(&watching.used()), Some(1));
        // When the look ends, its result counts for whoever asks next.
        end.send(()).unwrap();
        while watching.0.0.lock().ended < 2 {
            std::thread::yield_now();
        }
        end.send(()).unwrap();
        assert!(looks(&watching.used()) >= Some(2));
        drop((watching, end));
        thread.join().unwrap();
    }
}
