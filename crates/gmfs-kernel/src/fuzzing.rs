//! Images made for tests.

pub mod made;
