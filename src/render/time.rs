//! Times: nanoseconds since the epoch as people and programs read them.

use jiff::Timestamp;

/// RFC 3339 with nanoseconds, in UTC; `None` for 0, which means never.
pub(crate) fn rfc3339(nanoseconds: u64) -> Option<String> {
    let time = timestamp(nanoseconds)?;
    Some(format!("{time:.9}"))
}

/// To the second, in UTC; `never` for 0.
pub(crate) fn human(nanoseconds: u64) -> String {
    match timestamp(nanoseconds) {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => "never".to_owned(),
    }
}

/// RFC 3339 to the second; `never` for 0.
pub(crate) fn iso(nanoseconds: u64) -> String {
    match timestamp(nanoseconds) {
        Some(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        None => "never".to_owned(),
    }
}

/// To the minute, in UTC, for listings.
pub(crate) fn short(nanoseconds: u64) -> String {
    match timestamp(nanoseconds) {
        Some(time) => time.strftime("%Y-%m-%d %H:%M").to_string(),
        None => "never".to_owned(),
    }
}

fn timestamp(nanoseconds: u64) -> Option<Timestamp> {
    if nanoseconds == 0 {
        return None;
    }
    Timestamp::from_nanosecond(nanoseconds.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_dates() {
        assert_eq!(human(0), "never");
        assert_eq!(rfc3339(0), None);
        assert_eq!(rfc3339(1_700_000_000_000_000_001).unwrap(), "2023-11-14T22:13:20.000000001Z");
        assert_eq!(human(1_700_000_000_000_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(human(u64::MAX), "2554-07-21 23:34:33 UTC");
    }
}
