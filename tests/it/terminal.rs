//! Runs gmfs on a terminal: reads what it asks, and types what a user would type.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::sandbox::Sandbox;

/// A command that runs on a terminal of its own.
pub(crate) struct Terminal {
    master: File,
    pub(crate) child: Child,
    /// Everything that the terminal has shown so far.
    pub(crate) shown: String,
    /// How much of it has been searched.
    seen: usize,
}

impl Terminal {
    /// Starts a command line on a terminal that does not report its width.
    pub(crate) fn start(sandbox: &Sandbox, line: &str) -> Self {
        Self::with(sandbox, line, 0, true)
    }

    /// Like [`start`](Self::start), with colours enabled.
    pub(crate) fn coloured(sandbox: &Sandbox, line: &str) -> Self {
        Self::with(sandbox, line, 0, false)
    }

    /// Everything that a command line shows on a terminal of that many columns, and its exit status.
    pub(crate) fn run(sandbox: &Sandbox, line: &str, columns: u16) -> (i32, String) {
        let mut terminal = Self::sized(sandbox, line, columns);
        let status = terminal.end();
        (status, terminal.shown.replace("\r\n", "\n"))
    }

    /// Starts a command line on a terminal of that many columns.
    pub(crate) fn sized(sandbox: &Sandbox, line: &str, columns: u16) -> Self {
        Self::with(sandbox, line, columns, true)
    }

    fn with(sandbox: &Sandbox, line: &str, columns: u16, plain: bool) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = || OpenOptions::new().read(true).write(true).open(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let mut command = sandbox.command(&line.split_whitespace().collect::<Vec<_>>());
        command.stdin(open().unwrap()).stdout(open().unwrap()).stderr(open().unwrap());
        command.env_remove("COLUMNS");
        if plain {
            command.env("NO_COLOR", "1");
        }
        let child = command.spawn().unwrap();
        // This closes the test's own handles of the terminal, so that the terminal closes when the command ends.
        drop(command);
        Self { master: master.into(), child, shown: String::new(), seen: 0 }
    }

    /// Reads until this is shown. Returns false if the command ends before.
    pub(crate) fn shows(&mut self, text: &str) -> bool {
        let found = |shown: &str, from: usize| {
            shown.get(from..).and_then(|rest| rest.find(text)).map(|at| from + at + text.len())
        };
        while found(&self.shown, self.seen).is_none() {
            let mut bytes = [0; 4096];
            match self.master.read(&mut bytes) {
                Ok(0) | Err(_) => return false,
                Ok(count) => self.shown.push_str(&String::from_utf8_lossy(&bytes[..count])),
            }
        }
        self.seen = found(&self.shown, self.seen).unwrap_or(self.seen);
        true
    }

    /// Waits for a question, and answers it. Control-D is `\x04`.
    pub(crate) fn answer(&mut self, question: &str, answer: &str) {
        assert!(self.shows(question), "never asked {question:?}: {}", self.shown);
        self.say(answer);
    }

    /// Types something.
    pub(crate) fn say(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end, and returns the exit status. Everything that was shown is in `shown`.
    pub(crate) fn end(&mut self) -> i32 {
        self.shows("\0 nothing that is ever shown");
        self.child.wait().unwrap().code().unwrap_or_else(|| panic!("killed: {}", self.shown))
    }
}
