//! The page that `report` makes: its numbers, what is in it whatever the names are, and how a browser shows it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::dumpfiles::unpack;
use crate::images;
use crate::sandbox::Sandbox;

/// The numbers in a page, by the id of their element.
fn number(page: &str, id: &str) -> Option<u64> {
    let rest = page.split_once(&format!("<data id=\"{id}\" value=\""))?.1;
    Some(rest.split('"').next().unwrap().parse().unwrap())
}

/// The paths of the files that are listed.
fn paths(page: &str) -> Vec<String> {
    let files = page.split("id=\"files\"").nth(1).unwrap().split("</section>").next().unwrap();
    let cells = files.split("<td class=\"path mono\">").skip(1);
    cells.map(|cell| cell.split(['<']).next().unwrap().trim().to_owned()).collect()
}

/// Each number of the page that the answer has too.
fn same_numbers(page: &str, json: &Value) {
    let mut compared = 0;
    let mut same = |id: &str, value: &Value| {
        let Some(value) = value.as_u64() else { return };
        assert_eq!(number(page, id), Some(value), "{id}");
        compared += 1;
    };
    same("size", &json["store"]["size"]);
    same("free_bytes", &json["space"]["free_bytes"]);
    same("free_runs", &json["space"]["free_runs"]);
    same("aligned_bytes", &json["space"]["aligned_bytes"]);
    for key in
        ["block_size", "cell_bytes", "file_count", "directory_count", "extent_count", "fragmented_files", "write_count"]
    {
        same(key, &json[key]);
    }
    for key in ["blocks_sealed", "files_sealed", "files_partly_sealed", "files_unsealed"] {
        same(key, &json["sealing"][key]);
    }
    for key in ["free", "data", "bad", "reserved", "metadata"] {
        same(&format!("blocks_{key}"), &json["usage"][key]);
    }
    same("inodes_used", &json["usage"]["inodes_used"]);
    let all: u64 = json["summary"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    same("finding_count", &all.into());
    for (severity, count) in json["summary"].as_object().unwrap() {
        assert!(number(page, &format!("severity_{severity}")).unwrap_or(0) == count.as_u64().unwrap(), "{severity}");
    }
    if let Some(largest) = json["space"]["largest"].as_object() {
        same("largest_free_run", &largest["length"]);
    }
    assert!(compared > 20, "{compared}");
    let verdict = json["verdict"].as_str().unwrap();
    assert!(page.contains(&format!("badge v-{verdict}\"")), "{verdict}");
}

#[test]
fn a_page_has_the_numbers_of_the_answer_and_of_other_commands() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok("seal region.img /vms -q");
    sandbox.succeeds("bad add region.img block:20");
    let done = sandbox.ok("report region.img -o page.html");
    assert!(done.text().starts_with("page.html: a page of "), "{done:?}");
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    let json = sandbox.ok("report region.img -o page.html -f --json").json();
    assert!(sandbox.read("page.html") == page.as_bytes(), "the same bytes at the same time");
    assert_eq!(json["page_bytes"], page.len());
    same_numbers(&page, &json);
    let df = sandbox.ok("df region.img --json").json()["stores"][0].clone();
    assert_eq!((&df["space"], &df["usage"]), (&json["space"], &json["usage"]));
    assert_eq!(sandbox.ok("map region.img --json").json()["lengths"], json["lengths"]);
    assert_eq!(paths(&page), ["/sparse", "/vms/first.mem", "/vms/second.mem"]);
    // Both files in their own shade, and each cell says what it holds.
    let cells = page.split("id=\"map\"").nth(1).unwrap();
    let of = |class: &str| cells.matches(&format!("<i class=\"{class}\" title=\"")).count();
    assert_eq!((of("metadata"), of("file"), of("file other"), of("bad")), (2, 4, 2, 1), "{cells}");
    assert!(cells.contains("title=\"0x200000 to 0x400000: files 2 MiB · /vms/first.mem\""), "{cells}");
    // The same on standard output, and nothing at all in a dry run.
    assert!(sandbox.ok("report region.img -o -").stdout == page.as_bytes());
    sandbox.fails("report region.img -o page.html", "exists already");
    sandbox.fails("report region.img -o region.img -f", "the image itself");
    let dry = sandbox.ok("report region.img -o other.html -n").text();
    assert!(dry.contains("nothing was written") && !sandbox.exists("other.html"), "{dry}");
    assert_eq!(sandbox.gmfs("report region.img -o - --json").json()["error"]["code"], "usage");
    assert_eq!(sandbox.gmfs("report region.img").code, 2);
}

