use gmfs_image::Locking;
use gmfs_volume::Stamp;
use uuid::Uuid;

use super::*;
use crate::{ImageSpec, Store};

const SIZE: u64 = 64 << 20;

fn region() -> NewRegion {
    let stamp = Stamp { now: 1, writer: "test".to_owned() };
    NewRegion { uuid: Uuid::from_u128(7), birth: 9, label: "guests".to_owned(), owner: (0, 0), stamp }
}

#[test]
fn a_file_is_made_and_its_region_opens() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("new.img");
    let request = Request { size: Some(SIZE), ..Request::new(&image, BlockSize::M2) };
    let mut target = request.open(&Locking::at_once()).unwrap();
    target.refuse_occupied().unwrap();
    target.format(&region(), None).unwrap();
    drop(target);
    let store = Store::open(ImageSpec::from(image.as_path()).locate(None, &()).unwrap()).unwrap();
    assert_eq!((store.uuid(), store.size()), (Some(Uuid::from_u128(7)), SIZE));
    // It is not formatted a second time by mistake.
    let target = Request::new(&image, BlockSize::M2).open(&Locking::at_once()).unwrap();
    let label = b"guests".to_vec();
    let found = Holds::Region { size: SIZE, uuid: Uuid::from_u128(7), label, used_inodes: 1 };
    assert_eq!(target.refuse_occupied(), Err(found));
}

#[test]
fn a_file_that_was_not_formatted_is_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (new, empty) = (dir.path().join("new.img"), dir.path().join("empty.img"));
    std::fs::write(&empty, []).unwrap();
    for image in [&new, &empty] {
        let request = Request { size: Some(SIZE), ..Request::new(image, BlockSize::M2) };
        drop(request.open(&Locking::at_once()).unwrap());
    }
    assert!(!new.exists());
    assert_eq!(empty.metadata().unwrap().len(), 0);
}

#[test]
fn a_dry_run_makes_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("new.img");
    let mut request = Request { size: Some(SIZE), dry_run: true, ..Request::new(&image, BlockSize::M2) };
    let mut target = request.open(&Locking::at_once()).unwrap();
    assert!(matches!(target.format(&region(), None), Err(MakeError::DryRun)));
    assert!(!image.exists());
    std::fs::write(&image, vec![0; 16 << 20]).unwrap();
    request.size = None;
    let mut target = request.open(&Locking::at_once()).unwrap();
    assert!(matches!(target.format(&region(), None), Err(MakeError::DryRun)));
    assert!(std::fs::read(&image).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn what_cannot_be_made_is_refused_before_there_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("new.img");
    let base = Request { size: Some(SIZE), base: Some(4097), ..Request::new(&image, BlockSize::M2) };
    assert!(matches!(base.open(&Locking::at_once()), Err(MakeError::Unaligned { base: 4097, range: false, .. })));
    let size = Request { size: Some(4096), ..Request::new(&image, BlockSize::M2) };
    assert!(matches!(size.open(&Locking::at_once()), Err(MakeError::Geometry(_))));
    let none = Request::new(&image, BlockSize::M2);
    assert!(matches!(none.open(&Locking::at_once()), Err(MakeError::Missing(_))));
    let label = Request { size: Some(SIZE), label: "x".repeat(64), ..Request::new(&image, BlockSize::M2) };
    assert!(matches!(label.open(&Locking::at_once()), Err(MakeError::Label(_))));
    assert!(!image.exists());
}

#[test]
fn the_same_uuid_and_time_give_the_same_birth() {
    let (uuid, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
    assert_eq!(derived_birth(uuid, 1), derived_birth(uuid, 1));
    assert!(derived_birth(uuid, 1) != derived_birth(uuid, 2) && derived_birth(uuid, 1) != derived_birth(other, 1));
}
