//! x
use gmfs_check::fuzzing::*;
use gmfs_check::*;
fn main() {
    let data: Vec<u8> = std::fs::read_to_string("/tmp/min.txt").unwrap().split(',').filter_map(|x| x.parse().ok()).collect();
    let mut image = region();
    for p in patches(&data) { println!("patch page {} how {} off {} len {}", p.page % 14, p.how & 15, p.offset % 4096, p.bytes.len()); damage(&mut image, &p); }
    let stamp = gmfs_volume::Stamp { now: NOW, writer: "fuzz".into() };
    for _ in 0..10 {
        let r = look(&image).unwrap();
        for f in &r.findings { println!("  {} {} {}", f.code(), f, f.at.offset); }
        let p = plan(&image, &r, Policy::Lossy).unwrap();
        if p.is_empty() { break; }
        for e in &p.edits { println!("    -> {}", e.edit); }
        apply(&mut image, &p.edits, &stamp).unwrap();
        println!("-- round");
    }
}
