//! The C interface of the library gmfs. A test makes the header `include/gmfs.h` from this file: its functions, in their
//! order, with their descriptions.
//!
//! Each function is a thin layer over [`gmfs::memory`].
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), deny(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects))]
#![expect(unsafe_code, reason = "the arguments of C functions are pointers")]
#![expect(non_camel_case_types, reason = "the names of C")]

use std::cell::RefCell;
use std::error::Error;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::ptr;
use std::time::Duration;

use ::gmfs_image::{Locking, OpenError};
use gmfs::memory::{LockedFile, Memory, MemoryError, MemoryFile};
use gmfs::{ImageSpec, Store};
use gmfs_io::with_causes;

/// How long a call waits for a writer.
const WAIT: Duration = Duration::from_secs(10);

thread_local! {
    /// Why the last call failed that failed in this thread.
    static LAST: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// An image: a region file, a block device, /dev/mem or a devdax device.
pub struct gmfs_image {
    spec: ImageSpec,
}

/// A file of a region, and how far it has come.
pub struct gmfs_file {
    state: State,
}

enum State {
    Found(MemoryFile),
    Locked(LockedFile),
    Mapped(Memory),
}

impl gmfs_file {
    const fn file(&self) -> &MemoryFile {
        match &self.state {
            State::Found(file) => file,
            State::Locked(locked) => locked.file(),
            State::Mapped(memory) => memory.file(),
        }
    }
}

/// Says what the last call in this thread that failed was doing, and why it failed. The text is in UTF-8, and is valid until
/// the next call in this thread fails.
#[unsafe(no_mangle)]
pub extern "C" fn gmfs_error() -> *const c_char {
    LAST.with_borrow(|last| last.as_ref().map_or(c"".as_ptr(), |text| text.as_ptr()))
}

/// Makes the process survive bus errors of memory that this library reads, by a handler for SIGBUS for the whole process and
/// its whole life. Call it before you open a device: without it, devices are refused. For other bus errors, for example of
/// a guest's memory, the handler does what the process did before.
///
/// Returns 0, or -1 if it fails.
#[unsafe(no_mangle)]
pub extern "C" fn gmfs_survive_bus_errors() -> c_int {
    status(|| ::gmfs_image::mapped::survive_bus_errors().map_err(|error| message("cannot handle bus errors", &error)))
}

/// Opens an image: a region file, a block device, /dev/mem or a devdax device. Nothing stays open or locked.
///
/// Returns the image, which gmfs_close frees, or NULL if it fails.
///
/// # Safety
/// `path` is null, or a string that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gmfs_open(path: *const c_char) -> *mut gmfs_image {
    handle(|| {
        // SAFETY: the caller promises it.
        let path = unsafe { bytes(path, "a path of an image") }?;
        let spec = ImageSpec::from(PathBuf::from(OsStr::from_bytes(path)).as_path());
        match spec.open(None) {
            // In /dev/mem the place of the region must be known before anything is read.
            Ok(_) | Err(OpenError::WindowNeeded { .. }) => Ok(gmfs_image { spec }),
            Err(error) => Err(message(&format!("cannot open {}", spec.path.display()), &error)),
        }
    })
}

/// Finds the region in an image. `region` says where it is, as the kernel's parameter does: "SIZE:BASE", for example
/// "64G:0x1000000000". If it is NULL, the whole file or device is the region, and in /dev/mem the region is searched for.
/// Waits up to 10 seconds for a writer.
///
/// Returns 0, or -1 if it fails.
///
/// # Safety
/// `image` is null, or was returned by `gmfs_open` and not closed, and no other thread uses it. `region` is null, or a
/// string that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gmfs_find(image: *mut gmfs_image, region: *const c_char) -> c_int {
    status(|| {
        // SAFETY: the caller promises it.
        let image = unsafe { image.as_mut() }.ok_or("no image was given")?;
        let failed =
            |error: &dyn Error| message(&format!("cannot find a region in {}", image.spec.path.display()), error);
        let region = if region.is_null() {
            None
        } else {
            // SAFETY: the caller promises it.
            let text = unsafe { bytes(region, "a region") }?;
            Some(String::from_utf8_lossy(text).parse().map_err(|error| failed(&error))?)
        };
        let spec = ImageSpec { region, ..image.spec.clone() };
        spec.locate(Some(&waiting()), &()).and_then(Store::open).map_err(|error| failed(&error))?;
        image.spec = spec;
        Ok(())
    })
}

/// Finds a file by its path in the region, for example "/vms/a/mem". Each byte of it must have memory: a file with holes, or
/// in blocks with hardware errors, is refused. The image can be closed afterwards.
///
/// Returns the file, which gmfs_release frees, or NULL if it fails.
///
/// # Safety
/// `image` is null, or was returned by `gmfs_open` and not closed. `path` is null, or a string that ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gmfs_file(image: *const gmfs_image, path: *const c_char) -> *mut gmfs_file {
    handle(|| {
        // SAFETY: the caller promises it.
        let image = unsafe { image.as_ref() }.ok_or("no image was given")?;
        // SAFETY: the caller promises it.
        let path = unsafe { bytes(path, "a path in the region") }?;
        let file = MemoryFile::find(&image.spec, path, &waiting(), &());
        Ok(gmfs_file { state: State::Found(file.map_err(of_memory)?) })
    })
}

