//! Copies to and from a map that survive a bus error. **Only this module and `joined` have unsafe code.**
//!
//! A load from poisoned memory, or from past the end of the device, raises SIGBUS. Before each copy, its thread writes
//! the addresses that the copy accesses to a note in thread-local atomics. The handler reads the note. For an address
//! outside of it, the handler does what the process did before ([`chain`]). For an address inside, it counts
//! ([`replaced`]), records the address, replaces the rest of the copy by zero pages, and returns, so that the copy
//! ends. The copy then reports the address, and its buffer is not used.
//!
//! No other reader may take those zeros for memory. Therefore each map remembers the count at which it was made. The
//! map is discarded if the count has changed, which is checked before and after each copy. A thread that copies from
//! the same map at that moment sees the change, because the count is raised before the pages are replaced.
//!
//! A signal handler belongs to the whole process, so this module never installs it by itself. The program does
//! ([`super::survive_bus_errors`]), and without it no memory is mapped.

use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, compiler_fence, fence};

use memmap2::MmapRaw;

/// `BUS_MCEERR_AO`: the hardware reports poison in memory of this process that no thread has accessed.
const POISON_NOTICED: libc::c_int = 5;
/// How often pages of this process have been replaced.
static REPLACED: AtomicU64 = AtomicU64::new(0);
/// The action for SIGBUS before the handler was installed.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

thread_local! {
    // This is constant and has no destructor, so the signal handler can reach it without an allocation or other code.
    static NOTE: Note = const { Note::new() };
}

/// The addresses that this thread's copy accesses. The handler runs on the same thread, so accesses happen in program
/// order; the atomics keep the compiler from changing that order.
struct Note {
    /// First address of the copy.
    start: AtomicUsize,
    /// One past its last address; equal to `start` when no copy runs.
    end: AtomicUsize,
    /// The first address of the map.
    base: AtomicUsize,
    /// One past the last page of the map.
    limit: AtomicUsize,
    /// The start and the length of a replaced part are multiples of this, counted from `base`.
    granule: AtomicUsize,
    /// The lowest address that faulted, or `usize::MAX`.
    fault: AtomicUsize,
}

impl Note {
    const fn new() -> Self {
        Self {
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            base: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            granule: AtomicUsize::new(1),
            fault: AtomicUsize::new(usize::MAX),
        }
    }
}

/// A copy accessed memory that does not respond, or the kernel could not write memory back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The first byte that failed, counted from the start of the map.
    pub(super) at: usize,
    /// The error of the system call that failed; 0 for a bus error.
    pub(super) errno: i32,
}

impl Fault {
    const fn bus(at: usize) -> Self {
        Self { at, errno: 0 }
    }
}

/// A map, with the granule that its parts must be multiples of.
pub(super) struct Pieces<'a> {
    map: &'a MmapRaw,
    granule: usize,
    /// The note belongs to this thread, so a copy must stay on it. A raw pointer is neither `Send` nor `Sync`.
    not_send: PhantomData<*const ()>,
}

impl<'a> Pieces<'a> {
    pub(super) const fn new(map: &'a MmapRaw, granule: usize) -> Self {
        Self { map, granule, not_send: PhantomData }
    }

    /// The address of the `len` bytes at `at`, if all of them are in the map.
    fn pointer(&self, at: usize, len: usize) -> Result<*mut u8, Fault> {
        let end = at.checked_add(len).ok_or(Fault::bus(at))?;
        if end > self.map.len() {
            return Err(Fault::bus(at));
        }
        Ok(self.map.as_mut_ptr().wrapping_add(at))
    }

    /// Runs `work`, which accesses `len` bytes from `start` of this map, and reports whether one of them faulted.
    fn watched(&self, start: *const u8, len: usize, work: impl FnOnce()) -> Result<(), Fault> {
        let base = self.map.as_ptr().addr();
        let pages = self.map.len().next_multiple_of(page());
        NOTE.with(|note| {
            note.fault.store(usize::MAX, Ordering::Relaxed);
            note.base.store(base, Ordering::Relaxed);
            note.limit.store(base.wrapping_add(pages), Ordering::Relaxed);
            note.granule.store(self.granule, Ordering::Relaxed);
            note.start.store(start.addr(), Ordering::Relaxed);
            note.end.store(start.addr().wrapping_add(len), Ordering::Relaxed);
            compiler_fence(Ordering::SeqCst);
            work();
            compiler_fence(Ordering::SeqCst);
            note.end.store(0, Ordering::Relaxed);
            note.start.store(0, Ordering::Relaxed);
            match note.fault.load(Ordering::Relaxed) {
                usize::MAX => Ok(()),
                address => Err(Fault::bus(address.wrapping_sub(base))),
            }
        })
    }
}

