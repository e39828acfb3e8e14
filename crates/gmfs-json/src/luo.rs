//! What a kernel hands over: `gmfs.inspect/2` of it, what `gmfs.stat/2` adds, and the file that `extract` writes beside
//! the files of a session.

use gmfs::debugfs::{Data, Debugfs, Shown, Side};
use gmfs::store::Luo;
use gmfs::walk::Paths;
use gmfs_format::luo;
use gmfs_format::model::InodeNo;
use serde::{Deserialize, Serialize};

use crate::Word;
use crate::{files, region, text};

/// A file of a session, as its record has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Handed {
    /// Number that user space gave the file, in hexadecimal; null where it is not written.
    pub token: Option<String>,
    /// What hands the file over, such as memfd-v2.
    pub handler: String,
    /// Physical address of what the handler left; of a memfd that of its record.
    pub record: u64,
    /// Position in the file, as lseek gives it; null if the record cannot be used.
    pub position: Option<u64>,
    /// Seals of the memfd; null if they are not recorded.
    pub seals: Option<Vec<String>>,
    /// How many folios the file has; null if its record cannot be used.
    pub folios: Option<u64>,
    /// How many folios of the file the kernel still holds because nobody has claimed them; not there where page
    /// structures do not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_folios: Option<u64>,
    /// Why the record cannot be used; null if it can, or if there is none.
    pub record_fault: Option<String>,
}

/// How many folios of a file are held and not claimed, and how many there are; `None` where page structures do not tell.
pub fn held(store: &gmfs::Store, ino: InodeNo) -> Option<(u64, u64)> {
    store.luo()?.held(&store.page_structs()?.ok()?, ino)
}

impl Handed {
    /// The record of a file.
    pub fn new(file: &luo::File) -> Self {
        let memfd = file.memfd.as_ref().and_then(|memfd| memfd.as_ref().ok());
        Self {
            token: file.token.map(|token| format!("{token:#x}")),
            handler: text(&file.handler).0,
            record: file.data,
            position: memfd.map(|memfd| memfd.position),
            seals: memfd.and_then(|memfd| memfd.seals).map(seals),
            folios: memfd.map(|memfd| memfd.folios),
            held_folios: None,
            record_fault: file.memfd.as_ref().and_then(|memfd| memfd.as_ref().err()).map(ToString::to_string),
        }
    }

    /// The record of a file of a store; `None` if the store is no hand-over, or has no such file.
    pub fn of(store: &gmfs::Store, ino: InodeNo) -> Option<Self> {
        let held_folios = held(store, ino).map(|(held, _)| held);
        store.luo()?.file(ino).map(|file| Self { held_folios, ..Self::new(file) })
    }
}

/// The seals of a memfd by their names.
pub fn seals(seals: u32) -> Vec<String> {
    let names = ["seal", "shrink", "grow", "write", "future-write", "exec"];
    names.iter().enumerate().filter(|(bit, _)| seals >> bit & 1 == 1).map(|(_, name)| (*name).to_owned()).collect()
}

/// A session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct LuoSession {
    /// Name of the file, the field or the problem.
    pub name: Option<String>,
    /// The name in hexadecimal, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_bytes: Option<String>,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// How the session was found: root, sessions, files or records.
    pub origin: Word,
    /// How many there are.
    pub count: u64,
    /// Files and directories, each with where its blocks are or what was made of it.
    pub files: Vec<Handed>,
    /// Problems of the catalogue.
    pub problems: Vec<String>,
}

impl LuoSession {
    /// The session with only one of its files.
    pub fn with_one(session: &luo::Session, file: &luo::File) -> Self {
        Self { files: vec![Handed::new(file)], ..Self::from(session) }
    }
}

