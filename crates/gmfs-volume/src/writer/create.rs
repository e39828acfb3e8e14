//! Creates and removes files and directories.

use gmfs_format::model::{Inode, Kind};
use gmfs_format::native::raw::InodeRaw;
use gmfs_format::native::tables::{INODE_ALIGN_1G, InodeKind, MODE_BITS};
use gmfs_format::native::units::{InodeNo, range_len};
use gmfs_io::WriteAt;

use crate::change::Change;
use crate::writer::{ChangeError, Writer, blocks_from, release_all, require_kind, shown};

/// The properties of a new file.
#[derive(Clone, Copy, Debug)]
pub struct CreateOptions {
    /// Size in bytes.
    pub size: u64,
    /// Whether the whole file is a hole.
    pub sparse: bool,
    /// Whether each GiB is at a multiple of 1 GiB, so that a VMM can map the file with PUDs.
    pub align_1g: bool,
    /// Permission bits.
    pub mode: u16,
    /// Owner and group.
    pub owner: (u32, u32),
}

impl<S: WriteAt> Writer<S> {
    /// Creates a file that reads as zeros. Its blocks are zeroed before the commit that assigns them.
    ///
    /// # Errors
    /// The path cannot be used, or there are too few free blocks or no free inode; then nothing has changed.
    pub fn create(&mut self, path: &[u8], options: &CreateOptions) -> Result<InodeNo, ChangeError> {
        let now = self.begin()?;
        let (mut change, ino, mut raw) = self.new_entry(path, InodeKind::File, options, now)?;
        raw.size = options.size.into();
        let needed = self.file_blocks(options.size)?;
        let wish = options.align_1g;
        let runs = if options.sparse { Vec::new() } else { self.reserve_places(0, needed, wish, None)? };
        let made = self.finish_create(&mut change, ino, raw, &runs, now);
        self.keep_or_return(made, runs)?;
        Ok(ino)
    }

    fn finish_create(
        &mut self,
        change: &mut Change,
        ino: InodeNo,
        mut raw: InodeRaw,
        runs: &[std::ops::Range<u32>],
        now: u64,
    ) -> Result<(), ChangeError> {
        raw.blocks = runs.iter().map(|run| u64::from(range_len(run))).sum::<u64>().into();
        self.zero_blocks(runs)?;
        Self::assign_places(change, ino, 0, runs);
        change.set_inode(ino, raw);
        self.commit(change, now)
    }

    /// Creates a directory. With `parents`, it also creates missing directories above it, and the directory may exist
    /// already.
    ///
    /// # Errors
    /// The path cannot be used, or there is no free inode. Parent directories that were created before the error
    /// remain.
    pub fn mkdir(&mut self, path: &[u8], parents: bool, mode: u16, owner: (u32, u32)) -> Result<(), ChangeError> {
        let options = CreateOptions { size: 0, sparse: true, align_1g: false, mode, owner };
        if !parents {
            return self.mkdir_one(path, &options);
        }
        let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let mut here = Vec::new();
        for part in parts {
            here.push(b'/');
            here.extend_from_slice(part);
            match self.tree.resolve(&here).map(|inode| inode.kind) {
                Some(Kind::Directory) => {}
                Some(_) => return Err(ChangeError::NotDirectory(shown(&here))),
                None => self.mkdir_one(&here, &options)?,
            }
        }
        Ok(())
    }

    fn mkdir_one(&mut self, path: &[u8], options: &CreateOptions) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let (mut change, ino, raw) = self.new_entry(path, InodeKind::Directory, options, now)?;
        change.set_inode(ino, raw);
        self.commit(&change, now)
    }

    /// Prepares a new inode at `path` and the change of its directory.
    pub(super) fn new_entry(
        &mut self,
        path: &[u8],
        kind: InodeKind,
        options: &CreateOptions,
        now: u64,
    ) -> Result<(Change, InodeNo, InodeRaw), ChangeError> {
        let (parent, name) = self.parent_of(path)?;
        require_kind(path, if kind == InodeKind::Directory { Kind::Directory } else { Kind::File })?;
        if self.tree.lookup(parent, name).is_some() {
            return Err(ChangeError::Exists(shown(path)));
        }
        self.require_mutable_directory(parent)?;
        let ino = self.free_inode()?;
        let generation = self.inode_raw(ino)?.generation.get().wrapping_add(1);
        let mut raw = InodeRaw::free(ino, generation);
        raw.kind = kind.number().into();
        raw.mode = (options.mode & MODE_BITS).into();
        raw.uid = options.owner.0.into();
        raw.gid = options.owner.1.into();
        raw.parent = parent.0.into();
        raw.flags = if options.align_1g { INODE_ALIGN_1G } else { 0 }.into();
        raw.set_name(name);
        (raw.accessed, raw.modified, raw.changed, raw.created) = (now.into(), now.into(), now.into(), now.into());
        let mut change = Change::default();
        self.touch_directory(&mut change, parent, now)?;
        Ok((change, ino, raw))
    }

    /// Removes a file or, if `recursive`, a directory with everything in it, in one commit. The blocks are free
    /// afterwards. Their content remains until they are allocated again, and is zeroed then.
    ///
    /// # Errors
    /// The path cannot be used, the directory is not empty, or an inode is immutable; then nothing has changed.
    pub fn remove(&mut self, path: &[u8], recursive: bool) -> Result<(), ChangeError> {
        let now = self.begin()?;
        let top = self.at(path)?.clone();
        if top.ino == InodeNo::ROOT {
            return Err(ChangeError::Root);
        }
        if top.kind == Kind::Directory && !recursive && self.tree.children(top.ino).next().is_some() {
            return Err(ChangeError::NotEmpty(shown(path)));
        }
        self.require_mutable_directory(top.parent)?;
        let doomed = self.subtree(&top);
        for inode in &doomed {
            self.require_mutable(inode)?;
        }
        let mut change = Change::default();
        let mut freed = Vec::new();
        let mut files: Vec<&Inode> = doomed.iter().filter(|inode| inode.kind == Kind::File).collect();
        // The mappings are in this order.
        files.sort_by_key(|inode| inode.ino);
        for (inode, mapping) in files.iter().zip(self.mappings(files.iter().copied())?) {
            let runs = blocks_from(&mapping.extents, 0);
            self.require_unused(&self.tree.path(inode.ino).unwrap_or_default(), &runs)?;
            freed.extend(runs);
        }
        for inode in &doomed {
            let generation = inode.attributes.map_or(0, |attributes| attributes.generation);
            change.set_inode(inode.ino, InodeRaw::free(inode.ino, generation));
        }
        release_all(&mut change, &freed);
        self.touch_directory(&mut change, top.parent, now)?;
        self.commit(&change, now)?;
        self.return_blocks(freed)
    }

    /// An inode and everything below it.
    pub(super) fn subtree(&self, top: &Inode) -> Vec<Inode> {
        let mut found = vec![top.clone()];
        let mut next = 0_usize;
        while let Some(inode) = found.get(next) {
            let below: Vec<Inode> = self.tree.children(inode.ino).cloned().collect();
            found.extend(below);
            next = next.saturating_add(1);
        }
        found
    }
}
