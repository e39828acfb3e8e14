//! Colours by what they mean.

/// What a piece of text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing special.
    #[default]
    Plain,
    /// The head of a column.
    Heading,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
    /// A directory.
    Directory,
    /// Of less interest.
    Dim,
}

impl Role {
    /// The parameters of the escape sequence.
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("1;31"),
            Self::Directory => Some("1;34"),
            Self::Dim => Some("2"),
        }
    }
}

/// `text` in the colour of its role, or as it is.
pub(crate) fn paint(colour: bool, role: Role, text: &str) -> String {
    match role.code().filter(|_| colour) {
        Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
        None => text.to_owned(),
    }
}
