//! The JSON of every command: one object, its schema, and the keys that programs rely on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gmfs_json::{
    Answer, ReadError, actions, check, diff, dump, files, guestmemfs, host, kho, luo, pkernfs, region, seals, space, vm,
};
use gmfs_testing::machine::lay_out;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::help::commands;
use crate::images::{self, UUID};
use crate::sandbox::{Done, Sandbox};

/// Every path of keys in a value. Arrays are replaced by their elements.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                found.insert(path.clone());
                keys(value, &path, found);
            }
        }
        Value::Array(values) => {
            for value in values {
                keys(value, &format!("{at}[]"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn key_sets() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.write("content", b"x");
    for line in [
        "mkfs other.img --size 16M",
        "inspect region.img",
        "inspect region.img superblock",
        "inspect region.img blocks",
        "inspect region.img inodes",
        "inspect region.img files",
        "inspect region.img pages",
        "inspect region.img raw",
        "scan region.img",
        "save region.img -o copy.img",
        "ls region.img",
        "tree region.img",
        "stat region.img /sparse",
        "extract region.img /sparse",
        "map region.img /sparse",
        "map region.img /vms/first.mem --vmm qemu",
        "who region.img 0 block:1 block:20",
        "create region.img /new --size 1",
        "mkdir region.img /dir",
        "put region.img content /put",
        "truncate region.img /new --size 2",
        "mv region.img /new /newer",
        "rm region.img /newer",
        "seal region.img --zero",
        "verify region.img",
        "unseal region.img /sparse",
        "diff region.img region.img --data",
        "chmod region.img 640 /sparse",
        "chown region.img 1:1 /sparse",
        "tune region.img -L new",
        "df region.img --fits 1M",
        "metrics region.img",
        "cp region.img /put /copied",
        "report region.img -o page.html",
    ] {
        let done = sandbox.ok(&format!("{line} --json"));
        let value = done.json();
        let words: Vec<&str> = line.split_whitespace().collect();
        valid(&value, line);
        assert_eq!(value["gmfs"], env!("CARGO_PKG_VERSION"), "{line}");
        let mut found = BTreeSet::new();
        keys(&value, "", &mut found);
        let name = match (words[0], words.get(2), words.last()) {
            ("inspect", Some(view), _) => format!("inspect_{view}"),
            ("map", _, Some(&"qemu")) => "map_qemu".to_owned(),
            (command, ..) => command.to_owned(),
        };
        assert!(value["schema"].as_str().unwrap().starts_with(&format!("gmfs.{}/", words[0])), "{line}");
        insta::assert_snapshot!(format!("keys_{name}"), found.into_iter().collect::<Vec<_>>().join("\n"));
    }
}

#[test]
fn inspect_keeps_the_contract() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let found = sandbox.ok("inspect region.img files --json").json();
    assert_eq!(found["image"], serde_json::json!({"kind": "file", "path": "region.img"}));
    assert_eq!(found["region"], serde_json::json!({"base": 0, "size": 64 << 20}));
    assert_eq!(found["superblock"]["uuid"], UUID);
    assert_eq!(found["superblock"]["label"], "guests");
    assert!(found["superblock"]["generation"].is_u64());
    let statfs = &found["statfs"];
    assert_eq!((&statfs["f_bsize"], &statfs["f_blocks"]), (&(2 << 20).into(), &32.into()));
    assert_eq!((&statfs["f_bfree"], &statfs["f_bavail"]), (&found["usage"]["free"], &found["usage"]["free"]));
    assert_eq!((&statfs["f_files"], &statfs["f_ffree"]), (&1024.into(), &1018.into()));
    let usage = &found["usage"];
    let sum: u64 =
        ["free", "data", "bad", "reserved", "metadata"].iter().map(|key| usage[*key].as_u64().unwrap()).sum();
    assert_eq!(sum, found["geometry"]["blocks"].as_u64().unwrap());
    let files = found["files"].as_array().unwrap();
    let paths: Vec<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/", "/sparse", "/vms", "/vms/first.mem", "/vms/old", "/vms/second.mem"]);
    assert_eq!(files[3]["extents"][0]["count"], 3);
    let superblock = sandbox.ok("inspect region.img superblock --json").json();
    assert_eq!(superblock.get("health"), None, "it reads two pages only");
}

#[test]
fn errors_are_objects_too() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.write("noise", &[7; 10000]);
    for (line, code) in [
        ("ls none --json", "not-found"),
        ("ls noise --json", "no-region"),
        ("ls . --json", "wrong-kind"),
        ("ls region.img /none --json", "not-found"),
        ("mkfs region.img --json", "holds-region"),
        ("mkfs new --size 1M --json", "too-small"),
        ("create region.img /a --size 1G --json", "no-space"),
        ("rm region.img /vms --json", "not-empty"),
        ("mkdir region.img /vms --json", "exists"),
        ("map region.img /sparse --vmm qemu --json", "hole"),
    ] {
        let done = sandbox.gmfs(line);
        assert_eq!((done.code, done.stderr.as_str()), (2, ""), "{line}: {done:?}");
        let value = done.json();
        assert_eq!(value["schema"], "gmfs.error/1", "{line}");
        assert_eq!(value["error"]["code"], code, "{line}: {value}");
        assert!(value["error"]["message"].is_string() && value["error"]["causes"].is_array(), "{line}");
    }
}

#[test]
fn findings_that_are_not_listed_are_in_the_summary_repaired_or_not() {
    const DAMAGED: u64 = 1200;
    let sandbox = Sandbox::new();
    sandbox.ok("mkfs region.img --size 1400G -N 1024 -q");
    sandbox.ok("create region.img /big --size 1300G");
    // No two of these pages are neighbours, because neighbours would be one finding.
    for page in (1..).step_by(2).take(1200) {
        images::poke(&sandbox, "region.img", page * 4096 + 100, b"damage");
    }
    let before = sandbox.gmfs("fsck -n region.img --json");
    assert_eq!(before.code, 4);
    let after = sandbox.gmfs("fsck -y region.img --json");
    assert_eq!(after.code, 1);
    for (found, repaired) in [(before.json(), 0), (after.json(), DAMAGED)] {
        let listed = found["findings"].as_array().unwrap().len() as u64;
        let more: u64 = found["not_listed"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert!(more > 0 && listed + more == DAMAGED, "{listed} listed, {more} not");
        assert_eq!(found["summary"], serde_json::json!({"note": 0, "warning": 0, "error": DAMAGED, "fatal": 0}));
        assert_eq!((&found["findings_repaired"], &found["more_unchecked"]), (&repaired.into(), &0.into()));
    }
    assert_eq!(after.json()["verdict"], "clean");
}

/// The schema of an answer, by file name.
fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schema/{name}.json"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// Checks an answer against the schema that it names.
fn valid(answer: &Value, line: &str) {
    let name = answer["schema"].as_str().unwrap_or_else(|| panic!("{line}: {answer}"));
    let name = name.strip_prefix("gmfs.").and_then(|name| name.split_once('/')).unwrap().0;
    let validator = jsonschema::draft202012::new(&schema(name)).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(answer).map(|error| format!("{} at {}", error, error.instance_path())).collect();
    assert!(wrong.is_empty(), "{line}: {wrong:#?} in {answer:#}");
}

/// Reads an answer as a type of gmfs-json: what that type writes.
fn again<T: Serialize + DeserializeOwned>(name: &str, answer: &Value) -> Option<Value> {
    let read: Answer<T> = gmfs_json::read(name, answer.to_string().as_bytes()).ok()?;
    serde_json::to_value(read).ok()
}

/// Checks that a program that reads an answer by the types of gmfs-json gets all that is in it.
fn read_back(answer: &Value, line: &str) {
    let name = answer["schema"].as_str().and_then(|name| name.strip_prefix("gmfs.")?.split_once('/')).unwrap().0;
    let ways: &[fn(&str, &Value) -> Option<Value>] = match name {
        "bad-add" | "bad-del" | "bad-import" => &[again::<actions::Marked>],
        "bad-list" | "who" => &[again::<files::Who>],
        "chmod" | "chown" | "cp" | "create" | "mkdir" | "mv" | "put" | "rm" | "truncate" => {
            &[again::<actions::Changed>]
        }
        "df" => &[again::<space::Df>],
        "diff" => &[again::<diff::Diff>],
        "dump" => &[again::<dump::Dumped>],
        "error" => {
            let read = gmfs_json::read::<files::Who>("who", answer.to_string().as_bytes());
            let Err(ReadError::Failed(told)) = read else { panic!("{line}: {read:?}") };
            assert_eq!(serde_json::to_value(told).unwrap(), answer["error"], "{line}");
            return;
        }
        "explain" => &[again::<check::Explain>],
        "extract" => &[again::<actions::Extract>],
        "fsck" => &[again::<check::Fsck>],
        "inject" => &[again::<actions::Inject>],
        "inspect" => &[
            again::<region::Inspect>,
            again::<region::InspectRaw>,
            again::<dump::InspectImage>,
            again::<pkernfs::PkernfsInspect>,
            again::<guestmemfs::GuestmemfsInspect>,
            again::<luo::LuoInspect>,
        ],
        "kho-compat" => &[again::<kho::KhoCompat>],
        "ls" | "tree" => &[again::<files::Listing>],
        "map" => &[again::<files::Map>, again::<space::MapOfImage>],
        "metrics" => &[again::<space::Metrics>],
        "mkfs" => &[again::<actions::Mkfs>],
        "plan" => &[again::<host::Plan>],
        "preflight" => &[again::<host::Preflight>],
        "repair" => &[again::<check::Repair>],
        "report" => &[again::<space::Reported>],
        "restore" | "undo" => &[again::<actions::PutBack>],
        "save" => &[again::<actions::Save>],
        "scan" => &[again::<actions::Scan>],
        "seal" => &[again::<seals::Seal>],
        "stat" => &[again::<files::Stat>],
        "tune" => &[again::<space::Tuned>],
        "unseal" => &[again::<seals::Unseal>],
        "verify" => &[again::<seals::Verify>],
        "vm-list" => &[again::<vm::List>],
        _ => panic!("{line}: which type is {name}?"),
    };
    let read: Vec<Value> = ways.iter().filter_map(|way| way(name, answer)).collect();
    assert!(read.contains(answer), "{line}: {answer:#} is read as {read:#?}");
}

/// Commands whose output is not JSON.
const WITHOUT_JSON: [&str; 5] = ["cat", "completions", "man", "mount", "umount"];

/// The commands of the parser, those of `bad`, `kho` and `vm` by two words.
fn all_commands(sandbox: &Sandbox) -> Vec<String> {
    let named = commands(sandbox).into_iter().flat_map(|command| match command.as_str() {
        "bad" => ["bad add", "bad del", "bad import", "bad list"].map(str::to_owned).to_vec(),
        "kho" => vec!["kho compat".to_owned()],
        // Those that talk to QEMU are run by the tests of `vm`.
        "vm" => vec!["vm list".to_owned()],
        _ => vec![command],
    });
    named.collect()
}

/// Whether the help of a command lists an option.
fn takes(sandbox: &Sandbox, command: &str, option: &str) -> bool {
    let help = sandbox.ok(&format!("{command} --help")).text();
    let word = |word: &str| word.trim_end_matches([',', ']']).split(['=', '[']).next() == Some(option);
    help.lines().filter(|line| line.trim_start().starts_with('-')).any(|line| line.split_whitespace().any(word))
}

/// The command lines to run on each image. On a region they succeed; elsewhere they may fail, which is an answer too.
const LINES: [(&str, &str); 60] = [
    ("mkfs", "mkfs IMAGE --size 16M"),
    ("mkfs", "mkfs -f IMAGE -U 8f0e3f6a-2d41-4c55-9f0b-0123456789ab"),
    ("mkfs", "mkfs -f IMAGE --populate folder"),
    ("fsck", "fsck -n IMAGE"),
    ("fsck", "fsck -y --accept IMAGE"),
    ("repair", "repair -n IMAGE"),
    ("repair", "repair -y --release-lost IMAGE"),
    ("repair", "repair -y IMAGE -o repaired.img"),
    ("explain", "explain GM0402"),
    ("inspect", "inspect IMAGE"),
    ("inspect", "inspect IMAGE --image"),
    ("inspect", "inspect IMAGE raw"),
    ("scan", "scan IMAGE"),
    ("save", "save IMAGE -o saved.img -f"),
    ("dump", "dump IMAGE -o dumped.meta -f"),
    ("restore", "restore -y sample.meta IMAGE"),
    ("ls", "ls -R IMAGE"),
    ("tree", "tree IMAGE"),
    ("stat", "stat IMAGE /vms/first.mem /vms"),
    ("extract", "extract IMAGE / out -f --sparse-absent"),
    ("extract", "extract -p IMAGE /vms/*.mem /sparse folder -f --sparse-absent"),
    ("map", "map IMAGE /sparse"),
    ("map", "map IMAGE"),
    ("who", "who IMAGE 0 block:1 block:2 0x7ffffffffff"),
    ("create", "create IMAGE /new --size 1.5M"),
    ("mkdir", "mkdir IMAGE -p /a/b"),
    ("put", "put IMAGE content /put"),
    ("truncate", "truncate IMAGE /sparse --size -1M"),
    ("mv", "mv IMAGE /sparse /moved"),
    ("rm", "rm IMAGE -r /vms/old"),
    ("seal", "seal IMAGE --again --zero /vms /sparse"),
    ("seal", "seal IMAGE"),
    ("unseal", "unseal IMAGE /sparse"),
    ("vm list", "vm list IMAGE"),
    ("verify", "verify IMAGE"),
    ("verify", "verify IMAGE /vms/first.mem"),
    ("diff", "diff IMAGE sample.meta --data"),
    ("diff", "diff undone.img IMAGE --seals"),
    ("chmod", "chmod IMAGE -R go= /vms"),
    ("chown", "chown IMAGE 5:6 /sparse"),
    ("tune", "tune IMAGE --label other"),
    ("put", "put IMAGE -rp folder /put2"),
    ("cp", "cp IMAGE -rp /vms /copied"),
    ("cp", "cp IMAGE /vms/*.mem /"),
    ("report", "report IMAGE -o page.html -f"),
    ("df", "df IMAGE --fits 1G"),
    ("metrics", "metrics IMAGE"),
    ("metrics", "metrics IMAGE -o made.prom"),
    ("bad add", "bad add IMAGE block:1-2 block:20"),
    ("bad del", "bad del IMAGE block:20"),
    ("bad import", "bad import IMAGE poison"),
    ("who", "who IMAGE --poison poison"),
    ("bad list", "bad list IMAGE"),
    ("undo", "undo mkdir.undo IMAGE"),
    ("inject", "inject IMAGE GM0402 GM0102"),
    ("inject", "inject IMAGE --page 1 --how flip"),
    ("plan", "plan --size 1G --count 2 --root machine"),
    ("preflight", "preflight IMAGE --root machine"),
    ("kho compat", "kho compat 7.3.4 IMAGE"),
    ("kho compat", "kho compat 7.2.8 7.3.4 --from-cmdline reserve_mem=2M:4096:a --initrd IMAGE"),
];

/// The answers of all commands must match their schemas: for a region, a damaged one, an empty one, a dump, and other
/// content.
#[test]
fn answers_match_their_schemas() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.write("content", b"content");
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    sandbox.write("folder/file", b"content");
    sandbox.ok("dump region.img -o sample.meta");
    sandbox.ok("save region.img -o undone.img");
    sandbox.succeeds("mkdir --undo mkdir.undo undone.img /undone");
    sandbox.ok("mkfs empty.img --size 16M -q");
    sandbox.ok("save region.img -o damaged.img");
    sandbox.ok("inject damaged.img GM0402 GM0010");
    sandbox.write("noise", &[7; 10000]);
    sandbox.write("poison", b"0x1400\n0x2800\n0x999999\n");
    lay_out(crate::plan::TWO_SOCKETS, &sandbox.path("machine"));
    let known = all_commands(&sandbox);
    let tried: BTreeSet<&str> = LINES.iter().map(|line| line.0).collect();
    let untried: Vec<&String> =
        known.iter().filter(|name| !tried.contains(name.as_str()) && !WITHOUT_JSON.contains(&name.as_str())).collect();
    assert!(untried.is_empty(), "no line for {untried:?}");
    let mut answered: BTreeMap<&str, u32> = BTreeMap::new();
    for image in ["region.img", "undone.img", "damaged.img", "empty.img", "sample.meta", "noise", "none"] {
        for (command, line) in LINES {
            if sandbox.exists(image) {
                std::fs::copy(sandbox.path(image), sandbox.path("image")).unwrap();
            } else if sandbox.exists("image") {
                std::fs::remove_file(sandbox.path("image")).unwrap();
            }
            let _ = std::fs::remove_file(sandbox.path("repaired.img"));
            let line = format!("{} --json", line.replace("IMAGE", "image"));
            let done = sandbox.gmfs(&line);
            let answer = done.json();
            valid(&answer, &format!("{line} of {image}"));
            read_back(&answer, &format!("{line} of {image}"));
            if answer["schema"] != "gmfs.error/1" {
                *answered.entry(command).or_default() += 1;
                assert_eq!(
                    answer["schema"].as_str().unwrap().split_once('/').unwrap().0,
                    format!("gmfs.{}", command.replace(' ', "-"))
                );
                let about_none = ["df", "explain", "kho compat", "metrics", "plan", "scan"].contains(&command);
                assert!(about_none || answer.get("store").is_some(), "{line}: {answer}");
            }
        }
    }
    let silent: Vec<&&str> = tried.iter().filter(|command| !answered.contains_key(*command)).collect();
    assert!(silent.is_empty(), "no answer but errors: {silent:?}");
    for name in &known {
        assert_eq!(takes(&sandbox, name, "--json"), !WITHOUT_JSON.contains(&name.as_str()), "{name}");
    }
}

/// A schema that accepts anything would let every test pass.
#[test]
fn schemas_refuse_what_is_wrong() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let good = sandbox.ok("ls region.img --json").json();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut wrong = good.clone();
        change(&mut wrong);
        let validator = jsonschema::draft202012::new(&schema("ls")).unwrap();
        assert!(!validator.is_valid(&wrong), "{wrong}");
    };
    refused(&|answer| answer["schema"] = "gmfs.ls/9".into());
    refused(&|answer| answer["store"]["base"] = "0".into());
    refused(&|answer| answer["entries"][0]["size"] = "0".into());
    refused(&|answer| drop(answer.as_object_mut().unwrap().remove("store")));
}

