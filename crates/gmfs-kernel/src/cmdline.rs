//! A kernel's command line, as far as it decides about memory that is handed over.
//!
//! Words are read as the kernel reads them: `-` and `_` are the same in names, double quotes enclose blanks, and what
//! follows `--` is for init. A word that the kernel does not understand has no effect; such words are listed.

use gmfs_format::spec::memparse;

use crate::release::Series;

/// How many regions a kernel makes at most.
pub const MOST_REGIONS: usize = 8;
/// How long the label of a region may be.
pub const LABEL_LEN: usize = 15;
/// The smallest alignment that a kernel gives a region: SMP_CACHE_BYTES.
pub const LEAST_ALIGNMENT: u64 = 64;
/// Scratch areas begin and end at multiples of this on x86 and arm64 with pages of 4 KiB.
const SCRATCH_UNIT: u64 = 4 << 20;
/// From this series on `kho_scratch=` is called `kho_bootmem=`.
pub const BOOTMEM_SINCE: Series = Series::new(7, 4);

/// A `reserve_mem=` region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub label: String,
    /// Its size in bytes.
    pub size: u64,
    /// What its address is a multiple of, at least [`LEAST_ALIGNMENT`].
    pub align: u64,
    /// Where it is; `None` if that is not known.
    pub address: Option<u64>,
}

/// The sizes of the scratch areas: `kho_scratch=` or `kho_bootmem=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scratch {
    /// A percentage of what the kernel needs to boot.
    Percent(u64),
    /// Bytes.
    Sizes {
        /// Of the area in low memory.
        low: u64,
        /// Of the area anywhere.
        global: u64,
        /// Of the area in each node.
        node: u64,
    },
}

impl Scratch {
    /// The sizes of the areas of a machine with one node, as the kernel rounds them; `None` where they follow from what
    /// the kernel needs to boot.
    #[must_use]
    pub fn areas(self) -> Option<Vec<u64>> {
        let Self::Sizes { low, global, node } = self else { return None };
        let round = |size: u64| size.checked_next_multiple_of(SCRATCH_UNIT).unwrap_or(u64::MAX);
        Some([low, global, node].into_iter().filter(|size| *size > 0).map(round).collect())
    }
}

/// What a command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// `kho=`
    pub kho: Option<bool>,
    /// `liveupdate=`
    pub liveupdate: Option<bool>,
    /// The `reserve_mem=` regions that a kernel makes for it.
    pub regions: Vec<Region>,
    /// The end of memory that `mem=` sets.
    pub mem: Option<u64>,
    /// `kho_scratch=`
    pub scratch: Option<Scratch>,
    /// `kho_bootmem=`
    pub bootmem: Option<Scratch>,
    /// Words with these names that the kernel does not understand.
    pub ignored: Vec<String>,
}

impl CommandLine {
    /// Reads a command line.
    ///
    /// ```
    /// use gmfs_kernel::cmdline::CommandLine;
    /// let line = CommandLine::parse("root=/dev/sda kho=on reserve_mem=2M:4096:guests mem=1G");
    /// assert_eq!((line.kho, line.mem), (Some(true), Some(1 << 30)));
    /// assert_eq!((line.regions[0].label.as_str(), line.regions[0].size), ("guests", 2 << 20));
    /// ```
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut line = Self::default();
        for word in kernel_words(text) {
            let (name, value) = word.split_once('=').unwrap_or((&word, ""));
            let understood = match name.replace('-', "_").as_str() {
                "kho" => set(&mut line.kho, on_or_off(value)),
                "liveupdate" => set(&mut line.liveupdate, on_or_off(value)),
                "kho_scratch" => set(&mut line.scratch, scratch(value)),
                "kho_bootmem" => set(&mut line.bootmem, scratch(value)),
                "mem" => line.add_mem(value),
                "reserve_mem" => line.add_region(value),
                _ => true,
            };
            if !understood {
                line.ignored.push(word);
            }
        }
        line
    }

    /// The sizes of the scratch areas that a kernel of this series takes from the command line.
    #[must_use]
    pub fn scratch_of(&self, series: Option<Series>) -> Option<Scratch> {
        match series {
            Some(series) if series >= BOOTMEM_SINCE => self.bootmem,
            Some(_) => self.scratch,
            None => self.scratch.or(self.bootmem),
        }
    }

    fn add_mem(&mut self, value: &str) -> bool {
        let Ok((size, _)) = memparse(value) else { return false };
        self.mem = Some(self.mem.map_or(size, |mem| mem.min(size)));
        size > 0
    }

    fn add_region(&mut self, value: &str) -> bool {
        let Some(region) = region(value) else { return false };
        let room = self.regions.len() < MOST_REGIONS;
        let new = self.regions.iter().all(|other| other.label != region.label);
        if room && new {
            self.regions.push(region);
        }
        room && new
    }
}

