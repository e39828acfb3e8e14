//! A client of QMP, QEMU's protocol on a socket: a line of JSON for each command and each answer.
//!
//! Whatever the other side does, a call ends: each has a time limit, and an answer has at most [`LONGEST`] bytes.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags};
use rustix::net::{SocketType, sockopt};
use serde_json::{Value, json};

use crate::version::Version;

/// The longest line that is read.
pub const LONGEST: usize = 1 << 20;
/// Of what QEMU says, at most this many characters are shown.
const SHOWN: usize = 400;
/// The pause between two questions about a migration.
const PAUSE: Duration = Duration::from_millis(10);
/// The name under which QEMU knows the socket of a state.
const STATE: &str = "gmfs-state";

/// Why QEMU did not do something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QmpError {
    /// Nobody listens.
    #[error("cannot connect to QEMU at {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No answer came in time.
    #[error("QEMU did not answer '{command}' within {seconds} s")]
    Silent {
        /// What it was asked.
        command: String,
        /// How long it had.
        seconds: u64,
    },
    /// QEMU closed the connection.
    #[error("QEMU ended, or closed the connection, before it answered '{command}'")]
    Closed {
        /// What it was asked.
        command: String,
    },
    /// The connection failed.
    #[error("the connection to QEMU failed at '{command}'")]
    Io {
        /// What it was asked.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// What was answered is no QMP.
    #[error("QEMU answered '{command}' with something that is not QMP: {what}")]
    Nonsense {
        /// What it was asked.
        command: String,
        /// What is wrong.
        what: String,
    },
    /// QEMU refused the command.
    #[error("QEMU refused '{command}': {text}")]
    Refused {
        /// What it was asked.
        command: String,
        /// What it said.
        text: String,
    },
    /// A migration failed.
    #[error("QEMU could not {doing} the state: {text}")]
    Migration {
        /// `save` or `load`.
        doing: &'static str,
        /// What it said.
        text: String,
    },
}

/// A memory backend of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backend {
    /// The file; `None` if it is not memory of a file.
    pub path: Option<String>,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub size: u64,
    /// Whether what the guest writes gets into the file.
    pub share: bool,
}

/// A connection to QEMU.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    /// What came after the last line.
    buffer: Vec<u8>,
    next: u64,
    limit: Duration,
    version: Version,
}

