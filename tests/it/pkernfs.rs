//! Reads stores that the pkernfs driver wrote with each command, and compares the results with those of an independent
//! reader.

use serde_json::Value;

use crate::dumpfiles::unpack;
use crate::sandbox::Sandbox;

const IMAGES: [&str; 6] =
    ["pk_flat/empty", "pk_flat/main", "pk_iommu/main", "pk_quirks/c1", "pk_quirks/c2", "pk_quirks/c3"];

const BLOCK: u64 = 2 << 20;

/// Unpacks an image as `pk.raw`, and returns what is recorded about it.
fn prepare(name: &str) -> Option<(Sandbox, Value)> {
    let dir = gmfs_testing::fixtures("kernel-layouts")?;
    let (folder, file) = name.split_once('/').unwrap();
    let sandbox = Sandbox::new();
    unpack(&sandbox, &dir.join(folder), &format!("{file}.raw"));
    let text = std::fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
    let truth: Value = serde_json::from_str(&text).unwrap();
    Some((sandbox, truth["found"][0].clone()))
}

/// The blocks of a file, from its extents.
fn blocks(extents: &Value) -> Vec<(u64, u64)> {
    let list = extents.as_array().unwrap().iter();
    list.flat_map(|extent| {
        let number = |key: &str| extent[key].as_u64().unwrap();
        (0..number("count")).map(move |n| (number("index") + n, number("block") + n)).collect::<Vec<_>>()
    })
    .collect()
}

#[test]
fn files_are_where_the_driver_put_them() {
    for name in IMAGES {
        let Some((sandbox, truth)) = prepare(name) else { return };
        let image = format!("{}.raw", name.split_once('/').unwrap().1);
        let all = truth["blocks"].as_u64().unwrap();
        let found = sandbox.run(&["inspect", &image, "files", "--json"]).json();
        assert_eq!((&found["layout"], &found["geometry"]["blocks"]), (&"pkernfs".into(), &truth["blocks"]), "{name}");
        let leaked = truth["leaked_blocks"].as_array().unwrap().len() as u64;
        assert_eq!(found["usage"]["leaked"].as_u64(), Some(leaked), "{name}");
        let files = found["files"].as_array().unwrap();
        let tree = truth["tree"].as_object().unwrap();
        assert_eq!(files.len(), tree.len() + 1, "{name}: the root, and every entry");
        for (path, truth) in tree {
            let number = truth["ino"].as_u64().unwrap();
            let file = files.iter().find(|file| file["ino"] == number).unwrap_or_else(|| panic!("{name}: {path}"));
            let Some(list) = truth["blocks"].as_array() else { continue };
            let entries = (0..).zip(list.iter().map(|block| block.as_u64().unwrap()));
            let entries: Vec<(u64, u64)> = entries.collect();
            let inside: Vec<_> = entries.iter().copied().filter(|(_, block)| *block < all).collect();
            assert_eq!(blocks(&file["extents"]), inside, "{name}: {path}");
            let size = entries.iter().map(|(index, _)| (index + 1) * BLOCK).max().unwrap_or(0);
            assert_eq!(file["size"], size, "{name}: {path}");
        }
    }
}

#[test]
fn each_block_belongs_to_whom_the_tables_say() {
    let Some((sandbox, _)) = prepare("pk_flat/main") else { return };
    let map = sandbox.run(&["map", "main.raw", "/vm09", "--json"]).json();
    for (index, block) in blocks(&map["extents"]) {
        let found = sandbox.run(&["who", "main.raw", &format!("block:{block}"), "--json"]).json();
        let owner = &found["addresses"][0];
        assert_eq!((&owner["what"], &owner["path"]), (&"file".into(), &"/vm09".into()));
        assert_eq!(owner["offset"], index * BLOCK);
    }
    for (asked, what) in [("0", "metadata"), ("block:2", "leaked"), ("block:95", "free"), ("block:96", "outside")] {
        let found = sandbox.run(&["who", "main.raw", asked, "--json"]).json();
        assert_eq!(found["addresses"][0]["what"], what, "{asked}");
    }
}