#[test]
fn damage_is_on_the_page() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok("inject region.img GM0402");
    sandbox.ok("report region.img -o page.html -q");
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    let json = sandbox.ok("report region.img -o page.html -f --json").json();
    same_numbers(&page, &json);
    assert!(json["verdict"] == "damaged" && page.contains("<td class=\"mono\">GM0402</td>"), "{json}");
    // What cannot be told is said, and the rest is there.
    let geometry = images::superblock(&sandbox, "region.img").geometry();
    for copy in gmfs_format::native::units::CopyId::BOTH {
        let page = gmfs_format::native::units::PageNo(geometry.first_inode_page().0);
        images::poke(&sandbox, "region.img", geometry.page_offset(copy, page) + 100, b"damage");
    }
    let done = sandbox.fails_with(1, "report region.img -o page.html -f", "1 page of the inode table is lost");
    assert!(done.text().contains("page.html"), "{done:?}");
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    assert!(page.contains("1 page of the inode table cannot be read"), "{page}");
    sandbox.write("noise", &[7; 10000]);
    sandbox.fails("report noise -o none.html", "noise");
    assert!(!sandbox.exists("none.html"));
}

#[test]
fn hostile_names_stay_names() {
    let sandbox = Sandbox::new();
    images::hostile(&sandbox);
    sandbox.write("x", b"x");
    for name in ["<script>alert(1)", "\"><img/src=x/onerror=alert(1)>", "'onclick='alert(1)", "&lt;b&gt;"] {
        let path = format!("/{}", name.replace('/', "-"));
        sandbox.run(&["put", "hostile.img", "x", &path]);
    }
    std::fs::rename(sandbox.path("hostile.img"), sandbox.path("<b>\"'&.img")).unwrap();
    let done = sandbox.run(&["report", "<b>\"'&.img", "-o", "page.html"]);
    assert_eq!(done.code, 0, "{done:?}");
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    assert_eq!(
        (page.matches("<script").count(), page.matches("<img").count(), page.matches("<b>&").count()),
        (1, 0, 0)
    );
    assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("&lt;b&gt;&quot;"), "{page}");
    assert!(page.chars().all(|c| c == '\n' || !c.is_control()) && !page.contains('\u{202e}'));
}

/// The browser runs and shows only what these sums are of.
#[test]
fn the_policy_names_the_style_and_the_script() {
    use sha2::Digest as _;
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok("report region.img -o page.html -q");
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    for element in ["style", "script"] {
        let text = page.split(&format!("<{element}>")).nth(1).unwrap().split(&format!("</{element}>")).next().unwrap();
        let sum = base64(&sha2::Sha256::digest(text.as_bytes()));
        let policy = format!("{element}-src 'sha256-{sum}'");
        assert!(page.contains(&policy), "crates/gmfs/src/report/page.rs must have: {policy}");
    }
    assert!(page.contains("default-src 'none'"), "nothing is loaded");
    assert!(!page.contains("style=") && !page.contains("http://") && !page.contains("https://"));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word = part.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for digit in 0..4 {
            let known = digit <= part.len();
            text.push(if known { char::from(DIGITS[(word >> (18 - 6 * digit)) as usize & 63]) } else { '=' });
        }
    }
    text
}

