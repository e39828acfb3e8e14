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
