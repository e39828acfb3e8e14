//! Metadata dumps: made, read as images, obfuscated, and restored.

use crate::images;
use crate::sandbox::{Done, GMFS, Sandbox};
use crate::terminal::Terminal;

/// The codes of a check's findings.
fn codes(sandbox: &Sandbox, image: &str) -> Vec<String> {
    let found = sandbox.gmfs(&format!("fsck -n --json {image}")).json();
    let findings = found["findings"].as_array().unwrap_or_else(|| panic!("{found}"));
    findings.iter().map(|finding| finding["code"].to_string()).collect()
}

/// The output of the reading commands for an image, without its name.
fn read(sandbox: &Sandbox, image: &str) -> Vec<String> {
    let lines =
        ["ls -l IMAGE", "tree IMAGE", "map IMAGE /vms/first.mem", "inspect IMAGE pages", "inspect IMAGE inodes"];
    let said = |line: &&str| sandbox.gmfs(&line.replace("IMAGE", image)).all().replace(image, "IMAGE");
    lines.iter().map(said).collect()
}

fn damage(sandbox: &Sandbox) {
    for (page, copy, how) in
        [(0, "A", "zero"), (1, "B", "flip"), (2, "A", "overwrite"), (2, "B", "flip"), (3, "A", "tear")]
    {
        sandbox.ok_any(&format!("inject region.img --page {page} --copy {copy} --how {how}"));
    }
}

impl Sandbox {
    /// Runs a command line that must succeed, whatever it prints.
    fn ok_any(&self, line: &str) -> String {
        let done = self.gmfs(line);
        assert_eq!(done.code, 0, "gmfs {line}: {done:?}");
        done.text()
    }
}

#[test]
fn a_dump_is_an_image_of_its_own() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    for (file, damaged) in [("whole", false), ("damaged", true)] {
        if damaged {
            damage(&sandbox);
        }
        sandbox.ok_any(&format!("dump region.img -o {file}"));
        assert!(sandbox.read(file).len() < 1 << 20);
        assert_eq!(codes(&sandbox, file), codes(&sandbox, "region.img"));
        assert_eq!(codes(&sandbox, file).is_empty(), !damaged);
        assert_eq!(read(&sandbox, file), read(&sandbox, "region.img"));
        sandbox.ok_any(&format!("dump {file} -o again-{file}"));
        assert!(sandbox.read(file) == sandbox.read(&format!("again-{file}")));
    }
    let done = sandbox.gmfs("cat whole /vms/first.mem");
    assert!(done.code != 0 && done.stderr.contains("left out of the dump"), "{done:?}");
    sandbox.fails("mkdir whole /x", "a dump cannot be written");
    sandbox.fails("dump region.img -o whole", "it exists already");
    let cut = sandbox.read("whole");
    sandbox.write("cut", &cut[..cut.len() - 1]);
    sandbox.fails("ls cut", "the metadata dump is incomplete");
}

#[test]
fn without_superblocks_everything_is_dumped() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    for copy in ["A", "B"] {
        sandbox.ok_any(&format!("inject region.img --page 0 --copy {copy} --how overwrite"));
    }
    sandbox.ok_any("dump region.img -o lost");
    assert_eq!(codes(&sandbox, "lost"), codes(&sandbox, "region.img"));
}

#[test]
fn a_dump_that_is_put_back_is_dumped_again() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok_any("dump region.img -f -o before");
    let before = sandbox.read("region.img");
    sandbox.ok_any("mv region.img /vms/first.mem /moved");
    let changed = sandbox.read("region.img");
    assert!(before != changed);
    sandbox.fails("restore before region.img", "nobody said yes");
    assert!(sandbox.read("region.img") == changed);
    let said = sandbox.ok_any("restore -y --undo undo before region.img");
    assert!(said.contains("/moved: goes"), "{said}");
    sandbox.ok_any("dump region.img -f -o after");
    for line in ["tree", "ls -l"] {
        assert_eq!(sandbox.ok_any(&format!("{line} before")), sandbox.ok_any(&format!("{line} after")));
    }
    sandbox.ok_any("undo undo region.img");
    assert!(sandbox.read("region.img") == changed);
    sandbox.ok_any("restore -y before region.img");
    assert!(sandbox.ok_any("restore before region.img").contains("nothing has changed"));
    // A state with a page that is lost in both copies cannot be restored.
    damage(&sandbox);
    sandbox.ok_any("dump region.img -f -o damaged");
    sandbox.gmfs("repair -y region.img");
    let repaired = sandbox.read("region.img");
    sandbox.fails("restore -y damaged region.img", "missing in both copies");
    assert!(sandbox.read("region.img") == repaired);
}

#[test]
fn dumps_of_other_regions_are_refused() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok_any("mkfs other.img --size 64M");
    sandbox.ok_any("mkfs small.img --size 16M");
    sandbox.ok_any("dump region.img -o dump");
    sandbox.ok_any("dump --obfuscate region.img -o strange");
    sandbox.ok_any("dump strange -o strange-too");
    sandbox.fails("restore -y dump other.img", "-f puts it back");
    sandbox.fails("restore -y -f dump small.img", "cannot hold");
    sandbox.fails("restore -y -f strange region.img", "obfuscated");
    sandbox.fails("restore -y -f strange-too region.img", "obfuscated");
    sandbox.fails("restore -y region.img region.img", "this is not a metadata dump");
    sandbox.ok_any("restore -y -f dump other.img");
    assert_eq!(read(&sandbox, "other.img"), read(&sandbox, "region.img"));
}

