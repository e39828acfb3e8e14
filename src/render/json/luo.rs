//! What a kernel hands over: `gmfs.inspect/2` of it, what `gmfs.stat/2` adds, and the file that `extract` writes beside
//! the files of a session.

use gmfs::debugfs::{Data, Debugfs, Shown, Side};
use gmfs::store::Luo;
use gmfs_format::luo;
use gmfs_format::model::InodeNo;
use serde::Serialize;

use crate::render::json::{files, region, text};

/// A file of a session, as its record has it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Handed {
    token: Option<String>,
    handler: String,
    record: u64,
    position: Option<u64>,
    seals: Option<Vec<String>>,
    folios: Option<u64>,
    /// Folios that the kernel still holds because nobody has claimed them, where page structures tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_folios: Option<u64>,
    record_fault: Option<String>,
}

/// How many folios of a file are held and not claimed, and how many there are; `None` where page structures do not tell.
pub(crate) fn held(store: &gmfs::Store, ino: InodeNo) -> Option<(u64, u64)> {
    store.luo()?.held(&store.page_structs()?.ok()?, ino)
}

/// The same in words.
pub(crate) fn held_text(held: u64, all: u64) -> String {
    match held {
        0 => "no: the file was claimed, or its memory was given back".to_owned(),
        held if held == all => "yes: nobody has claimed the file".to_owned(),
        held => format!("in part: {held} of {all} folios"),
    }
}

impl Handed {
    pub(crate) fn new(file: &luo::File) -> Self {
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

    pub(crate) fn of(store: &gmfs::Store, ino: InodeNo) -> Option<Self> {
        let held_folios = held(store, ino).map(|(held, _)| held);
        store.luo()?.file(ino).map(|file| Self { held_folios, ..Self::new(file) })
    }
}

/// The seals of a memfd by their names.
pub(crate) fn seals(seals: u32) -> Vec<String> {
    let names = ["seal", "shrink", "grow", "write", "future-write", "exec"];
    names.iter().enumerate().filter(|(bit, _)| seals >> bit & 1 == 1).map(|(_, name)| (*name).to_owned()).collect()
}

/// A session.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LuoSession {
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_bytes: Option<String>,
    address: u64,
    origin: &'static str,
    count: u64,
    files: Vec<Handed>,
    problems: Vec<String>,
}

impl LuoSession {
    /// The session with only one of its files.
    pub(crate) fn with_one(session: &luo::Session, file: &luo::File) -> Self {
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
            origin: session.origin.name(),
            count: session.count,
            files: session.files.iter().map(Handed::new).collect(),
            problems: session.faults.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Preserved pages of one order.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ByOrder {
    pub(crate) order: u32,
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

/// What a user has of what is preserved.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ByUser {
    pub(crate) user: String,
    pub(crate) bytes: u64,
}

/// The preserved map.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PreservedMap {
    pub(crate) address: Option<u64>,
    pub(crate) intact: bool,
    pub(crate) record_pages: u64,
    pub(crate) bitmap_bits: u32,
    pub(crate) orders: Vec<ByOrder>,
    /// Preserved bytes by user; the last one is "no known user".
    pub(crate) users: Vec<ByUser>,
    pub(crate) problems: Vec<String>,
}

/// A user of the hand-over.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KhoUser {
    name: String,
    address: Option<u64>,
    size: Option<u64>,
    fault: Option<String>,
}

impl From<&luo::UserData> for KhoUser {
    fn from(user: &luo::UserData) -> Self {
        Self { name: text(&user.name).0, address: user.at, size: user.size, fault: user.fault.clone() }
    }
}

/// Memory with a name.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ReserveMem {
    label: String,
    address: u64,
    length: u64,
}

impl From<&gmfs_format::kho::ReserveMem> for ReserveMem {
    fn from(memory: &gmfs_format::kho::ReserveMem) -> Self {
        Self { label: text(&memory.label).0, address: memory.start, length: memory.size }
    }
}

/// An object that files depend on.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Flb {
    name: String,
    data: String,
    count: u64,
}

/// The answer of `inspect`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LuoInspect {
    image: region::Image,
    store: region::Store,
    layout: &'static str,
    moment: &'static str,
    confidence: &'static str,
    kernel: Option<String>,
    kexec_count: Option<u32>,
    live_update: Option<u64>,
    tree: String,
    preserved: PreservedMap,
    users: Vec<KhoUser>,
    scratch: Option<Vec<files::Hole>>,
    reserve_mem: Vec<ReserveMem>,
    depended_on: Vec<Flb>,
    sessions: Vec<LuoSession>,
    file_bytes: u64,
    file_record_pages: u64,
    /// The view `unclaimed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unclaimed: Option<AllUnclaimed>,
    #[serde(flatten)]
    pub(crate) lists: region::Lists,
}

