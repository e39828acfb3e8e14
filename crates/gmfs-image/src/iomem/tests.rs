use super::*;

fn map(text: &str) -> IoMem {
    IoMem::parse(text).unwrap()
}

fn pc() -> IoMem {
    map(include_str!("data/pc.txt"))
}

const CARVED: Span = Span::new(0x1000_0000, 0x400_0000);

fn names(held: &Held) -> Vec<&str> {
    held.by.iter().map(|r| r.name.as_str()).collect()
}

#[test]
fn ends_become_exclusive_and_nesting_is_kept() {
    let map = pc();
    assert_eq!(map.resources().len(), 35);
    let code = map.resources().iter().find(|r| r.name == "Kernel code").unwrap();
    assert_eq!((code.span, code.depth), (Span::new(0x100_0000, 0x100_1db8), 1));
    let deep = map.resources().iter().find(|r| r.name == "pnp 00:04").unwrap();
    assert_eq!(deep.depth, 3);
    let ecam = map.resources().iter().find(|r| r.name.starts_with("PCI ECAM")).unwrap();
    assert_eq!(ecam.name, "PCI ECAM 0000 [bus 00-ff]");
}

#[test]
fn a_carved_out_range_may_be_written() {
    assert_eq!(pc().writable(CARVED), Ok(()));
    assert_eq!(pc().writable(Span::new(0x1200_0000, 4096)), Ok(()));
    assert!(!pc().is_persistent(CARVED));
}

#[test]
fn one_byte_of_ram_is_too_much() {
    for range in [Span::new(0xfff_ffff, 2), Span::new(0x13ff_ffff, 2)] {
        let held = pc().writable(range).unwrap_err();
        assert_eq!(names(&held), ["System RAM"]);
        assert!(held.unknown.is_empty());
    }
    let held = pc().writable(Span::new(0x800_0000, 0x1000_0000)).unwrap_err();
    assert_eq!(names(&held), ["System RAM", "Crash kernel", "System RAM"]);
}

#[test]
fn a_device_inside_reserved_memory_holds_it() {
    let held = pc().writable(Span::new(0xfed1_c000, 0x4000)).unwrap_err();
    assert_eq!(names(&held), ["iTCO_wdt.0.auto"]);
    let held = pc().writable(Span::new(0xb000_0000, 4096)).unwrap_err();
    assert_eq!(names(&held), ["PCI Bus 0000:00", "PCI ECAM 0000 [bus 00-ff]", "pnp 00:04"]);
    assert_eq!(names(&pc().writable(Span::new(0xf_0000, 16)).unwrap_err()), ["System ROM"]);
}

#[test]
fn memory_of_which_nothing_is_known_is_refused() {
    let held = pc().writable(Span::new(0x2_0000_0000, 4096)).unwrap_err();
    assert_eq!((names(&held).len(), &held.unknown[..]), (0, &[Span::new(0x2_0000_0000, 4096)][..]));
    let held = pc().writable(Span::new(0xff00_0000, 0x100_0000)).unwrap_err();
    assert_eq!(held.unknown, [Span::new(0xff00_0000, 0xfc_0000)]);
    assert!(pc().writable(Span::new(0x1000_0000, 0)).is_err());
    assert!(pc().writable(Span::new(u64::MAX, 9)).is_err());
}

#[test]
fn the_error_names_the_range_and_each_holder() {
    let message = pc().writable(Span::new(0x0fff_f000, 0x2000)).unwrap_err().to_string();
    assert_eq!(
        message,
        "physical memory 0xffff000..0x10001000 may not be written; only reserved or persistent memory may: \
         0x100000..0x10000000: System RAM"
    );
}

#[test]
fn persistent_memory_may_be_written_unless_a_driver_has_it() {
    let map = map(include_str!("data/legacy_pmem.txt"));
    assert_eq!(map.writable(CARVED), Ok(()));
    assert!(map.is_persistent(CARVED));
    assert_eq!(names(&map.writable(Span::new(0x1400_0000, 4096)).unwrap_err()), ["namespace1.0"]);
    assert_eq!(map.writable(Span::new(0x1_0400_0000, 4096)), Ok(()));
    assert_eq!(names(&map.writable(Span::new(0x1_4000_0000, 4096)).unwrap_err()), ["System RAM (kmem)"]);
}

#[test]
fn what_the_kernel_reserved_inside_its_ram_is_its_own() {
    let x86 = map(include_str!("data/nested_reserved.txt"));
    assert_eq!(names(&x86.writable(Span::new(0x6020_0000, 0x2_0000)).unwrap_err()), ["System RAM"]);
    assert_eq!(names(&x86.writable(Span::new(0x7d00_0000, 16)).unwrap_err()), ["Graphics Stolen Memory"]);
    assert_eq!(names(&x86.writable(Span::new(0x9000_0000, 16)).unwrap_err()), ["Soft Reserved"]);
    let arm = map(include_str!("data/arm64.txt"));
    assert_eq!(names(&arm.writable(Span::new(0x4800_0000, 0x9000)).unwrap_err()), ["System RAM"]);
    assert_eq!(arm.writable(Span::new(0x8000_0000, 0x400_0000)), Ok(()));
}

#[test]
fn the_ranges_that_may_be_written_are_listed() {
    let legacy = map(include_str!("data/legacy_pmem.txt")).writable_ranges();
    assert!(legacy.contains(&CARVED), "{legacy:?}");
    assert!(legacy.contains(&Span::new(0x1_0400_0000, 0x3c00_0000)), "{legacy:?}");
    let arm = map(include_str!("data/arm64.txt"));
    assert_eq!(arm.writable_ranges(), [Span::new(0x8000_0000, 0x400_0000)]);
    let text = "0-fff : Reserved\n1000-1fff : Persistent Memory\n  1800-18ff : namespace0.0\n";
    assert_eq!(map(text).writable_ranges(), [Span::new(0, 0x1800), Span::new(0x1900, 0x700)]);
    for text in [include_str!("data/pc.txt"), include_str!("data/nested_reserved.txt")] {
        let map = map(text);
        assert!(!map.writable_ranges().is_empty());
        for span in map.writable_ranges() {
            assert_eq!(map.writable(span), Ok(()));
        }
    }
}

#[test]
fn hidden_addresses_are_named() {
    let error = IoMem::parse(include_str!("data/unprivileged.txt")).unwrap_err();
    assert_eq!(error, IoMemError::Hidden);
    assert!(error.to_string().contains("run as root"));
    assert_eq!(IoMem::parse("\n"), Err(IoMemError::Empty));
}

#[test]
fn other_text_is_refused_by_line() {
    for bad in ["x", "10-f : a", "-10-f : a", "0-10000000000000000 : a", "0x0-f : a", "0-f: a", "- : a"] {
        let error = IoMem::parse(&format!("0-f : ok\n{bad}\n")).unwrap_err();
        assert_eq!(error, IoMemError::Line { line: 2, text: bad.to_owned() });
    }
}

#[test]
fn the_whole_address_space_does_not_overflow() {
    let map = map("0000000000000000-ffffffffffffffff : Reserved\n");
    assert_eq!(map.writable(Span::new(u64::MAX - 4096, 4096)), Ok(()));
    assert_eq!(map.writable_ranges().len(), 1);
}