#[test]
fn an_obfuscated_dump_names_nothing_and_is_checked_alike() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    for damaged in [false, true] {
        if damaged {
            damage(&sandbox);
        }
        let names: Vec<Vec<u8>> = ["first", "second", "sparse", "vms", "guests"].map(Into::into).into();
        sandbox.ok_any("dump --obfuscate region.img -f -o strange");
        let bytes = sandbox.read("strange");
        for name in &names {
            assert!(!bytes.windows(name.len()).any(|window| window == name), "{name:?}");
        }
        assert_eq!(codes(&sandbox, "strange"), codes(&sandbox, "region.img"));
    }
}

#[test]
fn the_text_is_stable() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let text = sandbox.ok("dump --text region.img").text();
    insta::assert_snapshot!("metadump_text", text.replace(env!("CARGO_PKG_VERSION"), "[version]"));
    sandbox.ok("dump region.img --text -o text");
    assert_eq!(sandbox.read("text"), text.as_bytes());
    sandbox.ok_any("dump region.img -o dump");
    assert_eq!(sandbox.ok("dump --text dump").text(), text);
    assert_eq!(sandbox.ok("dump region.img --json -f -o dump").json()["absent_pages"], 0);
}

/// A dump that could not be written completely is not there, and the file that it would have replaced is.
#[test]
fn a_dump_is_there_whole_or_not_at_all() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.write("there", b"something else");
    let limited = |line: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("ulimit -f 2; exec {GMFS} {line}")]).current_dir(sandbox.path(""));
        Done::from(command.output().unwrap())
    };
    for line in ["dump region.img -o new", "dump --text region.img -o new", "dump region.img -f -o there"] {
        let done = limited(line);
        assert!(done.code == 2 && done.stderr.contains("\n  next: "), "{line}: {done:?}");
    }
    let mut names: Vec<_> =
        std::fs::read_dir(sandbox.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["region.img", "there"]);
    assert_eq!(sandbox.read("there"), b"something else");
    sandbox.ok_any("dump region.img -f -o there");
    sandbox.fails("dump region.img -f -o region.img", "it is the image itself");
}

#[test]
fn a_dump_goes_down_a_pipe() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok_any("dump region.img -o file");
    for name in ["-", "/dev/stdout"] {
        let done = sandbox.ok(&format!("dump region.img -o {name}"));
        assert!(done.stdout == sandbox.read("file"), "{name}");
    }
    let done = sandbox.gmfs("dump region.img --json -o -");
    assert_eq!((done.code, &done.json()["error"]["code"]), (2, &"usage".into()));
    let mut terminal = Terminal::start(&sandbox, "dump region.img -o -");
    assert_eq!(terminal.end(), 2);
    assert!(terminal.shown.contains("a dump is no text"), "{}", terminal.shown);
}

/// The text of an obfuscated dump is that of the region, with the same obfuscated names.
#[test]
fn text_and_dump_are_obfuscated_alike() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    for damaged in [false, true] {
        if damaged {
            damage(&sandbox);
        }
        sandbox.ok_any("dump --obfuscate region.img -f -o strange");
        let told = sandbox.ok("dump --obfuscate --text region.img").text();
        assert_eq!(told, sandbox.ok("dump --text strange").text());
        assert!(!told.contains("first.mem") && !told.contains("guests"), "{told}");
        assert_eq!(told.lines().count(), sandbox.ok("dump --text region.img").text().lines().count());
    }
}

#[test]
fn putting_back_is_asked_for() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok_any("dump region.img -o dump");
    sandbox.ok_any("mv region.img /sparse /vms/other");
    let changed = sandbox.read("region.img");
    let question = "Put the metadata back? [y]es, [n]o: ";
    for answer in ["n\n", "\n", "what\n", "\x04"] {
        let mut terminal = Terminal::start(&sandbox, "restore --undo undo dump region.img");
        terminal.answer(question, answer);
        assert_eq!(terminal.end(), 2, "{}", terminal.shown);
        assert!(terminal.shown.contains("nothing was written: nobody said yes"), "{}", terminal.shown);
        assert!(sandbox.read("region.img") == changed && !sandbox.exists("undo"));
    }
    let mut terminal = Terminal::start(&sandbox, "restore --undo undo dump region.img");
    // No other process gets the lock while the question is on the terminal.
    assert!(terminal.shows(question));
    sandbox.fails("rm region.img /vms/other --wait 0", "is locked by process");
    terminal.say("yes\n");
    assert_eq!(terminal.end(), 0, "{}", terminal.shown);
    assert!(terminal.shown.contains("/sparse: comes back"), "{}", terminal.shown);
    sandbox.ok_any("dump region.img -o again");
    assert_eq!(sandbox.ok_any("tree again"), sandbox.ok_any("tree dump"));
    sandbox.ok_any("undo undo region.img");
    assert!(sandbox.read("region.img") == changed);
}

#[test]
fn a_dump_that_is_not_whole_is_not_put_back() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok_any("dump region.img -o dump");
    sandbox.ok_any("mv region.img /sparse /moved");
    let before = sandbox.read("region.img");
    let good = sandbox.read("dump");
    let refused = |bytes: &[u8]| {
        sandbox.write("bad", bytes);
        let done = sandbox.fails("restore -y -f --undo undo bad region.img", "\n  next: ");
        assert!(sandbox.read("region.img") == before && !sandbox.exists("undo"), "{done:?}");
    };
    for at in (0..good.len()).step_by(good.len() / 13) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        refused(&flipped);
        refused(&good[..at]);
    }
    refused(&good[..good.len() - 24]);
}
