//! Reads real dumps, which are beside the checkout. Each page of a dump's window contains its own address.

use super::*;
use crate::captured::{fixtures, unpack};
use sha2::{Digest, Sha256};

fn check(dump: &str, fixture: &str, machine: u16, big: bool, qemu: bool) {
    let Some(dir) = fixtures() else { return };
    let text = std::fs::read_to_string(dir.join("truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&text).unwrap();
    let window = &truth["dumps"][dump]["window"];
    let (base, size) = (window["base"].as_u64().unwrap(), window["size"].as_u64().unwrap());
    let file = unpack(&dir, fixture);
    let image = gmfs_image::open(file.path(), None).unwrap();
    assert_eq!(image.kind, gmfs_image::Kind::Elf);
    let facts = image.elf.unwrap();
    assert_eq!((facts.machine, facts.big_endian, facts.bits), (machine, big, 64));
    assert_eq!(facts.loads, truth["dumps"][dump]["files"][0]["loads"].as_u64().unwrap());
    assert_eq!((facts.notes.qemu, facts.unaddressed, facts.incomplete), (qemu, 0, false));
    assert!(!facts.notes.damaged);
    assert_eq!(image.source.next_absent(base..base + size), None);
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    image.source.read_at(base, &mut bytes).unwrap();
    let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, window["ground_truth_sha256"].as_str().unwrap());
}

#[test]
fn qemu_x86_64() {
    check("mini/mini-elf", "mini_mini-elf", 62, false, true);
}

#[test]
fn qemu_s390x_big_endian() {
    check("arch/s390x-elf", "arch_s390x-elf", 22, true, false);
}
