//! The process of a guest: QEMU and its directory. Neither is left over when a test ends.

use std::env;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::guest::Config;
use crate::tools::Tools;

/// How long QEMU may take to open its sockets.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(20);
/// The default size of the guest's memory. A reservation must be well below the initramfs, which is at the end.
pub(crate) const MEMORY: &str = "512M";
/// The kernel's parameters in every guest: a quiet console, randomness at once, and an exit of QEMU on a crash.
const PARAMETERS: &str = "console=ttyS0 loglevel=5 random.trust_cpu=on panic=-1 no_timer_check";

/// The socket of the guest's second serial port.
pub(crate) const AGENT: &str = "agent";
/// The socket of QEMU's machine protocol.
pub(crate) const QMP: &str = "qmp";
/// The file with the output of the guest's kernel.
const CONSOLE: &str = "console";
/// The file with QEMU's own messages.
const LOG: &str = "qemu.log";

/// A running QEMU. It is killed on drop, however the value is dropped.
pub(crate) struct Machine {
    qemu: Child,
    /// The directory of the sockets, the initramfs and the logs.
    directory: TempDir,
}

impl Machine {
    /// Starts QEMU with a kernel, the guest's configuration, and its initramfs.
    pub(crate) fn start(tools: &Tools, config: &Config<'_>, initramfs: &[u8]) -> Result<Self> {
        let directory = TempDir::with_prefix("gmfs-vm-")?;
        fs::write(directory.path().join("initramfs"), initramfs)?;
        let log = File::create(directory.path().join(LOG))?;
        let qemu = command(tools, config, directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", tools.qemu.display()))?;
        Ok(Self { qemu, directory })
    }

    /// Connects to one of QEMU's sockets as soon as it exists.
    pub(crate) fn connect(&mut self, socket: &str) -> Result<UnixStream> {
        let deadline = Instant::now() + SOCKET_TIMEOUT;
        let path = self.directory.path().join(socket);
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => return Ok(stream),
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| self.last_words());
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
            self.check().with_context(|| self.last_words())?;
        }
    }

    /// Fails if QEMU has ended. It ends by itself only if the guest crashed or it could not start.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.qemu.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("QEMU ended by itself: {status}"),
        }
    }

    /// QEMU's messages and the last lines of the console, which show why there is no answer.
    pub(crate) fn last_words(&self) -> String {
        let console = self.read(CONSOLE);
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        format!("QEMU says: {}\nthe guest's console ends with:\n{tail}", self.read(LOG))
    }

    fn read(&self, name: &str) -> String {
        fs::read(self.directory.path().join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Err(error) = self.qemu.kill().and_then(|()| self.qemu.wait()) {
            eprintln!("cannot end QEMU: {error}");
        }
    }
}

/// QEMU's command line: a plain PC with two serial ports, and with all files in one directory.
fn command(tools: &Tools, config: &Config<'_>, directory: &Path) -> Command {
    let accelerator = env::var("GMFS_VM_ACCEL").unwrap_or_else(|_| "tcg".to_owned());
    // The wrapper has QEMU killed if the test is killed itself, because values are not dropped then.
    let mut command = Command::new(&tools.setpriv);
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(&tools.qemu)
        .current_dir(directory)
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-vga", "none"])
        .args(["-accel", &accelerator, "-cpu", "max", "-smp", "1"])
        .args(["-m", if config.memory.is_empty() { MEMORY } else { config.memory }])
        .arg("-kernel")
        .arg(&tools.kernel)
        .args(["-initrd", "initramfs"])
        .args(["-append", &format!("{PARAMETERS} {}", config.parameters)])
        .args(["-serial", &format!("file:{CONSOLE}")])
        .args(["-serial", &format!("unix:{AGENT},server=on,wait=off")])
        .args(["-qmp", &format!("unix:{QMP},server=on,wait=off")]);
    if let Some(disk) = config.disk {
        // The disk need not outlive the test, so the host's own caching is safe enough.
        let drive = format!("file={},format=raw,if=none,id=disk,cache=unsafe", disk.display());
        command.args(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"]);
    }
    command
}
