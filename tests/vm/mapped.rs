//! Live memory that a process has mapped is not freed or overwritten, and the process is named.

use anyhow::{Result, ensure};

use crate::guest::Guest;
use crate::scenario::Image;

/// The file whose memory is mapped.
const FILE: &str = "/vms/first/memory";

/// A `gmfs cat` whose output is not read maps the memory that it reads. It runs without a lock, so that only the
/// mapping prevents changes.
pub(crate) fn refuses_what_is_mapped(guest: &mut Guest, image: Image<'_>) -> Result<()> {
    let line = |command: &str, operands: &str| format!("gmfs {command} {} {operands} {}", image.path, image.region);
    // Two states of the file with different blocks: one to restore, and one to change to.
    guest.check(&line("create", "/late --size 2M"))?;
    guest.check(&line("dump -f -o /old.meta", ""))?;
    guest.check(&line("put -f", &format!("/sources/byte {FILE}")))?;
    guest.check(&line("dump -f -o /new.meta", ""))?;
    guest.check("rm -f /undo")?;
    guest.check(&format!("gmfs restore -y --undo /undo /old.meta {} {}", image.path, image.region))?;
    let reader = line("cat", FILE);
    guest.check(&format!(
        "rm -f /stop; mkfifo /stop
         ({reader} --no-lock | (read wait </stop; cat >/dev/null)) >/dev/null 2>&1 &
         sleep 2; pidof gmfs"
    ))?;
    let shown = guest.check(&line("stat --in-use", FILE))?;
    ensure!(shown.contains("(gmfs)"), "nobody is shown: {shown}");
    for (command, operands, status) in [
        ("rm", FILE.to_owned(), 2),
        ("truncate", format!("{FILE} --size 1"), 2),
        ("put -f", format!("/sources/byte {FILE}"), 2),
        ("mv -f", format!("/late {FILE}"), 2),
        ("mkfs -f", String::new(), 2),
    ] {
        let said = guest.refuses(&line(command, &operands), status)?;
        ensure!(said.contains("is mapped by process ") && said.contains("(gmfs)"), "{command}: {said}");
    }
    for command in ["restore -y /new.meta", "undo /undo", "undo -f /undo"] {
        let said = guest.refuses(&line(command, ""), 2)?;
        ensure!(said.contains("is mapped by process ") && said.contains("(gmfs)"), "{command}: {said}");
    }
    // A repair frees nothing, so it continues although a file is mapped.
    guest.check(&line("fsck -y", ""))?;
    guest.check("echo >/stop; wait; rm /stop")?;
    guest.check(&line("rm", "/late"))?;
    guest.check(&line("fsck -n", ""))?;
    Ok(())
}

/// The lock is on the range, whichever node of the device is used.
pub(crate) fn excludes_by_range(guest: &mut Guest, image: Image<'_>) -> Result<()> {
    let line = |command: &str, operands: &str| format!("gmfs {command} {} {operands} {}", image.path, image.region);
    guest.check(&format!(
        "rm -f /stop; mkfifo /stop
         ({} | (read wait </stop; cat >/dev/null)) >/dev/null 2>&1 &
         sleep 2; pidof gmfs",
        line("cat", FILE)
    ))?;
    let said = guest.refuses(&line("create", "/late --size 2M --wait 0"), 2)?;
    ensure!(said.contains("is locked by process ") && said.contains("(gmfs)"), "{said}");
    guest.check(&line("ls --wait 0", ""))?;
    guest.check("echo >/stop; wait; rm /stop")?;
    Ok(())
}
