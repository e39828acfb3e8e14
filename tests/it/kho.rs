//! `gmfs kho compat`. What each kexec does is tested with the rules, in `gmfs-kernel`; here is what a user sees of it.

use std::path::Path;

use gmfs_kernel::Codec;
use gmfs_kernel::fuzzing::made::{self, Recipe};
use serde_json::json;

use crate::sandbox::{Done, Sandbox};

const LINE: &str = "kho=on liveupdate=on kho_scratch=16M,48M,16M reserve_mem=2M:4096:alpha reserve_mem=64K:4096:beta";

/// Writes a bzImage with the versions of a release, or without any.
fn image(sandbox: &Sandbox, name: &str, release: &str, versions: &[String], codec: Codec) {
    let strings: Vec<&str> = versions.iter().map(String::as_str).collect();
    let recipe = Recipe { release, strings: &strings, load_size: 0x3c3_3000 };
    sandbox.write(name, &made::bz_image(&recipe, codec));
}

/// Runs it with arguments that have blanks in them.
fn compat(sandbox: &Sandbox, arguments: &[&str]) -> Done {
    sandbox.run(&[&["kho", "compat"], arguments].concat())
}

#[test]
fn a_kernel_without_kho_loses_everything() {
    let sandbox = Sandbox::new();
    image(&sandbox, "vmlinuz", "6.12.9-cloud-amd64", &[], Codec::Zstd);
    let done = compat(&sandbox, &["7.3.4", "vmlinuz"]);
    assert_eq!(done.code, 1);
    assert!(done.text().contains("No: everything will be lost. 6.12.9-cloud-amd64 has no KHO."), "{}", done.text());
    insta::assert_snapshot!("kho_none", done.all());
    let from = compat(&sandbox, &["vmlinuz", "7.3.4"]);
    assert!(from.code == 1 && from.text().contains("No: everything will be lost. 6.12.9-cloud-amd64 has no KHO."));
}

