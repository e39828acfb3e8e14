//! What a kernel command line says about ranges of physical memory, read as Linux on x86 reads it.

use gmfs_format::spec::{format_size, memparse};
use gmfs_io::Span;
use gmfs_kernel::cmdline::kernel_words;

/// What a word of the command line makes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// `memmap=SIZE$BASE`: reserved.
    Reserved,
    /// `memmap=SIZE!BASE`: persistent memory.
    Persistent,
    /// `memmap=SIZE#BASE`: ACPI data.
    Acpi,
    /// `memmap=SIZE@BASE`: RAM of the kernel's own.
    Ram,
    /// `memmap=SIZE%BASE-OLD+NEW`: another type.
    Typed,
    /// `guestmemfs=SIZE[:BASE]`: a region of the guestmemfs driver.
    Guestmemfs,
    /// `reserve_mem=SIZE:ALIGN:LABEL`: memory that the kernel chooses.
    Chosen,
    /// `crashkernel=…`: memory for the kernel that takes dumps.
    CrashKernel,
}

impl What {
    /// Whether the kernel leaves such memory alone.
    #[must_use]
    pub const fn keeps(self) -> bool {
        matches!(self, Self::Reserved | Self::Persistent | Self::Guestmemfs)
    }
}

/// A word that claims memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The word; of several in one `memmap=`, the one.
    pub word: String,
    /// What it makes of the memory.
    pub what: What,
    /// How much memory, at least.
    pub size: u64,
    /// Where; `None` if the kernel chooses.
    pub span: Option<Span>,
}

/// Why a word does not do what it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrong {
    /// A backslash is left in front of `$`: the kernel takes the word for a limit of memory.
    Backslash,
    /// There is a size and no sign with an address, as when a shell or GRUB took `$0` for a variable: the kernel takes the
    /// word for a limit of memory.
    NoAddress,
    /// The kernel does not understand it.
    NotUnderstood,
}

/// What a command line says about memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The words that claim memory, in their order.
    pub claims: Vec<Claim>,
    /// Words that do not do what they look like.
    pub wrong: Vec<(String, Wrong)>,
    /// The word by which the kernel's memory ends, and where.
    pub limit: Option<(String, u64)>,
    /// `memmap=exactmap`: the firmware's map does not count.
    pub exact: bool,
}

/// For what a window is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// As memory that the kernel leaves alone, which `/dev/mem` shows.
    Memory,
    /// As the device that the kernel makes of it: it has to begin and end where it does now.
    Device,
}

/// What a kernel with this command line does with a window.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keeping {
    /// It leaves the window alone, because of this word.
    Kept {
        /// The first word that says so.
        word: String,
    },
    /// It uses the window as it likes: no word is about it.
    Missing,
    /// A part of the window is in no word.
    Partly {
        /// The first word that is about the window.
        word: String,
        /// The first part that is not.
        missing: Span,
    },
    /// The word makes something else of it.
    Other {
        /// The word.
        word: String,
        /// What it makes of it.
        what: What,
    },
    /// A word that seems to be meant for it does not do what it looks like.
    Wrong {
        /// The word.
        word: String,
        /// Why.
        why: Wrong,
    },
    /// The kernel's memory ends before the window, which no word is about.
    Ends {
        /// The word.
        word: String,
        /// Where it ends.
        at: u64,
    },
}

