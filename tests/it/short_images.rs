//! Images that do not end where their region ends, because they were cut short or have grown.

use crate::images::{self, SIZE};
use crate::sandbox::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

fn resize(sandbox: &Sandbox, size: u64) {
    let file = std::fs::File::options().write(true).open(sandbox.path("region.img")).unwrap();
    file.set_len(size).unwrap();
}

/// If superblock A is lost, copy B is found although the image does not end where its region does.
#[test]
fn copy_b_is_found_wherever_the_image_ends() {
    let content = images::content();
    for size in [SIZE - 1, SIZE - 4096, SIZE - (1 << 20), SIZE + 1, SIZE + (3 << 20), 5 << 30, 100 << 30, 8 << 40] {
        let sandbox = sandbox();
        images::poke(&sandbox, "region.img", 0, &[0; 4096]);
        resize(&sandbox, size);
        for region in ["", "--region 64M ", "--region 64M:0 "] {
            let line = format!("cat {region}region.img /vms/first.mem");
            assert!(sandbox.ok(&line).stdout == content, "{line} with {size} bytes");
        }
        let code = sandbox.gmfs("fsck -p region.img").code;
        assert_eq!(code, if size < SIZE { 4 } else { 1 }, "{size}");
        // After growing or cutting, the image gets its former length, and nothing is lost.
        resize(&sandbox, SIZE);
        assert!(sandbox.gmfs("fsck -p region.img").code <= 1);
        sandbox.ok("fsck -n region.img");
    }
}

/// Far from the end, copy B is found only through the pages of copy A. There is also a copy B of another region that
/// once ended with the image and had its copy A at its start, so the user must say which region is meant.
#[test]
fn copy_b_is_found_by_what_the_pages_of_copy_a_say() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs old.img --size 128M -q");
    let old = sandbox.read("old.img");
    images::sample(&sandbox);
    images::poke(&sandbox, "region.img", 0, &[0; 4096]);
    resize(&sandbox, 128 << 20);
    images::poke(&sandbox, "region.img", 126 << 20, &old[126 << 20..]);
    sandbox.fails("cat region.img /vms/first.mem", "nothing tells whose this range is");
    let before = sandbox.read("region.img");
    assert_eq!(sandbox.gmfs("fsck -y region.img").code, 4);
    assert!(sandbox.read("region.img") == before);
    assert_eq!(sandbox.gmfs("fsck -p --uuid 8f0e3f6a-2d41-4c55-9f0b-0123456789ab region.img").code, 1);
    assert!(sandbox.ok("cat region.img /vms/first.mem").stdout == images::content());
}

/// An image that does not hold all blocks of its region is not written, and no undo file is left.
#[test]
fn nothing_is_written_where_blocks_are_not_in_the_image() {
    for (size, damage) in [(SIZE - 1, 1), (SIZE - 4096, 2), (SIZE - (2 << 20), 2), (SIZE - (4 << 20), 0)] {
        let sandbox = sandbox();
        images::poke(&sandbox, "region.img", damage * 4096, &[0; 4096]);
        resize(&sandbox, size);
        let before = sandbox.read("region.img");
        for line in [
            "fsck -p --undo undo region.img",
            "fsck -y --undo undo region.img",
            "repair -y --undo undo region.img",
            "repair --release-lost --undo undo region.img",
            "mkdir region.img /x",
        ] {
            let done = sandbox.gmfs(line);
            assert!(done.code != 0 && done.code & 1 == 0, "{line}: {done:?}");
            assert!(sandbox.read("region.img") == before, "{line} with {size} bytes");
            assert!(!sandbox.exists("undo"), "{line}");
        }
    }
    let sandbox = sandbox();
    images::poke(&sandbox, "region.img", 4096, &[0; 4096]);
    resize(&sandbox, SIZE - 1);
    let done = sandbox.gmfs("fsck -y region.img");
    assert_eq!(done.code, 4, "{done:?}");
    let saying = "the region has 67108864 bytes, and the image 67108863: make it as large as the region again";
    assert!(done.text().contains(saying), "{done:?}");
}
