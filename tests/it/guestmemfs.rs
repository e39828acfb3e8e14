//! File systems of guestmemfs v1 in dumps, read by each command, against what an independent reader found in them.

use serde_json::Value;

use crate::dumpfiles::unpack;
use crate::sandbox::Sandbox;

const BLOCK: u64 = 2 << 20;
const REGION: u64 = 0x1000_1000;

/// Unpacks files of a folder, and gives what is true of the first file system in `truth`.
fn prepare(folder: &str, files: &[&str], truth: &str) -> Option<(Sandbox, Value)> {
    let dir = gmfs_testing::fixtures("kernel-layouts")?.join(folder);
    let sandbox = Sandbox::new();
    for file in files {
        unpack(&sandbox, &dir, file);
    }
    let text = std::fs::read_to_string(dir.join(format!("{truth}.json"))).unwrap();
    let truth: Value = serde_json::from_str(&text).unwrap();
    Some((sandbox, truth["found"][0].clone()))
}

/// The blocks of a file, from its extents.
fn blocks(extents: &Value) -> Vec<u64> {
    let list = extents.as_array().unwrap().iter();
    list.flat_map(|extent| {
        let number = |key: &str| extent[key].as_u64().unwrap();
        number("block")..number("block") + number("count")
    })
    .collect()
}