impl From<&luo::Session> for LuoSession {
    fn from(session: &luo::Session) -> Self {
        let (name, name_bytes) =
            session.name.as_deref().map(text).map_or((None, None), |(name, bytes)| (Some(name), bytes));
        Self {
            name,
            name_bytes,
            address: session.at,
            origin: session.origin.name().into(),
            count: session.count,
            files: session.files.iter().map(Handed::new).collect(),
            problems: session.faults.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Preserved pages of one order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ByOrder {
    /// Each piece has 2 to this power of pages.
    pub order: u32,
    /// How many there are.
    pub count: u64,
    /// How many bytes, in the image or not.
    pub bytes: u64,
}

/// What a user has of what is preserved.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ByUser {
    /// The user of the hand-over.
    pub user: String,
    /// How many bytes, in the image or not.
    pub bytes: u64,
}

/// The preserved map.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct PreservedMap {
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: Option<u64>,
    /// Whether the preserved map is that of this hand-over, and not what another owner of its pages wrote.
    pub intact: bool,
    /// Pages of the preserved map itself.
    pub record_pages: u64,
    /// How many pieces of memory a bitmap of the preserved map stands for.
    pub bitmap_bits: u32,
    /// Whether that is certain: no map of `kho-v1` records it.
    pub bitmaps_certain: bool,
    /// How many of its bitmaps the image does not hold, or cannot be read: what they preserve is not counted.
    pub bitmaps_unread: u64,
    /// What is preserved, by the size of the pieces.
    pub orders: Vec<ByOrder>,
    /// How many preserved bytes each user has; the last entry is of no known user.
    pub users: Vec<ByUser>,
    /// Problems of the catalogue.
    pub problems: Vec<String>,
}

/// A user of the hand-over.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct KhoUser {
    /// Name of the file, the field or the problem.
    pub name: String,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: Option<u64>,
    /// Bytes in it; null if unknown.
    pub size: Option<u64>,
    /// Why what a user of the hand-over left cannot be used; null if it can.
    pub fault: Option<String>,
}

impl From<&luo::UserData> for KhoUser {
    fn from(user: &luo::UserData) -> Self {
        Self { name: text(&user.name).0, address: user.at, size: user.size, fault: user.fault.clone() }
    }
}

/// Memory with a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ReserveMem {
    /// Label of the region.
    pub label: String,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// Bytes from the offset or the address on.
    pub length: u64,
}

impl From<&gmfs_format::kho::ReserveMem> for ReserveMem {
    fn from(memory: &gmfs_format::kho::ReserveMem) -> Self {
        Self { label: text(&memory.label).0, address: memory.start, length: memory.size }
    }
}

/// An object that files depend on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Flb {
    /// Name of the file, the field or the problem.
    pub name: String,
    /// What its owner left for the next kernel.
    pub data: String,
    /// How many there are.
    pub count: u64,
}

/// The answer of `inspect`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct LuoInspect {
    /// The image that the command was given.
    pub image: region::Image,
    /// The region that the answer is about; null if there is none.
    pub store: region::Store,
    /// Layout of the region; null if no region can be read there.
    pub layout: Word,
    /// Which moment of a live update the image shows: running, frozen or later; null if a part of what says so is missing.
    pub moment: Option<Word>,
    /// How sure the find is: certain, likely or possible.
    pub confidence: Word,
    /// Release of the kernel that was dumped.
    pub kernel: Option<String>,
    /// Number of the kernel, counted from the first one that was not started by a hand-over; null if unknown.
    pub kexec_count: Option<u32>,
    /// Number of the live update; null if unknown.
    pub live_update: Option<u64>,
    /// Version of the hand-over, such as kho-v4.
    pub tree: String,
    /// The preserved map, which says which pages the next kernel keeps.
    pub preserved: PreservedMap,
    /// Users of the hand-over.
    pub users: Vec<KhoUser>,
    /// Areas into which the next kernel is put; null if nothing leads to them.
    pub scratch: Option<Vec<files::Hole>>,
    /// Memory that the kernel's parameter reserve_mem= set aside, and that is handed over.
    pub reserve_mem: Vec<ReserveMem>,
    /// Objects that files depend on, with the number of these files.
    pub depended_on: Vec<Flb>,
    /// Sessions of the live update orchestrator.
    pub sessions: Vec<LuoSession>,
    /// Sizes of all files that are handed over, together.
    pub file_bytes: u64,
    /// Pages that records and lists of sessions and files take.
    pub file_record_pages: u64,
    /// What the kernel took from a hand-over and nobody has claimed; only in that view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unclaimed: Option<AllUnclaimed>,
    /// The view that was asked for, if it is a list.
    #[serde(flatten)]
    pub lists: region::Lists,
}

