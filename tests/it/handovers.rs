//! Hand-overs in each form, at each moment, in each format of a dump, made as the kernel's sources say.

use gmfs_format::fuzzing::trees::Maker;
use gmfs_format::fuzzing::{Form, Made, MadeFile, Memory, Way, content};
use gmfs_format::kho::PAGE;
use gmfs_io::ReadAt as _;
use serde_json::Value;

use crate::dumpfiles::{Kdump, avml, flattened, lime};
use crate::images::{Segment, elf};
use crate::sandbox::Sandbox;

/// The runs of pages of a memory.
fn segments(memory: &Memory) -> Vec<Segment> {
    let mut runs: Vec<Segment> = Vec::new();
    for at in memory.addresses() {
        let mut page = vec![0; 4096];
        memory.read_at(at, &mut page).unwrap();
        match runs.last_mut() {
            Some(run) if run.address + run.size == at => {
                run.size += PAGE;
                run.bytes.extend(page);
            }
            _ => runs.push(Segment { address: at, size: PAGE, bytes: page }),
        }
    }
    runs
}

/// The same memory as a file of each format, with the options that it needs.
fn files(sandbox: &Sandbox, memory: &Memory) -> Vec<(&'static str, &'static str)> {
    let segments = segments(memory);
    let kdump = Kdump::new(&segments).bytes();
    sandbox.write("elf", &elf(&segments));
    sandbox.write("flat", &flattened(&kdump));
    sandbox.write("kdump", &kdump);
    sandbox.write("lime", &lime(&segments));
    sandbox.write("avml", &avml(&segments));
    let end = memory.end().unwrap();
    let mut raw = vec![0; usize::try_from(end).unwrap()];
    for segment in &segments {
        let at = usize::try_from(segment.address).unwrap();
        raw[at..at + segment.bytes.len()].copy_from_slice(&segment.bytes);
    }
    crate::images::write(&sandbox.path("raw"), &raw);
    vec![("elf", ""), ("flat", ""), ("kdump", ""), ("lime", ""), ("avml", ""), ("raw", " --base 0 --holes zero")]
}

fn sessions() -> Vec<(&'static [u8], Vec<MadeFile>)> {
    let first = vec![
        MadeFile::new(1, 3 * PAGE),
        MadeFile { way: Way::Backwards, position: 9, ..MadeFile::new(u64::MAX, 4 * PAGE + 5) },
        MadeFile { way: Way::Order(2), ..MadeFile::new(3, 9 * PAGE) },
    ];
    vec![(b"a/b", first), (b"vm", vec![MadeFile::new(7, 2 * PAGE)]), (b"empty", Vec::new())]
}

fn wanted(file: &MadeFile) -> Vec<u8> {
    let pages = (0..file.size.div_ceil(PAGE)).flat_map(|page| content(file.token, page));
    pages.take(usize::try_from(file.size).unwrap()).collect()
}

#[test]
fn each_form_is_read_at_each_moment_from_each_format() {
    let sessions = sessions();
    for form in Form::LUO {
        let made = Made::new(form, &sessions);
        let moments = [
            ("frozen", made.clone()),
            ("later", made.clone().in_next_kernel()),
            ("running", made.clone().before_reboot()),
        ];
        for (moment, made) in moments {
            // Until 7.0 a map that is not written yet is 0: without one nothing leads to records.
            let written = !matches!(form, Form::V619 | Form::V70);
            if moment == "running" && !written {
                continue;
            }
            let sandbox = Sandbox::new();
            for (format, options) in files(&sandbox, &made.memory) {
                let name = format!("{form:?} {moment} {format}");
                let found = sandbox.gmfs(&format!("inspect {format} --json{options}")).json();
                assert_eq!(found["moment"], moment, "{name}");
                assert_eq!(found["preserved"]["intact"], moment != "later", "{name}");
                let store = &sandbox.gmfs(&format!("scan {format} --json{options}")).json()["regions"][0];
                assert_eq!((&store["layout"], &store["base"]), (&"luo".into(), &made.root.into()), "{name}");
                for (session, files) in &sessions {
                    for (n, file) in files.iter().enumerate() {
                        let path = if moment == "running" {
                            let session = sessions.iter().position(|(name, _)| name == session).unwrap();
                            format!("/unnamed/record-{:#x}", made.records[session][n])
                        } else {
                            let session = std::str::from_utf8(session).unwrap().replace('/', "\\x2f");
                            format!("/{session}/{:#x}", file.token)
                        };
                        let cat = sandbox.gmfs(&format!("cat {format} {path}{options}"));
                        assert!(cat.code == 0 && cat.stdout == wanted(file), "{name} {path}: {}", cat.stderr);
                    }
                }
                let checked = sandbox.gmfs(&format!("fsck -n {format}{options}"));
                assert_eq!(checked.code, if moment == "later" { 8 } else { 0 }, "{name}: {}", checked.all());
            }
        }
    }
}