impl Qmp {
    /// Connects, and asks for the version. Each step from now on ends within `limit`.
    ///
    /// # Errors
    /// Nobody listens, or what answers is not QEMU.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let failed = |source: rustix::io::Errno| match source {
            rustix::io::Errno::AGAIN => QmpError::Silent { command: "connect".to_owned(), seconds: limit.as_secs() },
            source => QmpError::Connect { path: path.to_owned(), source: source.into() },
        };
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket = socket.map_err(failed)?;
        // Connecting waits while another client is served, for as long as sending may.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit)).map_err(failed)?;
        rustix::net::connect(&socket, &address).map_err(failed)?;
        let stream = UnixStream::from(socket);
        let mut qmp = Self { stream, buffer: Vec::new(), next: 0, limit, version: Version(0, 0, 0) };
        let greeting = qmp.line("connect", qmp.deadline())?;
        let version = field(field(field(&greeting, "QMP"), "version"), "qemu");
        let number = |name: &str| version.get(name).and_then(Value::as_u64);
        let (Some(major), Some(minor), Some(micro)) = (number("major"), number("minor"), number("micro")) else {
            return Err(nonsense("connect", "it has no greeting with a version"));
        };
        qmp.version = Version(major, minor, micro);
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// The version of QEMU.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// How long a step may take.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        now.checked_add(self.limit).unwrap_or(now)
    }

    /// Has QEMU carry out a command, and gives what it returns.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.send(command, arguments, None)
    }

    /// Gives QEMU a descriptor, which it knows by a name.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn give(&mut self, name: &str, descriptor: BorrowedFd<'_>) -> Result<(), QmpError> {
        self.send("getfd", json!({ "fdname": name }), Some(descriptor)).map(drop)
    }

    fn send(&mut self, command: &str, arguments: Value, descriptor: Option<BorrowedFd<'_>>) -> Result<Value, QmpError> {
        let deadline = self.deadline();
        self.next = self.next.wrapping_add(1);
        let id = self.next;
        let mut line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string().into_bytes();
        line.push(b'\n');
        let failed = |source| failed(command, self.limit, source);
        let mut sent = 0;
        if let Some(descriptor) = descriptor {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let descriptors = [descriptor];
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            let flags = SendFlags::NOSIGNAL;
            sent = rustix::net::sendmsg(&self.stream, &[IoSlice::new(&line)], &mut control, flags)
                .map_err(|error| failed(error.into()))?;
        }
        self.stream.write_all(line.get(sent..).unwrap_or_default()).map_err(failed)?;
        loop {
            let answer = self.line(command, deadline)?;
            // Events, and answers to what was asked before and not waited for.
            if answer.get("event").is_some() || answer.get("id").and_then(Value::as_u64) != Some(id) {
                continue;
            }
            if let Some(error) = answer.get("error") {
                let text = shown(field(error, "desc").as_str().unwrap_or("it gives no reason"));
                return Err(QmpError::Refused { command: command.to_owned(), text });
            }
            let returned = answer.get("return").cloned();
            return returned.ok_or_else(|| nonsense(command, "it is neither a result nor an error"));
        }
    }

    /// The next line.
    fn line(&mut self, command: &str, deadline: Instant) -> Result<Value, QmpError> {
        let mut piece = vec![0; 4096];
        let mut searched = 0;
        loop {
            let found = self.buffer.iter().skip(searched).position(|byte| *byte == b'\n');
            if let Some(at) = found.map(|at| at.saturating_add(searched)) {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                let line = serde_json::from_slice::<Value>(&line);
                return line.map_err(|error| nonsense(command, &error.to_string()));
            }
            searched = self.buffer.len();
            if searched > LONGEST {
                return Err(nonsense(command, "the line is too long"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let silent = || QmpError::Silent { command: command.to_owned(), seconds: self.limit.as_secs() };
            if left.is_zero() {
                return Err(silent());
            }
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut piece));
            match read {
                Ok(0) => return Err(QmpError::Closed { command: command.to_owned() }),
                Ok(read) => self.buffer.extend_from_slice(piece.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(command, self.limit, error)),
            }
        }
    }

    /// What the guest does: `running`, `paused`, …
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn status(&mut self) -> Result<String, QmpError> {
        let answer = self.execute("query-status", json!({}))?;
        let status = field(&answer, "status").as_str().map(shown);
        status.ok_or_else(|| nonsense("query-status", "it has no status"))
    }

    /// The memory that the guest has.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn memory(&mut self) -> Result<Vec<Backend>, QmpError> {
        let listed = self.execute("query-memdev", json!({}))?;
        let listed = listed.as_array().ok_or_else(|| nonsense("query-memdev", "it is no list"))?.clone();
        let mut found = Vec::new();
        for backend in listed {
            let (Some(id), Some(size)) = (field(&backend, "id").as_str(), field(&backend, "size").as_u64()) else {
                let (size, share) = (field(&backend, "size").as_u64().unwrap_or(0), false);
                found.push(Backend { path: None, offset: 0, size, share });
                continue;
            };
            let object = format!("/objects/{id}");
            let mut property = |name: &str| match self.execute("qom-get", json!({ "path": object, "property": name })) {
                Ok(value) => Ok(Some(value)),
                // Memory that is not of a file has no such property.
                Err(QmpError::Refused { .. }) => Ok(None),
                Err(error) => Err(error),
            };
            let path = property("mem-path")?.and_then(|value| value.as_str().map(str::to_owned));
            let offset = property("offset")?.and_then(|value| value.as_u64()).unwrap_or(0);
            let share = property("share")?.and_then(|value| value.as_bool()).unwrap_or(false);
            found.push(Backend { path, offset, size, share });
        }
        Ok(found)
    }

    /// Has the next migration leave shared memory where it is. On both sides: cpr-reboot does not imply it.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn leave_memory(&mut self) -> Result<(), QmpError> {
        let ignore = json!([{ "capability": "x-ignore-shared", "state": true }]);
        self.execute("migrate-set-capabilities", json!({ "capabilities": ignore }))?;
        self.execute("migrate-set-parameters", json!({ "mode": "cpr-reboot" })).map(drop)
    }

    /// Takes back what [`leave_memory`](Self::leave_memory) has set: the next migration may be one to another host, which
    /// needs the memory too.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn take_memory(&mut self) -> Result<(), QmpError> {
        self.execute("migrate-set-parameters", json!({ "mode": "normal" }))?;
        let ignore = json!([{ "capability": "x-ignore-shared", "state": false }]);
        self.execute("migrate-set-capabilities", json!({ "capabilities": ignore })).map(drop)
    }

    /// A stream of the guest's state: reading from it stops the guest.
    ///
    /// # Errors
    /// QEMU does not take the other end of the stream.
    pub fn state(&mut self) -> Result<StateStream<'_>, QmpError> {
        let (ours, theirs) = self.pair()?;
        self.give(STATE, theirs.as_fd())?;
        Ok(StateStream { qmp: self, stream: ours, began: false, ended: false, read: 0 })
    }

    fn pair(&self) -> Result<(UnixStream, UnixStream), QmpError> {
        let made = UnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_read_timeout(Some(self.limit))?;
            ours.set_write_timeout(Some(self.limit))?;
            Ok((ours, theirs))
        });
        made.map_err(|source| failed("getfd", self.limit, source))
    }

    /// Gives a QEMU that waits for it the state that `next` yields, piece by piece, and waits until it has loaded it.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn load(&mut self, mut next: impl FnMut() -> io::Result<Option<Vec<u8>>>) -> Result<(), QmpError> {
        let command = "migrate-incoming";
        let (mut ours, theirs) = self.pair()?;
        self.give(STATE, theirs.as_fd())?;
        drop(theirs);
        self.execute(command, json!({ "uri": format!("fd:{STATE}") }))?;
        loop {
            let piece = next().map_err(|source| QmpError::Io { command: command.to_owned(), source })?;
            let Some(piece) = piece else { break };
            match ours.write_all(&piece) {
                Ok(()) => {}
                // It has all that it wants, or has failed: that it says itself.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(failed(command, self.limit, error)),
            }
        }
        drop(ours);
        self.migrated("load")
    }

    /// Waits until a migration has ended.
    fn migrated(&mut self, doing: &'static str) -> Result<(), QmpError> {
        let deadline = self.deadline();
        loop {
            let answer = self.execute("query-migrate", json!({}))?;
            let text = |fallback: &str| shown(field(&answer, "error-desc").as_str().unwrap_or(fallback));
            match field(&answer, "status").as_str() {
                Some("completed") => return Ok(()),
                Some(status @ ("failed" | "cancelled" | "cancelling")) => {
                    return Err(QmpError::Migration { doing, text: text(status) });
                }
                _ if Instant::now() >= deadline => {
                    let text = format!("it did not end within {} s", self.limit.as_secs());
                    return Err(QmpError::Migration { doing, text });
                }
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Lets the guest run, and waits until it does, or is suspended as it was.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn go_on(&mut self) -> Result<(), QmpError> {
        let deadline = self.deadline();
        loop {
            match self.execute("cont", json!({})) {
                // A migration that was cancelled may not have ended yet.
                Err(QmpError::Refused { .. }) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                done => {
                    done?;
                    break;
                }
            }
        }
        loop {
            let status = self.status()?;
            if is_live(&status) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let text = format!("the guest is in state '{status}'");
                return Err(QmpError::Refused { command: "cont".to_owned(), text });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends QEMU, and waits until it has closed the connection.
    ///
    /// # Errors
    /// See [`QmpError`].
    pub fn quit(&mut self) -> Result<(), QmpError> {
        match self.execute("quit", json!({})) {
            // It may end before the answer is read.
            Ok(_) => {}
            Err(QmpError::Closed { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let deadline = self.deadline();
        loop {
            match self.line("quit", deadline) {
                Ok(_) => {}
                Err(QmpError::Closed { .. }) => return Ok(()),
                Err(QmpError::Io { source, .. }) if source.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The state of a guest, as QEMU writes it. The first read makes QEMU stop the guest and begin; the end is reported only
/// once QEMU says that it has written all of it.
#[derive(Debug)]
pub struct StateStream<'q> {
    qmp: &'q mut Qmp,
    stream: UnixStream,
    began: bool,
    ended: bool,
    read: u64,
}

impl StateStream<'_> {
    /// Whether QEMU was told to begin.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.began
    }

    /// Stops what is going on, so that the guest can go on.
    pub fn cancel(self) {
        let Self { qmp, stream, .. } = self;
        // QEMU stops writing where nobody reads; then it takes commands again.
        drop(stream);
        // Whether there was something to cancel does not matter.
        let _ = qmp.execute("migrate_cancel", json!({}));
    }
}

impl io::Read for StateStream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        if !self.began {
            self.began = true;
            self.qmp.execute("migrate", json!({ "uri": format!("fd:{STATE}") })).map_err(io::Error::other)?;
        }
        let read = loop {
            match self.stream.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io::Error::other(failed("migrate", self.qmp.limit, error))),
                Ok(read) => break read,
            }
        };
        if read == 0 {
            self.qmp.migrated("save").map_err(io::Error::other)?;
            if self.read == 0 {
                let text = "it wrote nothing".to_owned();
                return Err(io::Error::other(QmpError::Migration { doing: "save", text }));
            }
            self.ended = true;
        }
        self.read = self.read.saturating_add(gmfs_io::num::len64(read));
        Ok(read)
    }
}

fn failed(command: &str, limit: Duration, source: io::Error) -> QmpError {
    let command = command.to_owned();
    match source.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => QmpError::Silent { command, seconds: limit.as_secs() },
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => QmpError::Closed { command },
        _ => QmpError::Io { command, source },
    }
}

/// Whether a guest in this state was not stopped by anybody. One that has suspended itself wakes up by itself.
pub(crate) fn is_live(status: &str) -> bool {
    matches!(status, "running" | "suspended")
}

/// A field of an object; null where there is none.
fn field<'v>(value: &'v Value, name: &str) -> &'v Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn nonsense(command: &str, what: &str) -> QmpError {
    QmpError::Nonsense { command: command.to_owned(), what: shown(what) }
}

/// What QEMU says, cut, and without what could steer a terminal.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
