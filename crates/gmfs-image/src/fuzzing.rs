//! The body of a fuzz target. For any bytes, nothing may panic, and answers must not contradict each other.

use crate::{foreign, iomem, probe};

/// Recognises `data` as an image, as content that must not be overwritten, and as the kernel's map of memory.
///
/// # Panics
/// If two answers contradict each other.
pub fn exercise_image(data: &[u8]) {
    let _ = foreign::identify(&data.to_vec());
    let _ = probe::recognise(data);
    if let Some(map) = std::str::from_utf8(data).ok().and_then(|text| iomem::IoMem::parse(text).ok()) {
        for span in map.writable_ranges() {
            assert_eq!(map.writable(span), Ok(()), "{span}");
        }
    }
}