/// What a scan says of the stores in an image: where each is, how certain it is, and what is known of it.
fn scanned(sandbox: &Sandbox, image: &str) -> Vec<(u64, String, String)> {
    let regions = sandbox.gmfs(&format!("scan --json {image}")).json()["regions"].clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |store: &Value| (store["base"].as_u64().unwrap(), text(&store["confidence"]), text(&store["detail"]));
    regions.as_array().unwrap().iter().map(of).collect()
}

/// Which sessions there are is not known without the lists of them.
#[test]
fn a_hand_over_whose_lists_are_not_all_there_is_not_certain() {
    for form in [Form::V71, Form::V73] {
        let names: Vec<String> = (0..60).map(|n| format!("s{n}")).collect();
        let sessions: Vec<_> = names.iter().map(|name| (name.as_bytes(), vec![MadeFile::new(1, PAGE)])).collect();
        let made = Made::new(form, &sessions);
        let second = if form == Form::V73 { made.memory.get(made.sessions) } else { made.sessions + PAGE };
        let sandbox = Sandbox::new();
        for lost in [made.sessions, second, made.files[3]] {
            let mut memory = made.memory.clone();
            memory.lose(lost);
            sandbox.write("dump", &memory.elf());
            let found = scanned(&sandbox, "dump");
            assert_eq!((found.len(), found[0].1.as_str()), (1, "likely"), "{form:?} {lost:#x}: {found:?}");
            assert!(!found[0].2.contains("complete"), "{form:?} {lost:#x}: {found:?}");
        }
        sandbox.write("dump", &made.memory.elf());
        assert_eq!(scanned(&sandbox, "dump")[0].1, "certain");
    }
}

/// A guest of the host may have a hand-over of its own in its memory, which is in a dump of the host.
#[test]
fn the_hand_over_of_a_guest_is_not_taken_for_that_of_its_host() {
    let host = Made::new(Form::V619, &[]);
    let guest = Made::new(Form::V73, &[(b"inner", vec![MadeFile::new(1, PAGE)])]);
    let mut memory = host.memory.clone();
    for at in guest.memory.addresses() {
        let mut page = vec![0; 4096];
        guest.memory.read_at(at, &mut page).unwrap();
        memory.write(0x4000_0000 + at, &page);
    }
    let sandbox = Sandbox::new();
    sandbox.write("dump", &memory.elf());
    let found = scanned(&sandbox, "dump");
    let bases: Vec<u64> = found.iter().map(|(base, ..)| *base).collect();
    assert_eq!(bases, [host.root, 0x4000_0000 + guest.root], "{found:?}");
    // It is not clear which is meant, unless the host's is the only one that can be.
    let listed = sandbox.gmfs("ls dump");
    let asked = listed.code != 0 && listed.stderr.contains("--at") && listed.stderr.contains("0x40100000");
    let (own, other) = (found[0].1.as_str(), found[1].1.as_str());
    assert!(asked || own == "certain" && other != "certain", "{found:?} {}", listed.all());
    assert_eq!(sandbox.gmfs(&format!("ls dump --at {:#x}", host.root)).code, 0);
}

