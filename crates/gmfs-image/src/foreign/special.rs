//! Signatures that need more than a comparison at one offset.

use gmfs_io::ReadAt;

use super::{Foreign, read};

/// Each function recognises one kind of content. Partition tables come last.
const PROBES: &[fn(&dyn ReadAt) -> Option<Foreign>] =
    &[ext, nilfs2, zfs, raid_at_end, firmware_raid, drbd, device_tree, vhd_at_end, gpt_at_end, mbr];

pub(super) fn identify(source: &dyn ReadAt) -> Option<Foreign> {
    PROBES.iter().find_map(|probe| probe(source))
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// ext2, ext3 and ext4. The magic has only two bytes, so the numbers around it must make sense. The features say which
/// of the three it is.
fn ext(source: &dyn ReadAt) -> Option<Foreign> {
    const JOURNAL: u32 = 0x4;
    /// The features that ext3 supports: filetype, recover, journal_dev, meta_bg.
    const EXT3_INCOMPAT: u32 = 0x1e;
    let sb = read::<0x70>(source, 0x400)?;
    let sane = le16(&sb, 0x38)? == 0xef53
        && le32(&sb, 0x00)? > 0
        && le32(&sb, 0x04)? > 0
        && le32(&sb, 0x18)? <= 6
        && le32(&sb, 0x4c)? <= 1;
    let name = if le32(&sb, 0x60)? & !EXT3_INCOMPAT != 0 {
        "ext4 filesystem"
    } else if le32(&sb, 0x5c)? & JOURNAL != 0 {
        "ext3 filesystem"
    } else {
        "ext2 filesystem"
    };
    sane.then_some(Foreign { name, offset: 0x438 })
}

/// NILFS2. The magic has only two bytes, so the revision must be 2, and the superblock must fit into its block.
fn nilfs2(source: &dyn ReadAt) -> Option<Foreign> {
    let sb = read::<16>(source, 0x400)?;
    let sane = le16(&sb, 6)? == 0x3434 && le32(&sb, 0)? == 2 && (16..=1024).contains(&le16(&sb, 8)?);
    sane.then_some(Foreign { name: "NILFS2 filesystem", offset: 0x406 })
}

/// ZFS: each of four labels, two at the start and two at the end, has a ring of uberblocks in its second half.
fn zfs(source: &dyn ReadAt) -> Option<Foreign> {
    const LABEL: u64 = 256 << 10;
    const RING: u64 = 128 << 10;
    let end = source.end().unwrap_or(0) & !(LABEL - 1);
    let labels = [Some(0), Some(LABEL), end.checked_sub(2 * LABEL), end.checked_sub(LABEL)];
    let mut ring = vec![0; usize::try_from(RING).ok()?];
    labels.into_iter().flatten().find_map(|label| {
        let start = label.checked_add(RING)?;
        source.read_at(start, &mut ring).ok()?;
        // The smallest uberblock has 1 KiB. Its first word is the magic, in the byte order of its writer.
        let mut offset = start;
        for slot in ring.chunks_exact(1024) {
            if matches!(slot.first_chunk(), Some([0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0] | [0, 0, 0, 0, 0, 0xba, 0xb1, 0x0c]))
            {
                return Some(Foreign { name: "ZFS pool member", offset });
            }
            offset = offset.saturating_add(1024);
        }
        None
    })
}

/// Linux RAID with its superblock at the end. Format 1.0 has it within the last 8 to 12 KiB, format 0.90 in the second
/// to last whole 64 KiB.
fn raid_at_end(source: &dyn ReadAt) -> Option<Foreign> {
    let end = source.end()?;
    let v10 = (end.checked_sub(8 << 10)?) & !0xfff;
    if read::<8>(source, v10)? == *b"\xfc\x4e\x2b\xa9\x01\0\0\0" {
        return Some(Foreign { name: "Linux RAID member", offset: v10 });
    }
    let v090 = (end & !0xffff).checked_sub(0x1_0000)?;
    let head = read::<8>(source, v090)?;
    let known = le32(&head, 0)? == 0xa92b_4efc && le32(&head, 4)? == 0;
    let swapped = be32(&head, 0)? == 0xa92b_4efc && be32(&head, 4)? == 0;
    (known || swapped).then_some(Foreign { name: "Linux RAID member", offset: v090 })
}

/// Firmware RAID, with its metadata in the last sectors: that of Intel, NVIDIA and DDF.
fn firmware_raid(source: &dyn ReadAt) -> Option<Foreign> {
    let end = source.end()?;
    let marks: [(u64, &[u8], &'static str); 4] = [
        (1024, b"Intel Raid ISM Cfg Sig. ", "Intel RAID member"),
        (1024, b"NVIDIA  ", "NVIDIA RAID member"),
        (512, b"\xde\x11\xde\x11", "DDF RAID member"),
        (0x2_0000, b"\xde\x11\xde\x11", "DDF RAID member"),
    ];
    marks.into_iter().find_map(|(before, mark, name)| {
        let offset = end.checked_sub(before)?;
        let head = read::<24>(source, offset)?;
        head.starts_with(mark).then_some(Foreign { name, offset })
    })
}

/// DRBD with its metadata at the end.
fn drbd(source: &dyn ReadAt) -> Option<Foreign> {
    let offset = source.end()?.checked_sub(4096)?.checked_add(0x3c)?;
    let known = [*b"\x83\x74\x02\x67", *b"\x83\x74\x02\x69", *b"\x83\x74\x02\x6a", *b"\x83\x74\x02\x6b"];
    known.contains(&read::<4>(source, offset)?).then_some(Foreign { name: "DRBD volume", offset })
}

/// A flattened device tree: the magic, a size that has room for the header, and an existing version.
fn device_tree(source: &dyn ReadAt) -> Option<Foreign> {
    let head = read::<40>(source, 0)?;
    let sane = be32(&head, 0)? == 0xd00d_feed && be32(&head, 4)? >= 40 && (1..=17).contains(&be32(&head, 20)?);
    sane.then_some(Foreign { name: "device tree blob", offset: 0 })
}

/// A VHD disk image of fixed size, which has only a footer.
fn vhd_at_end(source: &dyn ReadAt) -> Option<Foreign> {
    let offset = source.end()?.checked_sub(512)?;
    (read::<8>(source, offset)? == *b"conectix").then_some(Foreign { name: "VHD disk image", offset })
}

/// The backup GPT at the end, where the primary one is missing.
fn gpt_at_end(source: &dyn ReadAt) -> Option<Foreign> {
    let end = source.end()?;
    [512, 4096].into_iter().find_map(|sector| {
        let offset = end.checked_sub(sector)?;
        (read::<8>(source, offset)? == *b"EFI PART").then_some(Foreign { name: "GPT partition table", offset })
    })
}

/// An MBR: its signature, and four entries that are empty or plausible, at least one of them not empty.
fn mbr(source: &dyn ReadAt) -> Option<Foreign> {
    let sector = read::<512>(source, 0)?;
    if sector.last_chunk() != Some(&[0x55, 0xaa]) {
        return None;
    }
    let mut used = false;
    for entry in sector.get(446..510)?.chunks_exact(16) {
        let (start, count) = (le32(entry, 8)?, le32(entry, 12)?);
        let kind = *entry.get(4)?;
        match (*entry.first()?, kind) {
            (0, 0) => {}
            (0 | 0x80, kind) if kind != 0 && start > 0 && count > 0 => used = true,
            _ => return None,
        }
    }
    used.then_some(Foreign { name: "MBR partition table", offset: 510 })
}
