//! A filesystem that is mounted.

use std::io;
use std::path::Path;

use fuser::{Config, MountOption, Session, SessionACL};

use crate::files::Files;

/// A mounted filesystem. It is unmounted when this is dropped.
pub struct Mount(Session<Files>);

/// Mounts the files on a directory, read-only. `name` is what the table of mounts calls the source. `everybody`: users other than the
/// one who mounts may use it, as far as the files' modes allow.
///
/// # Errors
/// There is no FUSE on this system, or the directory cannot be mounted on.
pub fn mount(files: Files, directory: &Path, name: &str, everybody: bool) -> io::Result<Mount> {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoExec,
        MountOption::NoAtime,
        MountOption::Subtype(String::from("gmfs")),
        MountOption::FSName(name.to_owned()),
    ];
    if everybody {
        config.acl = SessionACL::All;
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