/// Copies from the map into `buf`.
pub(super) fn copy_out(map: &Pieces<'_>, at: usize, buf: &mut [u8]) -> Result<(), Fault> {
    let from = map.pointer(at, buf.len())?;
    map.watched(from, buf.len(), || load(from, buf))
}

/// Copies `bytes` into a writable map.
pub(super) fn copy_in(map: &Pieces<'_>, at: usize, bytes: &[u8]) -> Result<(), Fault> {
    let to = map.pointer(at, bytes.len())?;
    map.watched(to, bytes.len(), || store(to, bytes))
}

/// Stores `len` zeros into a writable map.
pub(super) fn clear(map: &Pieces<'_>, at: usize, len: usize) -> Result<(), Fault> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let to = map.pointer(at, len)?;
    map.watched(to, len, || {
        let mut done = 0;
        while done < len {
            // The first piece ends at a multiple of 4096, so that all later stores are whole words.
            let here = to.wrapping_add(done);
            let piece = (ZEROS.len() - here.addr() % ZEROS.len()).min(len - done);
            store(here, ZEROS.get(..piece).unwrap_or_default());
            done += piece;
        }
    })
}

/// How many of the `len` bytes at `address` come before the next aligned word.
const fn ragged(address: usize, len: usize) -> usize {
    let head = address.wrapping_neg() % size_of::<u64>();
    if head < len { head } else { len }
}

/// Loads bytes in ascending order, each once, with aligned words where possible. Memory that is mapped as device memory
/// allows no other loads, and the ascending order makes the first fault the first bad address.
fn load(from: *const u8, buf: &mut [u8]) {
    let (head, rest) = buf.split_at_mut(ragged(from.addr(), buf.len()));
    let mut at = from;
    for byte in head {
        *byte = load_byte(at);
        at = at.wrapping_add(1);
    }
    let mut words = rest.chunks_exact_mut(size_of::<u64>());
    for word in &mut words {
        word.copy_from_slice(&load_word(at.cast()).to_ne_bytes());
        at = at.wrapping_add(size_of::<u64>());
    }
    for byte in words.into_remainder() {
        *byte = load_byte(at);
        at = at.wrapping_add(1);
    }
}

#[inline]
#[expect(unsafe_code, reason = "memory that others write can only be read by a volatile load")]
fn load_byte(at: *const u8) -> u8 {
    // SAFETY: `at` is within a live map: `place` has checked the whole copy against its length, `load` does not leave
    // the copy, and the caller holds the map for as long as it runs. Every map is readable. A byte is always aligned
    // and every value is a `u8`. The load is volatile, so memory changing under it is not the compiler's business. If
    // the page does not answer, the handler puts another one in its place.
    unsafe { ptr::read_volatile(at) }
}

#[inline]
#[expect(unsafe_code, reason = "memory that others write can only be read by a volatile load")]
fn load_word(at: *const u64) -> u64 {
    // SAFETY: as in `load_byte`, for the eight bytes at `at`, all of which are in the copy. `at` is aligned: `load`
    // comes here only after `ragged` bytes, in steps of a word. Every value is a `u64`.
    unsafe { ptr::read_volatile(at) }
}

/// Stores bytes in ascending order, by aligned words where possible.
fn store(to: *mut u8, bytes: &[u8]) {
    let (head, rest) = bytes.split_at(ragged(to.addr(), bytes.len()));
    let mut at = to;
    for byte in head {
        store_byte(at, *byte);
        at = at.wrapping_add(1);
    }
    let (words, tail) = rest.as_chunks::<{ size_of::<u64>() }>();
    for word in words {
        store_word(at.cast(), u64::from_ne_bytes(*word));
        at = at.wrapping_add(size_of::<u64>());
    }
    for byte in tail {
        store_byte(at, *byte);
        at = at.wrapping_add(1);
    }
}

#[inline]
#[expect(unsafe_code, reason = "memory that others read can only be written by a volatile store")]
fn store_byte(at: *mut u8, value: u8) {
    // SAFETY: as in `load_byte`; and the map is writable, because only `WritableWindow` calls `copy_in` and `clear`,
    // and all its maps are made by `MmapOptions::map_raw`. No reference into a map exists, so none is invalidated.
    unsafe { ptr::write_volatile(at, value) }
}

