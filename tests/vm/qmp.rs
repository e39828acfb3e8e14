//! QEMU's machine protocol, as far as it is needed to read a guest's memory from outside.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

/// How long one command may take. Writing all memory takes the longest.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A connection after the greeting.
pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut qmp = Self { stream: BufReader::new(stream) };
        let greeting = qmp.receive()?;
        ensure!(greeting.get("QMP").is_some(), "no greeting: {greeting}");
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Executes one command, and returns its result.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{request}")?;
        loop {
            let mut reply = self.receive().with_context(|| command.to_owned())?;
            if let Some(error) = reply.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            // Anything but an answer or an error is an event, which is ignored.
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    /// The guest processor's address and its pending interrupts, which show whether a guest that does not answer is
    /// busy or idle.
    pub(crate) fn processor(&mut self) -> String {
        let mut ask = |line: &str| match self.execute("human-monitor-command", &json!({ "command-line": line })) {
            Ok(answer) => answer.as_str().unwrap_or_default().lines().take(12).collect::<Vec<_>>().join("\n"),
            Err(error) => format!("{line}: {error:#}"),
        };
        [ask("info registers"), ask("info pic")].join("\n")
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.stream.read_line(&mut line)?;
        ensure!(length > 0, "QEMU closed its machine protocol");
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line:?}"))
    }
}
