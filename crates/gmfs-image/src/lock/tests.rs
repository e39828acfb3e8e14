use super::*;

fn file() -> tempfile::NamedTempFile {
    tempfile::NamedTempFile::new().unwrap()
}

fn part(offset: u64, len: u64) -> Locking<'static> {
    Locking { span: Some(Span::new(offset, len)), ..Locking::at_once() }
}

fn refused(result: Result<RangeLock, FileError>) -> bool {
    matches!(result, Err(FileError::Locked { .. }))
}

#[test]
fn readers_share_and_a_writer_does_not() {
    let file = file();
    let take = |mode| RangeLock::take(file.path(), mode, &Locking::at_once());
    let readers = [take(Mode::Shared).unwrap(), take(Mode::Shared).unwrap()];
    assert!(readers.iter().all(RangeLock::is_complete));
    assert!(refused(take(Mode::Exclusive)));
    drop(readers);
    let writer = take(Mode::Exclusive).unwrap();
    assert!(refused(take(Mode::Shared)) && refused(take(Mode::Exclusive)));
    assert!(writer.is_of(file.path()) && !writer.is_of(Path::new("/")));
    drop(writer);
    take(Mode::Shared).unwrap();
}

#[test]
fn ranges_that_do_not_meet_do_not_exclude_each_other() {
    let file = file();
    let take = |offset, len| RangeLock::take(file.path(), Mode::Exclusive, &part(offset, len));
    let first = take(0, 100).unwrap();
    let second = take(100, 100).unwrap();
    assert!(refused(take(99, 1)) && refused(take(199, 1)) && refused(take(50, 100)));
    assert!(refused(RangeLock::take(file.path(), Mode::Exclusive, &Locking::at_once())), "all of it is both");
    drop((first, second));
    take(50, 100).unwrap();
}

#[test]
fn a_waiting_writer_is_not_overtaken_and_gets_its_turn() {
    let file = file();
    let reader = RangeLock::take(file.path(), Mode::Shared, &Locking::at_once()).unwrap();
    std::thread::scope(|scope| {
        let path = file.path();
        let writer = scope.spawn(move || {
            let patient = Locking { limit: Duration::from_secs(20), ..Locking::at_once() };
            RangeLock::take(path, Mode::Exclusive, &patient).map(drop)
        });
        // Readers get the lock until the writer queues, and not after that.
        let clock = Instant::now();
        while RangeLock::take(file.path(), Mode::Shared, &Locking::at_once()).is_ok() {
            assert!(clock.elapsed() < Duration::from_secs(10), "readers overtake for ever");
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(reader);
        writer.join().unwrap().unwrap();
    });
    RangeLock::take(file.path(), Mode::Shared, &Locking::at_once()).unwrap();
}

#[test]
fn waiting_is_announced_once_and_can_be_ended() {
    let file = file();
    let _writer = RangeLock::take(file.path(), Mode::Exclusive, &Locking::at_once()).unwrap();
    let announced = std::cell::Cell::new(0);
    let announce = |_: &Path, _: &Holders| announced.set(announced.get() + 1);
    let how = Locking { span: None, limit: Duration::from_millis(700), announce: &announce, go_on: &|| true };
    assert!(refused(RangeLock::take(file.path(), Mode::Shared, &how)));
    assert_eq!(announced.get(), 1);
    let how = Locking { limit: Duration::from_secs(60), go_on: &|| false, ..how };
    let ended = RangeLock::take(file.path(), Mode::Shared, &how);
    assert!(matches!(ended, Err(FileError::NotWaited { .. })));
    assert_eq!(announced.get(), 1, "it did not wait that long");
}

#[test]
fn lines_of_fdinfo_are_understood() {
    let (range, queue) = ranges(Span::new(100, 100)).unwrap();
    let way = |line: &str, mode| is_in_the_way(line, mode, range, queue);
    let write = "lock:\t1: OFDLCK ADVISORY  WRITE -1 00:2e:5 150 4611686018427387903";
    assert!(way(write, Mode::Shared) && way(write, Mode::Exclusive));
    let read = "lock:\t1: POSIX  ADVISORY  READ 77 00:2e:5 0 EOF";
    assert!(!way(read, Mode::Shared) && way(read, Mode::Exclusive));
    assert!(!way("lock:\t1: OFDLCK ADVISORY  WRITE -1 00:2e:5 200 300", Mode::Exclusive), "another range");
    assert!(way("lock:\t1: OFDLCK ADVISORY  WRITE -1 00:2e:5 4611686018427388004 EOF", Mode::Shared), "the queue");
    assert!(!way("lock:\t1: FLOCK  ADVISORY  WRITE 77 00:2e:5 0 EOF", Mode::Exclusive), "another kind of lock");
    assert!(!way("flags:\t0100002", Mode::Exclusive));
}

#[test]
fn a_range_ends_before_the_queues() {
    assert_eq!(ranges(Span::new(0, u64::MAX)), Some((Span::new(0, USAGE), Span::new(QUEUE, USAGE))));
    assert_eq!(ranges(Span::new(QUEUE, 10)), None);
    assert_eq!(ranges(Span::new(5, 0)), None);
}

#[test]
fn who_cannot_write_cannot_lock_for_writing() {
    let missing = RangeLock::take(Path::new("/nowhere/at/all"), Mode::Shared, &Locking::at_once());
    assert!(matches!(missing, Err(FileError::NotFound { .. })));
}

#[test]
fn holders_are_named() {
    let process = |pid, name: &str| Process { pid, name: name.to_owned() };
    assert_eq!(Holders::default().to_string(), "another process");
    assert_eq!(Holders(vec![process(1, "a"), process(2, "")]).to_string(), "process 1 (a), process 2");
    let five = (1..=5).map(|pid| process(pid, "x")).collect();
    assert!(Holders(five).to_string().ends_with("process 3 (x) and 2 more"));
}
