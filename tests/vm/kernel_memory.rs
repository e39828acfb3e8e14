//! The memory of the running kernel as an image: `/proc/kcore` and `/dev/mem`. Debian's kernels have no kexec handover, so
//! that none may be found in them.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::guest::{Guest, KexecCall};
use crate::{BASE, REGION};

const KCORE: &str = "/proc/kcore";

/// What `gmfs scan --json` finds, with its exit status.
fn scan(guest: &mut Guest, image: &str) -> Result<(i32, Vec<Value>)> {
    let output = guest.run(&format!("gmfs scan --json {image}"))?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    Ok((output.status, answer["regions"].as_array().cloned().unwrap_or_default()))
}

/// Nothing is handed over, and that is what gmfs says.
pub(crate) fn has_no_handover(guest: &mut Guest) -> Result<()> {
    let (status, found) = scan(guest, KCORE)?;
    ensure!(status == 1 && found.is_empty(), "{status}: {found:?}");
    let said = guest.refuses(&format!("gmfs inspect {KCORE} unclaimed"), 2)?;
    ensure!(said.contains("no region"), "{said}");
    let about = guest.check(&format!("gmfs inspect --image {KCORE}"))?;
    ensure!(about.contains("ELF core") && about.contains("x86_64"), "{about}");
    Ok(())
}

/// A store in reserved memory is in `/dev/mem`, and not in `/proc/kcore`: the kernel does not map it.
pub(crate) fn finds_what_is_reserved(guest: &mut Guest) -> Result<()> {
    guest.check(&format!("gmfs mkfs --layout pkernfs /dev/mem {REGION}"))?;
    for kexec in [false, true] {
        if kexec {
            guest.kexec(KexecCall::FileLoad, "")?;
        }
        let (status, found) = scan(guest, "/dev/mem")?;
        let places: Vec<_> = found.iter().map(|store| (&store["layout"], &store["base"])).collect();
        ensure!(status == 0 && places == [(&"pkernfs".into(), &BASE.into())], "{status}: {found:?}");
        guest.check(&format!("gmfs fsck -n /dev/mem {REGION}"))?;
        guest.check(&format!("gmfs inspect /dev/mem {REGION}"))?;
        let said = guest.refuses(&format!("gmfs inspect {KCORE} {REGION}"), 2)?;
        ensure!(said.contains("does not hold"), "{said}");
    }
    Ok(())
}

/// Memory that the kernel maps is in `/proc/kcore`: a region in a file of huge pages, each of which is in one piece.
pub(crate) fn finds_what_is_mapped(guest: &mut Guest) -> Result<()> {
    guest.check(
        "mkdir /huge; mount -t tmpfs -o huge=always huge /huge; gmfs mkfs /huge/region --size 64M --label seen",
    )?;
    let (status, found) = scan(guest, KCORE)?;
    let seen = |store: &Value| store["layout"] == "gmfs2" && store["label"] == "seen";
    ensure!(status == 0 && found.iter().any(seen), "{status}: {found:?}");
    guest.check("umount /huge")?;
    Ok(())
}