/// Commands that write neither a region nor a file.
const READERS: [&str; 21] = [
    "bad list",
    "cat",
    "completions",
    "df",
    "diff",
    "explain",
    "inspect",
    "kho compat",
    "ls",
    "man",
    "map",
    "plan",
    "preflight",
    "scan",
    "stat",
    "tree",
    "verify",
    "vm list",
    "who",
    "mount",
    "umount",
];

/// The command line to run for each command that writes.
const WRITERS: [(&str, &str); 40] = [
    ("bad add", "bad add region.img block:1-2 block:20"),
    ("bad del", "bad del bad.img block:20"),
    ("bad import", "bad import region.img poison"),
    ("create", "create region.img /new --size 5M"),
    ("create", "create region.img /empty"),
    ("dump", "dump region.img -o new.meta"),
    ("extract", "extract region.img /vms new-folder"),
    ("extract", "extract region.img /vms/first.mem"),
    ("extract", "extract -p region.img /vms new-folder"),
    ("report", "report region.img -o new.html"),
    ("cp", "cp region.img /vms/first.mem /sparse /vms/old"),
    ("cp", "cp -f region.img /vms/first.mem /sparse"),
    ("cp", "cp -rp region.img /vms /copy"),
    ("inject", "inject region.img GM0402"),
    ("inject", "inject region.img GM0102"),
    ("inject", "inject region.img --page 1 --how zero"),
    ("chmod", "chmod -R region.img g+w /vms"),
    ("chown", "chown region.img 5 /vms"),
    ("tune", "tune region.img -L other"),
    ("put", "put -rp region.img folder /folder"),
    ("metrics", "metrics region.img -o new.prom"),
    ("mkdir", "mkdir region.img -p /a/b/c"),
    ("mkfs", "mkfs new.img --size 16M -U 8f0e3f6a-2d41-4c55-9f0b-0123456789ab"),
    ("mkfs", "mkfs -f region.img -U 8f0e3f6a-2d41-4c55-9f0b-0123456789ab"),
    ("mkfs", "mkfs -f region.img -U 8f0e3f6a-2d41-4c55-9f0b-0123456789ab --populate folder"),
    ("mv", "mv region.img /sparse /vms"),
    ("mv", "mv -f region.img /vms/first.mem /sparse"),
    ("put", "put region.img content /new"),
    ("put", "put -f region.img content /vms/first.mem"),
    ("repair", "repair -y damaged.img"),
    ("repair", "repair -y damaged.img -o new.img"),
    ("restore", "restore -y sample.meta changed.img"),
    ("rm", "rm -r region.img /vms"),
    ("save", "save region.img -o new.img"),
    ("seal", "seal region.img"),
    ("seal", "seal region.img /vms"),
    ("truncate", "truncate region.img /sparse --sparse --size 1G"),
    ("truncate", "truncate region.img /vms/first.mem --size -3M"),
    ("undo", "undo mkdir.undo changed.img"),
    ("unseal", "unseal sealed.img"),
];

