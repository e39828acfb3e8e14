//! Times of the format, in nanoseconds since the epoch, as documents have them.

use jiff::Timestamp;

/// RFC 3339 with nanoseconds, in UTC; `None` for 0, which means never.
pub fn rfc3339(nanoseconds: u64) -> Option<String> {
    let time = timestamp(nanoseconds)?;
    Some(format!("{time:.9}"))
}

/// The time that nanoseconds since the epoch are; `None` for 0, which means never.
pub fn timestamp(nanoseconds: u64) -> Option<Timestamp> {
    if nanoseconds == 0 {
        return None;
    }
    Timestamp::from_nanosecond(nanoseconds.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_nanoseconds() {
        assert_eq!(rfc3339(0), None);
        assert_eq!(rfc3339(1_700_000_000_000_000_001).unwrap(), "2023-11-14T22:13:20.000000001Z");
    }
}
