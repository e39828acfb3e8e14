//! Persistent memory in a guest: the modules for it, and a device-dax device out of a `memmap=SIZE!BASE` range.

use anyhow::Result;

use crate::guest::Guest;

/// The modules that make `/dev/pmem0` of such a range, and `/dev/dax0.0` of a namespace in devdax mode.
pub(crate) const MODULES: [&str; 4] = ["nd_e820", "nd_pmem", "dax_pmem", "device_dax"];
/// The device that [`create`] makes.
pub(crate) const DEVICE: &str = "/dev/dax0.0";
/// The block device that stands in its place before.
pub(crate) const BLOCK_DEVICE: &str = "/dev/pmem0";
/// What the kernel keeps for itself at the start of the range, for the page descriptors of the rest: at 64 MiB, 2 MiB.
pub(crate) const KEPT: u64 = 2 << 20;

/// Puts the namespace into devdax mode: what `ndctl create-namespace -f -e namespace0.0 -m devdax` writes.
///
/// The mode is noted in the range itself, so the kernels after kexec find it, and the device is there when they are up.
pub(crate) fn create(guest: &mut Guest) -> Result<()> {
    guest.check(&format!(
        "set -e
         echo namespace0.0 >/sys/bus/nd/drivers/nd_pmem/unbind
         cd /sys/bus/nd/devices/dax0.0
         echo 2097152 >align
         cat /proc/sys/kernel/random/uuid >uuid
         echo pmem >mode
         echo namespace0.0 >namespace
         echo dax0.0 >/sys/bus/nd/drivers/dax_pmem/bind
         [ -c {DEVICE} ]"
    ))?;
    Ok(())
}

/// The device's size, as the kernel tells it.
pub(crate) fn size(guest: &mut Guest) -> Result<u64> {
    Ok(guest.check("cat /sys/bus/dax/devices/dax0.0/size")?.trim().parse()?)
}
