//! What changed in a region, or would change, in sentences.

use gmfs::changes::{Changes, One, State, What};
use gmfs::put_back::Becomes;
use gmfs_format::model::Kind;

use crate::ctx::{Ctx, OutputError};
use crate::failure::printable;
use crate::paths;
use crate::render::size;

/// Prints what a dry run would change: a line for each file and directory, and one for the blocks.
pub(crate) fn tell(changes: &Changes, ctx: &mut Ctx) -> Result<(), OutputError> {
    for one in &changes.list {
        ctx.line(&sentence(one))?;
    }
    let image = printable(&changes.place.path.display().to_string());
    let (taken, freed) = (size::count(changes.moved.taken, "block"), changes.moved.freed);
    ctx.line(&format!("{image}: {taken} would be taken and {freed} freed; nothing was written"))
}

/// Says what would become of a file or directory.
fn sentence(one: &One) -> String {
    let path = |state: &Option<State>| match state.as_ref().and_then(|state| state.path.as_ref()) {
        Some(path) => format!("'{}'", paths::shown(path)),
        None => format!("inode {}", one.ino),
    };
    let content = |state: &State| format!("{} in {}", size::human(state.size), size::count(state.blocks, "block"));
    let directory = one.kind == Kind::Directory;
    let noun = if directory { "the directory " } else { "" };
    let of = |state: &Option<State>| match state {
        Some(state) if !directory => format!(": {}", content(state)),
        _ => String::new(),
    };
    let access = match (&one.before, &one.after) {
        (Some(before), Some(after)) if before.access != after.access => {
            let said = |state: &State| state.access.map(|now| format!("{:04o} {}:{}", now.mode, now.uid, now.gid));
            format!(": {} instead of {}", said(after).unwrap_or_default(), said(before).unwrap_or_default())
        }
        _ => String::new(),
    };
    let both = match (&one.before, &one.after) {
        (Some(before), Some(after)) if (before.size, before.blocks) != (after.size, after.blocks) => {
            format!(": {} instead of {}", content(after), content(before))
        }
        (_, after) if one.what == What::Changed && access.is_empty() => of(after),
        _ => String::new(),
    };
    match one.what {
        What::Created => format!("would create {noun}{}{}", path(&one.after), of(&one.after)),
        What::Removed => format!("would remove {noun}{}{}", path(&one.before), of(&one.before)),
        What::Moved => format!("would move {noun}{} to {}{both}{access}", path(&one.before), path(&one.after)),
        What::Changed => format!("would change {noun}{}{both}{access}", path(&one.after)),
    }
}

/// Prints what becomes of each file when older metadata is put back. `None`: there will be no region that can be
/// opened.
pub(crate) fn tell_put_back(becomes: Option<&[Becomes]>, ctx: &mut Ctx) -> Result<(), OutputError> {
    let Some(becomes) = becomes else {
        return ctx.line("afterwards there is no region, or one that fsck has to repair before its files can be read");
    };
    for one in becomes {
        let what = match (&one.before, &one.after) {
            (None, _) => "comes back",
            (_, None) => "goes",
            _ if one.has_other_blocks() => "gets other blocks",
            _ => "gets another size",
        };
        ctx.line(&format!("{}: {what}", paths::shown(&one.path)))?;
    }
    Ok(())
}
