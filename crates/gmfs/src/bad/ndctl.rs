//! What `ndctl list --media-errors` prints.

use serde_json::Value;

use super::{Named, RangeError};

/// Why a list that ndctl printed cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NdctlError {
    /// It is not clear of which of several devices the region is.
    #[error("it has bad blocks of several devices ({}), and none is called {device}", names.join(", "))]
    Devices {
        /// The first name of each device.
        names: Vec<String>,
        /// The name that was looked for.
        device: String,
    },
    /// A bad block has no place.
    #[error("{0} has no offset and length")]
    NoPlace(String),
    /// A bad block is at a place that no device has.
    #[error(transparent)]
    Range(#[from] RangeError),
}

/// A list of bad blocks, with the names of its device.
struct Listed<'j> {
    names: Vec<&'j str>,
    bad: &'j Vec<Value>,
}

/// The bad blocks that a text names, if it is what ndctl prints: of the device with this name, or of the only device in the
/// list. `None` if the text is no JSON.
///
/// # Errors
/// The list has several devices and none of that name, or a bad block has no place.
#[must_use]
pub fn ndctl(text: &str, device: &str) -> Option<Result<Vec<Named>, NdctlError>> {
    let json = serde_json::from_str::<Value>(text).ok().filter(|json| json.is_array() || json.is_object())?;
    Some(of_device(&json, device))
}

/// All lists, at any depth. The object that holds a list has the names of the device too.
fn listed<'j>(json: &'j Value, found: &mut Vec<Listed<'j>>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| listed(item, found)),
        Value::Object(fields) => {
            if let Some(Value::Array(bad)) = fields.get("badblocks") {
                let named = ["dev", "blockdev", "chardev"].iter().filter_map(|key| fields.get(*key)?.as_str());
                found.push(Listed { names: named.collect(), bad });
            }
            let others = fields.iter().filter(|(name, _)| *name != "badblocks");
            others.for_each(|(_, value)| listed(value, found));
        }
        _ => {}
    }
}

fn of_device(json: &Value, device: &str) -> Result<Vec<Named>, NdctlError> {
    let mut found = Vec::new();
    listed(json, &mut found);
    if let Some(own) = found.iter().position(|list| list.names.contains(&device)) {
        found = vec![found.swap_remove(own)];
    }
    if found.len() > 1 {
        let names = found.iter().map(|list| list.names.first().copied().unwrap_or("?").to_owned()).collect();
        return Err(NdctlError::Devices { names, device: device.to_owned() });
    }
    let field = |item: &Value, name: &str| item.get(name).and_then(Value::as_u64);
    let bad = found.iter().flat_map(|list| list.bad);
    bad.map(|item| {
        let place = field(item, "offset").zip(field(item, "length"));
        let (first, count) = place.ok_or_else(|| NdctlError::NoPlace(item.to_string()))?;
        Ok(Named::sectors(first, count)?)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;

    #[test]
    fn what_ndctl_prints_is_taken_of_one_device() {
        let text = r#"[{"dev":"namespace0.0","blockdev":"pmem0","badblocks":[{"offset":40960,"length":8}]},
            {"dev":"namespace1.0","daxregion":{"devices":[{"chardev":"dax1.0","size":1}]},
             "badblocks":[{"offset":4096,"length":8}]}]"#;
        let of = |device| ndctl(text, device).unwrap();
        assert_eq!(of("pmem0").unwrap(), [Named::InDevice(20 << 20, (20 << 20) + 4095)]);
        assert_eq!(of("namespace1.0").unwrap(), [Named::InDevice(2 << 20, (2 << 20) + 4095)]);
        assert!(of("region.img").is_err());
        let one = r#"{"dev":"namespace1.0","badblocks":[{"offset":4096,"length":8}]}"#;
        assert_eq!(ndctl(one, "region.img").unwrap().unwrap().len(), 1);
        // A list with a single address is a list of addresses.
        assert!(ndctl("4096\n", "region.img").is_none() && ndctl("0x1000", "region.img").is_none());
    }
}
