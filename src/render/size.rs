//! Sizes for people: those of `gmfs_format::size`, and of a region's blocks.

use gmfs_format::native::geometry::Geometry;
pub(crate) use gmfs_format::size::{both, count, hex, human, range};

/// Blocks by what they are for.
pub(crate) fn blocks(geometry: Geometry) -> String {
    format!(
        "{} of {}: {} for data, {} for metadata",
        geometry.blocks(),
        human(geometry.block_bytes()),
        geometry.data_blocks(),
        u64::from(geometry.metadata_blocks()) * 2
    )
}
