//! Attributes of files and directories, and the label of the region.

use gmfs_format::model::Inode;
use gmfs_format::native::raw::InodeRaw;
use gmfs_format::native::superblock::{check_label, text_field};
use gmfs_format::native::tables::MODE_BITS;
use gmfs_io::WriteAt;

use crate::change::Change;
use crate::writer::{ChangeError, Writer};

/// New attributes of a file or directory. Attributes that are `None` stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewAttributes {
    /// Permission bits.
    pub mode: Option<u16>,
    /// Number of the owner.
    pub uid: Option<u32>,
    /// Number of the group.
    pub gid: Option<u32>,
    /// Time of the last access, in nanoseconds since the epoch. A time in the future becomes the present time, here and
    /// in `modified`.
    pub accessed: Option<u64>,
    /// Time of the last change of the content.
    pub modified: Option<u64>,
}

impl NewAttributes {
    /// Writes these attributes to a record. Returns whether this changes anything. Times after `now` become `now`: a
    /// time in the future is damage.
    pub(super) fn put(self, raw: &mut InodeRaw, now: u64) -> bool {
        let before = *raw;
        if let Some(mode) = self.mode {
            raw.mode = (mode & MODE_BITS).into();
        }
        raw.uid = self.uid.unwrap_or(raw.uid.get()).into();
        raw.gid = self.gid.unwrap_or(raw.gid.get()).into();
        let time = |new: Option<u64>, old: u64| new.map_or(old, |new| new.min(now));
        raw.accessed = time(self.accessed, raw.accessed.get()).into();
        raw.modified = time(self.modified, raw.modified.get()).into();
        *raw != before
    }
}

impl<S: WriteAt> Writer<S> {
    /// Sets attributes of what is at `path` and, if `recursive`, of everything below it, in one commit. `choose`
    /// returns the new attributes of each of them. Nothing is committed if nothing changes.
    ///
    /// # Errors
    /// The path cannot be used, or an inode is immutable; then nothing has changed.
    pub fn set_attributes(
        &mut self,
        path: &[u8],
        recursive: bool,
        choose: &dyn Fn(&Inode) -> NewAttributes,
    ) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let top = self.at(path)?.clone();
        let wanted = if recursive { self.subtree(&top) } else { vec![top] };
        let mut change = Change::default();
        for inode in &wanted {
            let mut raw = self.inode_raw(inode.ino)?;
            if choose(inode).put(&mut raw, now) {
                self.require_mutable(inode)?;
                raw.changed = now.into();
                change.set_inode(inode.ino, raw);
            }
        }
        if change.inodes().next().is_none() {
            return Ok(());
        }
        self.commit(&change, now)
    }

    /// Gives the region another label, in one commit, which writes both superblocks. Nothing is committed if it has
    /// that label already.
    ///
    /// # Errors
    /// The label is not valid; then nothing has changed.
    pub fn set_label(&mut self, label: &str) -> Result<(), ChangeError> {
        let now = self.begin()?;
        check_label(label)?;
        let mut raw = self.superblock().raw;
        let label = text_field(label);
        if raw.label == label {
            return Ok(());
        }
        raw.label = label;
        let mut change = Change::default();
        change.set_superblock(raw);
        self.commit(&change, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CreateOptions, FormatOptions, Region, Stamp, WriterOptions};
    use gmfs_format::native::geometry::Geometry;
    use gmfs_format::native::units::PmdShift;

    fn writer() -> Writer<Vec<u8>> {
        let geometry = Geometry::plan(16 << 20, PmdShift::M2, 64).unwrap();
        let stamp = Stamp { now: 1, writer: "test".to_owned() };
        let (uuid, label) = (uuid::Uuid::from_u128(1), "before".to_owned());
        let options =
            FormatOptions { geometry, uuid, birth: 1, label, base: 0, owner: (0, 0), stamp, forget: Vec::new() };
        let mut bytes = vec![0; 16 << 20];
        crate::format(&mut bytes, &options).unwrap();
        let options = WriterOptions { writer: "test".to_owned(), base: None, clock: || 77 };
        let (mut writer, _) = Writer::open(bytes, options).unwrap();
        writer.mkdir(b"/d", false, 0o700, (1, 2)).unwrap();
        let create = CreateOptions { size: 3, sparse: false, align_1g: false, mode: 0o600, owner: (1, 2) };
        writer.create(b"/d/f", &create).unwrap();
        writer
    }

    #[test]
    fn attributes_change_in_one_commit_and_nothing_else_does() {
        let mut writer = writer();
        let before = writer.superblock().raw.write_count.get();
        let choose = |inode: &Inode| NewAttributes {
            mode: Some(if inode.size == 0 { 0o750 } else { 0o640 }),
            gid: Some(9),
            ..NewAttributes::default()
        };
        writer.set_attributes(b"/d", true, &choose).unwrap();
        writer.set_attributes(b"/d", true, &choose).unwrap();
        assert_eq!(writer.superblock().raw.write_count.get(), before + 1);
        let region = Region::open(writer.close().unwrap()).unwrap();
        let tree = region.inodes().tree;
        for (path, mode) in [(&b"/d"[..], 0o750), (b"/d/f", 0o640)] {
            let found = tree.resolve(path).unwrap().attributes.unwrap();
            assert_eq!((found.mode, found.uid, found.gid, found.changed), (mode, 1, 9, 77));
        }
        assert_eq!(tree.resolve(b"/d/f").unwrap().blocks, 1);
    }

    #[test]
    fn both_superblocks_get_the_label() {
        let mut writer = writer();
        let counts = writer.superblock().raw.free_blocks;
        writer.set_label("after").unwrap();
        assert!(matches!(writer.set_label("a\nb"), Err(ChangeError::Label(_))));
        let region = Region::open(writer.close().unwrap()).unwrap();
        let found = [&region.superblocks().a, &region.superblocks().b];
        for superblock in found.map(|slot| slot.good().unwrap()) {
            assert_eq!((superblock.label(), superblock.raw.free_blocks), (&b"after"[..], counts));
        }
        assert_eq!(
            region.superblocks().a.good().unwrap().generation,
            region.superblocks().b.good().unwrap().generation
        );
    }
}