/// Says how large a file is, in bytes; 0 for NULL. gmfs_lock looks at the file again: what counts is the size after it.
///
/// # Safety
/// `file` is null, or was returned by `gmfs_file` and not released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gmfs_size(file: *const gmfs_file) -> u64 {
    // SAFETY: the caller promises it.
    unsafe { file.as_ref() }.map_or(0, |file| file.file().size())
}

/// Says how many extents a file has; 0 for NULL.
///
/// # Safety
/// `file` is null, or was returned by `gmfs_file` and not released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gmfs_extents(file: *const gmfs_file) -> u64 {
    // SAFETY: the caller promises it.
    unsafe { file.as_ref() }.map_or(0, |file| file.file().parts().len().try_into().unwrap_or(u64::MAX))
}

/// Locks a file as memory in use, until it is released or the process ends: gmfs does not free or overwrite its blocks, and
/// nobody else gets the lock. Other files of the region can still be changed. Fails if a process has mapped or locked the
/// file already. A process that is forked holds the lock as well.
///
/// Returns 0, or -1 if it fails.
///
/// # Safety
/// `file` is null, or was returned by `gmfs_file` and not released, and no other thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gmfs_lock(file: *mut gmfs_file) -> c_int {
    status(|| {
        // SAFETY: the caller promises it.
        let file = unsafe { file.as_mut() }.ok_or("no file was given")?;
        match &file.state {
            State::Found(found) => {
                file.state = State::Locked(found.lock(&waiting(), &()).map_err(of_memory)?);
                Ok(())
            }
            State::Locked(_) | State::Mapped(_) => Err("the file is locked already".to_owned()),
        }
    })
}

/// Maps all of a file that is locked, readable, writable and shared: gmfs_size bytes, extent after extent. The memory is valid
/// until the file is released. An access raises SIGBUS if the memory fails.
///
/// Returns the address of the first byte, or NULL if it fails; then the file is not locked any more. Of a file that is
/// mapped already, it returns the same address again.
///
/// # Safety
/// `file` is null, or was returned by `gmfs_file` and not released, and no other thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gmfs_map(file: *mut gmfs_file) -> *mut c_void {
    call(ptr::null_mut(), || {
        // SAFETY: the caller promises it.
        let file = unsafe { file.as_mut() }.ok_or("no file was given")?;
        let found = State::Found(file.file().clone());
        match std::mem::replace(&mut file.state, found) {
            State::Locked(locked) => {
                let memory = locked.map().map_err(of_memory)?;
                let address = memory.as_ptr().cast();
                file.state = State::Mapped(memory);
                Ok(address)
            }
            State::Mapped(memory) => {
                let address = memory.as_ptr().cast();
                file.state = State::Mapped(memory);
                Ok(address)
            }
            State::Found(_) => Err("the file is not locked: call gmfs_lock first".to_owned()),
        }
    })
}

/// Unmaps, unlocks and frees a file. NULL is no error.
///
/// # Safety
/// `file` is null, or was returned by `gmfs_file` and not released, and nobody uses it or its memory any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gmfs_release(file: *mut gmfs_file) {
    call((), || {
        if !file.is_null() {
            // SAFETY: `gmfs_file` made it by `Box::into_raw`, and the caller promises that it was not released.
            drop(unsafe { Box::from_raw(file) });
        }
        Ok(())
    });
}

/// Frees an image. Files that were found in it remain. NULL is no error.
///
/// # Safety
/// `image` is null, or was returned by `gmfs_open` and not closed, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gmfs_close(image: *mut gmfs_image) {
    call((), || {
        if !image.is_null() {
            // SAFETY: `gmfs_open` made it by `Box::into_raw`, and the caller promises that it was not closed.
            drop(unsafe { Box::from_raw(image) });
        }
        Ok(())
    });
}

/// Runs the work of a call. If it fails, what it returns is recorded, and the call returns `failure`. No panic reaches C.
fn call<T>(failure: T, work: impl FnOnce() -> Result<T, String>) -> T {
    let done = catch_unwind(AssertUnwindSafe(work));
    match done.unwrap_or_else(|_| Err("this is a mistake in gmfs, which says more on standard error".to_owned())) {
        Ok(value) => value,
        Err(text) => {
            LAST.set(Some(CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()));
            failure
        }
    }
}

fn status(work: impl FnOnce() -> Result<(), String>) -> c_int {
    call(-1, || work().map(|()| 0))
}

fn handle<T>(work: impl FnOnce() -> Result<T, String>) -> *mut T {
    call(ptr::null_mut(), || work().map(|made| Box::into_raw(Box::new(made))))
}

fn waiting() -> Locking<'static> {
    Locking { limit: WAIT, ..Locking::at_once() }
}

/// The bytes of a string.
///
/// # Safety
/// `text` is null, or a string that ends with a NUL and that lives as long as the result is used.
unsafe fn bytes<'a>(text: *const c_char, what: &str) -> Result<&'a [u8], String> {
    if text.is_null() {
        return Err(format!("{what} is missing"));
    }
    // SAFETY: it is not null, and the caller promises the rest.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

fn of_memory(error: MemoryError) -> String {
    with_causes(&error)
}

/// What was being done, and why it failed.
fn message(doing: &str, error: &dyn Error) -> String {
    format!("{doing}: {}", with_causes(error))
}
