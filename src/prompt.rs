//! Questions on a terminal. An interrupt ends the wait for an answer; it would not end a plain read of a line.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{interrupt, line};

/// How long to wait before checking again whether an interrupt came just before the wait.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// The longest answer.
const LONGEST: usize = 4096;

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A line, without blanks at its ends.
    Line(String),
    /// There is no answer: the input has ended, or the user has interrupted.
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
        // Nobody ended the line, so the next output has to start on a new one.
        let _ = writeln!(terminal);
    }
    Ok(answer)
}

/// Bypasses the standard library's buffer, because poll does not see bytes that are in that buffer.
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