/// What a kernel holds that nobody has claimed.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AllUnclaimed {
    pub(crate) bytes: u64,
    pub(crate) pieces: u64,
    /// Whether all page structures could be read.
    pub(crate) complete: bool,
    pub(crate) ranges: Vec<Unclaimed>,
}

/// Pieces of one order and one owner that adjoin.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Unclaimed {
    address: u64,
    length: u64,
    order: u32,
    pieces: u64,
    /// file, metadata, reserve-mem, preserved (no known owner)
    what: &'static str,
    #[serde(flatten)]
    path: files::Path,
    offset: Option<u64>,
    page_kind: Option<String>,
}

impl Unclaimed {
    pub(crate) fn new(held: &gmfs::store::Unclaimed, paths: &mut crate::paths::Paths<'_>) -> Self {
        let owner = &held.owner;
        let metadata = owner.metadata.as_ref();
        let ino = owner.file.map(|(ino, _)| ino).or_else(|| metadata.and_then(|metadata| metadata.ino));
        Self {
            address: held.span.offset,
            length: held.span.len,
            order: held.order,
            pieces: held.pieces,
            what: owner.what.name(),
            path: files::Path::new(ino.and_then(|ino| paths.of(ino)).as_deref()),
            offset: owner.file.map(|(_, offset)| offset),
            page_kind: metadata.and_then(|metadata| metadata.kind.clone()),
        }
    }
}

impl LuoInspect {
    pub(crate) fn new(opened: &gmfs::Store, found: &Luo) -> Self {
        let store = found.store();
        let orders = store.by_order(found.source()).unwrap_or_default();
        let orders = orders.into_iter().map(|(order, count, bytes)| ByOrder { order, count, bytes }).collect();
        let usage = opened.usage();
        let root = store.luo.as_ref().and_then(|root| root.as_ref().ok());
        let area = |area: &gmfs_io::Span| files::Hole { offset: area.offset, length: area.len };
        Self {
            image: (&opened.place).into(),
            store: opened.into(),
            layout: opened.layout().name(),
            moment: store.moment.name(),
            confidence: store.confidence.name(),
            kernel: store.metadata.as_ref().map(|metadata| text(&metadata.release).0),
            kexec_count: store.metadata.as_ref().map(|metadata| metadata.count),
            live_update: root.map(|root| root.number),
            tree: store.tree.version.to_string(),
            preserved: PreservedMap {
                address: store.tree.map,
                intact: store.has_map(),
                record_pages: store.own_map().map_or(0, |map| map.records().len() as u64),
                bitmap_bits: store.map.bitmaps().bits(),
                orders,
                users: found.by_user().into_iter().flatten().map(|(user, bytes)| ByUser { user, bytes }).collect(),
                problems: store.map.faults().iter().map(ToString::to_string).collect(),
            },
            users: store.users.iter().map(KhoUser::from).collect(),
            scratch: store.scratch.as_ref().map(|scratch| scratch.areas.iter().map(area).collect()),
            reserve_mem: store.reserve_mem.iter().map(ReserveMem::from).collect(),
            depended_on: store
                .flbs
                .list
                .iter()
                .map(|flb| Flb { name: text(&flb.name).0, data: crate::render::json::mask(flb.data), count: flb.files })
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
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DebugfsInspect {
    folder: String,
    /// The address of the device tree that was handed over, by the boot protocol.
    handed_over_at: Option<u64>,
    taken: Option<DebugfsSide>,
    prepared: Option<DebugfsSide>,
}

/// What the kernel before left, or what this one prepares.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DebugfsSide {
    /// The version of the device tree; null if it is not shown, or cannot be used.
    tree: Option<String>,
    tree_fault: Option<String>,
    map: Option<u64>,
    finalised: Option<bool>,
    users: Vec<DebugfsUser>,
    scratch: Vec<files::Hole>,
}

/// A user of the hand-over, with what its bytes say.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DebugfsUser {
    name: String,
    address: Option<u64>,
    size: u64,
    kernel: Option<String>,
    kexec_count: Option<u32>,
    live_update: Option<u64>,
    sessions_at: Option<u64>,
    reserve_mem: Option<Vec<ReserveMem>>,
    fault: Option<String>,
}

impl DebugfsInspect {
    pub(crate) fn new(folder: &std::path::Path, found: &Debugfs) -> Self {
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
                    (shown.live_update, shown.sessions_at) = (Some(root.number), Some(root.sessions));
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
