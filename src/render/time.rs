//! Times: nanoseconds since the epoch as people and programs read them.

pub(crate) use gmfs_json::time::rfc3339;
use gmfs_json::time::timestamp;

/// To the second, in UTC; `never` for 0.
pub(crate) fn human(nanoseconds: u64) -> String {
    match timestamp(nanoseconds) {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_dates() {
        assert_eq!(human(0), "never");
        assert_eq!(human(1_700_000_000_000_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(human(u64::MAX), "2554-07-21 23:34:33 UTC");
    }
}
