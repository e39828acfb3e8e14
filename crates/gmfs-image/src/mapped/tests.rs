use super::*;
use std::sync::atomic::{AtomicBool, Ordering};

const PAGE: u64 = 4096;

/// A file of `pages` pages. Each is filled with its number plus 1.
fn memory(pages: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..pages * PAGE).map(content).collect();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

fn content(at: u64) -> u8 {
    u8::try_from((at / PAGE + 1) % 251).unwrap()
}

fn cut(file: &tempfile::NamedTempFile, size: u64) {
    file.as_file().set_len(size).unwrap();
}

fn read(window: &impl ReadAt, offset: u64, len: usize) -> Result<Vec<u8>, ReadError> {
    let mut buf = vec![0xee; len];
    window.read_at(offset, &mut buf).map(|()| buf)
}

fn io_error(error: ReadError) -> (Span, String) {
    match error {
        ReadError::Io { span, source } => (span, source.to_string()),
        other @ ReadError::Absent { .. } => panic!("{other}"),
    }
}

#[test]
fn reads_at_any_alignment_and_only_in_the_window() {
    let file = memory(8);
    let window = MappedWindow::map_file(file.path(), Span::new(PAGE + 10, 4 * PAGE)).unwrap();
    for (offset, len) in [(PAGE + 10, 1), (PAGE + 11, 30), (2 * PAGE - 3, 7), (2 * PAGE - 9, 9000), (PAGE + 10, 16384)]
    {
        let expected: Vec<u8> = (offset..offset + len as u64).map(content).collect();
        assert_eq!(read(&window, offset, len).unwrap(), expected, "{len} at {offset}");
    }
    for (offset, len, span) in [
        (PAGE, 20, Span::new(PAGE, 10)),
        (5 * PAGE, 20, Span::new(5 * PAGE + 10, 10)),
        (0, 5, Span::new(0, 5)),
        (7 * PAGE, 5, Span::new(7 * PAGE, 5)),
        (u64::MAX - 1, 5, Span::new(u64::MAX - 1, 1)),
    ] {
        match read(&window, offset, len).unwrap_err() {
            ReadError::Absent { span: found, why: Absence::BeyondEnd } => assert_eq!(found, span),
            other => panic!("{other}"),
        }
    }
    assert_eq!(window.next_absent(0..PAGE * 9), Some((Span::new(0, PAGE + 10), Absence::BeyondEnd)));
    assert_eq!(window.next_absent(PAGE + 10..PAGE + 20), None);
    assert_eq!(window.end(), None);
    read(&window, 0, 0).unwrap();
}

#[test]
fn a_window_without_memory_is_refused() {
    let file = memory(1);
    for window in [Span::new(0, 0), Span::new(u64::MAX, 2), Span::new(1 << 63, 4096)] {
        let error = MappedWindow::map_file(file.path(), window).unwrap_err();
        assert!(matches!(error, MapError::Window { .. }), "{error}");
    }
}

#[test]
fn a_bus_error_names_the_address_and_the_process_lives() {
    let file = memory(16);
    let window = MappedWindow::map_file(file.path(), Span::new(0, 16 * PAGE)).unwrap();
    read(&window, 0, 16 * PAGE as usize).unwrap();
    cut(&file, 5 * PAGE);
    let (span, message) = io_error(read(&window, 3 * PAGE + 7, 8 * PAGE as usize).unwrap_err());
    assert_eq!(span, Span::new(5 * PAGE, PAGE));
    assert!(message.starts_with("memory at 0x5000 cannot be read (bus error"), "{message}");
    // A read that ends within the bad page is reported with its own end.
    let (span, _) = io_error(read(&window, 6 * PAGE + 100, 5).unwrap_err());
    assert_eq!(span, Span::new(6 * PAGE + 100, 5));
}

#[test]
fn no_page_that_was_replaced_is_read_as_zeros_later() {
    let file = memory(16);
    let window = MappedWindow::map_file(file.path(), Span::new(0, 16 * PAGE)).unwrap();
    read(&window, 0, 16 * PAGE as usize).unwrap();
    cut(&file, 5 * PAGE);
    for _ in 0..3 {
        io_error(read(&window, 4 * PAGE, 4 * PAGE as usize).unwrap_err());
        io_error(read(&window, 7 * PAGE, 10).unwrap_err());
        assert_eq!(read(&window, 4 * PAGE, 4096).unwrap(), [5; 4096]);
    }
    // The memory responds again.
    std::fs::write(file.path(), vec![9; 16 * PAGE as usize]).unwrap();
    assert_eq!(read(&window, 0, 16 * PAGE as usize).unwrap(), vec![9; 16 * PAGE as usize]);
}