/// Makes the images for [`WRITERS`].
fn images_to_write(sandbox: &Sandbox) {
    images::sample(sandbox);
    sandbox.write("content", &images::content()[..3 << 20]);
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    sandbox.write("folder/file", b"content");
    sandbox.ok("dump region.img -o sample.meta");
    for copy in ["bad.img", "damaged.img", "changed.img", "sealed.img"] {
        sandbox.ok(&format!("save region.img -o {copy}"));
    }
    sandbox.succeeds("mkdir --undo mkdir.undo changed.img /changed");
    sandbox.ok("bad add bad.img block:20");
    sandbox.write("poison", b"0x1400\n0x2800\n");
    sandbox.ok("seal sealed.img -q");
    sandbox.ok("inject damaged.img GM0010 GM0402");
}

/// All files of a directory, with their content.
fn everything(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let content = |path: &Path| if path.is_dir() { Vec::new() } else { std::fs::read(path).unwrap() };
    entries.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), content(&path))).collect()
}

/// A dry run of each command that writes must not change a byte, and must give the answer that the command gives then.
#[test]
fn a_dry_run_writes_nothing_and_tells_what_would_be_done() {
    let sandbox = Sandbox::new();
    images_to_write(&sandbox);
    let before = everything(&sandbox.path(""));
    let unchanged = |line: &str| {
        let now = everything(&sandbox.path(""));
        assert!(now.keys().eq(before.keys()), "{line}: {:?}", now.keys());
        let changed: Vec<&String> = now.keys().filter(|name| now.get(*name) != before.get(*name)).collect();
        assert!(changed.is_empty(), "{line}: {changed:?}");
    };
    for (command, line) in WRITERS {
        let dry = line.replacen(command, &format!("{command} -n"), 1);
        let told: Done = sandbox.gmfs(&dry);
        unchanged(&dry);
        assert!(told.code <= 1 && told.text().contains("would ") || command == "repair", "{dry}: {told:?}");
        assert!(command == "repair" || told.text().contains("nothing was written"), "{dry}: {told:?}");
        let planned = sandbox.gmfs(&format!("{dry} --json"));
        unchanged(&dry);
        let mut planned = planned.json();
        assert_eq!(planned["dry_run"], true, "{dry}: {planned}");
        valid(&planned, &dry);
        let real = sandbox.gmfs(&format!("{line} --json"));
        let mut real = real.json();
        assert_eq!(real["dry_run"], false, "{line}: {real}");
        valid(&real, line);
        for answer in [&mut planned, &mut real] {
            answer.as_object_mut().unwrap().retain(|name, _| name != "dry_run" && name != "bytes_written");
        }
        if command == "repair" {
            let edits = |answer: &Value| answer["edits"].as_array().unwrap().len();
            assert!(edits(&planned) > 0 && edits(&planned) <= edits(&real), "{planned:#} {real:#}");
        } else {
            assert_eq!(planned, real, "{line}");
        }
        for (name, bytes) in everything(&sandbox.path("")) {
            match before.get(&name) {
                Some(old) if *old != bytes => sandbox.write(&name, old),
                Some(_) => {}
                None if sandbox.path(&name).is_dir() => std::fs::remove_dir_all(sandbox.path(&name)).unwrap(),
                None => std::fs::remove_file(sandbox.path(&name)).unwrap(),
            }
        }
    }
    let tried: BTreeSet<&str> = WRITERS.iter().map(|line| line.0).collect();
    for name in all_commands(&sandbox) {
        let name = name.as_str();
        assert_eq!(takes(&sandbox, name, "--dry-run"), tried.contains(name), "{name}");
        // The -n of fsck(8) is another option.
        assert!(tried.contains(name) || READERS.contains(&name) || name == "fsck", "{name} is in neither list");
    }
    sandbox.fails("create -n region.img /big --size 1G", "no space");
    sandbox.fails("rm -n region.img /vms", "not empty");
    sandbox.fails("mkdir -n sample.meta /x", "a dump cannot be written");
    sandbox.fails("mkdir -n damaged.img /x", "the region is damaged");
    sandbox.fails("save -n region.img -o content", "exists already");
    sandbox.fails("extract -n region.img /vms/first.mem content", "exists already");
    unchanged("what is refused");
}