#[test]
fn stores_of_other_layouts_have_pages_too() {
    let sandbox = Sandbox::new();
    let page = |image: &str| {
        let json = sandbox.gmfs(&format!("report {image} -o page.html -f --json"));
        assert!(json.code <= 1, "{json:?}");
        (String::from_utf8(sandbox.read("page.html")).unwrap(), json.json())
    };
    if let Some(dir) = gmfs_testing::fixtures("kernel-layouts") {
        unpack(&sandbox, &dir.join("pk_flat"), "main.raw");
        let (page, json) = page("main.raw");
        assert_eq!(json["store"]["layout"], "pkernfs");
        assert_eq!(number(&page, "free_bytes"), json["space"]["free_bytes"].as_u64());
        assert_eq!(number(&page, "file_count"), json["file_count"].as_u64());
        assert!(json["sealing"].is_null() && !page.contains("id=\"seals\""));
    }
    if let Some(dir) = gmfs_testing::fixtures("luo") {
        unpack(&sandbox, &dir, "main-2-frozen.mini.elf");
        let (page, json) = page("main-2-frozen.mini.elf");
        assert!(json["store"]["layout"] == "luo" && json["space"].is_null(), "{json}");
        assert!(!page.contains("id=\"map\"") && json["file_count"].as_u64().unwrap() > 0);
        assert_eq!(number(&page, "file_count"), json["file_count"].as_u64());
    }
}

/// A browser with its own empty profile, which asks the network for nothing.
fn browser(sandbox: &Sandbox, name: &str) -> Option<Command> {
    let found = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].into_iter().find(|path| Path::new(path).exists());
    let Some(path) = found else {
        eprintln!("skipped: chromium is not installed");
        return None;
    };
    let mut command = Command::new("timeout");
    command.args(["120", path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--enable-logging=stderr", &format!("--user-data-dir={}", sandbox.path(name).display())]);
    Some(command)
}

/// A page as the browser has it when its script has run. Whatever the script or the policy complains about is an error.
fn shown(sandbox: &Sandbox, name: &str, hash: &str) -> Option<String> {
    let url = format!("file://{}{hash}", sandbox.path(name).display());
    let done = browser(sandbox, &format!("profile-{}", hash.len()))?.args(["--dump-dom", &url]).output().unwrap();
    let log = String::from_utf8_lossy(&done.stderr);
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(done.status.success() && complaints.is_empty(), "{complaints:?} {log}");
    Some(String::from_utf8(done.stdout).unwrap())
}

#[test]
#[ignore = "starts a browser: scripts/test.sh full"]
fn a_browser_shows_and_searches_it() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.write("x", b"x");
    sandbox.run(&["put", "region.img", "x", "/<script>document.title=1"]);
    let json = sandbox.ok("report region.img -o page.html --json").json();
    let Some(page) = shown(&sandbox, "page.html", "") else { return };
    same_numbers(&page, &json);
    assert!(page.contains("<title>gmfs: region.img</title>") && page.contains("4 of 4 shown"), "{page}");
    let page = shown(&sandbox, "page.html", "#q=VMS%20first").unwrap();
    let rows: Vec<&str> = page.split("id=\"files\"").nth(1).unwrap().split("<tr").skip(2).collect();
    let visible: Vec<&&str> = rows.iter().filter(|row| !row.starts_with(" hidden")).collect();
    assert!(visible.iter().any(|row| row.contains("/vms/first.mem")) && page.contains("1 of 4 shown"), "{page}");
    assert!(rows.iter().any(|row| row.starts_with(" hidden") && row.contains("/sparse")));
    let page = shown(&sandbox, "page.html", "#q=%E0%A4%A").unwrap();
    assert!(page.contains("0 of 4 shown"), "what is no UTF-8 is looked for as it is");
    // Without the script, everything is there but the search.
    assert!(std::fs::read_to_string(sandbox.path("page.html")).unwrap().contains("<search id=\"search\" hidden>"));
    for (name, size) in [("wide.png", "1200,1600"), ("narrow.png", "500,1600")] {
        let url = format!("file://{}", sandbox.path("page.html").display());
        let file = format!("--screenshot={}", sandbox.path(name).display());
        let done = browser(&sandbox, &format!("profile-{name}"))
            .unwrap()
            .args([&format!("--window-size={size}"), &file, &url])
            .output();
        assert!(done.unwrap().status.success());
        assert!(sandbox.read(name).starts_with(b"\x89PNG"), "{name}");
    }
}
