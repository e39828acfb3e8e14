//! A virtual machine with a real kernel: boots it, runs commands in it, starts other kernels by kexec, and reads its
//! memory.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::agent::{Agent, Output};
use crate::initramfs::{self, Contents};
use crate::machine::{self, Machine};
use crate::qmp::Qmp;
use crate::tools::Tools;

/// How long a kernel may take until its init script answers. On a busy machine without KVM, that takes long.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a command in the guest may take, for example makedumpfile on a busy machine without KVM.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// What differs from guest to guest.
#[derive(Default)]
pub(crate) struct Config<'a> {
    /// Kernel parameters besides the harness's own, such as `memmap=64M$0x10000000`. The next kernels get them too.
    pub(crate) parameters: &'a str,
    /// The size of its memory for QEMU; empty for [`machine::MEMORY`]. The initramfs is at the end of the memory.
    pub(crate) memory: &'a str,
    /// A file with the content of its disk, which is `/dev/vda` with the modules
    /// [`disk::MODULES`](crate::disk::MODULES).
    pub(crate) disk: Option<&'a Path>,
    /// The content of its root file system.
    pub(crate) contents: Contents<'a>,
}

/// The two system calls that load the next kernel. They get the memory map in different ways.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KexecCall {
    /// `kexec_load`: kexec-tools arranges the segments, by the map that the kernel shows in `/proc/iomem`.
    Load,
    /// `kexec_file_load`: the running kernel arranges the segments.
    FileLoad,
}

impl KexecCall {
    /// The option of `kexec` that selects it.
    fn option(self) -> &'static str {
        match self {
            Self::Load => "-c",
            Self::FileLoad => "-s",
        }
    }
}

/// A running guest. It is ended on drop.
pub(crate) struct Guest {
    agent: Agent,
    qmp: Qmp,
    machine: Machine,
    boot_id: String,
}

impl Guest {
    /// Boots a guest, and waits until it accepts commands.
    pub(crate) fn boot(tools: &Tools, config: &Config<'_>) -> Result<Self> {
        let initramfs = initramfs::build(tools, &config.contents)?;
        let mut machine = Machine::start(tools, config, &initramfs)?;
        let mut guest = Self {
            agent: Agent::new(machine.connect(machine::AGENT)?)?,
            qmp: Qmp::new(machine.connect(machine::QMP)?)?,
            machine,
            boot_id: String::new(),
        };
        guest.wait_ready()?;
        Ok(guest)
    }

    /// Runs a shell command, whatever its exit status. Its output crosses an emulated serial line at about 300 KB per
    /// second, so long output should be reduced in the guest.
    pub(crate) fn run(&mut self, command: &str) -> Result<Output> {
        let Self { agent, machine, qmp, .. } = self;
        agent.run(command, COMMAND_TIMEOUT, &mut || machine.check()).with_context(|| {
            format!("in the guest: {command}\n{}\nits processor:\n{}", machine.last_words(), qmp.processor())
        })
    }

