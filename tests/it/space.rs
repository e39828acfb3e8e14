//! Usage and free memory: `df`, `metrics`, and the drawing of `map`.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gmfs_format::native::units::{CopyId, PageNo};
use serde_json::Value;

use crate::dumpfiles::unpack;
use crate::images;
use crate::sandbox::Sandbox;

#[test]
fn df_shows_each_region_and_tells_whether_a_guest_fits() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    sandbox.ok("mkfs large.img --size 4G --base 0x20000000 -q");
    insta::assert_snapshot!("df", sandbox.ok("df region.img large.img").text());
    insta::assert_snapshot!("df_fits", sandbox.gmfs("df region.img large.img --fits 2G").all());
    let fits = |line: &str, status: i32| {
        let done = sandbox.gmfs(&format!("{line} --json"));
        assert_eq!((done.code, done.stderr.as_str()), (status, ""), "{line}");
        let answer = done.json()["stores"][0].clone();
        (answer["guest"]["fits"] == true, answer["guest"]["fits_aligned"] == true)
    };
    assert_eq!(fits("df large.img --fits 3G --align-1g", 0), (true, true));
    assert_eq!(fits("df large.img --fits 3900M", 0), (true, false));
    assert_eq!(fits("df large.img --fits 3900M --align-1g", 1), (true, false));
    assert_eq!(fits("df large.img --fits 4G", 1), (false, false));
    // What is said comes true.
    sandbox.ok("create -n large.img /a --size 3900M");
    assert_eq!(sandbox.gmfs("create -n large.img /a --size 3900M --align-1g").code, 2);
    sandbox.ok("create -n large.img /a --size 3G --align-1g");
    let same = sandbox.ok("df region.img --json").json();
    let usage = sandbox.ok("inspect region.img --json").json()["usage"].clone();
    for key in ["free", "data", "bad", "reserved", "metadata", "inodes_used"] {
        assert_eq!(same["stores"][0]["usage"][key], usage[key], "{key}");
    }
    assert_eq!(same["stores"][0]["space"]["free_bytes"].as_u64().unwrap(), usage["free"].as_u64().unwrap() << 21);
}

#[test]
fn df_goes_on_where_an_image_cannot_be_read() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let done = sandbox.fails_with(2, "df none.img region.img", "none.img");
    assert!(done.text().contains("region.img"), "{done:?}");
    assert_eq!(sandbox.gmfs("df none.img --json").json()["schema"], "gmfs.error/1");
}

#[test]
fn what_cannot_be_read_is_not_called_free() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let free = |line: &str| sandbox.gmfs(line).json()["stores"][0]["space"].clone();
    let before = free("df region.img --json");
    // The page of the block table, in both copies.
    let geometry = images::superblock(&sandbox, "region.img").geometry();
    for copy in CopyId::BOTH {
        images::poke(&sandbox, "region.img", geometry.page_offset(copy, PageNo(1)) + 100, b"damage");
    }
    let done = sandbox.gmfs("df region.img --json");
    assert!(done.code == 1 && done.stderr.contains("nothing tells whether"), "{done:?}");
    let after = done.json()["stores"][0]["space"].clone();
    let sum = |space: &Value| space["free_bytes"].as_u64().unwrap() + space["unknown_bytes"].as_u64().unwrap();
    assert!(after["unknown_bytes"].as_u64().unwrap() > 0 && sum(&after) >= sum(&before), "{before} {after}");
}

#[test]
fn stores_of_the_kernel_s_drivers_have_free_memory_too() {
    let Some(dir) = gmfs_testing::fixtures("kernel-layouts") else { return };
    for (folder, file) in [("pk_flat", "main"), ("pk_flat", "empty"), ("pk_iommu", "main"), ("pk_quirks", "c1")] {
        let sandbox = Sandbox::new();
        unpack(&sandbox, &dir.join(folder), &format!("{file}.raw"));
        let found = sandbox.ok(&format!("df {file}.raw --json")).json()["stores"][0].clone();
        let (usage, space) = (&found["usage"], &found["space"]);
        assert_eq!(space["free_bytes"].as_u64().unwrap(), usage["free"].as_u64().unwrap() << 21, "{folder}: {found}");
    }
}

/// The names of all metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("gmfs_") && word.len() > 5).map(str::to_owned).collect()
}

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/prometheus").join(name)
}

/// A region with everything that there are metrics of, a damaged one, and one that cannot be read: their metrics.
fn metrics(sandbox: &Sandbox) -> String {
    images::sample(sandbox);
    sandbox.ok("bad add region.img block:20");
    sandbox.succeeds("seal region.img -q");
    sandbox.succeeds("fsck -p region.img -q");
    images::sample_at(&sandbox.path("damaged.img"), 0);
    sandbox.ok("inject damaged.img GM0402");
    let done = sandbox.fails_with(2, "metrics region.img damaged.img none.img", "none.img");
    done.text()
}