#[test]
fn readers_beside_a_faulting_one_see_memory_and_never_zeros() {
    let file = memory(64);
    let window = MappedWindow::map_file(file.path(), Span::new(0, 128 * PAGE)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let bytes = read(&window, 60 * PAGE, 4 * PAGE as usize).unwrap();
                    assert!(bytes.iter().zip(60 * PAGE..).all(|(b, at)| *b == content(at)));
                }
            });
        }
        for round in 0..300 {
            // Both copies fault at page 64, the end of the file. Pages are replaced from there to the end of the copy,
            // or, if the copy starts past the file, from its start. The other threads read only the pages before.
            let from = if round % 2 == 0 { 70 * PAGE } else { 62 * PAGE };
            io_error(read(&window, from, 20 * PAGE as usize).unwrap_err());
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_window_larger_than_a_chunk_is_mapped_in_pieces() {
    let file = tempfile::NamedTempFile::new().unwrap();
    cut(&file, 400 << 20);
    let mut window = WritableWindow::map_file(file.path(), Span::new(0, 400 << 20), Durability::Persistent).unwrap();
    for chunk in 0..6_u64 {
        window.write_at((64 << 20) * (chunk + 1) - 2, &[chunk as u8 + 1; 4]).unwrap();
    }
    window.barrier().unwrap();
    let bytes = read(&window, 0, 400 << 20).unwrap();
    for chunk in 0..6_usize {
        let edge = (64 << 20) * (chunk + 1);
        assert_eq!(
            bytes[edge - 3..edge + 3],
            [0, chunk as u8 + 1, chunk as u8 + 1, chunk as u8 + 1, chunk as u8 + 1, 0]
        );
    }
}

#[test]
fn stores_reach_the_memory_at_any_alignment() {
    for durability in [Durability::Volatile, Durability::Persistent] {
        let file = memory(4);
        let mut model = std::fs::read(file.path()).unwrap();
        let mut window = WritableWindow::map_file(file.path(), Span::new(0, 4 * PAGE), durability).unwrap();
        for (at, len) in [(0, 1), (3, 17), (4090, 20), (4096, 4096), (8191, 2), (16380, 4)] {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 7 + at) as u8).collect();
            window.write_at(at as u64, &bytes).unwrap();
            model[at..at + len].copy_from_slice(&bytes);
        }
        for (at, len) in [(5, 3), (4100, 5000), (12000, 1)] {
            window.zero(Span::new(at as u64, len as u64)).unwrap();
            model[at..at + len].fill(0);
        }
        window.barrier().unwrap();
        assert_eq!(read(&window, 0, model.len()).unwrap(), model);
        assert_eq!(std::fs::read(file.path()).unwrap(), model);
    }
}

#[test]
fn nothing_is_stored_outside_the_window() {
    let file = memory(4);
    let before = std::fs::read(file.path()).unwrap();
    let window = Span::new(PAGE, PAGE);
    let mut window = WritableWindow::map_file(file.path(), window, Durability::Volatile).unwrap();
    assert!(window.write_at(PAGE - 1, &[0, 0]).is_err());
    assert!(window.write_at(2 * PAGE - 1, &[0, 0]).is_err());
    assert!(window.zero(Span::new(0, 4 * PAGE)).is_err());
    assert!(window.zero(Span::new(u64::MAX - 1, 4)).is_err());
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
}

#[test]
fn a_bus_error_while_storing_or_flushing_is_an_error_of_the_write() {
    let file = memory(8);
    let span = Span::new(0, 8 * PAGE);
    let mut window = WritableWindow::map_file(file.path(), span, Durability::Persistent).unwrap();
    window.write_at(6 * PAGE, &[1; 64]).unwrap();
    cut(&file, 2 * PAGE);
    let error = window.write_at(PAGE, &[3; 8192]).unwrap_err();
    assert_eq!(error.span, Span::new(2 * PAGE, PAGE));
    assert!(error.source.to_string().contains("memory at 0x2000 cannot be accessed"), "{}", error.source);
    assert!(window.zero(Span::new(3 * PAGE, PAGE)).is_err());
    // What was written there before can no longer be flushed, so the barrier must fail.
    assert!(window.barrier().is_err());
    assert_eq!(read(&window, 2 * PAGE - 4, 4).unwrap(), [3; 4]);
}

#[test]
fn live_memory_is_not_written_where_the_kernel_uses_it() {
    let map = IoMem::parse("00000000-0fffffff : System RAM\n10000000-13ffffff : Reserved\n").unwrap();
    let held = Span::new(0xfff_f000, 8192);
    let error = WritableWindow::dev_mem(Path::new("/dev/mem"), held, &map, &Locking::at_once()).unwrap_err();
    assert!(matches!(error, MapError::Held(_)), "{error}");
    assert!(error.to_string().contains("System RAM"), "{error}");
}