/// Every change of a region that a command records can be undone, bit for bit.
#[test]
fn every_change_of_a_region_can_be_undone() {
    let sandbox = Sandbox::new();
    images_to_write(&sandbox);
    let before = everything(&sandbox.path(""));
    let mut tried = BTreeSet::from(["fsck"]);
    for (command, line) in WRITERS.into_iter().chain([("fsck", "fsck -y damaged.img")]) {
        if !takes(&sandbox, command, "--undo") || line.contains("new.img") {
            continue;
        }
        tried.insert(command);
        let image = line.split_whitespace().find(|word| word.ends_with(".img")).unwrap();
        let done = sandbox.gmfs(&line.replacen(command, &format!("{command} --undo undo"), 1));
        assert!(done.code <= 1, "{line}: {done:?}");
        assert!(sandbox.read(image) != before[image], "{line} changes nothing");
        let cut = sandbox.read(image).len() < before[image].len();
        let dry = sandbox.succeeds(&format!("undo -n undo {image}"));
        assert!(dry.text().contains("would be put back"), "{dry:?}");
        assert!(cut == (sandbox.read(image).len() < before[image].len()), "{line}");
        sandbox.succeeds(&format!("undo undo {image}"));
        assert!(sandbox.read(image) == before[image], "{line}");
        std::fs::remove_file(sandbox.path("undo")).unwrap();
    }
    for name in all_commands(&sandbox) {
        assert_eq!(takes(&sandbox, &name, "--undo"), tried.contains(name.as_str()), "{name}");
    }
}