    /// Runs a shell command that must succeed, and returns its standard output as text.
    pub(crate) fn check(&mut self, command: &str) -> Result<String> {
        let output = self.run(command)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status == 0,
            "in the guest: {command}\nexit status {}\nstdout: {stdout}\nstderr: {}",
            output.status,
            output.stderr
        );
        Ok(stdout)
    }

    /// Runs a shell command that must fail with this exit status, and returns its standard error.
    pub(crate) fn refuses(&mut self, command: &str, status: i32) -> Result<String> {
        let output = self.run(command)?;
        ensure!(
            output.status == status,
            "in the guest: {command}\nexit status {}, expected {status}\nstdout: {}\nstderr: {}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            output.stderr
        );
        Ok(output.stderr)
    }

    /// Starts another kernel by kexec, with the same root file system, the same parameters and possibly more, and waits
    /// for it. Other files of the guest are lost.
    pub(crate) fn kexec(&mut self, call: KexecCall, parameters: &str) -> Result<()> {
        self.load_kernel(call, parameters)?;
        self.start_loaded_kernel()
    }

    /// Loads the next kernel for [`start_loaded_kernel`](Self::start_loaded_kernel).
    pub(crate) fn load_kernel(&mut self, call: KexecCall, parameters: &str) -> Result<()> {
        self.check(&format!(
            "{{ cat {base}; cd / && find boot | cpio -o -H newc; }} >/tmp/initramfs 2>/tmp/cpio.log &&
             kexec {option} -l {kernel} --initrd=/tmp/initramfs --append=\"$(cat /proc/cmdline) {parameters}\" &&
             rm /tmp/initramfs",
            base = initramfs::BASE,
            kernel = initramfs::KERNEL,
            option = call.option(),
        ))?;
        Ok(())
    }

    /// Starts the kernel that was loaded, and waits for it.
    pub(crate) fn start_loaded_kernel(&mut self) -> Result<()> {
        let before = self.boot_id.clone();
        self.agent.send("kexec -e")?;
        self.wait_ready().context("after kexec")?;
        ensure!(self.boot_id != before, "the kernel is still the one before kexec");
        Ok(())
    }

    /// Loads the kernel that takes over after a crash. It gets the same root file system, the present content of
    /// `/etc`, and the parameters that kdump-tools would use: the same ones without `crashkernel=`, and some more. With
    /// `irqpoll`, it handles interrupts that a device raised before the crash.
    pub(crate) fn load_capture_kernel(&mut self, call: KexecCall) -> Result<()> {
        self.check(&format!(
            "{{ cat {base}; cd / && find etc | cpio -o -H newc; }} >/tmp/initramfs 2>/tmp/cpio.log &&
             parameters=$(sed 's/crashkernel=[^ ]*//' /proc/cmdline) &&
             kexec {option} -p {kernel} --initrd=/tmp/initramfs --append=\"$parameters reset_devices nr_cpus=1 irqpoll\" &&
             rm /tmp/initramfs && [ $(cat /sys/kernel/kexec_crash_loaded) = 1 ]",
            base = initramfs::BASE,
            kernel = initramfs::KERNEL,
            option = call.option(),
        ))?;
        Ok(())
    }

    /// Crashes the kernel, and waits for the capture kernel.
    pub(crate) fn crash(&mut self) -> Result<()> {
        let before = self.boot_id.clone();
        self.agent.send("echo c >/proc/sysrq-trigger")?;
        self.wait_ready().context("after the crash")?;
        ensure!(self.boot_id != before, "the kernel is still the one before the crash");
        self.check("[ -s /proc/vmcore ]")?;
        Ok(())
    }

    /// Writes all physical memory to an ELF crash dump.
    pub(crate) fn dump_elf(&mut self, file: &Path) -> Result<()> {
        self.dump(file, "elf", false)
    }

    /// Writes all physical memory to a kdump-compressed crash dump, flattened, with zlib pages.
    pub(crate) fn dump_kdump(&mut self, file: &Path) -> Result<()> {
        self.dump(file, "kdump-zlib", false)
    }

    /// Writes an ELF crash dump with only the memory that the guest's page tables map.
    pub(crate) fn dump_paged(&mut self, file: &Path) -> Result<()> {
        self.dump(file, "elf", true)
    }

    fn dump(&mut self, file: &Path, format: &str, paging: bool) -> Result<()> {
        let protocol = format!("file:{}", file.display());
        self.qmp.execute("dump-guest-memory", &json!({ "paging": paging, "protocol": protocol, "format": format }))?;
        Ok(())
    }

    /// Writes a range of physical memory to a file, unchanged.
    pub(crate) fn save_memory(&mut self, address: u64, size: u64, file: &Path) -> Result<()> {
        self.qmp.execute("pmemsave", &json!({ "val": address, "size": size, "filename": file }))?;
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let Self { agent, machine, .. } = self;
        self.boot_id =
            agent.wait_ready(BOOT_TIMEOUT, &mut || machine.check()).with_context(|| self.machine.last_words())?;
        Ok(())
    }
}
