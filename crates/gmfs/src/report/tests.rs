use std::num::NonZeroUsize;

use gmfs_volume::{CreateOptions, PutOptions, Writer, WriterOptions};

use super::*;
use crate::testing;

fn options() -> Options<'static> {
    Options {
        now: 2_000_000_000,
        threads: NonZeroUsize::MIN,
        program: "test 1",
        size: |n| format!("{n} B"),
        time: |n| format!("{n} ns"),
    }
}

fn create(size: u64) -> CreateOptions {
    CreateOptions { size, sparse: false, align_1g: false, mode: 0o600, owner: (0, 0) }
}

/// Changes the region file of these tests.
fn change(image: &std::path::Path, work: impl FnOnce(&mut Writer<Vec<u8>>)) {
    let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || 1_500_000_000 };
    let (mut writer, _) = Writer::open(std::fs::read(image).unwrap(), options).unwrap();
    work(&mut writer);
    std::fs::write(image, writer.close().unwrap()).unwrap();
}

#[test]
fn numbers_are_those_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let image = testing::region(dir.path());
    change(&image, |writer| writer.create(b"/vms/new", &create(1)).map(drop).unwrap());
    let store = testing::open(&image).unwrap();
    let report = Report::of(&store, &options()).unwrap();
    assert_eq!((report.file_count, report.directory_count, report.more_files()), (3, 4, 0));
    assert_eq!(report.usage, store.usage());
    let runs = store.runs(|_| true).files;
    assert_eq!(report.extent_count, runs.values().map(|runs| runs.len() as u64).sum::<u64>());
    for file in &report.files {
        assert_eq!(file.extents, runs.get(&file.ino).map_or(0, |runs| runs.len() as u64), "{:?}", file.path);
    }
    assert_eq!((report.health.verdict, report.health.all()), (Verdict::Clean, 0));
    // Each cell names the file that owner() names for its first byte.
    let cell_bytes = report.picture.as_ref().unwrap().cell_bytes;
    for (cell, at) in report.owners.iter().zip((0..).step_by(usize::try_from(cell_bytes).unwrap())) {
        let owner = store.owner(at).file.map(|file| file.0);
        assert_eq!(owner.is_some(), !cell.named.is_empty(), "{at:#x}");
        assert!(owner.is_none_or(|ino| cell.named.contains(&ino)), "{at:#x}");
    }
    let html = report.to_html(&options());
    let value =
        |id: &str, value: u64| assert!(html.contains(&format!("id=\"{id}\" value=\"{value}\"")), "{id} {value}");
    value("free_bytes", store.usage().free << 21);
    value("file_count", 3);
    value("write_count", report.history.as_ref().unwrap().commits);
    // The newest first.
    assert_eq!(report.events.first().unwrap().time, 1_500_000_000);
    assert!(report.events.iter().any(|event| event.path.as_deref() == Some("/vms/new") && event.what == "created"));
}

#[test]
fn names_are_text_whatever_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let image = testing::region(dir.path());
    let hostile: [&[u8]; 5] = [
        b"<script>alert(1)<\xc0\xafscript>",
        b"\"><img src=x onerror=alert(1)>",
        b"' onclick='alert(1)",
        b"&lt;b&gt; {{7*7}} ${x} `x`",
        "bidi\u{202e}\u{9b}\n".as_bytes(),
    ];
    change(&image, |writer| {
        writer.set_label("<b>label</b>").unwrap();
        for name in hostile {
            let path = [b"/", name].concat();
            writer.put(&path, &mut &b"x"[..], &PutOptions { create: create(1), replace: false }).unwrap();
        }
    });
    let store = testing::open(&image).unwrap();
    let html = Report::of(&store, &options()).unwrap().to_html(&options());
    // Only what the page itself has.
    assert_eq!(
        (html.matches("<script").count(), html.matches("<img").count(), html.matches("<b>label").count()),
        (1, 0, 0)
    );
    assert!(html.contains("&lt;script&gt;alert(1)&lt;") && html.contains("&lt;b&gt;label&lt;/b&gt;"), "{html}");
    // No attribute ends early: each quotation mark of a name is escaped.
    assert!(html.contains("&quot;&gt;&lt;img src=x"), "{html}");
    assert!(html.contains("&amp;lt;b&amp;gt;"), "{html}");
    assert!(!html.contains('\u{202e}') && !html.contains('\u{9b}'));
    // An element with two attributes of one name would keep the first only.
    for element in html.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        assert!(element.matches(" class=").count() <= 1 && element.matches(" id=").count() <= 1, "{element}");
    }
    // Nothing is loaded: no address but those in the page.
    for word in ["http://", "https://", "src=\"", "url(", "@import", "fetch(", "XMLHttpRequest"] {
        assert!(!html.contains(word), "{word}");
    }
    let links: Vec<&str> = html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(links.iter().all(|link| link.starts_with('#') || *link == "data:,"), "{links:?}");
}

#[test]
fn the_page_does_not_grow_with_the_store() {
    use gmfs_format::native::geometry::Geometry;
    use gmfs_format::native::units::PmdShift;
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("large.img");
    let geometry = Geometry::plan(32 << 20, PmdShift::M2, 3000).unwrap();
    let stamp = gmfs_volume::Stamp { now: 1, writer: "test".to_owned() };
    let (uuid, label, forget) = (uuid::Uuid::from_u128(7), String::new(), Vec::new());
    let format = gmfs_volume::FormatOptions { geometry, uuid, birth: 1, label, base: 0, owner: (0, 0), stamp, forget };
    let mut bytes = vec![0; 32 << 20];
    gmfs_volume::format(&mut bytes, &format).unwrap();
    let writer = WriterOptions { writer: "test".to_owned(), base: None, clock: || 1_500_000_000 };
    let (mut writer, _) = Writer::open(bytes, writer).unwrap();
    let long = "&".repeat(255);
    let deep = format!("/{long}/{long}/{long}");
    writer.mkdir(deep.as_bytes(), true, 0o700, (0, 0)).unwrap();
    for number in 0..2500 {
        let path = format!("{deep}/{number}{}", "<".repeat(200));
        let options = CreateOptions { sparse: true, ..create(number) };
        writer.create(path.as_bytes(), &options).unwrap();
    }
    std::fs::write(&image, writer.close().unwrap()).unwrap();
    let store = testing::open(&image).unwrap();
    let report = Report::of(&store, &options()).unwrap();
    assert_eq!((report.files.len(), report.more_files(), report.events.len()), (MOST_FILES, 500, MOST_EVENTS));
    let html = report.to_html(&options());
    assert!(html.len() < 6 << 20, "{}", html.len());
    assert!(html.contains("500 more") || html.contains("value=\"500\""), "what is not listed is counted");
}

#[test]
fn long_paths_are_cut_in_the_middle() {
    assert_eq!(short("abc", 3), "abc");
    assert_eq!(short("äbcdefg", 5), "äb…fg");
}
