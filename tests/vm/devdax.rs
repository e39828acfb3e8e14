//! Persistent memory in a guest: its modules, and a device-dax device from a `memmap=SIZE!BASE` range.

use anyhow::Result;

use crate::guest::Guest;

/// The modules that make `/dev/pmem0` from such a range, and `/dev/dax0.0` from a namespace in devdax mode.
pub(crate) const MODULES: [&str; 4] = ["nd_e820", "nd_pmem", "dax_pmem", "device_dax"];
/// The device that [`create`] makes.
pub(crate) const DEVICE: &str = "/dev/dax0.0";
/// The block device for the range before that.
pub(crate) const BLOCK_DEVICE: &str = "/dev/pmem0";
/// How much of the range the kernel uses at its start for page descriptors: 2 MiB of 64 MiB.
pub(crate) const KEPT: u64 = 2 << 20;

/// Sets the namespace to devdax mode, by writing what `ndctl create-namespace -f -e namespace0.0 -m devdax` writes.
///
/// The mode is recorded in the range itself. So kernels after a kexec find it, and have the device after they boot.
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

/// The device's size, from the kernel.
pub(crate) fn size(guest: &mut Guest) -> Result<u64> {
    Ok(guest.check("cat /sys/bus/dax/devices/dax0.0/size")?.trim().parse()?)
}