/// Sets a value, unless the kernel does not understand it. So of several words the last one that it understands counts.
fn set<T>(to: &mut Option<T>, value: Option<T>) -> bool {
    let understood = value.is_some();
    *to = value.or(to.take());
    understood
}

/// The words of a command line that are for the kernel: those before `--`, without the quotes around a word or a
/// value.
pub fn kernel_words(text: &str) -> impl Iterator<Item = String> {
    words(text).take_while(|word| word != "--")
}

/// The words of a command line, without the quotes around a word or a value. `--`, after which words are for init, is
/// one of them.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut quoted = false;
    let split = move |c: char| {
        quoted ^= c == '"';
        !quoted && c.is_whitespace()
    };
    text.split(split).filter(|word| !word.is_empty()).map(|word| {
        let whole = word.strip_prefix('"').map(|rest| rest.strip_suffix('"').unwrap_or(rest));
        let word = whole.unwrap_or(word);
        match word.split_once("=\"") {
            Some((name, value)) => format!("{name}={}", value.strip_suffix('"').unwrap_or(value)),
            None => word.to_owned(),
        }
    })
}

/// As the kernel's kstrtobool() reads it.
fn on_or_off(value: &str) -> Option<bool> {
    let mut letters = value.bytes().map(|letter| letter.to_ascii_lowercase());
    match (letters.next()?, letters.next()) {
        (b'y' | b't' | b'1', _) | (b'o', Some(b'n')) => Some(true),
        (b'n' | b'f' | b'0', _) | (b'o', Some(b'f')) => Some(false),
        _ => None,
    }
}

/// `SIZE:ALIGN:LABEL`
fn region(value: &str) -> Option<Region> {
    let (size, rest) = memparse(value).ok()?;
    let rest = rest.strip_prefix(':')?;
    // An alignment that is not a number counts as 0.
    let (align, rest) = memparse(rest).unwrap_or((0, rest));
    let label = rest.strip_prefix(':')?;
    let named = !label.is_empty() && label.len() <= LABEL_LEN && !label.trim().is_empty();
    let align = align.max(LEAST_ALIGNMENT);
    (named && size > 0).then(|| Region { label: label.to_owned(), size, align, address: None })
}