/// Memory in which systemd hands over its file descriptor store, and a session that a unit of it has made.
fn systemd() -> Memory {
    let text = br#"{"version":1,"state":{"kexecsCount":1},"units":{
        "foo.service":{"fdstore":[{"type":"fd","name":"guest-memory","token":1}]},
        "qemu.service":{"fdstore":[{"type":"luo_session","name":"vm\n","sessionName":"machines"}]}}}"#;
    let names = MadeFile::new(0, text.len() as u64);
    let own = vec![names, MadeFile::new(1, PAGE), MadeFile::new(2, PAGE)];
    let mut made = Made::new(Form::V73, &[(b"systemd", own), (b"machines", vec![MadeFile::new(1, PAGE)])]);
    made.memory.write(made.folios[0][0][0].0, text);
    made.memory
}

#[test]
fn files_of_systemd_are_shown_with_its_names() {
    let sandbox = Sandbox::new();
    sandbox.write("dump", &systemd().elf());
    let listed = sandbox.ok("ls -R dump").text();
    let expected = "/machines  qemu.service: vm\\n\n/machines/0x1\n/systemd\n/systemd/0x0\n\
                    /systemd/0x1  foo.service: guest-memory\n/systemd/0x2\n";
    assert_eq!(listed, expected);
    assert!(sandbox.ok("tree dump").text().contains("0x1  foo.service: guest-memory  4 KiB"));
    assert!(sandbox.ok("stat dump /systemd/0x1").text().contains("Known as  foo.service: guest-memory"));
    let entries = sandbox.gmfs("ls -R dump --json").json()["entries"].clone();
    let known: Vec<&Value> = entries.as_array().unwrap().iter().map(|entry| &entry["known_as"]).collect();
    assert_eq!(
        (known[0], known[1], known[4]),
        (&"qemu.service: vm\n".into(), &Value::Null, &"foo.service: guest-memory".into())
    );
}

#[test]
fn an_arm64_machine_hands_a_root_over_in_its_device_tree() {
    let mut made = Made::new(Form::V73, &sessions());
    made.memory.lose(made.setup.0 & !0xfff);
    let scratch = made.setup.1;
    let cells = |numbers: [u64; 2]| numbers.map(u64::to_be_bytes).concat();
    let mut tree = Maker::new(b"linux,dummy-virt\0");
    tree.property("#address-cells", &2_u32.to_be_bytes());
    tree.property("#size-cells", &2_u32.to_be_bytes());
    tree.begin(b"chosen");
    tree.property("bootargs", b"kho=on\0");
    tree.property("linux,kho-fdt", &cells([made.root, 4096]));
    tree.property("linux,kho-scratch", &cells([scratch, 32]));
    tree.end();
    let tree = tree.finish();
    made.memory.write(0x7000_0000, &tree);
    let sandbox = Sandbox::new();
    sandbox.write("dump", &made.memory.elf());
    let found = sandbox.gmfs("inspect dump --json").json();
    assert_eq!(found["scratch"].as_array().map(Vec::len), Some(2), "{}", found["scratch"]);
    assert_eq!(found["scratch"][0], serde_json::json!({"offset": 0x4000_0000, "length": 0x100_0000}));
}

