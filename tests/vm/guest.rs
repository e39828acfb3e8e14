//! A virtual machine with a real kernel: boots it, runs commands in it, sends it through kexec, and looks at its memory.

use std::env;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::agent::{Agent, Output};
use crate::initramfs::{self, Contents};
use crate::qmp::Qmp;
use crate::tools::Tools;

/// How long a kernel may take until its init script answers. Emulated, on a busy machine, that is not little.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a command in the guest may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// How long QEMU may take to open its sockets.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(20);
/// The guest's memory. QEMU puts the initramfs at its very end: a reservation has to lie well below.
const MEMORY_MIB: u32 = 512;
/// The kernel's parameters in every guest: a quiet console, randomness at once, and a crash ends QEMU.
const PARAMETERS: &str = "console=ttyS0 loglevel=5 random.trust_cpu=on panic=-1";

/// What makes one guest different from another.
#[derive(Default)]
pub(crate) struct Config<'a> {
    /// Kernel parameters besides the harness's own, such as `memmap=64M$0x10000000`. The next kernels get them too.
    pub(crate) parameters: &'a str,
    /// What its root file system holds.
    pub(crate) contents: Contents<'a>,
}

/// The two system calls that load the next kernel; they learn the memory map in different ways.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KexecCall {
    /// `kexec_load`: kexec-tools lays everything out, from what the kernel shows in `/proc/iomem`.
    Load,
    /// `kexec_file_load`: the running kernel lays everything out.
    FileLoad,
}

impl KexecCall {
    /// The option of `kexec` that picks it.
    fn option(self) -> &'static str {
        match self {
            Self::Load => "-c",
            Self::FileLoad => "-s",
        }
    }
}

/// A running guest. It ends with this value, however that comes to its end.
pub(crate) struct Guest {
    qemu: Child,
    agent: Agent,
    qmp: Qmp,
    boot_id: String,
    /// Holds the sockets, the initramfs and the logs; the last field, so that it goes after all that uses it.
    directory: TempDir,
}

impl Guest {
    /// Boots a guest, and waits until it takes commands.
    pub(crate) fn boot(tools: &Tools, config: &Config<'_>) -> Result<Self> {
        let directory = TempDir::with_prefix("gmfs-vm-")?;
        let initramfs = directory.path().join("initramfs");
        fs::write(&initramfs, initramfs::build(tools, &config.contents)?)?;
        let mut qemu = KillOnDrop(Some(start_qemu(tools, config, directory.path())?));
        let agent = connect(&directory.path().join("agent"), &mut qemu)?;
        let qmp = connect(&directory.path().join("qmp"), &mut qemu)?;
        let mut guest = Self {
            agent: Agent::new(agent)?,
            qmp: Qmp::new(qmp)?,
            qemu: qemu.0.take().context("QEMU is gone")?,
            boot_id: String::new(),
            directory,
        };
        guest.wait_ready()?;
        Ok(guest)
    }

    /// Runs a shell command, whatever its exit status will be.
    pub(crate) fn run(&mut self, command: &str) -> Result<Output> {
        let Self { agent, qemu, .. } = self;
        agent
            .run(command, COMMAND_TIMEOUT, &mut || still_runs(qemu))
            .with_context(|| format!("in the guest: {command}\n{}", self.console_tail()))
    }

    /// Runs a shell command that has to succeed, and gives its standard output as text.
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

    /// Runs a shell command that has to fail, with this exit status, and gives its standard error.
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

    /// Goes on into another kernel, with the same parameters and the same root file system, and waits for it.
    pub(crate) fn kexec(&mut self, call: KexecCall) -> Result<()> {
        self.check(&format!(
            "{{ cat {base}; cd / && find boot | cpio -o -H newc; }} >/tmp/initramfs 2>/tmp/cpio.log &&
             kexec {option} -l {kernel} --initrd=/tmp/initramfs --append=\"$(cat /proc/cmdline)\" &&
             rm /tmp/initramfs",
            base = initramfs::BASE,
            kernel = initramfs::KERNEL,
            option = call.option(),
        ))?;
        let before = self.boot_id.clone();
        self.agent.send("kexec -e")?;
        self.wait_ready().context("after kexec")?;
        ensure!(
            self.boot_id != before,
            "the kernel is still the one before kexec"
        );
        Ok(())
    }

