//! Several operands, empty operands, and operands with a slash at their end.

use crate::images;
use crate::sandbox::Sandbox;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox
}

#[test]
fn lists_of_several_directories_have_heads() {
    let sandbox = sandbox();
    let all = sandbox.ok("ls region.img /vms /sparse / /vms/first.mem").text();
    assert_eq!(all, "/sparse\n/vms/first.mem\n\n/vms:\nfirst.mem\nold\nsecond.mem\n\n/:\nsparse\nvms\n");
    insta::assert_snapshot!("ls_several", sandbox.ok("ls -l region.img /vms /sparse /").text());
    let some = sandbox.fails_with(2, "ls region.img /none /vms /nor", "'/none'");
    assert_eq!(some.text(), "/vms:\nfirst.mem\nold\nsecond.mem\n");
    assert!(some.stderr.contains("'/nor'"), "{some:?}");
}

#[test]
fn all_operands_are_tried() {
    let sandbox = sandbox();
    let some = sandbox.fails_with(2, "stat region.img /none /vms", "'/none'");
    assert!(some.text().contains("Path") && some.text().contains("/vms"), "{some:?}");
    let some = sandbox.fails_with(2, "stat --json region.img /none /vms", "'/none'");
    assert_eq!(some.json()["files"].as_array().unwrap().len(), 1, "{some:?}");
    // If nothing was done, the answer is the error.
    let none = sandbox.gmfs("stat --json region.img /none /nor");
    assert!(none.code == 2 && none.json()["error"]["code"] == "not-found", "{none:?}");
    sandbox.fails_with(2, "mkdir region.img /a /vms /b", "'/vms' exists");
    assert_eq!(sandbox.ok("ls region.img /").text(), "a\nb\nsparse\nvms\n");
    let done = sandbox.fails_with(2, "rm region.img /a /none /vms /b", "'/none'");
    assert!(done.stderr.contains("'/vms' is not empty"), "{done:?}");
    assert_eq!(sandbox.ok("ls region.img /").text(), "sparse\nvms\n");
}

#[test]
fn several_images_are_checked_and_their_statuses_are_joined() {
    let sandbox = sandbox();
    images::sample_at(&sandbox.path("damaged.img"), 0);
    sandbox.ok("inject damaged.img GM0305");
    sandbox.write("none.img", b"nothing");
    let done = sandbox.fails_with(8 + 4, "fsck -n damaged.img none.img region.img", "none.img");
    assert!(done.text().contains("damaged.img: damaged") && done.text().contains("region.img: clean"), "{done:?}");
    assert_eq!(sandbox.gmfs("fsck -y damaged.img region.img").code, 1);
    assert_eq!(sandbox.gmfs("fsck -p damaged.img region.img").code, 0);
    for option in ["--json", "--undo before", "--uuid 8f0e3f6a-2d41-4c55-9f0b-0123456789ab"] {
        assert_eq!(sandbox.gmfs(&format!("fsck -y {option} damaged.img region.img")).code, 16, "{option}");
    }
}

#[test]
fn several_paths_are_extracted_into_a_directory() {
    let sandbox = sandbox();
    std::fs::create_dir(sandbox.path("to")).unwrap();
    let done = sandbox.fails_with(2, "extract region.img /sparse /none /vms to", "cannot extract '/none'");
    assert!(sandbox.exists("to/sparse") && sandbox.exists("to/vms/first.mem"), "{done:?}");
    sandbox.ok("extract region.img -f /sparse /vms/first.mem to/");
    assert!(sandbox.read("to/first.mem") == images::content());
    sandbox.fails_with(2, "extract region.img /sparse /vms new", "new is no directory");
    assert!(!sandbox.exists("new"));
    // One list and one answer for all of them.
    let done = sandbox.ok("extract region.img -f --sparse-absent --missing list --json /sparse /vms to").json();
    assert!(sandbox.exists("list") && done["files"].as_array().unwrap().len() == 3, "{done}");
}

#[test]
fn several_files_are_put_into_a_directory() {
    let sandbox = sandbox();
    sandbox.write("a", b"first");
    sandbox.write("b", b"second");
    sandbox.ok("put region.img a b /vms");
    assert_eq!(sandbox.ok("cat region.img /vms/a /vms/b").text(), "firstsecond");
    // All are tried, and what failed is named.
    sandbox.write("c", b"third");
    let some = sandbox.fails_with(2, "put region.img a none c - /vms", "'/vms/a' exists");
    assert!(some.stderr.contains("cannot put none as '/vms/none'"), "{some:?}");
    assert!(some.stderr.contains("standard input has no name"), "{some:?}");
    assert_eq!(sandbox.ok("cat region.img /vms/c").text(), "third");
    sandbox.write("a", b"again");
    let done = sandbox.ok("put --json -f region.img a b /vms/").json();
    assert_eq!(done["entries"].as_array().unwrap().len(), 2, "{done}");
    assert_eq!(sandbox.ok("cat region.img /vms/a").text(), "again");
    for into in ["/none", "/sparse", "/vms/a"] {
        sandbox.fails_with(2, &format!("put region.img a b {into}"), "several files need one");
    }
    sandbox.fails_with(2, "put region.img a region.img /vms", "the image itself");
    assert_eq!(sandbox.gmfs("put region.img a").code, 2);
}

