//! Seeds of the fuzz targets: small inputs that get past the first checks.

use super::made::{self, Recipe};
use crate::Codec;

/// The seeds of a target by name.
#[must_use]
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "kernel" => images(),
        "made_kernel" => choices(),
        "kernel_cmdline" => lines(),
        _ => Vec::new(),
    }
}

fn images() -> Vec<(String, Vec<u8>)> {
    let recipe = Recipe { release: "7.3.4", strings: &["kho-v4", "luo-v5", "memfd-v2"], load_size: 0x81_9000 };
    let mut all = vec![
        ("vmlinux".to_owned(), made::vmlinux(&recipe)),
        ("arm64".to_owned(), made::arm64(&recipe)),
        ("memblock".to_owned(), made::memblock(&[("alpha", 4096, 4096)])),
    ];
    for codec in Codec::ALL {
        all.push((format!("bzimage-{}", codec.name()), made::bz_image(&recipe, codec)));
        all.push((format!("zboot-{}", codec.name()), made::zboot(&recipe, codec)));
        all.push((format!("image-{}", codec.name()), made::compress(codec, &made::arm64(&recipe))));
    }
    all
}

fn choices() -> Vec<(String, Vec<u8>)> {
    let codecs = 0..u8::try_from(Codec::ALL.len()).unwrap_or_default();
    let all = codecs.flat_map(|codec| (0..4).map(move |kind| (kind, codec)));
    all.map(|(kind, codec)| (format!("{kind}-{codec}"), vec![kind, codec])).collect()
}

fn lines() -> Vec<(String, Vec<u8>)> {
    let old = "kho=on liveupdate=on kho_scratch=16M,48M,16M reserve_mem=2M:4096:alpha reserve_mem=64K:4096:beta";
    let new = "kho=on reserve_mem=1M:16M:alpha mem=320M \"x y\" -- init";
    vec![("lines".to_owned(), format!("{old}\n{new}").into_bytes())]
}
