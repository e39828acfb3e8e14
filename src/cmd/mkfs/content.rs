//! `gmfs mkfs --populate`: what a new region holds from the start.

use std::path::Path;

use anyhow::{Context as _, Result};
use gmfs::make::MakeError;
use gmfs::put::{Copying, How, Item, Keep, Plan};
use gmfs_format::native::geometry::Geometry;
use gmfs_io::WriteAt;
use gmfs_volume::used::Users;
use gmfs_volume::{CreateOptions, PutOptions, Writer, WriterOptions};

use super::Args;
use crate::clock;
use crate::cmd::{Tried, cannot_put, plan_put};
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::render::json::actions::Populated;
use crate::render::progress::Progress;
use crate::render::{WRITER, size};

/// Permission bits of a file, until it gets its own.
const PRIVATE: u16 = 0o600;

/// Why no region was made.
pub(super) enum NotMade {
    /// It could not be formatted.
    Region(MakeError),
    /// It could not be filled.
    Content(anyhow::Error),
}

impl From<MakeError> for NotMade {
    fn from(error: MakeError) -> Self {
        Self::Region(error)
    }
}

/// What is put into a new region.
pub(super) struct Content<'a> {
    how: How<'a>,
    items: Vec<Item>,
    total: u64,
}

impl<'a> Content<'a> {
    /// Looks at a directory. Refuses what a region cannot hold, before anything is written.
    pub(super) fn plan(from: &Path, args: &'a Args, geometry: Geometry) -> Result<Self> {
        let create =
            CreateOptions { size: 0, sparse: false, align_1g: false, mode: PRIVATE, owner: super::super::owner() };
        let put = PutOptions { create, replace: false };
        // Reading a file changes the time of its last access, so that it would be another one in each run.
        let how = How { image: &args.image, region: args.region, put, keep: Keep::WithoutAccess };
        let cannot = || format!("cannot take the content from {}", from.display());
        if !std::fs::metadata(from).with_context(cannot)?.is_dir() {
            return Err(Failure::new("not-directory", "it is no directory")).with_context(cannot);
        }
        let (mut plan, mut tried) = (Plan::default(), Tried::default());
        plan_put(&mut plan, &how, from, &mut tried);
        let Plan { items, total, .. } = plan;
        if tried.end().with_context(cannot)? {
            let failure = Failure::new("wrong-kind", "not all that is in it can be in a region");
            return Err(failure.hint("move the rest out of it")).with_context(cannot);
        }
        let blocks =
            |item: &Item| if item.meta.is_dir() { 0 } else { item.meta.len().div_ceil(geometry.block_bytes()) };
        let needed = items.iter().map(blocks).fold(0, u64::saturating_add);
        let (room, inodes) = (u64::from(geometry.data_blocks()), u64::from(geometry.inodes()));
        if needed > room {
            let message = format!(
                "its files need {} of {}, and the region has {room}",
                size::count(needed, "block"),
                size::human(geometry.block_bytes())
            );
            let failure = Failure::new("no-space", message).hint("make the region larger: --size");
            return Err(failure).with_context(cannot);
        }
        if items.len() as u64 > inodes {
            let message =
                format!("{} files and directories are in it, and the region has {inodes} inodes", items.len());
            let failure = Failure::new("no-inodes", message).hint("-N sets how many it has");
            return Err(failure).with_context(cannot);
        }
        Ok(Self { how, items, total })
    }

    /// How much it is; the directory that is the root of the region is not counted.
    pub(super) fn counts(&self) -> Populated {
        let files = self.items.iter().filter(|item| !item.meta.is_dir()).count() as u64;
        let directories = (self.items.len() as u64).saturating_sub(files).saturating_sub(1);
        Populated { files, directories, bytes: self.total }
    }

    /// Puts it into the region that was made in `bytes`, at this physical base if that is known.
    pub(super) fn put(
        &self,
        bytes: &mut dyn WriteAt,
        base: Option<u64>,
        users: Box<dyn Users>,
        ctx: &Ctx,
    ) -> Result<(), NotMade> {
        self.try_put(bytes, base, users, ctx).map_err(NotMade::Content)
    }

    fn try_put(&self, bytes: &mut dyn WriteAt, base: Option<u64>, users: Box<dyn Users>, ctx: &Ctx) -> Result<()> {
        let options = WriterOptions { writer: WRITER.to_owned(), base, clock: clock::now };
        let (mut writer, _) = Writer::open(bytes, options)?;
        writer.watch(users);
        let progress = Progress::new(ctx, "copying", self.total);
        let mut copying = Copying::new(self.how, &progress);
        for item in &self.items {
            let path = if item.path.is_empty() { b"/" } else { item.path.as_slice() };
            copying.one(&mut writer, item, path).with_context(|| cannot_put(item.source.as_os_str(), path))?;
        }
        copying.finish(&mut writer)?;
        if let Some(top) = self.items.first() {
            writer.set_attributes(b"/", false, &|_| self.how.attributes(&top.meta))?;
        }
        writer.close()?;
        progress.done();
        Ok(())
    }
}
