//! The output of a command: standard output and standard error, and what they can show.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;

pub(crate) use crate::failure::OutputError;
use crate::failure::printable;
use crate::line;
use crate::standard;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorWhen {
    /// Whether a stream shows colours.
    pub(crate) fn shows_colour(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && allows_colour(),
        }
    }
}

/// Whether notes are left out: --quiet.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Standard output that was closed when the program was started: nothing can be written there.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(rustix::io::Errno::BADF))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The output streams of a command, and the settings for its output.
pub(crate) struct Ctx {
    out: BufWriter<Box<dyn Write + Send>>,
    /// Answers and errors are printed as JSON.
    pub(crate) json: bool,
    /// Standard output shows colours.
    pub(crate) colour: bool,
    /// Columns of the terminal on standard output. `None` if standard output is no terminal: then nothing is left out
    /// or wrapped.
    pub(crate) width: Option<u16>,
    /// Standard error is a terminal, which can show a progress bar.
    pub(crate) progress: bool,
    /// The user wants no word of success.
    pub(crate) quiet: bool,
    /// The user wants to know more: see [`detail`](Self::detail).
    pub(crate) verbose: bool,
    /// The declaration of the whole command line, from which man pages, completions and suggestions are made.
    pub(crate) declaration: fn() -> clap::Command,
}

impl Ctx {
    pub(crate) fn new(color: ColorWhen, json: bool, quiet: bool) -> Self {
        QUIET.store(quiet, Ordering::Relaxed);
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let colour = color.shows_colour(terminal);
        let width = if terminal { columns() } else { None };
        // This bypasses the standard library's own buffer, which would search gigabytes of guest memory for line ends.
        let out: Box<dyn Write + Send> = match stdout.as_fd().try_clone_to_owned() {
            _ if standard::was_stdout_closed() => Box::new(Closed),
            Ok(fd) => Box::new(File::from(fd)),
            Err(_) => Box::new(stdout),
        };
        let progress = !quiet && line::possible();
        let (verbose, declaration) = (false, clap::Command::default as fn() -> clap::Command);
        Self {
            out: BufWriter::with_capacity(64 << 10, out),
            json,
            colour,
            width,
            progress,
            quiet,
            verbose,
            declaration,
        }
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Writes `length` zeros.
    pub(crate) fn zeros(&mut self, length: u64) -> Result<(), OutputError> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.bytes(&ZEROS[..now])?;
            left -= now as u64;
        }
        Ok(())
    }

    /// Standard output without the buffer of this program, which is empty after this call.
    pub(crate) fn raw(&mut self) -> Result<io::Stdout, OutputError> {
        self.out.flush()?;
        Ok(io::stdout())
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), OutputError> {
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.write_all(b"\n")?)
    }

    /// Writes a line that says what was done, which --quiet leaves out.
    pub(crate) fn success(&mut self, text: &str) -> Result<(), OutputError> {
        if self.quiet { Ok(()) } else { self.line(text) }
    }

    /// Whether standard output is a file in which holes can be left: a regular file that is not opened for appending,
    /// and that has no old bytes past the current offset, which would show in a hole.
    pub(crate) fn can_have_holes(&mut self) -> Result<bool, OutputError> {
        self.out.flush()?;
        let stdout = io::stdout();
        let status = rustix::fs::fstat(&stdout).map_err(io::Error::from)?;
        let regular = rustix::fs::FileType::from_raw_mode(status.st_mode).is_file();
        let flags = rustix::fs::fcntl_getfl(&stdout).map_err(io::Error::from)?;
        if !regular || flags.contains(rustix::fs::OFlags::APPEND) {
            return Ok(false);
        }
        let at = rustix::fs::tell(&stdout).map_err(io::Error::from)?;
        Ok(u64::try_from(status.st_size).is_ok_and(|size| size <= at))
    }

    /// Leaves a hole of `length` bytes in standard output.
    pub(crate) fn hole(&mut self, length: u64) -> Result<(), OutputError> {
        self.out.flush()?;
        let by = i64::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        rustix::fs::seek(io::stdout(), rustix::fs::SeekFrom::Current(by)).map_err(io::Error::from)?;
        Ok(())
    }

    /// Sets the length of standard output, if it ends with a hole.
    pub(crate) fn end_holes(&mut self) -> Result<(), OutputError> {
        self.out.flush()?;
        let stdout = io::stdout();
        let at = rustix::fs::tell(&stdout).map_err(io::Error::from)?;
        let size = rustix::fs::fstat(&stdout).map_err(io::Error::from)?.st_size;
        if u64::try_from(size).is_ok_and(|size| size < at) {
            rustix::fs::ftruncate(&stdout, at).map_err(io::Error::from)?;
        }
        Ok(())
    }

    /// Where serializers write.
    pub(crate) fn writer(&mut self) -> &mut impl Write {
        &mut self.out
    }

    /// Writes out everything that is buffered. Must be called once, at the end.
    pub(crate) fn finish(&mut self) -> Result<(), OutputError> {
        Ok(self.out.flush()?)
    }

    /// Prints a note on standard error, apart from the answer.
    pub(crate) fn note(&self, text: &str) {
        note(text);
    }

    /// Prints on standard error what is done and found, with --verbose only.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            say("", text);
        }
    }

    /// Warns on standard error that the answer is incomplete.
    pub(crate) fn warn(&self, text: &str) {
        warn(text);
    }
}

/// See [`Ctx::note`].
pub(crate) fn note(text: &str) {
    if !QUIET.load(Ordering::Relaxed) {
        say("note: ", text);
    }
}

/// See [`Ctx::warn`].
pub(crate) fn warn(text: &str) {
    say("warning: ", text);
}

/// Prints one line on standard error. If that fails, there is nowhere left to report it.
fn say(kind: &str, text: &str) {
    line::clear();
    // Written in one call, because another program may write to the same terminal or pipe.
    let text = format!("gmfs: {kind}{}\n", printable(text));
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The width of the terminal on standard output: COLUMNS, which other programs also read, or what the terminal reports.
fn columns() -> Option<u16> {
    let named = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let own = || rustix::termios::tcgetwinsize(io::stdout().as_fd()).ok().map(|size| size.ws_col);
    named.filter(|columns| *columns > 0).or_else(own).filter(|columns| *columns > 0)
}

fn allows_colour() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