/// What a kernel holds that nobody has claimed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct AllUnclaimed {
    /// How many bytes, in the image or not.
    pub bytes: u64,
    /// How many preserved pieces of 2^order pages.
    pub pieces: u64,
    /// Whether all page structures of the kernel could be read.
    pub complete: bool,
    /// Ranges that are held, by address.
    pub ranges: Vec<Unclaimed>,
}

/// Pieces of one order and one owner that adjoin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Unclaimed {
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: u64,
    /// Bytes from the offset or the address on.
    pub length: u64,
    /// Each piece has 2 to this power of pages.
    pub order: u32,
    /// How many preserved pieces of 2^order pages.
    pub pieces: u64,
    /// What it is: file, metadata, reserve-mem, or preserved, which has no known owner.
    pub what: Word,
    /// Path of the file that has it; null if none has.
    #[serde(flatten)]
    pub path: files::Path,
    /// Place in the file, in bytes from its start. In what `save` and `repair -o` make, the file is the region's.
    pub offset: Option<u64>,
    /// What a metadata page holds.
    pub page_kind: Option<String>,
}

impl Unclaimed {
    /// The range, with the path of its owner.
    pub fn new(held: &gmfs::store::Unclaimed, paths: &mut Paths<'_>) -> Self {
        let owner = &held.owner;
        let metadata = owner.metadata.as_ref();
        let ino = owner.file.map(|(ino, _)| ino).or_else(|| metadata.and_then(|metadata| metadata.ino));
        Self {
            address: held.span.offset,
            length: held.span.len,
            order: held.order,
            pieces: held.pieces,
            what: owner.what.name().into(),
            path: files::Path::new(ino.and_then(|ino| paths.of(ino)).as_deref()),
            offset: owner.file.map(|(_, offset)| offset),
            page_kind: metadata.and_then(|metadata| metadata.kind.clone()),
        }
    }
}

impl LuoInspect {
    /// The answer for a hand-over, without the view that was asked for.
    pub fn new(opened: &gmfs::Store, found: &Luo) -> Self {
        let store = found.store();
        let orders = store.by_order(found.source()).unwrap_or_default();
        let orders = orders.into_iter().map(|(order, count, bytes)| ByOrder { order, count, bytes }).collect();
        let usage = opened.usage();
        let root = store.luo.as_ref().and_then(|root| root.as_ref().ok());
        let area = |area: &gmfs_io::Span| files::Hole { offset: area.offset, length: area.len };
        Self {
            image: (&opened.place).into(),
            store: opened.into(),
            layout: opened.layout().name().into(),
            moment: store.knows_moment().then(|| store.moment.name().into()),
            confidence: store.confidence.name().into(),
            kernel: store.metadata.as_ref().map(|metadata| text(&metadata.release).0),
            kexec_count: store.metadata.as_ref().map(|metadata| metadata.count),
            live_update: root.and_then(|root| root.number),
            tree: store.tree.version.to_string(),
            preserved: PreservedMap {
                address: store.tree.map,
                intact: store.has_map(),
                record_pages: store.own_map().map_or(0, |map| map.records().len() as u64),
                bitmap_bits: store.map.bitmaps().bits(),
                bitmaps_certain: store.map.is_certain(),
                bitmaps_unread: store.own_map().map_or(0, |map| map.unread(found.source())),
                orders,
                users: found.by_user().into_iter().flatten().map(|(user, bytes)| ByUser { user, bytes }).collect(),
                problems: store.map.faults().iter().map(ToString::to_string).collect(),
            },
            users: store.users.iter().map(KhoUser::from).collect(),
            scratch: store.scratch.as_ref().ok().map(|scratch| scratch.areas.iter().map(area).collect()),
            reserve_mem: store.reserve_mem.iter().map(ReserveMem::from).collect(),
            depended_on: store
                .flbs
                .list
                .iter()
                .map(|flb| Flb { name: text(&flb.name).0, data: crate::mask(flb.data), count: flb.files })
                .collect(),
            sessions: store.sessions.iter().map(LuoSession::from).collect(),
            file_bytes: store
                .files()
                .filter_map(|(_, file)| file.memfd.as_ref()?.as_ref().ok())
                .fold(0, |sum, memfd| sum.saturating_add(memfd.size)),
            file_record_pages: usage.metadata,
            unclaimed: None,
            lists: region::Lists::default(),
        }
    }
}

