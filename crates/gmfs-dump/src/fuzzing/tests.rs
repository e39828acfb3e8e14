use super::*;

/// The input of one run: random bytes, of varying length.
fn input(state: &mut u64) -> Vec<u8> {
    let mut next = || {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    };
    let length = next() as usize % 600;
    (0..length).map(|_| next() as u8).collect()
}

fn run(name: &str, rounds: u32) {
    let (_, body) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..rounds {
        body(&input(&mut state));
    }
}

#[test]
fn made_elf() {
    run("made_elf", 20_000);
}

#[test]
fn made_kdump() {
    run("made_kdump", 3_000);
}

#[test]
fn made_flat() {
    run("made_flat", 2_000);
}

#[test]
fn made_lime() {
    run("made_lime", 3_000);
}

/// Each verdict must occur, or the comparison would prove nothing.
fn codec(codec: crate::kdump::Codec, rounds: u32) {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let (mut good, mut lax) = (0, 0);
    for _ in 0..rounds {
        let verdicts = codecs::decode(codec, &input(&mut state));
        good += u32::from(verdicts.used);
        lax += u32::from(verdicts.used && !verdicts.other);
    }
    eprintln!("{}: {rounds} inputs, {good} make a page, {lax} of them by one decoder only", codec.name());
    assert!(good > rounds / 50 && good < rounds, "{good} of {rounds}");
    assert!(lax < rounds / 50, "{lax} of {rounds}");
}

/// How many inputs a test tries. An environment variable can set a larger number.
fn rounds(usual: u32) -> u32 {
    std::env::var("GMFS_CODEC_CASES").map_or(usual, |number| number.parse().unwrap())
}

#[test]
fn codec_zlib() {
    codec(crate::kdump::Codec::Zlib, rounds(10_000));
}

#[test]
fn codec_lzo() {
    codec(crate::kdump::Codec::Lzo, rounds(10_000));
}

#[test]
fn codec_snappy() {
    codec(crate::kdump::Codec::Snappy, rounds(10_000));
}

#[test]
fn codec_zstd() {
    codec(crate::kdump::Codec::Zstd, rounds(5_000));
}

/// The bodies in `TARGETS` must be those in `fuzz/`.
#[test]
fn each_body_is_a_fuzz_target() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let list = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(list.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
    }
}

/// Each seed must have a name of its own, and the body of its target must accept it.
#[test]
fn each_target_has_seeds_and_passes_them() {
    for (target, body) in TARGETS {
        let seeds = seeds(target);
        let names: std::collections::BTreeSet<&str> = seeds.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.len() > 3 && names.len() == seeds.len(), "{target}: {names:?}");
        for (_, bytes) in &seeds {
            body(bytes);
        }
    }
}

/// A seed that is refused at once leads a fuzzer nowhere.
#[test]
fn seeds_get_past_the_first_checks() {
    let refused = |target: &str, opens: &dyn Fn(&[u8]) -> bool| -> Vec<String> {
        seeds(target).into_iter().filter(|(_, bytes)| !opens(bytes)).map(|(name, _)| name).collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(refused("elf", &|bytes| ElfDump::parse(bytes.to_vec()).is_ok()), none);
    assert_eq!(refused("kdump", &|bytes| KdumpDump::parse(bytes.to_vec()).is_ok()), none);
    assert_eq!(refused("flat", &|bytes| FlatFile::parse(bytes.to_vec()).is_ok()), none);
    assert_eq!(refused("lime", &|bytes| LimeDump::parse(bytes.to_vec()).is_ok()), none);
    use crate::kdump::Codec::{Lzo, Snappy, Zlib, Zstd};
    for (target, codec) in [("codec_zlib", Zlib), ("codec_lzo", Lzo), ("codec_snappy", Snappy), ("codec_zstd", Zstd)] {
        let stored = refused(target, &|bytes| codecs::decode(codec, bytes).used);
        assert!(stored.iter().all(|name| name.starts_with("made")), "{target}: {stored:?}");
    }
}