#[test]
fn an_empty_path_is_an_error() {
    let sandbox = sandbox();
    sandbox.write("f", b"x");
    for args in [
        &["ls", "region.img", ""][..],
        &["ls", ""],
        &["stat", "region.img", ""],
        &["cat", "region.img", ""],
        &["map", "region.img", ""],
        &["extract", "region.img", ""],
        &["extract", "region.img", "/sparse", ""],
        &["create", "region.img", "", "--size", "2M"],
        &["mkdir", "region.img", "-p", ""],
        &["put", "region.img", "f", ""],
        &["put", "region.img", "", "/g"],
        &["truncate", "region.img", "", "--size", "0"],
        &["mv", "region.img", "", "/x"],
        &["mv", "region.img", "/sparse", ""],
        &["rm", "region.img", "-r", ""],
        &["cp", "region.img", "/sparse", ""],
        &["cp", "region.img", "", "/copy"],
        &["save", "region.img", "-o", ""],
        &["dump", "region.img", "-o", ""],
    ] {
        let done = sandbox.run(args);
        assert_eq!(done.code, 2, "{args:?}: {done:?}");
    }
    assert_eq!(sandbox.ok("ls region.img").text(), "sparse\nvms\n");
}

#[test]
fn a_slash_at_the_end_means_a_directory() {
    let sandbox = sandbox();
    sandbox.write("f", b"x");
    for line in [
        "ls region.img /sparse/",
        "stat region.img /sparse/",
        "cat region.img /sparse/",
        "map region.img /sparse/",
        "extract region.img /sparse/",
        "extract region.img /sparse new/",
        "save region.img -o new/",
        "dump region.img -o new/",
        "create region.img /new/ --size 2M",
        "put region.img f /new/",
        "truncate region.img /sparse/ --size 0",
        "mv region.img /sparse /new/",
        "mv region.img /sparse/ /new",
        "rm region.img /sparse/",
        "cp region.img /sparse/ /new",
        "cp region.img /sparse /new/",
    ] {
        let done = sandbox.gmfs(line);
        assert!(done.code == 2 && done.stderr.contains("directory"), "{line}: {done:?}");
    }
    sandbox.ok("mkdir region.img /new/");
    sandbox.ok("put region.img f /new/");
    assert_eq!(sandbox.ok("ls region.img /new/").text(), "f\n");
}

#[test]
fn a_pattern_stands_for_what_it_matches() {
    let sandbox = sandbox();
    sandbox.write("f", b"x");
    sandbox.ok("put region.img f /vms/[a]*");
    sandbox.ok("put region.img f /vms/a");
    // What is there by that name wins, and a quoted character stands for itself.
    assert_eq!(sandbox.ok("ls region.img /vms/[a]*").text(), "/vms/[a]*\n");
    assert_eq!(sandbox.ok("ls region.img /v*/[ab]").text(), "/vms/a\n");
    assert_eq!(sandbox.ok(r"ls region.img /vms/\[*").text(), "/vms/[a]*\n");
    assert_eq!(sandbox.ok("ls region.img /vms/*.mem").text(), "/vms/first.mem\n/vms/second.mem\n");
    let some = sandbox.fails_with(2, "ls region.img /none* /vms/?", "nothing in the region matches '/none*'");
    assert_eq!(some.text(), "/vms/a\n");
    // Of a command that changes something too: what is matched once is meant once.
    sandbox.fails("rm region.img /*.none", "nothing in the region matches");
    sandbox.ok("chmod region.img 640 /vms/*.mem");
    sandbox.ok("rm region.img /vms/a /vms/[ab] /vms/f*");
    assert_eq!(sandbox.ok("ls region.img /vms").text(), "[a]*\nold\nsecond.mem\n");
    std::fs::create_dir(sandbox.path("to")).unwrap();
    sandbox.ok("extract region.img /vms/s* /sp* to");
    assert!(sandbox.exists("to/second.mem") && sandbox.exists("to/sparse"));
    sandbox.fails_with(2, "extract region.img /x* to", "nothing in the region matches '/x*'");
    sandbox.fails_with(2, "extract region.img /* to/none", "no directory");
    sandbox.fails_with(2, "rm region.img /*", "not empty");
    assert_eq!(sandbox.ok("ls region.img").text(), "vms\n");
}