#[test]
fn what_no_record_places_is_unknown() {
    let sandbox = Sandbox::new();
    let files = vec![MadeFile::new(1, 3 * PAGE + 1), MadeFile::new(2, PAGE)];
    let made = Made::new(Form::V73, &[(b"vm", files)]);
    let record = made.records[0][0];
    sandbox.write("whole", &made.memory.elf());
    let mut lacking = made.memory.clone();
    lacking.lose(record);
    sandbox.write("record", &lacking.elf());
    // The chunk that lists the pages with the records of folios.
    let mut lacking = made.memory.clone();
    lacking.lose(made.memory.get(record + 32));
    sandbox.write("array", &lacking.elf());

    let mapped = sandbox.gmfs("map --json array /vm/0x1");
    let (code, mapped) = (mapped.code, mapped.json());
    assert_eq!(
        (code, &mapped["holes"], &mapped["lost"][0]["length"]),
        (1, &Value::Array(vec![]), &(3 * PAGE + 1).into())
    );
    let shown = sandbox.gmfs("map array /vm/0x1");
    assert!(shown.code == 1 && shown.text().contains("lost") && !shown.text().contains("hole"), "{}", shown.all());
    let shown = sandbox.gmfs("stat --json array /vm/0x1");
    assert_eq!((shown.code, &shown.json()["files"][0]["lost"][0]["length"]), (1, &(3 * PAGE + 1).into()));
    assert!(sandbox.gmfs("stat array /vm/0x1").text().contains("Lost"));

    for command in ["ls -R --json record", "tree --json record"] {
        let entries = sandbox.gmfs(command).json()["entries"].clone();
        let entry = entries.as_array().unwrap().iter().find(|entry| entry["path"] == "/vm/0x1").unwrap().clone();
        assert_eq!((&entry["size"], &entry["blocks"]), (&Value::Null, &Value::Null), "{command}");
    }
    let listed = sandbox.gmfs("ls -lR record").text();
    assert!(listed.lines().any(|line| line.contains('?') && line.ends_with("/vm/0x1")), "{listed}");
    assert!(sandbox.gmfs("tree record").text().contains("0x1  ?"));
    assert!(sandbox.gmfs("inspect record files").text().contains('?'));
    let shown = sandbox.gmfs("stat --json record /vm/0x1");
    assert_eq!((shown.code, &shown.json()["files"][0]["size"]), (1, &Value::Null));
    let shown = sandbox.gmfs("map --json record /vm/0x1");
    assert_eq!((shown.code, &shown.json()["size"]), (1, &Value::Null));
    let shown = sandbox.gmfs("map record /vm/0x1");
    assert!(shown.all().contains("its size is known"), "{}", shown.all());

    for other in ["record", "whole"] {
        let found = sandbox.gmfs(&format!("diff --data --json record {other}"));
        let (code, found) = (found.code, found.json());
        let file = found["files"].as_array().unwrap().iter().find(|file| file["path"] == "/vm/0x1").unwrap().clone();
        assert_eq!((&file["result"], &file["content"]), (&"unknown".into(), &"unknown".into()), "{other}");
        assert_eq!((&file["size_before"], code != 0), (&Value::Null, true));
    }
    assert!(
        sandbox.gmfs("diff record whole").text().contains("(12289 bytes)"),
        "{}",
        sandbox.gmfs("diff record whole").all()
    );
}

#[test]
fn pages_past_the_end_of_a_dump_have_owners_and_count_whole() {
    let sandbox = Sandbox::new();
    let made = Made::new(Form::V73, &[(b"vm", vec![MadeFile::new(1, PAGE + 1), MadeFile::new(2, 5000)])]);
    sandbox.write("whole", &made.memory.elf());
    let users = sandbox.gmfs("inspect --json whole").json()["preserved"]["users"].clone();
    for user in users.as_array().unwrap() {
        assert!(user["bytes"].as_u64().unwrap().is_multiple_of(PAGE), "{users}");
    }
    let far = made.memory.end().unwrap() + (1 << 30);
    let mut memory = made.memory;
    let array = memory.get(memory.get(made.records[0][0] + 32) + 8);
    memory.put(array, (far / PAGE) | (3 << 52));
    sandbox.write("short", &memory.elf());
    let owner = sandbox.gmfs(&format!("who --json short {:#x}", far + 5)).json()["addresses"][0].clone();
    assert_eq!((&owner["what"], &owner["physical"]), (&"file".into(), &(far + 5).into()), "{owner}");
    let far = far + (1 << 30);
    let outside = sandbox.gmfs(&format!("who short {far:#x}"));
    assert!(outside.code == 1 && outside.text().contains("outside"), "{}", outside.all());
}