/// Sizes as people write them, changes of sizes, and options that do not apply.
#[test]
fn sizes_and_options_that_cannot_apply() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.write("content", b"x");
    let size = |path: &str| sandbox.ok(&format!("stat region.img {path} --json")).json()["files"][0]["size"].clone();
    sandbox.ok("create region.img /empty");
    sandbox.ok("create region.img /half -s 1.5M");
    sandbox.ok("truncate region.img /empty -s +10KiB");
    sandbox.ok("truncate region.img /half -s -0.5M");
    assert_eq!((size("/empty"), size("/half")), (10240.into(), (1 << 20).into()));
    sandbox.fails("truncate region.img /half -s -2M", "cannot be made smaller");
    sandbox.fails("truncate region.img /none -s -2M", "there is no '/none'");
    let usage = |line: &str, saying: &str| {
        let done = sandbox.gmfs(line);
        assert!(done.code == 2 && done.stderr.contains(saying), "{line}: {done:?}");
    };
    usage("create region.img /x -s 10MB", "10MiB");
    usage("create region.img /x -s 0.3K", "307 or 308");
    usage("create region.img /x -s much", "1.5G or 10MiB");
    usage("create region.img /x --part y", "unexpected argument");
    usage("rm region.img /half --base 0", "unexpected argument");
    usage("create region.img /x --sparse", "--size");
    usage("put -f region.img content /half --mode 600", "keeps its mode");
    usage("inspect region.img --page 1", "view `raw`");
    usage("inject region.img GM0402 --copy B", "--page");
    sandbox.ok("put -f region.img content /half");
    sandbox.ok("put -f region.img content /new --mode 640");
}
