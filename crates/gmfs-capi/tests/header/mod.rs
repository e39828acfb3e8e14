//! Makes the header from the functions: their descriptions, which are for users of C as well, and their types.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How C names the types of the functions.
const TYPES: [(&str, &str); 10] = [
    ("", "void "),
    ("c_int", "int "),
    ("u64", "uint64_t "),
    ("*const c_char", "const char *"),
    ("*mut c_void", "void *"),
    ("*mut gmfs_image", "struct gmfs_image *"),
    ("*const gmfs_image", "const struct gmfs_image *"),
    ("*mut gmfs_file", "struct gmfs_file *"),
    ("*const gmfs_file", "const struct gmfs_file *"),
    ("*mut u8", "unsigned char *"),
];

const BEFORE: &str = "/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The C interface of gmfs: a file of a region as the memory of a guest, in one range of addresses, locked as memory in use.
 *
 *     gmfs_survive_bus_errors();
 *     image = gmfs_open(\"/dev/dax0.0\");
 *     gmfs_find(image, NULL);
 *     file = gmfs_file(image, \"/vms/a/mem\");
 *     gmfs_lock(file);
 *     memory = gmfs_map(file);
 *
 * Each of them can fail: gmfs_error() says why. Pass to a function only what another one returned and what was not freed
 * since, or NULL; and use an image or a file in one thread at a time. A test makes this file from crates/gmfs-capi/src/lib.rs.
 */
#ifndef GMFS_H
#define GMFS_H

#include <stdint.h>

#ifdef __cplusplus
extern \"C\" {
#endif
";

const AFTER: &str = "
#ifdef __cplusplus
}
#endif

#endif
";

/// The header for the functions in a source file.
pub(crate) fn of(source: &str) -> String {
    let types: BTreeMap<&str, &str> = TYPES.into();
    let mut text = BEFORE.to_owned();
    let (mut comment, mut exported, mut functions) = (Vec::new(), false, 0);
    for line in source.lines() {
        if let Some(words) = line.strip_prefix("///") {
            comment.push(words);
            continue;
        }
        if line.starts_with("#[unsafe(no_mangle)]") {
            exported = true;
            continue;
        }
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) {
            let _ = write!(text, "\n{}struct {name};\n", described(&comment));
        }
        if let Some((_, rest)) = line.split_once("extern \"C\" fn ").filter(|_| exported) {
            let signature = rest.strip_suffix(" {").unwrap_or_else(|| panic!("not on one line: {line}"));
            let (name, rest) = signature.split_once('(').unwrap();
            let (arguments, result) = rest.rsplit_once(')').unwrap();
            let result = types[result.trim_start_matches(" -> ")];
            let of = |argument: &str| {
                let (name, kind) = argument.split_once(": ").unwrap();
                format!("{}{name}", types[kind])
            };
            let arguments: Vec<String> = arguments.split(", ").filter(|text| !text.is_empty()).map(of).collect();
            let arguments = if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") };
            let _ = write!(text, "\n{}{result}{name}({arguments});\n", described(&comment));
            functions += 1;
        }
        comment.clear();
        exported = false;
    }
    assert_eq!(functions, source.matches("#[unsafe(no_mangle)]\n").count(), "a function is not in the header");
    text + AFTER
}

/// A comment of C. What is promised in Rust is said once, at the top of the header.
fn described(comment: &[&str]) -> String {
    let lines = comment.iter().take_while(|line| line.trim() != "# Safety");
    let lines: Vec<&str> = lines.copied().collect();
    let text = lines.join("\n *").trim_end_matches([' ', '*', '\n']).to_owned();
    format!("/*\n *{text}\n */\n")
}
