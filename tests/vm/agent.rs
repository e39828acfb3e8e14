//! The connection to the guest's init script: one command at a time, its output in base64, and a deadline for every
//! wait.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::base64;

/// How long one read waits, so that the caller's `alive` can check the emulator in between.
const TICK: Duration = Duration::from_millis(100);
/// After this long without output, an empty line is sent. The init script ignores it, but its bytes interrupt the
/// guest. A kernel that took over after a crash may have lost an interrupt, and would otherwise wait for it forever.
const SILENCE: Duration = Duration::from_secs(5);
/// The size of the kernel's buffer of a serial line. A longer command could be cut off without an error.
const LONGEST_COMMAND: usize = 32 << 10;

/// The result of a command in the guest.
#[derive(Debug)]
pub(crate) struct Output {
    /// Its exit status, from the shell.
    pub(crate) status: i32,
    /// What it wrote to its standard output.
    pub(crate) stdout: Vec<u8>,
    /// What it wrote to its standard error, as text.
    pub(crate) stderr: String,
}

/// The host's end of the guest's second serial port.
pub(crate) struct Agent {
    stream: UnixStream,
    unread: Vec<u8>,
    commands: u32,
    /// When something was last received, or was sent to wake the guest.
    heard: Instant,
}

impl Agent {
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(TICK))?;
        Ok(Self { stream, unread: Vec::new(), commands: 0, heard: Instant::now() })
    }

    /// Waits until a guest that has just booted reports, and returns its boot id: a random number that each kernel
    /// generates. Earlier output is ignored.
    pub(crate) fn wait_ready(&mut self, timeout: Duration, alive: &mut dyn FnMut() -> Result<()>) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let line = self.line(deadline, alive).context("waiting for the guest to boot")?;
            if let Some(boot_id) = line.strip_prefix("gmfs-vm ready ") {
                return Ok(boot_id.to_owned());
            }
        }
    }

    /// Starts a command, and does not wait for it.
    pub(crate) fn send(&mut self, command: &str) -> Result<u32> {
        self.commands += 1;
        let payload = base64::encode(command.as_bytes());
        ensure!(
            payload.len() <= LONGEST_COMMAND,
            "the command is longer than the serial line holds: {} bytes",
            command.len()
        );
        writeln!(self.stream, "run {} {payload}", self.commands)?;
        Ok(self.commands)
    }

    /// Runs a command, and waits for its end.
    pub(crate) fn run(
        &mut self,
        command: &str,
        timeout: Duration,
        alive: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Output> {
        let deadline = Instant::now() + timeout;
        let id = self.send(command)?;
        let begin = format!("gmfs-vm begin {id}");
        while self.line(deadline, alive)? != begin {}
        let (stdout, _) = self.block(&format!("gmfs-vm stderr {id}"), deadline, alive)?;
        let (stderr, status) = self.block(&format!("gmfs-vm end {id}"), deadline, alive)?;
        Ok(Output {
            status: status.trim().parse().with_context(|| format!("not an exit status: {status:?}"))?,
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }

    /// Decodes base64 lines up to the line that begins with `end`. Returns the rest of that line too.
    fn block(
        &mut self,
        end: &str,
        deadline: Instant,
        alive: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(Vec<u8>, String)> {
        let mut bytes = Vec::new();
        loop {
            let line = self.line(deadline, alive)?;
            if let Some(rest) = line.strip_prefix(end) {
                return Ok((bytes, rest.to_owned()));
            }
            bytes.extend(base64::decode(&line)?);
        }
    }

    /// The next line, without its end.
    fn line(&mut self, deadline: Instant, alive: &mut dyn FnMut() -> Result<()>) -> Result<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim().to_owned());
            }
            alive()?;
            ensure!(
                Instant::now() < deadline,
                "the guest did not answer in time; unfinished line: {:?}",
                String::from_utf8_lossy(&self.unread)
            );
            self.receive()?;
            if self.heard.elapsed() > SILENCE {
                self.heard = Instant::now();
                writeln!(self.stream)?;
            }
        }
    }

    fn receive(&mut self) -> Result<()> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => bail!("the emulator closed the guest's serial line"),
            Ok(length) => {
                self.heard = Instant::now();
                self.unread.extend_from_slice(&chunk[..length]);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("the guest's serial line"),
        }
        Ok(())
    }
}
