//! Captured machines: what is read of them, and where regions fit in them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use gmfs_host::Machine;
use gmfs_host::plan::{self, LARGE, PlanError, SMALL, Window, plan, struct_pages, struct_pages_of_reserved};
use gmfs_io::Span;
use gmfs_testing::machine::lay_out;

const G: u64 = 1 << 30;
const M: u64 = 1 << 20;

fn read(text: &str) -> Machine {
    let root = tempfile::tempdir().unwrap();
    lay_out(text, root.path());
    Machine::read(root.path())
}

fn two_sockets() -> Machine {
    read(include_str!("machines/two-sockets.txt"))
}

/// Nothing that the kernel names, outside of its own memory or in it, is in a window.
fn assert_apart(machine: &Machine, windows: &[Window]) {
    let iomem = machine.iomem.as_ref().unwrap();
    for window in windows {
        let meets = |r: &&gmfs_image::iomem::Resource| r.span.meets(window.span);
        let names: Vec<_> = iomem.resources().iter().filter(meets).map(|r| (r.depth, r.name.as_str())).collect();
        assert_eq!(names, [(0, "System RAM")], "{window:?}");
        assert!(window.span.offset.is_multiple_of(window.align));
        assert_eq!(windows.iter().filter(|other| other.span.meets(window.span)).count(), 1);
    }
}

