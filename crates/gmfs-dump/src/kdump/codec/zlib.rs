//! Decodes one zlib page.

#[cfg(feature = "deflate-c")]
pub(super) use c::Context;
#[cfg(not(feature = "deflate-c"))]
pub(super) use rust::Context;

/// zlib-rs.
#[cfg(any(test, feature = "fuzzing", not(feature = "deflate-c")))]
pub(crate) mod rust {
    use flate2::{Decompress, FlushDecompress, Status};

    pub(crate) struct Context(Decompress);

    impl Context {
        pub(crate) fn new() -> Self {
            Self(Decompress::new(true))
        }

        pub(crate) fn decode(&mut self, from: &[u8], page: &mut [u8]) -> bool {
            self.0.reset(true);
            let done = self.0.decompress(from, page, FlushDecompress::Finish);
            // The decoder reaches the end of a stream only after it has compared the checksum.
            matches!(done, Ok(Status::StreamEnd)) && usize::try_from(self.0.total_out()) == Ok(page.len())
        }
    }
}

/// libdeflate.
#[cfg(feature = "deflate-c")]
pub(crate) mod c {
    pub(crate) struct Context(libdeflater::Decompressor);

    impl Context {
        pub(crate) fn new() -> Self {
            Self(libdeflater::Decompressor::new())
        }

        pub(crate) fn decode(&mut self, from: &[u8], page: &mut [u8]) -> bool {
            // libdeflate compares the checksum too.
            self.0.zlib_decompress(from, page) == Ok(page.len())
        }
    }
}