#[inline]
#[expect(unsafe_code, reason = "memory that others read can only be written by a volatile store")]
fn store_word(at: *mut u64, value: u64) {
    // SAFETY: as in `store_byte`, for the eight bytes at `at`, all of which are in the copy; aligned as in `load_word`.
    unsafe { ptr::write_volatile(at, value) }
}

/// Writes the cache lines of the range back to memory.
#[cfg(target_arch = "x86_64")]
pub(super) fn write_back(map: &Pieces<'_>, at: usize, len: usize) -> Result<(), Fault> {
    /// The size of a cache line, on every x86-64 processor.
    const LINE: usize = 64;
    let from = map.pointer(at, len)?;
    map.watched(from, len, || {
        let end = from.addr().wrapping_add(len);
        // The map starts at a page boundary, so the whole line of the range's first byte is in the map.
        let mut line = from.wrapping_sub(from.addr() % LINE);
        while line.addr() < end {
            flush_line(line);
            line = line.wrapping_add(LINE);
        }
    })?;
    // CLFLUSH is ordered with other CLFLUSHes and with fences. After this fence, the lines have left the caches.
    fence(Ordering::SeqCst);
    Ok(())
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the instruction takes an address")]
fn flush_line(line: *const u8) {
    // SAFETY: SSE2 is part of x86-64. The instruction changes no memory; it only needs the address to be mapped, which
    // it is: the line holds a byte of the copy, which `place` has checked, and lines do not cross pages.
    unsafe { core::arch::x86_64::_mm_clflush(line) }
}

/// Asks the kernel to write the range back.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn write_back(map: &Pieces<'_>, at: usize, len: usize) -> Result<(), Fault> {
    map.pointer(at, len)?;
    fence(Ordering::SeqCst);
    written_back(map.map.flush_range(at, len), at)
}

/// The result of msync(2). A device that has nothing to write back refuses with EINVAL. That is not an error, because
/// the fence is then enough. After any other error, stores may not be durable.
#[cfg(any(test, not(target_arch = "x86_64")))]
pub(super) fn written_back(done: io::Result<()>, at: usize) -> Result<(), Fault> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
            Err(Fault { at, errno: error.raw_os_error().unwrap_or(libc::EIO) })
        }
        _ => Ok(()),
    }
}

/// How often pages have been replaced. A map that was made at another count may contain zeros that are not memory.
pub(super) fn replaced() -> u64 {
    fence(Ordering::SeqCst);
    REPLACED.load(Ordering::SeqCst)
}

/// The page size of the system.
pub(super) fn page_size() -> u64 {
    u64::try_from(page()).unwrap_or(4096)
}

fn page() -> usize {
    rustix::param::page_size()
}

/// The result of installing the handler, if that was tried.
static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();

/// Whether the handler is installed.
pub(super) fn is_installed() -> bool {
    matches!(INSTALLED.get(), Some(Ok(())))
}

/// Installs the handler, at most once in the life of the process.
pub(super) fn install() -> io::Result<()> {
    let done = INSTALLED.get_or_init(|| {
        // Caches the page size, so that the handler does not have to ask for it.
        let _ = page();
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
        let mut action = default_action();
        action.sa_sigaction = handler as *const () as usize;
        // The handler uses the alternate signal stack, if there is one, so that a fault on a stack that overflowed is
        // still reported.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let previous = set_action(&action).map_err(|e| e.raw_os_error().unwrap_or(0))?;
        let _ = PREVIOUS.set(previous);
        Ok(())
    });
    (*done).map_err(io::Error::from_raw_os_error)
}

/// The action that ends the process, with an empty mask.
#[expect(unsafe_code, reason = "libc has no other constructor")]
fn default_action() -> libc::sigaction {
    // SAFETY: `sigaction` consists of integers, a signal set (integers) and an optional function pointer, for all of
    // which zero is a value: SIG_DFL, the empty set, no flags, `None`.
    unsafe { std::mem::zeroed() }
}