#[test]
fn windows_of_two_sockets_are_in_one_node_each() {
    let machine = two_sockets();
    assert_eq!(machine.nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(machine.nodes[1].spans, [Span::new(0x20_8000_0000, 128 * G)]);
    let found = plan(&machine, 32 * G, 4).unwrap();
    assert_apart(&machine, &found.windows);
    let nodes: Vec<_> = found.windows.iter().map(|window| window.node.unwrap()).collect();
    assert_eq!(nodes, [0, 0, 1, 1]);
    assert!(found.windows.iter().all(|window| window.align == LARGE), "{found:?}");
    assert_eq!(found.windows[0].span, Span::new(4 * G, 32 * G));
    assert_eq!(found.ram - found.left, 128 * G);
    // In node 0 the kernel itself leaves no such range: node 1 has it.
    let one = plan(&machine, 110 * G, 1).unwrap();
    assert_eq!((one.windows[0].node, one.windows[0].span.offset), (Some(1), 0x20_8000_0000));
    match plan(&machine, 110 * G, 2).unwrap_err() {
        PlanError::NoRoom { number, size, .. } => assert_eq!((number, size.as_str()), (2, "110G")),
        other => panic!("{other}"),
    }
}

#[test]
fn memory_of_the_dump_kernel_and_of_the_kernel_is_left_alone() {
    let machine = two_sockets();
    for size in [2 * M, 64 * M, G, 100 * G] {
        for count in [1, 2] {
            assert_apart(&machine, &plan(&machine, size, count).unwrap().windows);
        }
    }
}

#[test]
fn efi_runtime_memory_and_reserved_parts_are_left_alone() {
    let machine = read(include_str!("machines/efi-laptop.txt"));
    assert_eq!(machine.efi, [Span::new(4 * G, 2 * M)], "boot-time and free memory does not count");
    let found = plan(&machine, 2 * G, 1).unwrap();
    assert_apart(&machine, &found.windows);
    assert_eq!(found.windows[0].span.offset, 5 * G, "4 GiB has runtime services");
    let small = plan(&machine, 64 * M, 1).unwrap();
    assert_eq!(small.windows[0].span, Span::new(4 * G + 2 * M, 64 * M));
    // More than fits at a multiple of 1 GiB: up to the reserved part, from the first multiple of 2 MiB.
    let size = 0x4_5c80_0000 - 4 * G - 2 * M;
    let large = plan(&machine, size, 1).unwrap();
    assert_eq!((large.windows[0].align, large.windows[0].span), (SMALL, Span::new(4 * G + 2 * M, size)));
    assert!(matches!(plan(&machine, size + 2 * M, 1), Err(PlanError::NoRoom { .. })));
}

#[test]
fn what_is_set_apart_already_is_told_and_left_alone() {
    let machine = read(include_str!("machines/persistent.txt"));
    let found = plan(&machine, 2 * G, 2).unwrap();
    assert_apart(&machine, &found.windows);
    assert_eq!(found.windows[0].span.offset, 8 * G);
    // The firmware's own persistent memory is not of the command line's making.
    assert_eq!(found.already, [(Span::new(4 * G, 4 * G), "Persistent Memory (legacy)".to_owned())]);
    assert_eq!(machine.withheld_by_firmware(Span::new(0x4_4000_0000, G)), Some(true));
    assert_eq!(machine.withheld_by_firmware(Span::new(4 * G, G)), Some(false));
    assert_eq!(machine.withheld_by_firmware(Span::new(0x4_0000_0000, 8 * G)), Some(false));
    assert_eq!(machine.withheld_by_firmware(Span::new(1 << 44, G)), Some(false));
}

#[test]
fn memory_that_was_plugged_in_later_is_no_place() {
    let text =
        include_str!("machines/reserved.txt").replace("# firmware", "440000000-83fffffff : System RAM\n# firmware");
    let machine = read(&text);
    let found = plan(&machine, 8 * G, 1).unwrap();
    assert_eq!(found.windows[0].span, Span::new(8 * G, 8 * G));
    assert!(matches!(plan(&machine, 12 * G, 1), Err(PlanError::NoRoom { largest, .. }) if largest == "9G"));
}

#[test]
fn a_small_machine_keeps_scratch_areas_and_enough_for_itself() {
    let machine = read(include_str!("machines/small.txt"));
    assert_eq!(machine.scratch.as_ref().unwrap()[1], Span::new(0x3000_0000, 48 * M));
    let found = plan(&machine, 512 * M, 1).unwrap();
    assert_apart(&machine, &found.windows);
    assert!(found.windows[0].span.end() <= 0x3000_0000, "{found:?}");
    assert!(matches!(plan(&machine, 768 * M, 1), Err(PlanError::NoRoom { .. })));
    assert!(matches!(plan(&machine, 128 * M, 6), Err(PlanError::HostStarves { .. } | PlanError::NoRoom { .. })));
    let roomy = read(&include_str!("machines/small.txt").replace("0x30000000", "0x3f000000"));
    assert!(matches!(plan(&roomy, 800 * M, 1), Err(PlanError::HostStarves { .. })));
}

#[test]
fn reserved_parts_of_arm64_are_left_alone() {
    let machine = read(include_str!("machines/arm64.txt"));
    let found = plan(&machine, 4 * G, 1).unwrap();
    assert_apart(&machine, &found.windows);
    assert_eq!((machine.architecture.as_deref(), found.windows[0].span.offset), (Some("aarch64"), 4 * G));
    assert!(found.already.is_empty());
}

#[test]
fn sizes_that_are_none_and_machines_that_do_not_tell() {
    let machine = two_sockets();
    for size in [0, 1, 3 * M, 2 * M + 1] {
        assert!(matches!(plan(&machine, size, 1), Err(PlanError::Size(_))), "{size}");
    }
    assert!(matches!(plan(&machine, 2 * M, 0), Err(PlanError::Count(0))));
    assert!(matches!(plan(&machine, 2 * M, 65), Err(PlanError::Count(65))));
    assert!(plan(&machine, 1 << 63, 64).is_err());
    let hidden = read("# proc/iomem\n00000000-00000000 : System RAM\n");
    let why = plan(&hidden, G, 1).unwrap_err().to_string();
    assert!(why.contains("hides") && why.contains("proc/iomem"), "{why}");
    let nothing = read("# proc/version\nx\n");
    assert!(nothing.loaded.is_err() && nothing.cmdline.is_err() && nothing.scratch.is_none());
    assert!(plan(&nothing, G, 1).unwrap_err().to_string().contains("cannot read"));
}

#[test]
fn what_page_structures_cost() {
    assert_eq!(struct_pages(64 * G), G);
    assert_eq!(struct_pages_of_reserved(Span::new(4 * G, 64 * G)), 0);
    assert_eq!(struct_pages_of_reserved(Span::new(4 * G, 2 * M)), struct_pages(2 * M));
    assert_eq!(struct_pages_of_reserved(Span::new(4 * G - 2 * M, 256 * M)), struct_pages(128 * M));
    assert_eq!(struct_pages_of_reserved(Span::new(u64::MAX - 4095, 4095)), struct_pages(4095));
    assert_eq!(plan::HOST_LEAST, 256 * M);
}