#[test]
fn content_comes_out_as_the_guest_wrote_it() {
    let Some((sandbox, _)) = prepare("pk_flat/main") else { return };
    sandbox.ok("extract main.raw / out");
    let files = sandbox.run(&["ls", "main.raw", "--json"]).json();
    let mut tags = 0;
    for file in files["entries"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let bytes = std::fs::read(sandbox.path(format!("out{path}"))).unwrap();
        assert_eq!(bytes.len() as u64, file["size"].as_u64().unwrap());
        let cat = sandbox.run(&["cat", "main.raw", path]);
        assert!(cat.code == 0 && cat.stdout == bytes, "{path}");
        for (n, block) in bytes.chunks(BLOCK as usize).enumerate() {
            // Blocks that were never written have no tag.
            let Some(tag) = block.strip_prefix(b"GMFSORACLE tag=") else { continue };
            let text = String::from_utf8_lossy(&tag[..64]).into_owned();
            assert!(text.contains(&format!("fblk={n:05}")), "{path}: {text}");
            tags += 1;
        }
    }
    assert!(tags > 20, "{tags} blocks with a tag");
}

#[test]
fn a_block_past_the_end_is_lost_and_never_zeros() {
    let Some((sandbox, _)) = prepare("pk_quirks/c3") else { return };
    sandbox.fails_with(2, "cat c3.raw /beyond", "lost");
    // The driver stored two names of 255 bytes as the same name of 254 bytes.
    sandbox.fails_with(1, "ls c3.raw", "has the same name");
}

/// What the driver left is clean but for leaks; what its quirks left has a code, a path and an address.
#[test]
fn stores_are_checked() {
    for (name, status, codes) in [
        ("pk_flat/empty", 0, vec![]),
        ("pk_flat/main", 0, vec!["GM1123"]),
        ("pk_iommu/main", 0, vec![]),
        ("pk_quirks/c2", 4, vec!["GM1111", "GM1123"]),
        ("pk_quirks/c3", 4, vec!["GM1111", "GM1123", "GM1124", "GM1126"]),
    ] {
        let Some((sandbox, _)) = prepare(name) else { return };
        let image = format!("{}.raw", name.split_once('/').unwrap().1);
        let done = sandbox.run(&["fsck", "-n", &image, "--json"]);
        let answer = done.json();
        assert_eq!((done.code, &answer["clean"]), (status, &(status == 0).into()), "{name}: {answer}");
        let found = answer["findings"].as_array().unwrap();
        let mut listed: Vec<_> = found.iter().map(|finding| finding["code"].as_str().unwrap()).collect();
        listed.dedup();
        assert_eq!(listed, codes, "{name}");
        if let Some(past) = found.iter().find(|finding| finding["code"] == "GM1126") {
            assert_eq!((&past["facts"]["path"], &past["facts"]["blocks"]), (&"/beyond".into(), &1.into()));
            assert_eq!(past["at"]["address"], 0x20_0000 + 9 * 288);
        }
        assert!(sandbox.run(&["fsck", &image]).code == status);
    }
}

#[test]
fn what_only_native_regions_can_do_is_refused_by_name() {
    let Some((sandbox, _)) = prepare("pk_flat/empty") else { return };
    let before = std::fs::read(sandbox.path("empty.raw")).unwrap();
    for args in [
        vec!["fsck", "-p", "--accept", "empty.raw"],
        vec!["fsck", "-p", "--data", "empty.raw"],
        vec!["repair", "-y", "--release-lost", "empty.raw"],
        vec!["rm", "empty.raw", "/x"],
        vec!["mkdir", "empty.raw", "/x"],
        vec!["bad", "list", "empty.raw"],
        vec!["inspect", "empty.raw", "pages"],
        vec!["dump", "empty.raw", "-o", "meta"],
    ] {
        let done = sandbox.run(&args);
        assert!(done.code != 0 && done.all().contains("pkernfs"), "{args:?}: {}", done.all());
    }
    assert!(before == std::fs::read(sandbox.path("empty.raw")).unwrap());
    let found = sandbox.run(&["scan", "empty.raw", "--json"]).json();
    let region = &found["regions"][0];
    assert_eq!((&region["layout"], &region["size_recorded"]), (&"pkernfs".into(), &false.into()));
    assert!(region["uuid"].is_null());
}