#[test]
fn metrics_are_what_inspect_and_fsck_say() {
    let sandbox = Sandbox::new();
    let text = metrics(&sandbox);
    insta::assert_snapshot!("metrics", text.replace(env!("CARGO_PKG_VERSION"), "[version]"));
    let json = sandbox.gmfs("metrics region.img damaged.img none.img --json").json();
    let names: BTreeSet<String> =
        json["metrics"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, named(&text));
    let value = |line: &str| {
        let found = text.lines().find_map(|own| own.strip_prefix(line)).unwrap_or_else(|| panic!("{line}: {text}"));
        found.trim().parse::<f64>().unwrap()
    };
    let usage = sandbox.ok("inspect region.img --json").json()["usage"].clone();
    for state in ["free", "data", "bad", "reserved", "metadata"] {
        let line = format!("gmfs_region_blocks{{image=\"region.img\",state=\"{state}\"}}");
        assert_eq!(value(&line), usage[state].as_f64().unwrap(), "{state}");
    }
    let summary = sandbox.gmfs("fsck -n damaged.img --json").json()["summary"].clone();
    for severity in ["note", "warning", "error", "fatal"] {
        let line = format!("gmfs_region_findings{{image=\"damaged.img\",severity=\"{severity}\"}}");
        assert_eq!(value(&line), summary[severity].as_f64().unwrap(), "{severity}");
    }
    assert_eq!(value("gmfs_region_verdict{image=\"damaged.img\",verdict=\"damaged\"}"), 1.0);
}

#[test]
fn a_file_of_metrics_is_replaced_as_a_whole_and_can_be_read_by_others() {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let path = sandbox.path("gmfs.prom");
    let dry = sandbox.ok("metrics region.img -o gmfs.prom -n");
    assert!(!path.exists() && dry.text().contains("nothing was written"), "{dry:?}");
    sandbox.ok("metrics region.img -o gmfs.prom -q");
    let first = path.metadata().unwrap();
    assert_eq!(first.mode() & 0o7777, 0o644);
    sandbox.fails_with(2, "metrics region.img none.img -o gmfs.prom", "none.img");
    assert_ne!(path.metadata().unwrap().ino(), first.ino(), "it is not written in its place");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("gmfs_region_up{image=\"none.img\"} 0\n") && text.ends_with("# EOF\n"), "{text}");
    assert_eq!(std::fs::read_dir(sandbox.path("")).unwrap().count(), 2, "nothing else is left");
    sandbox.fails("metrics region.img -o region.img", "it is the image itself");
    sandbox.fails_with(2, "metrics region.img region.img", "named twice");
}

#[test]
fn rules_and_dashboard_name_metrics_that_there_are() {
    let sandbox = Sandbox::new();
    let there = named(&metrics(&sandbox));
    assert!(there.len() > 20, "{there:?}");
    for file in ["gmfs.rules.yml", "gmfs-dashboard.json"] {
        let text = std::fs::read_to_string(contrib(file)).unwrap();
        let wanted = named(&text);
        assert!(wanted.len() > 5, "{file}: {wanted:?}");
        let missing: Vec<&String> = wanted.difference(&there).collect();
        assert!(missing.is_empty(), "{file}: {missing:?}");
    }
}

/// Whether a program of Prometheus is here.
fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: no {program} on this machine (Debian: prometheus)");
    }
    there
}

#[test]
fn promtool_has_nothing_to_say() {
    if !has("promtool") {
        return;
    }
    let sandbox = Sandbox::new();
    let text = metrics(&sandbox);
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    let output = Command::new("promtool").args(["check", "rules"]).arg(contrib("gmfs.rules.yml")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Sends a request to a server on this machine, and returns the body of its answer.
fn ask(port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

/// The result of an expression.
fn query(port: u16, expression: &str) -> Option<Value> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    serde_json::from_str(&ask(port, &request)?).ok()
}

/// Stops a server at the end of a test.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A real Prometheus scrapes the metrics, evaluates each expression of the dashboard, and fires the alerts that apply.
#[test]
fn prometheus_scrapes_it_and_understands_each_expression() {
    if !has("prometheus") {
        return;
    }
    let sandbox = Sandbox::new();
    let text = metrics(&sandbox);
    let exporter = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = exporter.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in exporter.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{text}", text.len());
        }
    });
    let rules = contrib("gmfs.rules.yml");
    let rules = std::fs::read_to_string(rules).unwrap();
    // Alerts wait before they fire, and this test does not.
    let rules: String =
        rules.lines().filter(|line| !line.trim().starts_with("for:")).map(|line| format!("{line}\n")).collect();
    sandbox.write("rules.yml", rules.as_bytes());
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\n\
         scrape_configs: [{{job_name: gmfs, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
    );
    sandbox.write("prometheus.yml", config.as_bytes());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("prometheus");
    command.current_dir(sandbox.path("")).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Server(command.spawn().unwrap());
    let began = Instant::now();
    let mut firing = BTreeSet::new();
    let wanted = ["GmfsRegionBadBlocks", "GmfsRegionDamaged", "GmfsRegionUnreadable"];
    while !wanted.iter().all(|name| firing.contains(*name)) {
        assert!(began.elapsed() < Duration::from_secs(60), "only {firing:?} are firing");
        std::thread::sleep(Duration::from_millis(500));
        let Some(answer) = query(port, "ALERTS{alertstate=\"firing\"}") else { continue };
        let found = answer["data"]["result"].as_array().into_iter().flatten();
        firing = found.map(|one| one["metric"]["alertname"].as_str().unwrap().to_owned()).collect();
    }
    assert!(!firing.contains("GmfsRegionAlmostFull"), "{firing:?}");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(contrib("gmfs-dashboard.json")).unwrap()).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut tried = 0;
    for expression in targets.map(|target| target["expr"].as_str().unwrap()) {
        let expression = expression.replace("$instance", ".*").replace("$image", ".*");
        let answer = query(port, &expression).unwrap();
        let result = answer["data"]["result"].as_array();
        let empty = result.is_none_or(Vec::is_empty);
        // A rate needs two scrapes.
        assert!(answer["status"] == "success" && (!empty || expression.contains("deriv")), "{expression}: {answer}");
        tried += 1;
    }
    assert!(tried > 10);
}
