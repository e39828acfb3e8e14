//! Copies content out of an image: every kind of image and of output must give the same bytes, whichever system call
//! copies.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::process::Stdio;

use crate::images::{self, BLOCK, SIZE, Segment};
use crate::sandbox::{Done, Sandbox};

/// The offset of the region in `shifted.img`, which is not that of a page.
const SHIFT: u64 = (5 << 20) + 1536;
/// The address of the region in the memory of `vmcore`.
const BASE: u64 = 1 << 32;
/// The content of a file before gmfs writes to it.
const OLD: [u8; 5000] = [0xee; 5000];

/// The same region as a file, as part of a file, and in a dump. The content of /mixed: 2 MiB of noise, 1 MiB of zeros,
/// a hole of 3 MiB, and 5 bytes of noise.
fn sandbox() -> (Sandbox, Vec<u8>) {
    let sandbox = Sandbox::new();
    images::sample(&sandbox);
    let mib = 1 << 20;
    let mut content = images::content()[..2 * mib].to_vec();
    content.resize(6 * mib, 0);
    content.extend_from_slice(b"noise");
    let file = File::create(sandbox.path("content")).unwrap();
    file.write_all_at(&content[..3 * mib], 0).unwrap();
    file.write_all_at(b"noise", 6 * mib as u64).unwrap();
    sandbox.ok("put region.img content /mixed --sparse");
    let region = sandbox.read("region.img");
    File::create(sandbox.path("shifted.img")).unwrap().set_len(SHIFT + SIZE + 4096).unwrap();
    images::poke(&sandbox, "shifted.img", SHIFT, &region);
    let memory = Segment { address: BASE, size: SIZE, bytes: region };
    sandbox.write("vmcore", &images::elf(&[memory]));
    (sandbox, content)
}

/// The kinds of standard output.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Out {
    New,
    /// A file with content under and after what is written.
    Over,
    /// A file with content, opened for appending.
    Append,
    /// A file whose offset is past its end.
    Beyond,
    Pipe,
}

/// Runs a command with this kind of standard output, and returns what it wrote.
fn written(sandbox: &Sandbox, line: &str, out: Out) -> (Done, Vec<u8>) {
    let args: Vec<&str> = line.split_whitespace().collect();
    let mut command = sandbox.command(&args);
    if out == Out::Pipe {
        let done: Done = command.output().unwrap().into();
        let bytes = done.stdout.clone();
        return (done, bytes);
    }
    let path = sandbox.path("out");
    let _ = std::fs::remove_file(&path);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let (before, after) = match out {
        Out::New | Out::Pipe => (0, 0),
        Out::Over => (100, 8 << 20),
        Out::Append => (OLD.len(), 0),
        Out::Beyond => (9999, 0),
    };
    let old = match out {
        Out::Over => vec![OLD[0]; after],
        Out::New | Out::Pipe => Vec::new(),
        Out::Append | Out::Beyond => OLD.to_vec(),
    };
    file.write_all(&old).unwrap();
    file.seek(SeekFrom::Start(before as u64)).unwrap();
    let stdout = match out {
        Out::Append => File::options().append(true).open(&path).unwrap(),
        _ => file.try_clone().unwrap(),
    };
    let done: Done = command.stdout(stdout).stderr(Stdio::piped()).output().unwrap().into();
    // The next command that shares standard output continues after what was written.
    if out != Out::Append {
        file.write_all(b"next").unwrap();
    }
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    let kept = before.min(old.len());
    assert!(all[..kept] == old[..kept] && all[kept..before].iter().all(|byte| *byte == 0), "{line} {out:?}");
    if out == Out::Append {
        return (done, all.split_off(before));
    }
    let end = all[before..].windows(4).rposition(|bytes| bytes == b"next").unwrap();
    let behind = before + end + 4;
    assert!(behind >= old.len() || all[behind..] == old[behind..], "{line} {out:?}");
    (done, all[before..before + end].to_vec())
}

#[test]
fn the_same_bytes_from_everywhere_to_everywhere() {
    let (sandbox, content) = sandbox();
    let region = sandbox.read("region.img");
    let shifted = format!("shifted.img --region 64M:{SHIFT}");
    for image in ["region.img", &shifted, "vmcore"] {
        for out in [Out::New, Out::Over, Out::Append, Out::Beyond, Out::Pipe] {
            let (image, path) = image.split_once(' ').unwrap_or((image, ""));
            for (line, wanted) in [
                (format!("cat {image} {path} /mixed"), &content[..]),
                (format!("cat {image} {path} /mixed --offset 1000001 --length 4M"), &content[1_000_001..][..4 << 20]),
                (format!("save {image} {path} -o -"), &region[..]),
            ] {
                let (done, found) = written(&sandbox, &line, out);
                assert!(done.code == 0 && found == wanted, "{line} {out:?}: {} {}", done.code, done.stderr);
            }
        }
        sandbox.ok(&format!("extract {image} /mixed got -f"));
        sandbox.ok(&format!("save {image} -o saved -f"));
        assert!(sandbox.read("got") == content && sandbox.read("saved") == region, "{image}");
        // The hole is still a hole.
        let held = std::fs::metadata(sandbox.path("got")).unwrap().blocks() * 512;
        assert!(held < content.len() as u64 - (2 << 20), "{image}: {held}");
    }
}

/// Content that the image does not hold is reported, however the rest is copied.
#[test]
fn what_is_missing_is_named_whoever_copies() {
    let (sandbox, content) = sandbox();
    let map = sandbox.ok("map region.img /mixed --json").json();
    let at = map["extents"][0]["address"].as_u64().unwrap();
    // The image ends within the first block of the file.
    for cut in [BLOCK / 2 + 1000, BLOCK / 2] {
        let file = File::options().write(true).open(sandbox.path("region.img")).unwrap();
        file.set_len(at + cut).unwrap();
        let whole = usize::try_from(cut).unwrap();
        for out in [Out::New, Out::Append, Out::Pipe] {
            let (done, found) = written(&sandbox, "cat region.img /mixed", out);
            assert!(done.code == 2 && found.is_empty(), "{out:?}: {done:?}");
            assert!(done.stderr.contains("past the end of the image"), "{done:?}");
        }
        let (done, found) = written(&sandbox, "cat region.img /mixed --sparse-absent", Out::New);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(found[..whole] == content[..whole] && found.len() == content.len());
        assert!(found[whole..].iter().take(1 << 20).all(|byte| *byte == 0), "a hole");
        sandbox.fails("extract region.img /mixed got", "past the end of the image");
        assert!(!sandbox.exists("got") && !sandbox.exists("got.partial"));
    }
}
