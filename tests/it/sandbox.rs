//! A directory in which gmfs runs, with a fixed clock.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

pub(crate) const GMFS: &str = env!("CARGO_BIN_EXE_gmfs");
/// The time at which every command of a sandbox runs: 2023-11-14 22:13:20 UTC.
pub(crate) const NOW: &str = "1700000000";

/// The start of the warning that gmfs cannot see the mappings of all processes.
pub(crate) const UNSEEN: &str = "gmfs: warning: not all processes may be looked at";

/// A temporary directory in which gmfs runs.
pub(crate) struct Sandbox {
    dir: TempDir,
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// All of it, for a snapshot.
    pub(crate) fn all(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let stdout = String::from_utf8_lossy(&self.stdout);
        let text = format!("status: {}\n----- stdout -----\n{stdout}----- stderr -----\n{}", self.code, self.stderr);
        text.replace(version, "[version]")
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let code = output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"));
        // The warning is printed wherever the tests may not examine all processes. Only one test is about it.
        let stderr = String::from_utf8(output.stderr).unwrap();
        let stderr = stderr.split_inclusive('\n').filter(|line| !line.starts_with(UNSEEN)).collect();
        Self { code, stdout: output.stdout, stderr }
    }
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::with_prefix("gmfs-it-").unwrap() }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that is ready to run, with no colours, 80 columns, and a fixed clock.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(GMFS);
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env_clear().env("COLUMNS", "80").env("SOURCE_DATE_EPOCH", NOW).env("LC_ALL", "C.UTF-8");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Done {
        self.command(args).output().unwrap().into()
    }

    /// Runs a command line, which is split at spaces.
    pub(crate) fn gmfs(&self, line: &str) -> Done {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a command line that must succeed and print nothing on standard error.
    pub(crate) fn ok(&self, line: &str) -> Done {
        let done = self.gmfs(line);
        assert!(done.code == 0 && done.stderr.is_empty(), "gmfs {line}: {done:?}");
        done
    }

    /// Runs a command line that must succeed, whatever it prints on standard error.
    pub(crate) fn succeeds(&self, line: &str) -> Done {
        let done = self.gmfs(line);
        assert_eq!(done.code, 0, "gmfs {line}: {done:?}");
        done
    }

    /// Runs a command line that must fail, with this text in its output.
    pub(crate) fn fails(&self, line: &str, saying: &str) -> Done {
        let done = self.gmfs(line);
        assert_eq!(done.code, 2, "gmfs {line}: {done:?}");
        assert!(done.stderr.starts_with("gmfs: cannot ") && done.stderr.contains(saying), "gmfs {line}: {done:?}");
        done
    }

    /// Runs a command line that must end with a status, with this text on standard error.
    pub(crate) fn fails_with(&self, status: i32, line: &str, saying: &str) -> Done {
        let done = self.gmfs(line);
        assert!(done.code == status && done.stderr.contains(saying), "gmfs {line}: {done:?}");
        done
    }

    /// Runs a command line with this on its standard input.
    pub(crate) fn feed(&self, line: &str, input: &[u8]) -> Done {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut command = self.command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // A command may end before it has read everything.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output.into()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }
}
