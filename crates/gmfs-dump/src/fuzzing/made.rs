//! Makes valid files by the fuzzer's choices, and damages them where it matters.

use std::collections::BTreeMap;
use std::io::Write as _;

use gmfs_io::{Absence, ReadAt, ReadError};

use super::choices::{Choices, memory};
use super::elf_file::{self, Load};
use super::kdump_file::{Builder, Page, Place};
use crate::flat::FlatFile;
use crate::kdump::{Codec, KdumpDump};
use crate::lime::LimeDump;

const CODECS: [Codec; 5] = [Codec::Stored, Codec::Zlib, Codec::Lzo, Codec::Snappy, Codec::Zstd];

/// A dump of up to 16 pages, in any version, layout and codec.
fn dump(choices: &mut Choices<'_>) -> Builder {
    let (wide, padded) = choices.of(&[(true, false), (false, false), (false, true)]);
    let mut builder = Builder {
        version: u32::from(choices.byte() % 7),
        big: choices.one_in(2),
        wide,
        padded,
        page: choices.of(&[4096, 512, 1024]),
        info: choices.of(&["", "OSRELEASE=6.1\nCRASHTIME=5\n"]),
        ..Builder::new()
    };
    let mut number = 0;
    for _ in 0..1 + choices.byte() % 16 {
        number += u64::from(choices.of(&[1_u16, 1, 1, 2, 65, 4096]));
        let page = match choices.byte() % 8 {
            0 => Page::SharedZero,
            1 => Page::Excluded,
            2 => Page::Lost,
            _ => Page::Memory(memory(choices.word(), builder.page), choices.of(&CODECS)),
        };
        builder = builder.page(number, page);
    }
    if builder.version >= 6 && choices.one_in(4) {
        builder.split = Some((0, number + 1));
    }
    builder
}

/// What each page must read as.
fn truth(builder: &Builder) -> BTreeMap<u64, Result<Vec<u8>, Absence>> {
    let read = |page: &Page| match page {
        Page::Memory(bytes, _) => Ok(bytes.clone()),
        Page::SharedZero => Ok(vec![0; builder.page]),
        Page::Excluded => Err(Absence::Excluded),
        _ => Err(Absence::NoData),
    };
    builder.pages.iter().map(|(number, page)| (*number, read(page))).collect()
}

/// Compares all pages with the truth. Page `but` may have any content, or be absent.
fn compare(file: &[u8], builder: &Builder, but: Option<u64>) {
    let owned = file.to_vec();
    let mut dump = KdumpDump::parse(&owned).expect("the headers are good");
    dump.set_threads(1);
    let mut page = vec![0; builder.page];
    for (number, expected) in truth(builder) {
        let found = dump.read_at(number * builder.page as u64, &mut page);
        match (found, expected) {
            (Ok(()), Ok(bytes)) if Some(number) != but => assert_eq!(page, bytes, "page {number}"),
            (Ok(()), _) => assert_eq!(Some(number), but, "page {number} is there"),
            (Err(ReadError::Absent { span, why }), expected) => {
                let is_damage = matches!(why, Absence::Undecodable | Absence::Truncated | Absence::NoData);
                let right = expected == Err(why) || Some(number) == but && is_damage;
                assert!(right && span.offset / builder.page as u64 == number, "page {number}: {why}");
            }
            (Err(other), _) => panic!("{other}"),
        }
    }
}

/// A field of the headers: its offset and its size in bytes.
fn header_field(choices: &mut Choices<'_>, builder: &Builder) -> (usize, usize) {
    let fields = if builder.wide { 424 } else { 412 };
    match choices.byte() % 3 {
        0 => (8, 4),
        1 => (fields + 4 * choices.below(10), 4),
        _ => (builder.page + 4 * choices.below(26), choices.of(&[4, 8])),
    }
}