/// Sets the action for SIGBUS, and returns the previous one.
#[expect(unsafe_code, reason = "rustix leaves signal handlers out")]
fn set_action(action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut previous = default_action();
    // SAFETY: both pointers are to live, initialised values. The action is SIG_DFL, or `on_bus_error` with SA_SIGINFO:
    // its type is the one that this flag requires, and it does only what a signal handler may do.
    match unsafe { libc::sigaction(libc::SIGBUS, action, &raw mut previous) } {
        0 => Ok(previous),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The handler. It uses only atomics, mmap(2) and, if the fault was not in a copy of this module, sigaction(2) and
/// raise(3).
#[expect(unsafe_code, reason = "the kernel hands over a pointer")]
extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a pointer to a siginfo on this thread's stack, valid during the call.
    let what = unsafe { &*info };
    // SAFETY: for a SIGBUS the kernel fills in the address; when a process sent the signal, the field holds something
    // else, but is still initialised memory of the same union. It is used only if the kernel raised the signal.
    let address = unsafe { what.si_addr() }.addr();
    let raised_by_kernel = what.si_code > 0;
    if what.si_code == POISON_NOTICED {
        // No thread has accessed the page; a thread that does so gets a bus error of its own. The signal is not passed
        // on, because the previous handler is mostly that of Rust's runtime, which would reset the action to the
        // default.
        return;
    }
    if !(raised_by_kernel && replace(address)) {
        chain(signal, info, context, raised_by_kernel);
    }
}

/// If `address` is in this thread's copy: raises the count, records the address, and replaces the copy from there to
/// its end by zero pages. Otherwise, or if that fails, returns false.
#[expect(unsafe_code, reason = "replaces pages of a map that faulted")]
fn replace(address: usize) -> bool {
    NOTE.with(|note| {
        let (start, end) = (note.start.load(Ordering::Relaxed), note.end.load(Ordering::Relaxed));
        // CLFLUSH and the hardware may report the start of the cache line or of the page.
        let base = note.base.load(Ordering::Relaxed);
        let page = page();
        if end <= start || address >= end || address < (start & !(page - 1)) {
            return false;
        }
        let address = address.max(start);
        let (limit, granule) = (note.limit.load(Ordering::Relaxed), note.granule.load(Ordering::Relaxed));
        note.fault.fetch_min(address, Ordering::Relaxed);
        REPLACED.fetch_add(1, Ordering::SeqCst);
        let inside = address - base;
        let from = inside - inside % granule;
        let to = (end - base).next_multiple_of(granule).min(limit - base);
        let place = ptr::without_provenance_mut(base + from);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: [base + from, base + to) is within [base, limit). That is the map that the interrupted copy of this
        // thread borrows, so nothing else is at these addresses. `base` and `granule` are multiples of the page size
        // (or `mmap` fails). There is no reference into the map. Other threads that copy from it see the count change.
        let done = unsafe { libc::mmap(place, to - from, protection, flags, -1, 0) };
        done != libc::MAP_FAILED
    })
}

/// Does what the process did on SIGBUS before this handler was installed.
fn chain(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void, raised_by_kernel: bool) {
    match PREVIOUS.get() {
        Some(previous) if previous.sa_sigaction == libc::SIG_IGN && !raised_by_kernel => {}
        Some(previous) if !matches!(previous.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) => {
            call(previous, signal, info, context);
        }
        _ => {
            // Restores the default action and raises the signal again. It is blocked until the handler returns.
            let _ = set_action(&default_action());
            raise(signal);
        }
    }
}

#[expect(unsafe_code, reason = "rustix leaves raise out")]
fn raise(signal: libc::c_int) {
    // SAFETY: the call only sends a signal to this thread.
    let _ = unsafe { libc::raise(signal) };
}

/// Calls the previous handler.
#[expect(unsafe_code, reason = "a handler is kept as a number")]
fn call(previous: &libc::sigaction, signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    type Plain = extern "C" fn(libc::c_int);
    type Detailed = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    let handler = ptr::with_exposed_provenance::<()>(previous.sa_sigaction);
    if previous.sa_flags & libc::SA_SIGINFO == 0 {
        // SAFETY: the handler was installed for SIGBUS without SA_SIGINFO, and is neither SIG_DFL nor SIG_IGN, so it is
        // a function of this type.
        let plain = unsafe { std::mem::transmute::<*const (), Plain>(handler) };
        plain(signal);
    } else {
        // SAFETY: the handler was installed for SIGBUS with SA_SIGINFO, and is neither SIG_DFL nor SIG_IGN, so it is a
        // function of this type.
        let detailed = unsafe { std::mem::transmute::<*const (), Detailed>(handler) };
        detailed(signal, info, context);
    }
}
