//! A filesystem that is mounted.

use std::io;
use std::path::Path;

use fuser::{Config, MountOption, Session, SessionACL};

use crate::files::Files;

/// Who may do what with a filesystem, as far as the modes of its files allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Its files can be changed: they must be [writable](Files::writable).
    pub writable: bool,
    /// Users other than the one who mounts may use it.
    pub everybody: bool,
    /// Programs in it can be run.
    pub programs: bool,
}

/// Threads that answer requests: one reads while the kernel copies the answer of another.
const THREADS: usize = 2;

/// A mounted filesystem. It is unmounted when this is dropped.
pub struct Mount(Session<Files>);

/// Mounts the files on a directory. `name` is what the table of mounts calls the source.
///
/// # Errors
/// There is no FUSE on this system, or the directory cannot be mounted on.
pub fn mount(files: Files, directory: &Path, name: &str, access: Access) -> io::Result<Mount> {
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.mount_options = vec![
        if access.writable { MountOption::RW } else { MountOption::RO },
        MountOption::NoDev,
        MountOption::NoSuid,
        if access.programs { MountOption::Exec } else { MountOption::NoExec },
        MountOption::NoAtime,
        MountOption::Subtype(String::from("gmfs")),
        MountOption::FSName(name.to_owned()),
    ];
    if access.everybody {
        config.acl = SessionACL::All;
    }
    if access.everybody || access.writable {
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    Session::new(files, directory, &config).map(Mount)
}

impl Mount {
    /// Answers the kernel's requests until the filesystem is unmounted, by umount(8) for one.
    ///
    /// # Errors
    /// The connection to the kernel broke.
    pub fn run(self) -> io::Result<()> {
        self.0.run()
    }
}
