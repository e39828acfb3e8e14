//! Random numbers from the system.

use crate::failure::Failure;

/// Sixteen random bytes.
pub(crate) fn bytes() -> Result<[u8; 16], Failure> {
    let mut bytes = [0; 16];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match length {
        Ok(16) => Ok(bytes),
        _ => Err(Failure::new("random", "the system gives no random numbers")),
    }
}

/// The birth of a region: a random number, never 0.
pub(crate) fn birth() -> Result<u64, Failure> {
    let [first, ..] = *bytes()?.as_chunks::<8>().0 else { return Ok(1) };
    Ok(u64::from_le_bytes(first).max(1))
}