fn patch(file: &mut [u8], at: usize, width: usize, big: bool, choices: &mut Choices<'_>) {
    let size = file.len();
    let Some(field) = file.get_mut(at..at + width) else { return };
    let mut raw = [0; 8];
    raw[..width].copy_from_slice(field);
    if big {
        raw[..width].reverse();
    }
    raw = choices.instead_of(u64::from_le_bytes(raw), size).to_le_bytes();
    if big {
        raw[..width].reverse();
    }
    field.copy_from_slice(&raw[..width]);
}

/// Damages a descriptor's offset, size or flags, or a page's stored bytes.
fn damage_page(file: &mut [u8], place: &Place, big: bool, choices: &mut Choices<'_>) {
    match choices.byte() % 4 {
        0 => patch(file, place.descriptor, 8, big, choices),
        1 => patch(file, place.descriptor + 8, 4, big, choices),
        2 => patch(file, place.descriptor + 12, 4, big, choices),
        _ => choices.damage(&mut file[place.data.clone()]),
    }
}

/// Makes a kdump-compressed dump, and leaves it intact, damages one page, or damages anything.
///
/// # Panics
/// If a page that is not damaged does not read as it should, or two answers contradict each other.
pub fn kdump(data: &[u8]) {
    let mut choices = Choices::new(data);
    let builder = dump(&mut choices);
    let (mut file, places) = builder.bytes_and_places();
    let own: Vec<&Place> = places.iter().filter(|place| !place.data.is_empty()).collect();
    let mode = choices.byte() % 4;
    if mode == 0 || own.is_empty() {
        return compare(&file, &builder, None);
    }
    if mode == 1 {
        let place = choices.of(&own);
        for _ in 0..1 + choices.byte() % 3 {
            damage_page(&mut file, place, builder.big, &mut choices);
        }
        compare(&file, &builder, Some(place.page));
        return super::exercise_kdump(&file);
    }
    for _ in 0..1 + choices.byte() % 4 {
        match choices.byte() % 4 {
            0 => {
                let (at, width) = header_field(&mut choices, &builder);
                patch(&mut file, at, width, builder.big, &mut choices);
            }
            1 => {
                let start = (2 * builder.page).min(file.len());
                let end = (start + 2 * builder.page).min(file.len());
                choices.damage(&mut file[start..end]);
            }
            _ => damage_page(&mut file, choices.of(&own), builder.big, &mut choices),
        }
    }
    if choices.one_in(4) {
        file.truncate(choices.below(file.len()));
    }
    super::exercise_kdump(&file);
}

/// The start of a flattened stream, before its records.
pub(super) fn flat_start() -> Vec<u8> {
    let mut stream = b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01".to_vec();
    stream.resize(4096, 0);
    stream
}

/// Appends a record.
pub(super) fn record(stream: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    stream.extend((at as u64).to_be_bytes());
    stream.extend((bytes.len() as u64).to_be_bytes());
    stream.extend(bytes);
}

/// Makes a flattened dump with records of any size and order, in which later records overwrite earlier ones.
///
/// # Panics
/// If the rearranged file is not what was flattened, or two answers contradict each other.
pub fn flat(data: &[u8]) {
    let mut choices = Choices::new(data);
    let plain = dump(&mut choices).bytes();
    let mut stream = flat_start();
    let mut headers = Vec::new();
    for _ in 0..choices.byte() % 8 {
        let at = choices.below(plain.len());
        let length = (1 + choices.below(9000)).min(plain.len() - at);
        headers.push(stream.len());
        record(&mut stream, at, &vec![choices.byte(); length]);
    }
    let size = choices.of(&[700, 4096, 16 << 10]);
    let mut pieces: Vec<(usize, &[u8])> = plain.chunks(size).enumerate().collect();
    while !pieces.is_empty() {
        let (number, piece) = pieces.swap_remove(choices.below(pieces.len()));
        headers.push(stream.len());
        record(&mut stream, number * size, piece);
    }
    if !choices.one_in(3) {
        stream.extend([0xff; 16]);
        let flat = FlatFile::parse(stream).expect("the stream is good");
        let mut back = vec![0; plain.len()];
        flat.read_at(0, &mut back).expect("all of it is there");
        assert_eq!((back, flat.end(), flat.facts().cut), (plain.clone(), Some(plain.len() as u64), false));
        return;
    }
    for _ in 0..1 + choices.byte() % 3 {
        let at = choices.of(&headers) + choices.of(&[0, 8]);
        patch(&mut stream, at, 8, true, &mut choices);
    }
    super::exercise_flat(&stream);
}