/// The answer of `inspect` of a folder of debugfs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DebugfsInspect {
    /// The folder of debugfs, or a copy of it.
    pub folder: String,
    /// Address of the device tree that was handed over, by the boot protocol; null if no kernel handed one over.
    pub handed_over_at: Option<u64>,
    /// What the kernel before left; null if this kernel was not started by a hand-over.
    pub taken: Option<DebugfsSide>,
    /// What the kernel prepares for the next one; null if it is not shown.
    pub prepared: Option<DebugfsSide>,
}

/// What the kernel before left, or what this one prepares.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DebugfsSide {
    /// Version of the hand-over, such as kho-v4; null if its device tree is not shown, or cannot be used.
    pub tree: Option<String>,
    /// Why the device tree cannot be used; null if it can, or if it is not shown.
    pub tree_fault: Option<String>,
    /// Address of the preserved map; null if the device tree does not say it.
    pub map: Option<u64>,
    /// Whether the hand-over was finalised; null from 7.1 on, which needs no such step.
    pub finalised: Option<bool>,
    /// Users of the hand-over.
    pub users: Vec<DebugfsUser>,
    /// Areas into which the next kernel is put; null if nothing leads to them.
    pub scratch: Vec<files::Hole>,
}

/// A user of the hand-over, with what its bytes say.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DebugfsUser {
    /// Name of the file, the field or the problem.
    pub name: String,
    /// Place in the image, in bytes: a physical address where the image has physical addresses, otherwise an offset in
    /// the image.
    pub address: Option<u64>,
    /// Bytes in it; null if unknown.
    pub size: u64,
    /// Release of the kernel that was dumped.
    pub kernel: Option<String>,
    /// Number of the kernel, counted from the first one that was not started by a hand-over; null if unknown.
    pub kexec_count: Option<u32>,
    /// Number of the live update; null if unknown.
    pub live_update: Option<u64>,
    /// Address of the list of sessions; 0 if none is written yet; null if it is not known.
    pub sessions_at: Option<u64>,
    /// Memory that the kernel's parameter reserve_mem= set aside, and that is handed over.
    pub reserve_mem: Option<Vec<ReserveMem>>,
    /// Why what a user of the hand-over left cannot be used; null if it can.
    pub fault: Option<String>,
}

impl DebugfsInspect {
    /// The answer for what a folder holds.
    pub fn new(folder: &std::path::Path, found: &Debugfs) -> Self {
        Self {
            folder: folder.to_string_lossy().into_owned(),
            handed_over_at: found.root,
            taken: found.taken.as_ref().map(DebugfsSide::from),
            prepared: found.prepared.as_ref().map(DebugfsSide::from),
        }
    }
}

impl From<&Side> for DebugfsSide {
    fn from(side: &Side) -> Self {
        let tree = side.tree.as_ref().and_then(|tree| tree.as_ref().ok());
        let user = |user: &Shown| {
            let mut shown = DebugfsUser {
                name: user.name.clone(),
                address: tree.and_then(|tree| tree.user(&user.name)).and_then(|user| user.data),
                size: user.size,
                kernel: None,
                kexec_count: None,
                live_update: None,
                sessions_at: None,
                reserve_mem: None,
                fault: None,
            };
            match &user.what {
                Data::Metadata(found) => {
                    (shown.kernel, shown.kexec_count) = (Some(text(&found.release).0), Some(found.count));
                }
                Data::ReserveMem(regions) => shown.reserve_mem = Some(regions.iter().map(ReserveMem::from).collect()),
                Data::Luo(root) => {
                    (shown.live_update, shown.sessions_at) = (root.number, Some(root.sessions));
                }
                Data::Bad(why) => shown.fault = Some(why.clone()),
                Data::Unknown => {}
            }
            shown
        };
        Self {
            tree: tree.map(|tree| tree.version.to_string()),
            tree_fault: side.tree.as_ref().and_then(|tree| tree.as_ref().err().cloned()),
            map: tree.and_then(|tree| tree.map),
            finalised: side.finalised,
            users: side.users.iter().map(user).collect(),
            scratch: side.scratch.iter().map(|area| files::Hole { offset: area.offset, length: area.len }).collect(),
        }
    }
}