    /// Writes all physical memory into an ELF crash dump.
    pub(crate) fn dump_elf(&mut self, file: &Path) -> Result<()> {
        self.dump(file, "elf")
    }

    /// Writes all physical memory into a kdump-compressed crash dump, of the flattened kind, pages by zlib.
    pub(crate) fn dump_kdump(&mut self, file: &Path) -> Result<()> {
        self.dump(file, "kdump-zlib")
    }

    fn dump(&mut self, file: &Path, format: &str) -> Result<()> {
        let protocol = format!("file:{}", file.display());
        self.qmp.execute(
            "dump-guest-memory",
            &json!({ "paging": false, "protocol": protocol, "format": format }),
        )?;
        Ok(())
    }

    /// Writes a piece of physical memory into a file, byte for byte.
    pub(crate) fn save_memory(&mut self, address: u64, size: u64, file: &Path) -> Result<()> {
        self.qmp.execute(
            "pmemsave",
            &json!({ "val": address, "size": size, "filename": file }),
        )?;
        Ok(())
    }

    fn wait_ready(&mut self) -> Result<()> {
        let Self { agent, qemu, .. } = self;
        let ready = agent
            .wait_ready(BOOT_TIMEOUT, &mut || still_runs(qemu))
            .with_context(|| self.console_tail())?;
        self.boot_id = ready;
        Ok(())
    }

    /// The last lines of the console and what QEMU itself complained about: why nothing came over the other line.
    fn console_tail(&self) -> String {
        let read = |name| {
            fs::read(self.directory.path().join(name))
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        let console = read("console");
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!(
            "QEMU says: {}\nthe guest's console ends with:\n{tail}",
            read("qemu.log")
        )
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        end(&mut self.qemu);
    }
}

/// Sees to it that QEMU ends when the way to a [`Guest`] fails.
struct KillOnDrop(Option<Child>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

/// Kills and buries a process; one that has ended already is fine too.
fn end(child: &mut Child) {
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        eprintln!("cannot end QEMU: {error}");
    }
}

/// Starts QEMU in a directory that holds the initramfs; console, sockets and log appear beside it.
fn start_qemu(tools: &Tools, config: &Config<'_>, directory: &Path) -> Result<Child> {
    let accelerator = env::var("GMFS_VM_ACCEL").unwrap_or_else(|_| "tcg".to_owned());
    let parameters = format!("{PARAMETERS} {}", config.parameters);
    // The wrapper has QEMU killed when the test that started it is itself killed, where no value is dropped.
    Command::new(&tools.setpriv)
        .args(["--pdeathsig", "KILL", "--"])
        .arg(&tools.qemu)
        .current_dir(directory)
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-vga", "none", "-smp", "1"])
        .args(["-accel", &accelerator, "-cpu", "max"])
        .args(["-m", &format!("{MEMORY_MIB}M")])
        .arg("-kernel")
        .arg(&tools.kernel)
        .args(["-initrd", "initramfs", "-append", &parameters])
        .args(["-serial", "file:console"])
        .args(["-serial", "unix:agent,server=on,wait=off"])
        .args(["-qmp", "unix:qmp,server=on,wait=off"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(directory.join("qemu.log"))?)
        .spawn()
        .with_context(|| format!("cannot start {}", tools.qemu.display()))
}

/// Connects to one of QEMU's sockets as soon as it is there.
fn connect(socket: &PathBuf, qemu: &mut KillOnDrop) -> Result<UnixStream> {
    let deadline = Instant::now() + SOCKET_TIMEOUT;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("QEMU's {}", socket.display()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
        if let Some(child) = &mut qemu.0 {
            still_runs(child)?;
        }
    }
}

/// Fails when QEMU has ended, which it only does by itself when the guest crashed or it could not start.
fn still_runs(qemu: &mut Child) -> Result<()> {
    match qemu.try_wait()? {
        None => Ok(()),
        Some(status) => {
            bail!("QEMU ended ({status}); the guest's kernel has crashed, or QEMU could not start")
        }
    }
}