/// Makes an ELF core with segments that have false values, overlap and point anywhere.
///
/// # Panics
/// If two answers contradict each other.
pub fn elf(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut builder = elf_file::Builder::new().order(choices.one_in(2), choices.one_in(2));
    builder.extended = choices.one_in(8);
    builder.flags = u32::from(choices.byte() % 2);
    if choices.one_in(2) {
        builder = builder.note(choices.of(&["QEMU", "VMCOREINFO", "CORE"]), b"OSRELEASE=6.1\n");
        if choices.one_in(4) {
            choices.damage(&mut builder.notes);
        }
    }
    let mut loads = Vec::new();
    for _ in 0..1 + choices.byte() % 12 {
        let bytes = memory(u64::from(choices.byte()), choices.below(300));
        let mut load = Load::new(u64::from(choices.byte()) * 64, &bytes);
        if choices.one_in(4) {
            load.address = choices.instead_of(load.address, 4096);
        }
        let mut field = |old: u64| choices.one_in(4).then(|| choices.instead_of(old, 4096));
        load.in_file = field(bytes.len() as u64);
        load.in_memory = field(bytes.len() as u64);
        load.place = field(2000);
        loads.push(load);
    }
    let mut file = builder.loads(loads).bytes();
    if choices.one_in(4) {
        let end = file.len().min(64);
        choices.damage(&mut file[..end]);
    }
    if choices.one_in(4) {
        file.truncate(choices.below(file.len()));
    }
    super::exercise_elf(&file);
}

/// The length of a block's header in LiME and AVML images.
const BLOCK_HEADER: usize = 32;

/// One block of a LiME image, or of an AVML image, which compresses it.
pub(super) fn block(start: u64, bytes: &[u8], compressed: bool) -> Vec<u8> {
    let mut block = if compressed { *b"AVML\x02\0\0\0" } else { *b"EMiL\x01\0\0\0" }.to_vec();
    for word in [start, start + bytes.len() as u64 - 1, 0] {
        block.extend(word.to_le_bytes());
    }
    if compressed {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(bytes).expect("memory has room");
        let stream = encoder.into_inner().expect("memory has room");
        block.extend(&stream);
        block.extend((stream.len() as u64).to_le_bytes());
    } else {
        block.extend(bytes);
    }
    block
}

/// Makes a LiME or AVML image whose blocks and chunks have false values.
///
/// # Panics
/// If a good image does not read as it should, or two answers contradict each other.
pub fn lime(data: &[u8]) {
    let mut choices = Choices::new(data);
    let (mut file, mut heads, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = u64::from(choices.byte());
    for _ in 0..1 + choices.byte() % 5 {
        let most = choices.of(&[2000, 2000, 2000, 65_535]);
        let bytes = memory(choices.word(), 1 + choices.below(most));
        let compressed = choices.one_in(2);
        heads.push(file.len());
        if compressed {
            heads.push(file.len() + BLOCK_HEADER);
        }
        file.extend(block(start, &bytes, compressed));
        let next = start + bytes.len() as u64 + u64::from(choices.byte());
        blocks.push((start, bytes));
        start = next;
    }
    if choices.one_in(3) {
        let image = LimeDump::parse(file).expect("the image is good");
        for (start, bytes) in blocks {
            let mut back = vec![0; bytes.len()];
            image.read_at(start, &mut back).expect("all of it is there");
            assert_eq!(back, bytes);
        }
        return;
    }
    for _ in 0..1 + choices.byte() % 3 {
        let at = choices.of(&heads);
        let end = (at + 40).min(file.len());
        choices.damage(&mut file[at..end]);
    }
    if choices.one_in(4) {
        file.truncate(choices.below(file.len()));
    }
    super::exercise_lime(&file);
}