/// The kernel of this machine's distribution, if there is one: none of Debian's up to 6.12 has KHO.
#[test]
fn the_kernel_of_the_distribution() {
    let kernels = std::fs::read_dir("/boot").into_iter().flatten().filter_map(Result::ok);
    let named = kernels.filter(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-6.1"));
    let sandbox = Sandbox::new();
    let mut tried = 0;
    for kernel in named.map(|entry| entry.path()).filter(|path| path.is_file()) {
        let name = kernel.file_name().unwrap().to_str().unwrap();
        let release = name.strip_prefix("vmlinuz-").unwrap();
        if !release.starts_with("6.1.") && !release.starts_with("6.12.") {
            continue;
        }
        let done = compat(&sandbox, &["7.3.4", kernel.to_str().unwrap(), "--json"]);
        assert_eq!(done.code, 1, "{done:?}");
        let answer = done.json();
        assert_eq!((&answer["to"]["release"], &answer["to"]["versions"]), (&release.into(), &json!([])));
        assert!(answer["to"]["load_size"].as_u64().is_some_and(|size| size > 8 << 20), "{answer:#}");
        assert_eq!(answer["rulings"][0]["reason"], "next-without-kho");
        tried += 1;
    }
    if tried == 0 {
        eprintln!("skipped: no kernel of Debian is in /boot (apt-get install linux-image-cloud-amd64)");
    }
}

#[test]
fn kernels_that_agree_keep_everything_in_every_compression() {
    let sandbox = Sandbox::new();
    for codec in Codec::ALL {
        image(&sandbox, "vmlinuz", "7.3.4", &made::upstream("7.3.4"), codec);
        let done = compat(&sandbox, &["7.2.8", "vmlinuz"]);
        assert_eq!(done.code, 0, "{done:?}");
        if codec == Codec::Xz {
            insta::assert_snapshot!("kho_kept", done.all());
        }
    }
    let quiet = compat(&sandbox, &["7.2.8", "vmlinuz", "-q"]);
    assert!(quiet.code == 0 && quiet.stderr.is_empty() && quiet.text().contains("Yes: all that is in use is kept."));
}

#[test]
fn a_panic_is_foretold_and_depends_on_what_is_in_use() {
    let sandbox = Sandbox::new();
    let done = compat(&sandbox, &["6.19.11", "7.0.13", "-v"]);
    assert_eq!(done.code, 1);
    insta::with_settings!({ filters => vec![(r"took \d+\.\d+ s", "took [time]")] }, {
        insta::assert_snapshot!("kho_panic", done.all());
    });
    assert_eq!(compat(&sandbox, &["6.19.11", "7.0.13", "--uses", "regions"]).code, 0);
    assert_eq!(compat(&sandbox, &["6.19.11", "7.0.13", "--uses", "regions,luo"]).code, 1);
    assert_eq!(compat(&sandbox, &["6.19.11", "7.0.13", "--cmdline", "kho=off", "--uses", "sessions"]).code, 1);
    let used = compat(&sandbox, &["6.19.11", "7.0.13", "--uses", "guests"]);
    assert!(used.code == 2 && used.stderr.contains("invalid value 'guests'"), "{used:?}");
}

#[test]
fn each_region_is_judged() {
    let sandbox = Sandbox::new();
    let next = "kho=on liveupdate=on reserve_mem=1M:4096:alpha reserve_mem=64K:1M:beta reserve_mem=1M:4096:more mem";
    let line = |more: &[&str]| {
        let own = ["7.3.4", "7.3.4", "--from-cmdline", LINE, "--cmdline", next];
        compat(&sandbox, &[&own, more].concat())
    };
    let done = line(&[]);
    assert_eq!(done.code, 1);
    insta::assert_snapshot!("kho_regions", done.all());
    let verdicts = |at: &str| {
        let answer = line(&["--at", at, "--json"]).json();
        let regions = answer["reserved_regions"].as_array().unwrap().clone();
        regions.iter().map(|region| region["verdict"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(verdicts("beta=0x1790_5000".replace('_', "").as_str()), "held held");
    assert_eq!(verdicts("beta=0x17900000"), "held kept");
    let unknown = line(&["--at", "gamma=4096"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("FROM has no region 'gamma'"), "{unknown:?}");
    // The words that it says to use are the right ones.
    let mended = next.replace("1M:4096:alpha", "2M:4K:alpha").replace("64K:1M", "64K:4K");
    let done = compat(&sandbox, &["7.3.4", "7.3.4", "--from-cmdline", LINE, "--cmdline", &mended]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("TO ignores 'mem'"), "{done:?}");
}

#[test]
fn a_load_that_is_refused_loses_nothing() {
    let sandbox = Sandbox::new();
    image(&sandbox, "vmlinuz", "7.3.4", &made::upstream("7.3.4"), Codec::Gzip);
    let done = compat(&sandbox, &["7.3.4", "vmlinuz", "--from-cmdline", LINE]);
    assert_eq!(done.code, 1);
    insta::assert_snapshot!("kho_refused", done.all());
    std::fs::File::create(sandbox.path("initrd")).unwrap().set_len(21 << 20).unwrap();
    let initrd = |areas: &str| {
        let line = LINE.replace("16M,48M,16M", areas);
        compat(&sandbox, &["7.3.4", "7.3.4", "--from-cmdline", &line, "--initrd", "initrd", "--json"])
    };
    assert_eq!(initrd("16M,16M,16M").json()["rulings"][0]["reason"], "initrd-does-not-fit");
    assert_eq!(initrd("16M,32M,16M").code, 0);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let sandbox = Sandbox::new();
    sandbox.write("text", b"no kernel");
    sandbox.write("program.efi", b"MZ a program");
    image(&sandbox, "vmlinuz", "7.3.4", &made::upstream("7.3.4"), Codec::Zstd);
    let whole = sandbox.read("vmlinuz");
    sandbox.write("cut", &whole[..4000]);
    // gzip has a checksum.
    image(&sandbox, "damaged", "7.3.4", &made::upstream("7.3.4"), Codec::Gzip);
    let mut damaged = sandbox.read("damaged");
    let at = damaged.len() - 3000;
    damaged[at..at + 200].fill(0x55);
    sandbox.write("damaged", &damaged);
    for (image, code, saying) in [
        ("none", "not-found", "cannot read the kernel image none: there is no such file"),
        (".", "wrong-kind", "it is no file"),
        ("text", "not-kernel", "neither a bzImage, nor a vmlinux"),
        ("program.efi", "not-kernel", "objcopy"),
        ("cut", "image-cut", "it is cut short"),
        ("damaged", "image-damaged", "compressed by gzip, is damaged"),
        ("9.9.9", "unknown-release", "give its kernel image instead"),
        ("/dev/zero", "wrong-kind", "it is no file"),
    ] {
        let done = compat(&sandbox, &["7.3.4", image]);
        assert!(done.code == 2 && done.stdout.is_empty() && done.stderr.contains(saying), "{image}: {done:?}");
        let answer = compat(&sandbox, &[image, "7.3.4", "--json"]).json();
        assert_eq!(answer["error"]["code"], code, "{image}: {answer:#}");
    }
    let initrd = compat(&sandbox, &["7.3.4", "7.3.4", "--initrd", "none"]);
    assert!(initrd.code == 2 && initrd.stderr.contains("the initrd none"), "{initrd:?}");
    assert_eq!(compat(&sandbox, &["7.3.4", ""]).code, 2);
    // A file that is called like a release.
    sandbox.write("9.9.9", &whole);
    assert_eq!(compat(&sandbox, &["7.3.4", "./9.9.9"]).code, 0);
}

/// Whatever kernel runs here, it is judged, or gmfs says why it is not.
#[test]
fn the_running_kernel() {
    let sandbox = Sandbox::new();
    let done = compat(&sandbox, &["running", "7.3.4", "--json"]);
    let answer = done.json();
    if done.code == 2 {
        assert_eq!(answer["schema"], "gmfs.error/1", "{answer:#}");
        return;
    }
    assert_eq!(answer["from"]["source"], "running");
    let release = std::fs::read_to_string(Path::new("/proc/sys/kernel/osrelease")).unwrap();
    assert_eq!(answer["from"]["release"], release.trim_end());
}
