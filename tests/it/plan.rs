//! `gmfs plan`. Where windows are put is tested in `gmfs-host`; here is what a user sees of it.

use gmfs_testing::machine::lay_out;

use crate::sandbox::Sandbox;

/// Captured machines.
pub(crate) const TWO_SOCKETS: &str = include_str!("../../crates/gmfs-host/tests/machines/two-sockets.txt");
const PERSISTENT: &str = include_str!("../../crates/gmfs-host/tests/machines/persistent.txt");
const ARM64: &str = include_str!("../../crates/gmfs-host/tests/machines/arm64.txt");

fn sandbox(machine: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    lay_out(machine, &sandbox.path("machine"));
    sandbox
}

#[test]
fn windows_with_the_words_for_them_and_what_they_cost() {
    let two = sandbox(TWO_SOCKETS);
    insta::assert_snapshot!("plan_two_sockets", two.gmfs("plan --size 64G --count 2 --root machine").all());
    let persistent = sandbox(PERSISTENT);
    insta::assert_snapshot!("plan_persistent", persistent.gmfs("plan --size 66M --root machine").all());
    let answer = two.ok("plan -s 64G --count 2 --root machine --json").json();
    let ways = answer["parameters"].as_array().unwrap();
    assert_eq!(ways[0]["words"], "memmap=64G$0x100000000 memmap=64G$0x2080000000");
    assert_eq!(ways[0]["words_for_grub"], "memmap=64G\\$0x100000000 memmap=64G\\$0x2080000000");
    assert_eq!((&ways[0]["struct_pages"], &ways[1]["struct_pages"]), (&0.into(), &(2_u64 << 30).into()));
    assert_eq!(answer["windows"][1]["numa_node"], 1);
}

#[test]
fn what_a_kernel_does_not_know_is_not_offered() {
    let answer = sandbox(ARM64).gmfs("plan --size 1G --root machine --json").json();
    let ways: Vec<&str> =
        answer["parameters"].as_array().unwrap().iter().map(|way| way["way"].as_str().unwrap()).collect();
    assert_eq!(ways, ["guestmemfs", "reserve_mem"]);
    assert!(answer["notes"].to_string().contains("no memmap="), "{answer}");
    let many = sandbox(TWO_SOCKETS).gmfs("plan --size 1G --count 9 --root machine --json").json();
    assert!(!many["parameters"].to_string().contains("reserve_mem"), "a kernel makes 8 such regions");
}

#[test]
fn no_plan_says_what_to_do() {
    let sandbox = sandbox(TWO_SOCKETS);
    sandbox.fails("plan --size 3M --root machine", "--size 4M");
    sandbox.fails("plan --size 1T --root machine", "there is no room for window 1 of 1T: the largest range");
    sandbox.fails("plan --size 1G --root nowhere", "--root names a folder");
    sandbox.write("machine/proc/iomem", b"00000000-00000000 : System RAM\n");
    sandbox.fails("plan --size 1G --root machine", "as root");
    sandbox.write("machine/proc/iomem", b"\xff\xfe\n");
    sandbox.fails("plan --size 1G --root machine", "cannot parse line 1");
    for wrong in ["plan", "plan --size 1G --count 0", "plan --size 1G --count 65", "plan --size x"] {
        assert_eq!(sandbox.gmfs(wrong).code, 2, "{wrong}");
    }
}