/// An empty region by the recipe of the fact sheet.
fn recipe(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    bytes[..8].copy_from_slice(b"sfnrekp\0");
    bytes[8] = 2;
    bytes[0x10_0000] = 3;
    for ino in 1..=7280_usize {
        let at = 0x20_0000 + (ino - 1) * 288 + 8;
        bytes[at..at + 8].copy_from_slice(&(ino as u64 + 1).to_le_bytes());
    }
    bytes[0x20_0000] = 2;
    bytes[0x20_0018] = b'.';
    bytes
}

#[test]
fn a_region_is_made_as_the_driver_makes_it() {
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs pk.raw --size 16M --layout pkernfs --dry-run");
    assert!(!sandbox.exists("pk.raw"));
    let made = sandbox.ok("mkfs pk.raw --size 16M --layout pkernfs");
    assert!(made.text().contains("pkernfs") && made.text().contains("8 of 2"), "{}", made.text());
    assert!(sandbox.read("pk.raw") == recipe(16 << 20));
    sandbox.ok("fsck -n pk.raw");
    assert_eq!(sandbox.ok("ls pk.raw").text(), "");
    sandbox.fails("mkfs pk.raw", "it holds a store of pkernfs already");
    sandbox.fails("mkfs pk.raw --layout pkernfs", "it holds a store of pkernfs already");
    for option in ["--label x", "--inodes 5", "--pmd-size 32M", "--base 0", &format!("--uuid {}", uuid::Uuid::nil())] {
        sandbox.fails_with(2, &format!("mkfs new.raw --size 16M --layout pkernfs {option}"), "--layout pkernfs");
    }
    sandbox.fails("mkfs new.raw --size 6M --layout pkernfs", "too small");
    assert!(!sandbox.exists("new.raw"));
    // Nothing of a native region is found in its place, and everything comes back.
    sandbox.ok("mkfs native.img --size 16M -q");
    let before = sandbox.read("native.img");
    let json = sandbox.ok("mkfs native.img --layout pkernfs -f --undo native.undo --json").json();
    assert_eq!((&json["layout"], &json["uuid"]), (&"pkernfs".into(), &Value::Null));
    assert!(sandbox.read("native.img") == recipe(16 << 20));
    sandbox.ok("undo native.undo native.img");
    assert!(sandbox.read("native.img") == before);
}

#[test]
fn damage_is_repaired_and_can_be_put_back() {
    let Some((sandbox, _)) = prepare("pk_flat/main") else { return };
    let sound = sandbox.read("main.raw");
    let mut damaged = sound.clone();
    // The marks of the first blocks, the head of the list of free inodes, and the link to the first entry.
    damaged[0x10_0000] = 3;
    damaged[8..16].copy_from_slice(&9999_u64.to_le_bytes());
    damaged[0x20_0010..0x20_0018].copy_from_slice(&u64::MAX.to_le_bytes());
    sandbox.write("main.raw", &damaged);
    let plan = sandbox.run(&["repair", "--plan", "main.raw"]);
    assert_eq!(plan.code, 4, "{}", plan.all());
    for line in
        ["GM1122 safe: mark blocks", "GM1102 safe: in the entries of directory inode 1, let inode 1 link to inode"]
    {
        assert!(plan.text().contains(line), "{line}: {}", plan.text());
    }
    let look = sandbox.run(&["fsck", "main.raw"]);
    assert!(look.code == 4 && look.all().contains("`gmfs fsck -p IMAGE` makes the repairs"), "{}", look.all());
    assert!(sandbox.read("main.raw") == damaged);
    let done = sandbox.run(&["fsck", "-p", "--undo", "before.undo", "main.raw"]);
    assert_eq!(done.code, 1, "{}", done.all());
    let repaired = sandbox.read("main.raw");
    // The list of free inodes may be in another order; the rest is what it was.
    // The first byte of the bitmap had marks of leaked blocks, too.
    assert!(repaired[0x10_0001..0x20_0018] == sound[0x10_0001..0x20_0018], "bitmap and the link to the first entry");
    assert!(repaired[0x40_0000..] == sound[0x40_0000..], "files");
    assert_eq!(sandbox.run(&["fsck", "-n", "main.raw"]).code, 0);
    let leaked = |sandbox: &Sandbox| sandbox.run(&["inspect", "main.raw", "--json"]).json()["usage"]["leaked"].clone();
    assert_ne!(leaked(&sandbox), 0);
    let done = sandbox.run(&["repair", "-y", "main.raw", "--json"]);
    assert_eq!((done.code, &done.json()["edits"][0]["because"][0]), (1, &"GM1123".into()), "{}", done.all());
    assert_eq!(leaked(&sandbox), 0);
    sandbox.write("main.raw", &repaired);
    sandbox.ok("undo before.undo main.raw");
    assert!(sandbox.read("main.raw") == damaged);
    let done = sandbox.run(&["repair", "main.raw", "-o", "copy.raw"]);
    assert_eq!(done.code, 1, "{}", done.all());
    assert!(sandbox.read("main.raw") == damaged && sandbox.read("copy.raw") == repaired);
}

