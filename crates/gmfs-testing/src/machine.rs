//! Captured machines: what `/proc` and `/sys` say about a machine's memory, in one text.
//!
//! A line `# PATH` starts a file, and the lines after it are the file's content. Two paths stand for many files each:
//! `# firmware` for the firmware's map, with lines as in `/proc/iomem`, and `# nodes`, with lines such as `1: 100-1ff`
//! that name memory blocks by their first and last number in hexadecimal.

use std::fs;
use std::path::Path;

/// Writes the files of a captured machine below a folder.
///
/// # Panics
/// The text has another form, or the files cannot be written.
pub fn lay_out(text: &str, root: &Path) {
    let write = |path: &str, content: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    for part in text.split("\n# ").map(|part| part.trim_start_matches("# ")) {
        let (path, content) = part.split_once('\n').unwrap_or((part, ""));
        let content = format!("{}\n", content.trim_end());
        match path {
            "firmware" => {
                for (number, line) in content.lines().enumerate() {
                    let (range, kind) = line.split_once(" : ").unwrap();
                    let (start, end) = range.split_once('-').unwrap();
                    let folder = format!("sys/firmware/memmap/{number}");
                    write(&format!("{folder}/start"), &format!("0x{start}\n"));
                    write(&format!("{folder}/end"), &format!("0x{end}\n"));
                    write(&format!("{folder}/type"), &format!("{kind}\n"));
                }
            }
            "nodes" => {
                for line in content.lines() {
                    let (node, blocks) = line.split_once(": ").unwrap();
                    for range in blocks.split(',') {
                        let (first, last) = range.split_once('-').unwrap();
                        let number = |digits| u64::from_str_radix(digits, 16).unwrap();
                        for block in number(first)..=number(last) {
                            let path = format!("sys/devices/system/node/node{node}/memory{block}");
                            fs::create_dir_all(root.join(path)).unwrap();
                        }
                    }
                }
            }
            path => write(path, &content),
        }
    }
}
