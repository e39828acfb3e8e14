//! The JSON documents that gmfs prints.
#![forbid(unsafe_code)]
