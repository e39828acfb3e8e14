//! The current time. If `SOURCE_DATE_EPOCH` is set, that is taken for the current time, so that two runs write the same
//! bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::failure::Failure;

const VARIABLE: &str = "SOURCE_DATE_EPOCH";
const NANOSECONDS: u64 = 1_000_000_000;

/// Nanoseconds since the epoch.
pub(crate) fn now() -> u64 {
    fixed().ok().flatten().unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Whether `SOURCE_DATE_EPOCH` decides what time it is.
pub(crate) fn is_fixed() -> bool {
    matches!(fixed(), Ok(Some(_)))
}

/// Refuses a `SOURCE_DATE_EPOCH` that is not a time: whoever sets it expects it to have an effect.
pub(crate) fn check() -> Result<(), Failure> {
    fixed().map(|_| ())
}

fn fixed() -> Result<Option<u64>, Failure> {
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let seconds = value.to_str().and_then(|text| text.parse::<u64>().ok());
    match seconds.and_then(|seconds| seconds.checked_mul(NANOSECONDS)) {
        Some(time) => Ok(Some(time)),
        None => {
            let message = format!("{VARIABLE} is '{}', which is no time", value.display());
            Err(Failure::new("clock", message).hint("set it to seconds since 1970, or unset it"))
        }
    }
}