/// What the driver's quirks leave is repaired, and each file keeps its blocks.
#[test]
fn quirks_are_repaired() {
    for (name, left) in [("pk_quirks/c1", None), ("pk_quirks/c2", Some(0)), ("pk_quirks/c3", Some(0))] {
        let Some((sandbox, truth)) = prepare(name) else { return };
        let image = format!("{}.raw", name.split_once('/').unwrap().1);
        let files = |sandbox: &Sandbox| {
            let found = sandbox.run(&["inspect", &image, "files", "--json"]).json();
            let files = found["files"].as_array().unwrap().iter();
            files.map(|file| blocks(&file["extents"])).filter(|blocks| !blocks.is_empty()).collect::<Vec<_>>()
        };
        let before = files(&sandbox);
        let done = sandbox.run(&["fsck", "-y", &image]);
        let after = files(&sandbox);
        assert!(before.iter().all(|blocks| after.contains(blocks)), "{name}: {before:?} {after:?}");
        let again = sandbox.run(&["fsck", "-y", &image]);
        let check = sandbox.run(&["fsck", "-n", &image]);
        assert!(
            left.is_none_or(|left| check.code == left),
            "{name} {truth}: {}{}{}",
            done.all(),
            again.all(),
            check.all()
        );
        assert!(files(&sandbox) == after);
    }
}

/// A guest has written over the superblock: the driver would format the region when it is mounted next.
#[test]
fn a_region_without_its_magic_is_found_by_its_inodes() {
    let Some((sandbox, _)) = prepare("pk_flat/main") else { return };
    let mut bytes = sandbox.read("main.raw");
    bytes[..4096].fill(0x55);
    sandbox.write("main.raw", &bytes);
    let done = sandbox.run(&["fsck", "-p", "main.raw"]);
    assert!(done.code == 4 && done.all().contains("GM1001"), "{}", done.all());
    assert!(sandbox.read("main.raw") == bytes, "only a lossy repair writes there");
    let done = sandbox.run(&["fsck", "-y", "main.raw"]);
    assert_eq!(done.code, 1, "{}", done.all());
    assert_eq!(sandbox.run(&["fsck", "-n", "main.raw"]).code, 0);
}

/// The root is damaged, and the magic and the inodes after it are there: it is a region, and can be repaired.
#[test]
fn a_region_with_a_damaged_root_is_one() {
    let Some((sandbox, _)) = prepare("pk_flat/main") else { return };
    let mut bytes = sandbox.read("main.raw");
    bytes[0x20_0008..0x20_0010].copy_from_slice(&7_u64.to_le_bytes());
    sandbox.write("main.raw", &bytes);
    let done = sandbox.run(&["fsck", "-n", "main.raw"]);
    assert!(done.code == 4 && done.all().contains("GM1101"), "{}", done.all());
    assert_eq!(sandbox.run(&["ls", "main.raw"]).code, 0);
}
