//! Times of the format, in nanoseconds since the epoch, as documents have them.

use jiff::Timestamp;

/// RFC 3339 with nanoseconds, in UTC; `None` for 0, which means never.
pub fn rfc3339(nanoseconds: u64) -> Option<String> {
    let time = timestamp(nanoseconds)?;
    Some(format!("{time:.9}"))
}

/// RFC 3339 to the second, in UTC; `never` for 0.
pub(crate) fn to_the_second(nanoseconds: u64) -> String {
    match timestamp(nanoseconds) {
        Some(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        None => "never".to_owned(),
    }
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
        assert_eq!((to_the_second(0), to_the_second(1)), ("never".to_owned(), "1970-01-01T00:00:00Z".to_owned()));
    }
}
