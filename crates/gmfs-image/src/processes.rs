//! What procfs tells of other processes.

use std::path::{Path, PathBuf};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// What the kernel calls it: the first 15 bytes of its program's name, or what it called itself.
    pub name: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.is_empty() {
            return write!(f, "process {}", self.pid);
        }
        write!(f, "process {} ({})", self.pid, self.name)
    }
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        let name = std::fs::read(directory(pid).join("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(&name).trim_end().chars().filter(|c| !c.is_control()).collect();
        Self { pid, name }
    }
}

/// The directory of a process in procfs.
pub(crate) fn directory(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

/// The numbers of all processes that can be seen, ascending.
pub(crate) fn all() -> std::io::Result<Vec<u32>> {
    let names = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut pids: Vec<u32> = names.collect();
    pids.sort_unstable();
    Ok(pids)
}
