//! What kernels hand over, read by each command, against what an independent reader found and the guest itself saw.

use serde_json::Value;

use crate::dumpfiles::unpack;
use crate::sandbox::Sandbox;

/// Unpacks a capture, and gives what is true of it.
fn prepare(name: &str) -> Option<(Sandbox, String, Value)> {
    let dir = gmfs_testing::fixtures("luo")?;
    let sandbox = Sandbox::new();
    let file = format!("{name}.mini.elf");
    unpack(&sandbox, &dir, &file);
    let text = std::fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
    Some((sandbox, file, serde_json::from_str(&text).unwrap()))
}

fn hex(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_frozen_hand_over_is_read_by_each_command() {
    for name in ["main-2-frozen", "v71-2-frozen", "v619-2-frozen"] {
        let Some((sandbox, image, truth)) = prepare(name) else { return };
        let truth = &truth["fdts"][0];
        let found = sandbox.run(&["inspect", &image, "--json"]).json();
        assert_eq!((&found["moment"], &found["confidence"]), (&"frozen".into(), &"complete".into()), "{name}");
        assert_eq!(found["store"]["base"], hex(&truth["pa"]), "{name}");
        let orders = found["preserved"]["orders"].as_array().unwrap();
        for order in orders {
            let key = order["order"].to_string();
            assert_eq!(order["count"], truth["radix"]["orders"][key], "{name}");
        }
        sandbox.ok(&format!("extract {image} / out"));
        for session in truth["sessions"].as_array().unwrap() {
            let shown = session["name"].as_str().unwrap().replace('/', "\\x2f");
            // 6.19 takes a session without a name.
            let shown = if shown.is_empty() { "\\x00".to_owned() } else { shown };
            let folder = sandbox.path(format!("out/{shown}"));
            let record: Value = serde_json::from_slice(&std::fs::read(folder.join("session.json")).unwrap()).unwrap();
            for (file, handed) in session["files"].as_array().unwrap().iter().zip(record["files"].as_array().unwrap()) {
                let token = format!("{:#x}", file["token"].as_u64().unwrap());
                assert_eq!(handed["token"], token.as_str());
                assert_eq!((&handed["position"], &handed["handler"]), (&file["pos"], &file["handler"]), "{name}");
                let bytes = std::fs::read(folder.join(&token)).unwrap();
                assert_eq!(hash(&bytes), file["sha256"].as_str().unwrap(), "{name} {shown}/{token}");
                let path = format!("/{shown}/{token}");
                let cat = sandbox.run(&["cat", &image, &path]);
                assert!(cat.code == 0 && cat.stdout == bytes, "{path}: {}", cat.all());
            }
        }
    }
}

#[test]
fn each_page_belongs_to_whom_the_records_say() {
    let Some((sandbox, image, truth)) = prepare("main-2-frozen") else { return };
    let truth = &truth["fdts"][0];
    let ask = |address: u64| {
        let text = format!("{address:#x}");
        sandbox.run(&["who", &image, &text, "--json"]).json()["addresses"][0].clone()
    };
    let sessions = truth["sessions"].as_array().unwrap();
    for session in sessions.iter().take(3) {
        let file = &session["files"][1];
        let path = format!("/{}/{:#x}", session["name"].as_str().unwrap(), file["token"].as_u64().unwrap());
        let (index, at) = (file["extents"][0][0].as_u64().unwrap(), hex(&file["extents"][0][1]));
        let owner = ask(at + 5);
        assert_eq!((&owner["what"], &owner["path"]), (&"file".into(), &path.as_str().into()));
        assert_eq!(owner["offset"], index * 4096 + 5);
        let owner = ask(hex(&file["record"]));
        assert_eq!((&owner["page_kind"], &owner["path"]), (&"record".into(), &path.as_str().into()));
        let owner = ask(hex(&session["files_pa"]));
        assert_eq!(owner["page_kind"], "list of files");
    }
    for (at, what, kind) in [
        (hex(&truth["pa"]), "metadata", "KHO device tree"),
        (hex(&truth["preserved_memory_map"]), "metadata", "preserved map"),
        (hex(&truth["subnodes"]["memblock"]["pa"]), "metadata", "data of the KHO user memblock"),
        (hex(&sessions[0]["block"]), "metadata", "list of sessions"),
        (0x1740_0000, "reserve-mem", "reserve_mem=alpha"),
    ] {
        let owner = ask(at);
        assert_eq!((&owner["what"], &owner["page_kind"]), (&what.into(), &kind.into()), "{at:#x}");
    }
    assert_eq!(ask(0x1000)["what"], "not-preserved");
}

#[test]
fn a_folio_past_the_end_of_its_file_is_still_its() {
    let Some((sandbox, image, truth)) = prepare("main-2-frozen") else { return };
    let sessions = truth["fdts"][0]["sessions"].as_array().unwrap();
    let session = sessions.iter().find(|session| session["name"] == "folios").unwrap();
    let last = session["files"][0]["extents"].as_array().unwrap().last().unwrap().clone();
    // The file has 5 MiB and a page in folios of 2 MiB.
    let end = hex(&last[1]) + last[2].as_u64().unwrap() * 4096;
    let found = sandbox.run(&["who", &image, &format!("{end:#x}"), "--json"]).json();
    let owner = &found["addresses"][0];
    assert_eq!((&owner["what"], &owner["path"]), (&"file".into(), &"/folios/0x1".into()));
    assert_eq!(owner["beyond_end"], true);
}

#[test]
fn before_the_reboot_files_are_found_by_their_records() {
    let Some((sandbox, image, truth)) = prepare("main-1-preserved") else { return };
    let found = sandbox.run(&["ls", "-R", &image, "--json"]).json();
    let entries = found["entries"].as_array().unwrap();
    for record in truth["without_luo_blob"]["memfd_records"].as_array().unwrap() {
        let path = format!("/unnamed/record-{:#x}", hex(&record["pa"]));
        let entry = entries.iter().find(|entry| entry["path"] == path.as_str()).unwrap();
        assert_eq!(entry["size"], record["size"]);
    }
    let shown = sandbox.ok(&format!("inspect {image}"));
    assert!(shown.all().contains("before the reboot"), "{}", shown.all());
}

#[test]
fn in_the_next_kernel_sessions_are_found_and_the_store_can_be_chosen() {
    let Some((sandbox, image, truth)) = prepare("main-4-boot") else { return };
    let found = sandbox.run(&["scan", &image, "--json"]).json();
    let regions = found["regions"].as_array().unwrap();
    let bases: Vec<u64> = regions.iter().map(|region| region["base"].as_u64().unwrap()).collect();
    let wanted: Vec<u64> = truth["fdts"].as_array().unwrap().iter().map(|fdt| hex(&fdt["pa"])).collect();
    assert_eq!(bases, wanted);
    let names = |args: &[&str]| {
        let found = sandbox.run(&[&["ls", &image, "--json"], args].concat()).json();
        found["entries"].as_array().unwrap().len()
    };
    assert_eq!((names(&[]), names(&["--store", "1"]), names(&["--store", "2"])), (10, 10, 0));
    assert_eq!(names(&["--at", &format!("{:#x}", wanted[0])]), 10);
    sandbox.fails_with(2, &format!("ls {image} --store 3"), "gmfs scan");
    sandbox.fails_with(2, &format!("ls {image} --at 0x5000"), "0x5000");
}

#[test]
fn records_that_were_overwritten_lose_their_file_and_no_other() {
    let Some((sandbox, image, _)) = prepare("main-6-retrieved") else { return };
    let done = sandbox.run(&["extract", "--sparse-absent", &image, "/", "out"]);
    assert!(done.code == 1 && done.all().contains("content cannot be read"), "{}", done.all());
    // What was not taken is whole.
    let bytes = std::fs::read(sandbox.path("out/unnamed-0x63c000/0x4d")).unwrap();
    assert_eq!(hash(&bytes)[..8], *"5cf3c915");
    sandbox.fails_with(2, &format!("cat {image} /unnamed-0x4e6000/0x1"), "which no kernel writes");
}

#[test]
fn a_region_that_is_chosen_is_the_one_that_is_repaired() {
    let sandbox = Sandbox::new();
    std::fs::File::create(sandbox.path("disk.img")).unwrap().set_len(80 << 20).unwrap();
    sandbox.ok("mkfs disk.img --region 64M:8M");
    for choice in ["--store 1", "--at 8M"] {
        sandbox.ok(&format!("fsck -f -y disk.img {choice}"));
        sandbox.ok(&format!("ls disk.img {choice}"));
        sandbox.fails_with(2, &format!("scan disk.img {choice}"), "lists all");
    }
    sandbox.fails_with(8, "fsck -y disk.img --store 2", "gmfs scan");
}

/// What captures of real kernels hold agrees with itself, and what is known to be odd in them is found.
#[test]
fn hand_overs_are_checked() {
    for (name, verdict, status, codes) in [
        ("main-0-clean", "clean", 0, vec![]),
        ("main-1-preserved", "clean", 0, vec!["GM0712"]),
        ("main-2-frozen", "clean", 0, vec![]),
        ("main-4-boot", "unknown", 8, vec![]),
        ("many-2-frozen", "clean", 0, vec![]),
        ("v71-2-frozen", "clean", 0, vec![]),
        // 6.19 hands one file over in two sessions.
        ("v619-2-frozen", "damaged", 4, vec!["GM0822"]),
        ("v619-1-preserved", "unknown", 8, vec!["GM0702"]),
    ] {
        let Some((sandbox, image, _)) = prepare(name) else { return };
        let done = sandbox.run(&["fsck", "-n", &image, "--json"]);
        let answer = done.json();
        assert_eq!((&answer["verdict"], done.code), (&verdict.into(), status), "{name}: {answer}");
        assert_eq!(answer["exit_status"], status, "{name}");
        let found = answer["findings"].as_array().unwrap().iter();
        assert_eq!(found.map(|finding| finding["code"].as_str().unwrap()).collect::<Vec<_>>(), codes, "{name}");
        assert_eq!(answer["store"]["layout"], "luo", "{name}");
    }
    let Some((sandbox, image, _)) = prepare("v619-2-frozen") else { return };
    let answer = sandbox.run(&["fsck", "-n", &image, "--json"]).json();
    let finding = &answer["findings"][0];
    assert_eq!((&finding["facts"]["path"], &finding["facts"]["folios"]), (&"/odd/0x1".into(), &6.into()));
    assert_eq!((&finding["at"]["address"], &finding["repair"]), (&0x61_E000.into(), &"manual".into()));
    let done = sandbox.run(&["fsck", "-n", &image]);
    assert!(done.code == 4 && done.all().contains("GM0822 error: /odd/0x1 (record at 0x61e000)"), "{}", done.all());
    sandbox.fails_with(8, &format!("fsck -n --data {image}"), "--data is for native regions");
}

#[test]
fn what_only_native_regions_can_do_is_refused_by_name() {
    let Some((sandbox, image, _)) = prepare("main-2-frozen") else { return };
    for args in [
        vec!["fsck", "-p", &image],
        vec!["fsck", "-y", &image],
        vec!["inspect", &image, "pages"],
        vec!["dump", &image, "-o", "meta"],
    ] {
        let done = sandbox.run(&args);
        assert!(done.code != 0 && done.all().contains("luo"), "{args:?}: {}", done.all());
    }
}

/// What the kernel has marked, by its page structures, with whom the records say it belongs to.
#[test]
fn what_is_held_and_not_claimed_is_listed_with_its_owner() {
    let Some((sandbox, image, truth)) = prepare("main-6-retrieved") else { return };
    let found = sandbox.run(&["inspect", &image, "unclaimed", "--json"]).json()["unclaimed"].clone();
    let marked = truth["struct_pages"]["marked_KHOP"].as_array().unwrap();
    let bytes: u64 = marked.iter().map(|mark| 4096 << mark[1].as_u64().unwrap()).sum();
    assert_eq!((&found["pieces"], &found["bytes"]), (&marked.len().into(), &bytes.into()));
    assert_eq!(found["complete"], true);
    let ranges = found["ranges"].as_array().unwrap();
    let of = |at: u64| ranges.iter().find(|range| range["address"] == at).unwrap();
    assert_eq!(
        (&of(0x170c_4000)["path"], &of(0x170c_4000)["length"]),
        (&"/unnamed-0x63c000/0x4d".into(), &36_864.into())
    );
    assert_eq!(of(0x1740_0000)["page_kind"], "reserve_mem=alpha");
    assert_eq!(of(0x64_c000)["page_kind"], "record");
    // The same by the other hand-over in the image, which is the one that this kernel prepares.
    let other = sandbox.run(&["inspect", &image, "unclaimed", "--json", "--store", "2"]).json();
    assert_eq!(other["unclaimed"]["bytes"], bytes);
    // Which files are held is what the guest had left.
    let held =
        |path: &str| sandbox.run(&["stat", &image, path, "--json"]).json()["files"][0]["handed"]["held_folios"].clone();
    for (path, folios) in [("/unnamed-0x63c000/0x4d", 9), ("/unnamed-0x63c000/0x4e", 2), ("/unnamed-0x646000/0x6", 6)] {
        assert_eq!(held(path), folios, "{path}");
    }
    assert_eq!(held("/unnamed-0x646000/0x5"), 0);
    let Some((sandbox, image, _)) = prepare("main-4-boot") else { return };
    sandbox.fails_with(2, &format!("inspect {image} unclaimed"), "page tables");
}

/// Files of debugfs, as a running kernel shows them.
#[test]
fn debugfs_says_what_was_handed_over_and_what_is_prepared() {
    let Some(dir) = gmfs_testing::fixtures("luo") else { return };
    let sandbox = Sandbox::new();
    let folder = |name: &str| dir.join("debugfs").join(name).into_os_string().into_string().unwrap();
    let ask = |name: &str| sandbox.run(&["inspect", &folder(name), "--json"]).json();
    let user = |side: &Value, name: &str| {
        side["users"].as_array().unwrap().iter().find(|user| user["name"] == name).unwrap().clone()
    };
    let first = ask("main-gen1-preserved");
    assert_eq!((&first["taken"], &first["prepared"]["tree"]), (&Value::Null, &Value::Null));
    assert!(first["prepared"]["tree_fault"].as_str().unwrap().contains("233 of its 345 bytes"));
    assert_eq!(user(&first["prepared"], "LUO")["live_update"], 1);
    assert_eq!(first["prepared"]["scratch"].as_array().unwrap().len(), 3);
    let second = ask("main-gen2-boot");
    assert_eq!((&second["handed_over_at"], &second["taken"]["tree"]), (&0x41_5000.into(), &"kho-v4".into()));
    assert!(user(&second["taken"], "LUO")["fault"].as_str().unwrap().contains("another owner"));
    assert_eq!(user(&second["taken"], "kexec-metadata")["kernel"], "7.3.4");
    assert_eq!(user(&second["taken"], "memblock")["reserve_mem"][0]["label"], "alpha");
    assert_eq!(user(&second["prepared"], "LUO")["live_update"], 2);
    assert_eq!(user(&ask("k71-gen2-boot")["taken"], "LUO")["live_update"], 1);
    assert_eq!(ask("k619-gen1-preserved")["prepared"]["finalised"], false);
    sandbox.fails_with(2, &format!("ls {}", folder("main-gen2-boot")), "/proc/kcore");
    sandbox.fails_with(2, &format!("inspect {} files", folder("main-gen2-boot")), "nothing else");
}

#[test]
fn one_file_is_extracted_with_what_is_recorded_of_it() {
    let Some((sandbox, image, _)) = prepare("main-2-frozen") else { return };
    sandbox.ok(&format!("extract {image} /seals/0x2 guest"));
    let record: Value = serde_json::from_slice(&std::fs::read(sandbox.path("guest.session.json")).unwrap()).unwrap();
    assert_eq!((&record["name"], &record["count"]), (&"seals".into(), &5.into()));
    let files = record["files"].as_array().unwrap();
    assert_eq!((files.len(), &files[0]["token"], &files[0]["handler"]), (1, &"0x2".into(), &"memfd-v2".into()));
    sandbox.fails_with(2, &format!("extract {image} /seals/0x2 guest"), "exists");
}

/// Two moments of one hand-over have the same files in the same pages, also where a last page is not full.
#[test]
fn moments_of_one_hand_over_are_compared() {
    let (Some((sandbox, frozen, truth)), Some(dir)) = (prepare("main-2-frozen"), gmfs_testing::fixtures("luo")) else {
        return;
    };
    unpack(&sandbox, &dir, "main-4-boot.mini.elf");
    sandbox.succeeds(&format!("diff {frozen} main-4-boot.mini.elf"));
    sandbox.succeeds(&format!("diff --data {frozen} main-4-boot.mini.elf"));
    // All of what is preserved has a user.
    let found = sandbox.run(&["inspect", &frozen, "--json"]).json()["preserved"].clone();
    let bytes =
        |of: &str| found["users"].as_array().unwrap().iter().find(|user| user["user"] == of).unwrap()["bytes"].clone();
    assert_eq!((bytes("no known user"), bytes("KHO")), (0.into(), 4096.into()));
    let total: u64 = found["users"].as_array().unwrap().iter().map(|user| user["bytes"].as_u64().unwrap()).sum();
    assert_eq!(total, truth["fdts"][0]["radix"]["pages"].as_u64().unwrap() * 4096);
}

/// A hand-over that is saved is a dump, in which all of it is where it was.
#[test]
fn a_hand_over_is_saved_as_a_small_dump() {
    for (name, moment) in [("main-2-frozen", "frozen"), ("main-4-boot", "later"), ("v619-2-frozen", "frozen")] {
        let Some((sandbox, image, _)) = prepare(name) else { return };
        let done = sandbox.run(&["save", &image, "-o", "saved", "--json"]);
        let answer = done.json();
        // A capture has only the first pages of memory that reserve_mem= set aside.
        assert!(done.code == 1 && !answer["absent"].as_array().unwrap().is_empty(), "{}", done.all());
        let found = sandbox.run(&["inspect", "saved", "--json"]).json();
        assert_eq!(found["moment"], moment, "{name}");
        let both = |args: &[&str]| {
            [&image[..], "saved"].map(|image| sandbox.run(&[&[args[0], image], &args[1..]].concat()).stdout)
        };
        let [one, other] = both(&["ls", "-lR"]);
        assert!(!one.is_empty() && one == other, "{name}");
        sandbox.succeeds(&format!("diff --data {image} saved"));
        let [one, other] =
            both(&["fsck", "-n", "--json"]).map(|bytes| serde_json::from_slice::<Value>(&bytes).unwrap());
        assert_eq!((&one["verdict"], &one["findings"]), (&other["verdict"], &other["findings"]), "{name}");
        assert_eq!(found["image"]["kind"], "elf");
        // What is not there is not shown as zeros.
        let held = |image: &str| sandbox.run(&["inspect", image, "unclaimed"]).code;
        assert_eq!(held("saved"), 2, "page structures are no part of a hand-over");
        sandbox.fails_with(2, &format!("save {image} -o saved"), "exists");
        sandbox.fails_with(2, &format!("save {image} -o -"), "-o FILE");
    }
}