/// `N%`, or `LOW,GLOBAL,NODE`
fn scratch(value: &str) -> Option<Scratch> {
    if let Some(percent) = value.strip_suffix('%') {
        return percent.parse::<u32>().ok().map(|percent| Scratch::Percent(percent.into()));
    }
    let (low, rest) = memparse(value).ok()?;
    let (global, rest) = memparse(rest.strip_prefix(',')?).ok()?;
    let (node, _) = memparse(rest.strip_prefix(',')?).ok()?;
    let any = low > 0 || global > 0 || node > 0;
    any.then_some(Scratch::Sizes { low, global, node })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(label: &str, size: u64, align: u64) -> Region {
        Region { label: label.to_owned(), size, align, address: None }
    }

    #[test]
    fn a_command_line_is_read_as_the_kernel_reads_it() {
        let line = CommandLine::parse(
            "kho=on  liveupdate=1 kho_scratch=16M,48M,16M reserve_mem=2M:4096:alpha reserve_mem=64K:0:beta nokaslr\n",
        );
        assert_eq!((line.kho, line.liveupdate), (Some(true), Some(true)));
        assert_eq!(line.regions, [region("alpha", 2 << 20, 4096), region("beta", 64 << 10, 64)]);
        assert_eq!(line.scratch.unwrap().areas().unwrap(), [16 << 20, 48 << 20, 16 << 20]);
        assert!(line.ignored.is_empty(), "{:?}", line.ignored);
    }

    #[test]
    fn the_last_switch_counts_and_words_for_init_do_not() {
        let kho = |text| CommandLine::parse(text).kho;
        assert_eq!(kho("kho=on kho=off"), Some(false));
        assert_eq!(kho("kho=on kho=maybe"), Some(true));
        assert_eq!(kho("kho=ON"), Some(true));
        assert_eq!(kho("xkho=on"), None);
        assert_eq!(kho("quiet -- kho=on"), None);
        assert_eq!(kho("kho"), None);
        assert_eq!(kho("\"kho=on\""), Some(true));
        assert_eq!(CommandLine::parse("kho=maybe kho").ignored, ["kho=maybe", "kho"]);
    }

    #[test]
    fn dashes_quotes_and_the_smallest_mem() {
        let line = CommandLine::parse("reserve-mem=\"1M:4K:a b\" mem=1G mem=512M mem=2G mem=nopentium");
        assert_eq!(line.regions, [region("a b", 1 << 20, 4096)]);
        assert_eq!(line.mem, Some(512 << 20));
        assert_eq!(line.ignored, ["mem=nopentium"]);
    }

    #[test]
    fn regions_that_the_kernel_does_not_make() {
        for wrong in ["", "2M", "2M:4096", "2M:4096:", "0:4096:a", "x:4096:a", "2M:4096:sixteen_letters_", "2M,4096,a"]
        {
            let line = CommandLine::parse(&format!("reserve_mem={wrong}"));
            assert!(line.regions.is_empty() && line.ignored.len() == 1, "{wrong}: {line:?}");
        }
        let twice = CommandLine::parse("reserve_mem=1M:0:a reserve_mem=2M:0:a");
        assert_eq!((twice.regions.len(), twice.regions[0].size), (1, 1 << 20));
        let many: String = (0..10).map(|n| format!("reserve_mem=1M:0:r{n} ")).collect();
        let many = CommandLine::parse(&many);
        assert_eq!((many.regions.len(), many.ignored.len()), (MOST_REGIONS, 2));
    }

    #[test]
    fn scratch_areas() {
        let areas = |text| CommandLine::parse(text).scratch.and_then(Scratch::areas);
        assert_eq!(areas("kho_scratch=16M,5M,0"), Some(vec![16 << 20, 8 << 20]));
        assert_eq!(areas("kho_scratch=150%"), None);
        assert_eq!(CommandLine::parse("kho_scratch=150%").scratch, Some(Scratch::Percent(150)));
        for wrong in ["kho_scratch=16M", "kho_scratch=0,0,0", "kho_scratch=x%", "kho_scratch=1M,2M"] {
            assert_eq!(CommandLine::parse(wrong).ignored, [wrong]);
        }
        let both = CommandLine::parse("kho_scratch=4M,4M,4M kho_bootmem=8M,8M,8M");
        let low = |series| match both.scratch_of(series) {
            Some(Scratch::Sizes { low, .. }) => low >> 20,
            _ => 0,
        };
        assert_eq!(low(Some(Series::new(7, 3))), 4);
        assert_eq!(low(Some(Series::new(7, 4))), 8);
        assert_eq!(low(None), 4);
    }
}