/// As many files as there are could name the longest list, which would be walked and kept for each of them.
#[test]
fn a_list_that_several_files_have_counts_for_one() {
    let sandbox = Sandbox::new();
    let mut made = Made::new(Form::V73, &[(b"vm", vec![MadeFile::new(1, 3 * PAGE), MadeFile::new(2, 3 * PAGE)])]);
    let list = made.memory.get(made.records[0][0] + 32);
    made.memory.put(made.records[0][1] + 32, list);
    sandbox.write("shared", &made.memory.elf());
    let found = sandbox.gmfs("inspect --json shared files");
    let files = found.json()["files"].clone();
    let extents = |path: &str| {
        let file = files.as_array().unwrap().iter().find(|file| file["path"] == path).unwrap();
        file["extents"].as_array().unwrap().len()
    };
    assert!(extents("/vm/0x1") > 0 && extents("/vm/0x2") == 0 && found.code == 1, "{files}");
    let page = made.memory.get(made.memory.get(list + 8)) & ((1 << 52) - 1);
    let owner = sandbox.gmfs(&format!("who --json shared {:#x}", page * PAGE)).json()["addresses"][0].clone();
    assert_eq!((&owner["what"], &owner["path"]), (&"file".into(), &"/vm/0x1".into()), "{owner}");
    let checked = sandbox.gmfs("fsck -n shared");
    assert!(checked.code == 4 && checked.text().contains("GM0803"), "{}", checked.all());
}

/// A slash in a name is one, and not the bytes that stand for it somewhere.
#[test]
fn names_with_slashes_and_with_odd_bytes_stay_apart() {
    let sandbox = Sandbox::new();
    let names: [&[u8]; 3] = [b"a/b", b"a\xc0\xafb", b""];
    let sessions: Vec<_> = names.iter().zip(1..).map(|(name, token)| (*name, vec![MadeFile::new(token, 9)])).collect();
    let made = Made::new(Form::V619, &sessions);
    sandbox.write("dump", &made.memory.elf());
    let listed = sandbox.gmfs("ls dump --json").json()["entries"].clone();
    let of = |name: &str| {
        listed.as_array().unwrap().iter().find(|entry| entry["path"] == name).unwrap()["path_bytes"].clone()
    };
    assert_eq!((of("/a\\x2fb"), of("/a\\xc0\\xafb")), ("2f612f62".into(), "2f61c0af62".into()), "{listed}");
    for (path, token) in [("/a\\x2fb", 1), ("/a\\xc0\\xafb", 2), ("/\\x00", 3)] {
        let cat = sandbox.gmfs(&format!("cat dump {path}/{token:#x}"));
        assert!(cat.code == 0 && cat.stdout == content(token, 0)[..9], "{path}: {}", cat.stderr);
    }
    std::fs::create_dir(sandbox.path("to")).unwrap();
    sandbox.ok("extract dump / to");
    assert_eq!(std::fs::read_dir(sandbox.path("to")).unwrap().count(), 3);
}

#[test]
fn two_files_never_become_one_outside() {
    let sandbox = Sandbox::new();
    let file = || vec![MadeFile::new(1, 100)];
    let made = Made::new(Form::V73, &[(b"a/b", file()), (b"a\\x2fb", file()), (b"c", file()), (b"d", file())]);
    sandbox.write("dump", &made.memory.elf());
    std::fs::create_dir(sandbox.path("to")).unwrap();
    for _ in 0..2 {
        let shown = sandbox.gmfs("extract -f dump / to");
        assert!(shown.code == 1 && shown.all().contains("has the same name outside"), "{}", shown.all());
    }
    assert_eq!(std::fs::read_dir(sandbox.path("to")).unwrap().count(), 3);
    // Nor do files that are named one by one; what was there before is replaced.
    for _ in 0..2 {
        let shown = sandbox.gmfs("extract -f dump /c/0x1 /d/0x1 to");
        assert!(shown.code != 0 && shown.all().contains("was just made of another file"), "{}", shown.all());
    }
    sandbox.ok("extract -f dump /d/0x1 to");
}