fn numbers(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

#[test]
fn it_is_found_listed_and_mapped_as_the_driver_made_it() {
    for (folder, name) in [("gm_flat", "main"), ("gm_restore", "before"), ("gm_restore", "after")] {
        let image = format!("{name}.mini.elf");
        let Some((sandbox, truth)) = prepare(folder, &[&image], name) else { return };
        let scan = sandbox.run(&["scan", &image, "--json"]).json();
        let found = scan["regions"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{name}: both device trees describe one file system");
        assert_eq!(
            (&found[0]["layout"], &found[0]["confidence"]),
            (&"guestmemfs-v1".into(), &"certain".into()),
            "{name}"
        );
        assert_eq!((&found[0]["base"], &found[0]["size"]), (&truth["base"], &truth["size"]), "{name}");
        let led_to = &found[0]["guestmemfs"];
        assert_eq!(led_to["superblock"], truth["superblock"]["phys"], "{name}");
        assert_eq!(numbers(&led_to["trees"]), [0x560_0000, 0x1C0E_0000], "{name}");
        assert_eq!(numbers(&led_to["setup_data"]), [0x1C00_0000], "{name}");
        let answer = sandbox.run(&["inspect", &image, "files", "--json"]).json();
        assert_eq!(answer["superblock"]["serialised"], truth["superblock"]["serialised"] == 1, "{name}");
        assert_eq!(answer["geometry"]["direct_map"], truth["direct_map_offset"], "{name}");
        let leaked = truth["leaked_blocks"].as_array().unwrap().len() as u64;
        assert_eq!(answer["usage"]["leaked"].as_u64(), Some(leaked), "{name}");
        let files = answer["files"].as_array().unwrap();
        let tree = truth["tree"].as_object().unwrap();
        assert_eq!(files.len(), tree.len() + 1, "{name}: the root, and every entry");
        for (path, truth) in tree {
            let file = files.iter().find(|file| file["path"] == **path).unwrap_or_else(|| panic!("{name}: {path}"));
            assert_eq!(file["ino"], truth["ino"], "{name} {path}");
            assert_eq!(blocks(&file["extents"]), numbers(&truth["blocks"]), "{name} {path}");
        }
    }
}

#[test]
fn content_comes_out_as_the_guest_wrote_it() {
    let Some((sandbox, truth)) = prepare("gm_flat", &["main.mini.elf", "main.region.raw"], "main") else { return };
    sandbox.ok("extract main.mini.elf / out");
    sandbox.ok("extract main.mini.elf / other --data-from main.region.raw");
    let mut tags = 0;
    for (path, truth) in truth["tree"].as_object().unwrap() {
        let bytes = std::fs::read(sandbox.path(format!("out{path}"))).unwrap();
        assert_eq!(bytes.len() as u64, numbers(&truth["blocks"]).len() as u64 * BLOCK, "{path}");
        assert!(bytes == std::fs::read(sandbox.path(format!("other{path}"))).unwrap(), "{path} from elsewhere");
        for (index, tag) in truth["pattern"].as_object().unwrap() {
            let at = (index.parse::<u64>().unwrap() * BLOCK) as usize;
            assert!(bytes[at..].starts_with(tag.as_str().unwrap().as_bytes()), "{path} {index}");
            tags += 1;
        }
    }
    assert!(tags > 20, "{tags} blocks with a tag");
    for from in [&[][..], &["--data-from", "main.mini.elf@0x10001000"]] {
        let cat = sandbox.run(&[&["cat", "main.mini.elf", "/new01"][..], from].concat());
        assert!(cat.code == 0 && cat.stdout == std::fs::read(sandbox.path("out/new01")).unwrap(), "{from:?}");
    }
    sandbox.ok("save main.mini.elf -o saved");
    assert!(std::fs::read(sandbox.path("saved")).unwrap() == std::fs::read(sandbox.path("main.region.raw")).unwrap());
}

#[test]
fn addresses_have_owners_in_the_region_and_outside() {
    let Some((sandbox, truth)) = prepare("gm_flat", &["main.mini.elf"], "main") else { return };
    let map = sandbox.run(&["map", "main.mini.elf", "/vm09", "--json"]).json();
    assert_eq!(blocks(&map["extents"]), numbers(&truth["tree"]["/vm09"]["blocks"]));
    for (index, block) in (0..).zip(blocks(&map["extents"])) {
        let address = format!("{:#x}", REGION + block * BLOCK + 5);
        let found = sandbox.run(&["who", "main.mini.elf", &address, "--json"]).json();
        let owner = &found["addresses"][0];
        assert_eq!((&owner["path"], owner["offset"].as_u64()), (&"/vm09".into(), Some(index * BLOCK + 5)), "{address}");
    }
    let page = truth["tree"]["/vm09"]["mappings_phys"].to_string();
    for (asked, what, kind) in [
        ("block:0", "leaked", None),
        ("block:63", "free", None),
        (page.as_str(), "metadata", Some("mappings page")),
        ("0x5400128", "metadata", Some("inode")),
        ("0x50c9508", "metadata", Some("superblock")),
        ("0x5300000", "metadata", Some("bitmap")),
        ("0x5600010", "metadata", Some("device tree")),
        ("0x1000", "outside", None),
    ] {
        let found = sandbox.run(&["who", "main.mini.elf", asked, "--json"]).json();
        let owner = &found["addresses"][0];
        assert_eq!((owner["what"].as_str(), owner["page_kind"].as_str()), (Some(what), kind), "{asked}");
    }
}

#[test]
fn after_a_restore_both_mappings_are_shown() {
    let Some((sandbox, truth)) = prepare("gm_restore", &["after.mini.elf"], "after") else { return };
    let list = |by: &[&str]| {
        let args = [&["inspect", "after.mini.elf", "files", "--json"][..], by].concat();
        let answer = sandbox.run(&args).json();
        let files = answer["files"].as_array().unwrap();
        let of = |path: &str| blocks(&files.iter().find(|file| file["path"] == path).unwrap()["extents"]);
        ["/a", "/b", "/c"].map(of)
    };
    let by_tree = ["/a", "/b", "/c"].map(|path| numbers(&truth["tree"][path]["blocks"]));
    assert_eq!((list(&[]), list(&["--by", "fdt"])), (by_tree.clone(), by_tree));
    // As the driver shows them: b is a, and c is b.
    assert_eq!(list(&["--by", "inode"]), [vec![0, 1], vec![0], vec![2]]);
    let told = sandbox.run(&["ls", "after.mini.elf"]);
    assert!(told.code == 0 && told.all().contains("2 files have other blocks"), "{}", told.all());
    let answer = sandbox.run(&["inspect", "after.mini.elf", "--json"]);
    assert_eq!(answer.code, 1);
    let differing = answer.json()["differing"].as_array().unwrap().len();
    assert_eq!(differing, 2);
    let shifted = sandbox.run(&["cat", "after.mini.elf", "/c", "--by", "inode"]);
    assert!(shifted.stdout.starts_with(b"GMFSORACLE tag=b "));
}

#[test]
fn a_scratch_area_alone_tells_what_its_device_tree_says() {
    let Some((sandbox, truth)) = prepare("gm_flat", &["main.scratch.raw"], "main") else { return };
    let base = ["--base", "0x1c000000"];
    let run = |args: &[&str]| sandbox.run(&[args, &base[..]].concat());
    let scan = run(&["scan", "main.scratch.raw", "--json"]).json();
    assert_eq!(scan["regions"][0]["confidence"], "likely");
    let answer = run(&["inspect", "main.scratch.raw", "--json"]).json();
    let pages: Vec<u64> =
        truth["mappings_blocks"].as_array().unwrap().iter().map(|page| page[0].as_u64().unwrap()).collect();
    assert_eq!(numbers(&answer["tree"]["mapping_pages"]), pages);
    assert_eq!(answer["tree"]["num_inodes"], truth["num_inodes"]);
    let listed = run(&["ls", "main.scratch.raw"]);
    assert!(listed.code == 1 && listed.all().contains("not in the image"), "{}", listed.all());
}

#[test]
fn without_a_device_tree_the_inodes_are_found_and_the_content_from_elsewhere() {
    let Some((sandbox, _)) = prepare("gm_flat", &["main.mini.elf", "main.region.raw"], "main") else { return };
    sandbox.ok("extract main.mini.elf / out");
    // Both trees lose their magic.
    let mut bytes = std::fs::read(sandbox.path("main.mini.elf")).unwrap();
    let magic: Vec<usize> =
        (0..bytes.len()).step_by(4096).filter(|at| bytes[*at..].starts_with(&[0xD0, 0x0D, 0xFE, 0xED])).collect();
    assert_eq!(magic.len(), 2);
    magic.into_iter().for_each(|at| bytes[at] = 0);
    std::fs::write(sandbox.path("lost.elf"), bytes).unwrap();
    let scan = sandbox.run(&["scan", "lost.elf", "--json"]).json();
    let found = &scan["regions"][0];
    assert_eq!((&found["confidence"], &found["size_recorded"]), (&"likely".into(), &false.into()));
    assert_eq!(found["guestmemfs"]["superblock"], 0x50C_9500);
    let told = sandbox.run(&["ls", "lost.elf"]);
    assert!(told.code == 0 && told.all().contains("--data-from") && told.all().contains("vm15"), "{}", told.all());
    let none = sandbox.run(&["cat", "lost.elf", "/new01"]);
    assert!(none.code != 0 && none.stdout.is_empty(), "{}", none.all());
    sandbox.ok("extract lost.elf / back --data-from main.region.raw");
    for name in ["new01", "vm09", "name with space"] {
        let read = |dir: &str| std::fs::read(sandbox.path(format!("{dir}/{name}"))).unwrap();
        assert!(read("out") == read("back"), "{name}");
    }
    // It is named by the address of its inodes.
    let named = sandbox.run(&["ls", "lost.elf", "--region", "2M:0x5400000"]);
    assert!(named.code == 0 && named.all().contains("vm15"), "{}", named.all());
}

#[test]
fn a_restore_is_damage_and_a_hand_over_is_not() {
    for (name, status, codes) in [("before", 0, vec![]), ("after", 4, vec!["GM0905", "GM0907", "GM0911"])] {
        let image = format!("{name}.mini.elf");
        let Some((sandbox, _)) = prepare("gm_restore", &[&image], name) else { return };
        let done = sandbox.run(&["fsck", "-n", &image, "--json"]);
        let answer = done.json();
        assert_eq!((done.code, &answer["store"]["layout"]), (status, &"guestmemfs-v1".into()), "{name}: {answer}");
        let found = answer["findings"].as_array().unwrap();
        assert_eq!(found.iter().map(|finding| finding["code"].as_str().unwrap()).collect::<Vec<_>>(), codes, "{name}");
        if let Some(free) = found.last() {
            assert_eq!((&free["subject"], &free["at"]["address"]), (&"inode 5".into(), &0x540_04A0.into()));
        }
    }
}

#[test]
fn what_only_native_regions_can_do_is_refused_by_name() {
    let Some((sandbox, _)) = prepare("gm_restore", &["before.mini.elf"], "before") else { return };
    for args in [
        vec!["fsck", "-y", "before.mini.elf"],
        vec!["bad", "list", "before.mini.elf"],
        vec!["inspect", "before.mini.elf", "pages"],
        vec!["dump", "before.mini.elf", "-o", "meta"],
    ] {
        let done = sandbox.run(&args);
        assert!(done.code != 0 && done.all().contains("guestmemfs-v1"), "{args:?}: {}", done.all());
    }
    sandbox.ok("ls before.mini.elf --region 128M:0x10001000");
    // Its options are of no use with another layout.
    sandbox.ok("mkfs r.img --size 64M");
    sandbox.fails_with(2, "ls r.img --by inode", "guestmemfs v1");
}

/// The root is damaged, and a device tree leads to it: it is the only store that can be meant.
#[test]
fn a_damaged_root_is_found_by_the_device_tree() {
    let Some((sandbox, _)) = prepare("gm_flat", &["main.mini.elf"], "main") else { return };
    let mut bytes = sandbox.read("main.mini.elf");
    let root = [2_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat();
    let at: Vec<usize> = (0..bytes.len())
        .step_by(4096)
        .filter(|at| bytes[*at..].starts_with(&root) && bytes[at + 24..].starts_with(b".\0"))
        .collect();
    assert_eq!(at.len(), 1);
    bytes[at[0] + 8] = 9;
    sandbox.write("main.mini.elf", &bytes);
    let done = sandbox.run(&["fsck", "main.mini.elf"]);
    assert!(done.all().contains("GM1101"), "{}", done.all());
}