#[test]
fn other_files_are_neither_memory_nor_devdax() {
    let file = memory(1);
    let error = MappedWindow::dev_dax(file.path(), None).unwrap_err();
    assert!(matches!(error, MapError::NotDevDax { .. }), "{error}");
    let error = MappedWindow::dev_dax(Path::new("/dev/null"), None).unwrap_err();
    assert!(matches!(error, MapError::NotDevDax { .. }), "{error}");
    let error = MappedWindow::dev_mem(file.path(), Span::new(0, 4096)).unwrap_err();
    assert!(matches!(error, MapError::File(FileError::WrongKind { .. })), "{error}");
}

/// Set in the child process that the following test starts.
const CHILD: &str = "GMFS_TEST_FOREIGN_BUS_ERROR";

#[test]
#[expect(unsafe_code, reason = "a bus error outside of any copy has to be made somehow")]
fn a_bus_error_that_is_not_of_a_copy_still_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    if std::env::var_os(CHILD).is_some() {
        let file = memory(2);
        let window = MappedWindow::map_file(file.path(), Span::new(0, PAGE)).unwrap();
        read(&window, 0, 10).unwrap();
        let foreign = memmap2::MmapOptions::new().map_raw_read_only(file.as_file()).unwrap();
        cut(&file, 0);
        io_error(read(&window, 0, 10).unwrap_err());
        // SAFETY: the map is live and readable. Its file no longer has this byte, which is what the test needs.
        let byte = unsafe { std::ptr::read_volatile(foreign.as_ptr()) };
        panic!("survived, and read {byte}");
    }
    let name = "mapped::tests::a_bus_error_that_is_not_of_a_copy_still_ends_the_process";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let status = child.args(["--exact", name]).env(CHILD, "1").output().unwrap().status;
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
}

#[test]
fn a_reader_of_a_window_sees_what_is_stored_and_nothing_outside() {
    let file = memory(8);
    let span = Span::new(PAGE, 4 * PAGE);
    let mut window = WritableWindow::map_file(file.path(), span, Durability::Persistent).unwrap();
    let reader = window.reader().unwrap();
    assert_eq!(read(&reader, PAGE, 3).unwrap(), [content(PAGE); 3]);
    std::thread::scope(|scope| {
        // Other pages are written meanwhile.
        scope.spawn(|| (0..1000).for_each(|n: u32| window.write_at(3 * PAGE, &n.to_le_bytes()).unwrap()));
        for _ in 0..1000 {
            assert_eq!(read(&reader, 2 * PAGE, 16).unwrap(), [content(2 * PAGE); 16]);
        }
    });
    assert_eq!(read(&reader, 3 * PAGE, 4).unwrap(), 999_u32.to_le_bytes());
    assert!(matches!(read(&reader, 5 * PAGE, 1), Err(ReadError::Absent { .. })));
}

#[test]
fn only_a_refusal_of_what_has_nothing_to_write_back_is_no_error() {
    let of = |errno: i32| fault::written_back(Err(io::Error::from_raw_os_error(errno)), 7);
    assert_eq!(of(libc::EINVAL), Ok(()));
    assert_eq!(fault::written_back(Ok(()), 7), Ok(()));
    for errno in [libc::EIO, libc::ENOSPC, libc::ENOMEM, libc::EBUSY] {
        assert_eq!(of(errno), Err(fault::Fault { at: 7, errno }));
    }
}

/// Has two implementations for types that are `Send`, which makes a call ambiguous, and one for types that are not.
trait NotSend<A> {
    fn is_not_send() {}
}
impl<T: ?Sized> NotSend<()> for T {}
impl<T: ?Sized + Send> NotSend<u8> for T {}

#[test]
fn a_copy_does_not_change_threads() {
    <fault::Pieces<'static> as NotSend<_>>::is_not_send();
}

#[test]
#[expect(unsafe_code, reason = "the kernel's signal has to be made")]
fn poison_that_nobody_has_touched_ends_nothing() {
    survive_bus_errors().unwrap();
    // SAFETY: a siginfo consists of integers, for all of which zero is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    (info.si_signo, info.si_code) = (libc::SIGBUS, 5);
    // SAFETY: these calls take no pointer, and cannot fail.
    let (process, thread) = (std::process::id(), unsafe { libc::gettid() });
    // SAFETY: the pointer is to a live siginfo. A process may send itself any signal with any code.
    let done =
        unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, libc::SIGBUS, std::ptr::from_ref(&info)) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
    // The next bus error of a copy must still be an error of that copy.
    let file = memory(2);
    let window = MappedWindow::map_file(file.path(), Span::new(0, PAGE)).unwrap();
    cut(&file, 0);
    io_error(read(&window, 0, 10).unwrap_err());
}
