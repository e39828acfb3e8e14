//! `gmfs mkfs --populate`: what a new region holds from the start.

use std::path::Path;

use anyhow::{Context as _, Result};
use gmfs::make::{Content, ContentError, FillError, MakeError, NoRoom};
use gmfs::put::{How, Keep};
use gmfs_format::native::geometry::Geometry;
use gmfs_io::WriteAt;
use gmfs_volume::used::Users;
use gmfs_volume::{CreateOptions, PutOptions, WriterOptions};

use super::Args;
use crate::clock;
use crate::cmd::{Tried, add_put, cannot_put, owner};
use crate::ctx::Ctx;
use crate::failure::Failure;
use crate::render::WRITER;
use crate::render::progress::Progress;

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

/// Looks at a directory. Refuses what a region cannot hold, before anything is written.
pub(super) fn plan<'a>(from: &Path, args: &'a Args, geometry: Geometry) -> Result<Content<'a>> {
    let cannot = || format!("cannot take the content from {}", from.display());
    let create = CreateOptions { size: 0, sparse: false, align_1g: false, mode: PRIVATE, owner: owner() };
    let put = PutOptions { create, replace: false };
    // Reading a file changes the time of its last access, so that it would be another one in each run.
    let how = How { image: &args.image, region: args.region, put, keep: Keep::WithoutAccess };
    let mut tried = Tried::default();
    let content = Content::plan(from, how, |source, path, read| add_put(&mut tried, source, path, read));
    let content = content.map_err(|error| match error {
        ContentError::Io(error) => error.into(),
        error => anyhow::Error::new(Failure::new("not-directory", error.to_string())),
    });
    let content = content.with_context(cannot)?;
    if tried.end().with_context(cannot)? {
        let failure = Failure::new("wrong-kind", "not all that is in it can be in a region");
        return Err(failure.hint("move the rest out of it")).with_context(cannot);
    }
    content.require_room(geometry).map_err(of_room).with_context(cannot)?;
    Ok(content)
}

fn of_room(error: NoRoom) -> Failure {
    let (code, hint) = match error {
        NoRoom::Blocks { .. } => ("no-space", "make the region larger: --size"),
        _ => ("no-inodes", "-N sets how many it has"),
    };
    Failure::new(code, error.to_string()).hint(hint)
}

/// Puts it into the region that was made in `bytes`, at this physical base if that is known.
pub(super) fn put(
    content: &Content<'_>,
    bytes: &mut dyn WriteAt,
    base: Option<u64>,
    users: Box<dyn Users>,
    ctx: &Ctx,
) -> Result<(), NotMade> {
    let options = WriterOptions { writer: WRITER.to_owned(), base, clock: clock::now };
    let progress = Progress::new(ctx, "copying", content.counts().bytes);
    content.put(bytes, options, users, &progress).map_err(|error| {
        NotMade::Content(match error {
            FillError::Open(error) => error.into(),
            FillError::Change(error) => error.into(),
            FillError::Item { outside, path, source } => {
                anyhow::Error::new(source).context(cannot_put(outside.as_os_str(), &path))
            }
            error => error.into(),
        })
    })?;
    progress.done();
    Ok(())
}
