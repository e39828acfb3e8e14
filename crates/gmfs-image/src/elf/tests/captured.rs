//! Real dumps, whose window holds pages that tell their own address. They lie beside the checkout.

use super::*;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// The captures are compressed with a window of 128 MiB.
const WINDOW: u64 = 128 << 20;

/// The directory of the captures, or `None`, said aloud, on a machine that does not have them. In CI they must be there.
fn fixtures() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/dumps");
    if dir.is_dir() {
        return Some(dir);
    }
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "no captured dumps in {}", dir.display());
    eprintln!("skipped: no captured dumps in {}", dir.display());
    None
}

fn unpack(dir: &Path, name: &str) -> tempfile::NamedTempFile {
    let packed = BufReader::new(File::open(dir.join(format!("{name}.zst"))).unwrap());
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    decoder.set_max_window_size(WINDOW);
    let mut stream = ruzstd::decoding::StreamingDecoder::new_with_decoder(packed, decoder).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut out = BufWriter::new(file.as_file());
    let mut buf = vec![0; 1 << 20];
    loop {
        match stream.read(&mut buf).unwrap() {
            0 => break,
            n => out.write_all(&buf[..n]).unwrap(),
        }
    }
    out.flush().unwrap();
    drop(out);
    file
}

fn check(dump: &str, fixture: &str, machine: u16, big: bool, qemu: bool) {
    let Some(dir) = fixtures() else { return };
    let text = std::fs::read_to_string(dir.join("truth.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&text).unwrap();
    let window = &truth["dumps"][dump]["window"];
    let (base, size) = (window["base"].as_u64().unwrap(), window["size"].as_u64().unwrap());
    let file = unpack(&dir, fixture);
    let image = crate::open(file.path(), None).unwrap();
    assert_eq!(image.kind, crate::Kind::Elf);
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
