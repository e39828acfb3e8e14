//! QEMU's command line for a guest whose memory is a file of a region.

use std::fmt;
use std::path::Path;

use gmfs_io::Span;

/// What of an image is a guest's memory.
#[derive(Clone, Debug)]
pub struct Memory<'a> {
    /// The image. QEMU opens it, and maps parts of it.
    pub image: &'a str,
    /// The number of the file in the region, from which the names of objects are made.
    pub ino: u32,
    /// The parts, in the order of guest addresses, in bytes of the image.
    pub parts: &'a [Span],
    /// What mappings of the image are aligned to.
    pub align: u64,
}

/// Why a command line cannot be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArgumentsError {
    /// QEMU cannot be told of such a size.
    #[error("{0} bytes are no number of whole MiB")]
    Size(u64),
    /// The user has given an option that gmfs gives.
    #[error("'{0}' is among the arguments for QEMU, and gmfs gives that itself")]
    Taken(String),
    /// A path has a control character.
    #[error("'{}' has a control character", .0.escape_default())]
    Path(String),
}

/// Options that decide where the guest's memory is, or what it starts from.
const TAKEN: [&str; 5] = ["m", "mem-path", "numa", "incoming", "S"];

/// Refuses options that contradict those that are added.
///
/// # Errors
/// [`ArgumentsError::Taken`].
pub fn refuse_taken<'a>(given: impl Iterator<Item = &'a str>) -> Result<(), ArgumentsError> {
    for word in given {
        // QEMU takes one dash or two.
        let option = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        if option.is_some_and(|option| TAKEN.contains(&option)) {
            return Err(ArgumentsError::Taken(word.to_owned()));
        }
    }
    Ok(())
}

/// A value within a list of QEMU's options: a comma is doubled.
fn value(text: &str) -> Result<String, ArgumentsError> {
    if text.contains(char::is_control) {
        return Err(ArgumentsError::Path(text.to_owned()));
    }
    Ok(text.replace(',', ",,"))
}

/// The arguments that make a file the guest's memory.
///
/// # Errors
/// The size or the path cannot be given to QEMU.
pub fn memory(memory: &Memory<'_>) -> Result<Vec<String>, ArgumentsError> {
    let size = memory.parts.iter().map(|part| part.len).fold(0, u64::saturating_add);
    if size == 0 || !size.is_multiple_of(1 << 20) {
        return Err(ArgumentsError::Size(size));
    }
    let path = value(memory.image)?;
    let mut arguments = vec!["-m".to_owned(), format!("{}M", size >> 20)];
    for (option, value) in backends(memory.ino, &path, memory.parts, |_| Some(memory.align)) {
        arguments.extend([option.to_owned(), value]);
    }
    Ok(arguments)
}

/// The options that make parts of `image` the guest's memory, with their values: an object for each part; more than one
/// need a NUMA node each, in the order of guest addresses. `image` is written as QEMU reads a path in a list of options;
/// `align` gives the alignment of a part in bytes, if it has one to be told.
pub fn backends(
    ino: impl fmt::Display,
    image: &str,
    parts: &[Span],
    align: impl Fn(&Span) -> Option<u64>,
) -> Vec<(&'static str, String)> {
    let single = parts.len() == 1;
    let mut options = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        let name = if single { format!("gmfs{ino}") } else { format!("gmfs{ino}.{n}") };
        let (offset, size) = (part.offset, part.len);
        let align = align(part).map(|align| format!(",align={align}")).unwrap_or_default();
        let object =
            format!("memory-backend-file,id={name},mem-path={image},offset={offset:#x},size={size},share=on{align}");
        options.push(("-object", object));
        options.push(if single {
            ("-machine", format!("memory-backend={name}"))
        } else {
            ("-numa", format!("node,memdev={name}"))
        });
    }
    options
}

/// The arguments that make QEMU listen for QMP.
///
/// # Errors
/// The path cannot be given to QEMU.
pub fn listen(socket: &Path) -> Result<Vec<String>, ArgumentsError> {
    let path = value(&socket.display().to_string())?;
    Ok(vec!["-qmp".to_owned(), format!("unix:{path},server=on,wait=off")])
}

/// The arguments that make QEMU wait for a state, and not run the guest when it has it.
pub const RESUME: [&str; 3] = ["-S", "-incoming", "defer"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_is_the_memory_and_several_are_nodes() {
        let one = [Span::new(4 << 20, 8 << 20)];
        let of = |parts| memory(&Memory { image: "/dev/dax0.0", ino: 7, parts, align: 2 << 20 });
        let object =
            "memory-backend-file,id=gmfs7,mem-path=/dev/dax0.0,offset=0x400000,size=8388608,share=on,align=2097152";
        assert_eq!(of(&one).unwrap(), ["-m", "8M", "-object", object, "-machine", "memory-backend=gmfs7"]);
        let two = [one[0], Span::new(32 << 20, 2 << 20)];
        let made = of(&two).unwrap();
        assert_eq!((made[1].as_str(), made[9].as_str()), ("10M", "node,memdev=gmfs7.1"));
        assert_eq!(of(&[]), Err(ArgumentsError::Size(0)));
        assert_eq!(of(&[Span::new(0, 4096)]), Err(ArgumentsError::Size(4096)));
    }

    #[test]
    fn paths_are_given_so_that_qemu_understands_them() {
        assert_eq!(listen(Path::new("/run/a,b")).unwrap()[1], "unix:/run/a,,b,server=on,wait=off");
        assert!(listen(Path::new("/run/a\nb")).is_err());
    }

    #[test]
    fn options_that_gmfs_gives_are_refused() {
        assert!(refuse_taken(["-nographic", "-machine", "q35"].into_iter()).is_ok());
        for taken in ["-m", "--m", "-incoming", "-S", "-numa", "-mem-path"] {
            assert!(refuse_taken(["-nographic", taken].into_iter()).is_err(), "{taken}");
        }
    }
}
