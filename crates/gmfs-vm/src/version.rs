//! QEMU's version: which one is old enough to be refused.

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64, pub u64, pub u64);

/// The first version with the migration mode cpr-reboot.
pub const OLDEST: Version = Version(8, 2, 0);

/// Why a program's version is unknown, or not enough.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VersionError {
    /// It is too old.
    #[error("QEMU {0} is too old: {OLDEST} is the first that can save a guest without its memory")]
    TooOld(Version),
    /// The program cannot be run.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program does not say that it is QEMU.
    #[error("{program} --version does not answer as QEMU does")]
    NotQemu {
        /// The program.
        program: String,
    },
    /// The program does not end.
    #[error("{program} --version did not end within {seconds} s")]
    Silent {
        /// The program.
        program: String,
        /// How long it had.
        seconds: u64,
    },
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// From the first line of what `--version` prints: `QEMU emulator version 8.2.0 (Debian …)`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.lines().next()?.split_once("QEMU emulator version ")?;
        let mut numbers = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?.split('.').map(str::parse);
        let mut number = || numbers.next()?.ok();
        Some(Self(number()?, number()?, number().unwrap_or(0)))
    }

    /// Refuses a version that is too old.
    ///
    /// # Errors
    /// [`VersionError::TooOld`].
    pub fn require(self) -> Result<Self, VersionError> {
        if self < OLDEST { Err(VersionError::TooOld(self)) } else { Ok(self) }
    }

    /// Asks a program, and waits at most as long as `limit`.
    ///
    /// # Errors
    /// It cannot be run, does not end, or is not QEMU.
    pub fn of_program(program: &Path, limit: Duration) -> Result<Self, VersionError> {
        let name = || program.display().to_string();
        let failed = |source| VersionError::Run { program: name(), source };
        let mut command = Command::new(program);
        command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        let began = Instant::now();
        while child.try_wait().map_err(failed)?.is_none() {
            if began.elapsed() >= limit {
                // It may have ended at this moment.
                let _ = child.kill();
                let _ = child.wait();
                return Err(VersionError::Silent { program: name(), seconds: limit.as_secs() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut text = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            // A program that writes more than a pipe holds never ends, and is stopped above.
            stdout.take(4096).read_to_end(&mut text).map_err(failed)?;
        }
        Self::parse(&String::from_utf8_lossy(&text)).ok_or_else(|| VersionError::NotQemu { program: name() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003-2022";
        assert_eq!(Version::parse(debian), Some(Version(7, 2, 22)));
        assert_eq!(Version::parse("QEMU emulator version 10.0"), Some(Version(10, 0, 0)));
        for nonsense in ["", "QEMU emulator version x", "bash 5.2.1", "QEMU emulator version 99999999999999999999.1"] {
            assert_eq!(Version::parse(nonsense), None, "{nonsense}");
        }
        assert!(Version(8, 1, 5).require().is_err() && Version(8, 2, 0).require().is_ok());
        let error = Version(7, 2, 22).require().unwrap_err().to_string();
        assert!(error.starts_with("QEMU 7.2.22 is too old"), "{error}");
    }
}
