//! Questions on a terminal. An interrupt ends the wait, which reading a line by itself would not.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{interrupt, line};

/// How long to wait before looking whether an interrupt came just before the wait.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// No answer is longer.
const LONGEST: usize = 4096;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A line, without blanks at its ends.
    Line(String),
    /// The end of the input, or an interrupt: nobody answers any more.
    End,
}

/// Asks on standard error, and reads a line from standard input, which is a terminal.
pub(crate) fn ask(question: &str) -> Result<Answer> {
    line::clear();
    let mut terminal = io::stderr();
    write!(terminal, "{question}")?;
    terminal.flush()?;
    let answer = read_line().context("cannot read the answer")?;
    if answer == Answer::End {
        // The next line starts on its own.
        let _ = writeln!(terminal);
    }
    Ok(answer)
}

/// Not through the standard library's buffer: what that holds, a poll does not see.
fn read_line() -> io::Result<Answer> {
    let stdin = io::stdin();
    let mut input = File::from(stdin.as_fd().try_clone_to_owned()?);
    let mut line = Vec::new();
    while line.len() < LONGEST {
        if interrupt::asked() {
            return Ok(Answer::End);
        }
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&WAIT)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut byte = [0];
        match input.read(&mut byte) {
            Ok(0) if line.is_empty() => return Ok(Answer::End),
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Answer::Line(String::from_utf8_lossy(&line).trim().to_owned()))
}