impl Line {
    /// Reads a command line.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut line = Self::default();
        for word in kernel_words(text) {
            let (name, value) = word.split_once('=').unwrap_or((&word, ""));
            match name.replace('-', "_").as_str() {
                "memmap" => value.split(',').for_each(|one| line.add_memmap(one)),
                "guestmemfs" => line.add_sized(&word, value, What::Guestmemfs, ':'),
                "reserve_mem" => line.add_sized(&word, value, What::Chosen, '\0'),
                "crashkernel" => line.add_crash_kernel(&word, value),
                "mem" if value != "nopentium" => match memparse(value) {
                    Ok((at, _)) => line.end(&word, at),
                    Err(_) => line.wrong.push((word, Wrong::NotUnderstood)),
                },
                _ => {}
            }
        }
        line
    }

    fn end(&mut self, word: &str, at: u64) {
        if at > 0 && self.limit.as_ref().is_none_or(|(_, before)| at < *before) {
            self.limit = Some((word.to_owned(), at));
        }
    }

    fn add_memmap(&mut self, value: &str) {
        let word = format!("memmap={value}");
        if value == "exactmap" {
            self.exact = true;
            return;
        }
        let Ok((size, rest)) = memparse(value) else {
            self.wrong.push((word, Wrong::NotUnderstood));
            return;
        };
        let sign = rest.chars().next();
        let what = match sign {
            Some('@') => What::Ram,
            Some('#') => What::Acpi,
            Some('$') => What::Reserved,
            Some('!') => What::Persistent,
            Some('%') => What::Typed,
            _ => {
                let why = if sign == Some('\\') { Wrong::Backslash } else { Wrong::NoAddress };
                // A size alone is also the way to limit memory, so that this may be meant.
                self.end(&word, size);
                self.wrong.push((word, why));
                return;
            }
        };
        match memparse(rest.get(1..).unwrap_or_default()) {
            Ok((base, _)) => self.claim(word, what, size, Some(base)),
            Err(_) => self.wrong.push((word, Wrong::NotUnderstood)),
        }
    }

    /// `SIZE`, and an address after `sign`.
    fn add_sized(&mut self, word: &str, value: &str, what: What, sign: char) {
        let Ok((size, rest)) = memparse(value) else {
            self.wrong.push((word.to_owned(), Wrong::NotUnderstood));
            return;
        };
        let base = rest.strip_prefix(sign).map(memparse);
        match base {
            Some(Err(_)) => self.wrong.push((word.to_owned(), Wrong::NotUnderstood)),
            Some(Ok((base, _))) => self.claim(word.to_owned(), what, size, Some(base)),
            None => self.claim(word.to_owned(), what, size, None),
        }
    }

    /// `SIZE[@BASE]`, `SIZE,high`, `SIZE,low`, or `FROM-TO:SIZE,…[@BASE]`.
    fn add_crash_kernel(&mut self, word: &str, value: &str) {
        let (sizes, base) = value.split_once('@').map_or((value, None), |(sizes, base)| (sizes, Some(memparse(base))));
        let parts = sizes.split(',').map(|part| part.rsplit_once(':').map_or(part, |(_, size)| size));
        let size = parts.filter_map(|part| memparse(part).ok()).map(|(size, _)| size).max();
        match (size, base) {
            (Some(size), None) => self.claim(word.to_owned(), What::CrashKernel, size, None),
            (Some(size), Some(Ok((base, _)))) => self.claim(word.to_owned(), What::CrashKernel, size, Some(base)),
            _ => self.wrong.push((word.to_owned(), Wrong::NotUnderstood)),
        }
    }

    fn claim(&mut self, word: String, what: What, size: u64, base: Option<u64>) {
        let ends = base.is_none_or(|base| base.checked_add(size).is_some());
        if size == 0 || !ends {
            self.wrong.push((word, Wrong::NotUnderstood));
            return;
        }
        self.claims.push(Claim { word, what, size, span: base.map(|base| Span::new(base, size)) });
    }

    /// The words that are about a part of a window.
    pub fn about(&self, window: Span) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(move |claim| claim.span.is_some_and(|span| span.meets(window)))
    }

    /// What becomes of a window.
    #[must_use]
    pub fn keeps(&self, window: Span, need: Need) -> Keeping {
        let keeping: Vec<&Claim> = self.about(window).filter(|claim| claim.what.keeps()).collect();
        if need == Need::Device {
            let device = |claim: &&&Claim| claim.what == What::Persistent;
            if let Some(claim) = keeping.iter().filter(device).find(|claim| claim.span == Some(window)) {
                return Keeping::Kept { word: claim.word.clone() };
            }
            if let Some(claim) = keeping.first() {
                return Keeping::Other { word: claim.word.clone(), what: claim.what };
            }
        }
        if let Some(first) = keeping.first() {
            let missing = window.without(keeping.iter().filter_map(|claim| claim.span)).first().copied();
            let word = first.word.clone();
            return missing.map_or(Keeping::Kept { word: word.clone() }, |missing| Keeping::Partly { word, missing });
        }
        if let Some(claim) = self.about(window).next() {
            return Keeping::Other { word: claim.word.clone(), what: claim.what };
        }
        let size = format_size(window.len);
        let meant = |word: &str| word.starts_with("memmap=") && (word.contains(&size) || word.contains('\\'));
        if let Some((word, why)) = self.wrong.iter().find(|(word, _)| meant(word)) {
            return Keeping::Wrong { word: word.clone(), why: *why };
        }
        match &self.limit {
            Some((word, at)) if *at <= window.offset => Keeping::Ends { word: word.clone(), at: *at },
            _ => Keeping::Missing,
        }
    }

    /// The words that want a part of a window for something else.
    pub fn conflicts(&self, window: Span) -> impl Iterator<Item = &Claim> {
        self.about(window).filter(|claim| !claim.what.keeps())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Span = Span { offset: 4 << 30, len: 2 << 30 };

    fn keeps(text: &str, need: Need) -> Keeping {
        Line::parse(text).keeps(WINDOW, need)
    }

    fn kept(text: &str) -> bool {
        matches!(keeps(text, Need::Memory), Keeping::Kept { .. })
    }

    #[test]
    fn words_that_keep_a_window() {
        for good in [
            "quiet memmap=2G$4G",
            "memmap=2G!4G",
            "memmap=0x80000000$0x100000000",
            "memmap=3G$3G",
            "memmap=1G$4G memmap=1G$5G",
            "memmap=1G$4G,1G$5G",
            "guestmemfs=2G:4G",
            "\"memmap=2G$4G\"",
            "mem=3G memmap=2G$4G",
        ] {
            assert!(kept(good), "{good}: {:?}", keeps(good, Need::Memory));
        }
        for bad in
            ["", "quiet", "-- memmap=2G$4G", "xmemmap=2G$4G", "memmap=2G$8G", "reserve_mem=2G:2M:a", "guestmemfs=2G"]
        {
            assert_eq!(keeps(bad, Need::Memory), Keeping::Missing, "{bad}");
        }
    }

    #[test]
    fn a_window_that_is_kept_partly_or_as_something_else() {
        let missing = |text| match keeps(text, Need::Memory) {
            Keeping::Partly { missing, .. } => missing,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(missing("memmap=1G$4G"), Span::new(5 << 30, 1 << 30));
        assert_eq!(missing("memmap=2G$5G"), Span::new(4 << 30, 1 << 30));
        let other = |text| matches!(keeps(text, Need::Memory), Keeping::Other { .. });
        assert!(other("memmap=2G@4G") && other("memmap=2G#4G") && other("crashkernel=256M@5G"));
        assert!(matches!(keeps("mem=3G", Need::Memory), Keeping::Ends { at, .. } if at == 3 << 30));
        assert_eq!(keeps("mem=5G", Need::Memory), Keeping::Missing);
    }

    /// What shells and GRUB make of `$`.
    #[test]
    fn a_dollar_sign_that_went_wrong_is_named() {
        let why = |text| match keeps(text, Need::Memory) {
            Keeping::Wrong { why, .. } => Some(why),
            _ => None,
        };
        assert_eq!(why(r"memmap=2G\$4G"), Some(Wrong::Backslash));
        assert_eq!(why(r"memmap=2G\$0x100000000"), Some(Wrong::Backslash));
        assert_eq!(why("memmap=2Gx100000000"), Some(Wrong::NoAddress));
        assert_eq!(why("memmap=2G"), Some(Wrong::NoAddress));
        assert_eq!(why("memmap=2G$"), Some(Wrong::NotUnderstood));
        assert_eq!(why("memmap=1G"), None);
    }

    #[test]
    fn a_device_is_the_same_only_with_the_same_bounds() {
        let kept = |text| matches!(keeps(text, Need::Device), Keeping::Kept { .. });
        assert!(kept("memmap=2G!4G"));
        for other in ["memmap=3G!4G", "memmap=2G$4G", "memmap=1G!4G memmap=1G!5G", "guestmemfs=2G:4G"] {
            assert!(matches!(keeps(other, Need::Device), Keeping::Other { .. }), "{other}");
        }
        assert_eq!(keeps("quiet", Need::Device), Keeping::Missing);
    }

    #[test]
    fn what_wants_the_same_memory() {
        let words =
            |text: &str| Line::parse(text).conflicts(WINDOW).map(|claim| claim.word.clone()).collect::<Vec<_>>();
        assert_eq!(words("memmap=2G$4G crashkernel=512M@5G"), ["crashkernel=512M@5G"]);
        assert_eq!(words("memmap=2G$4G crashkernel=512M,high crashkernel=72M,low crashkernel=1G-:512M"), [""; 0]);
        assert_eq!(
            words("memmap=2G$4G crashkernel=1G-64G:128M,64G-:256M@4G"),
            ["crashkernel=1G-64G:128M,64G-:256M@4G"]
        );
        assert_eq!(words("memmap=1G@5G"), ["memmap=1G@5G"]);
        let sizes: Vec<u64> =
            Line::parse("crashkernel=1G-64G:128M,64G-:256M").claims.iter().map(|c| c.size >> 20).collect();
        assert_eq!(sizes, [256]);
    }

    #[test]
    fn no_text_makes_it_fail() {
        let bits = [
            "memmap=",
            "mem=",
            "crashkernel=",
            "guestmemfs=",
            "reserve_mem=",
            "$",
            "!",
            "0x",
            "9",
            "E",
            ":",
            ",",
            "@",
            " ",
            "\"",
        ];
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(bits[(state >> 33) as usize % bits.len()]);
            }
            let line = Line::parse(&text);
            let _ = (line.keeps(WINDOW, Need::Memory), line.keeps(WINDOW, Need::Device));
            assert!(line.claims.iter().all(|claim| claim.size > 0));
        }
    }
}
