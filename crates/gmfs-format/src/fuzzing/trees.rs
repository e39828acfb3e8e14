//! Flattened device trees as libfdt writes them, one token after the other.

/// A tree that is being made.
#[derive(Default)]
pub struct Maker {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Maker {
    /// A tree whose root is compatible with this.
    pub fn new(compatible: &[u8]) -> Self {
        let mut tree = Self::default();
        tree.begin(b"");
        tree.property("compatible", compatible);
        tree
    }

    pub fn word(&mut self, word: u32) {
        self.structure.extend(word.to_be_bytes());
    }

    fn pad(&mut self) {
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    pub fn begin(&mut self, name: &[u8]) {
        self.word(1);
        self.structure.extend(name);
        self.structure.push(0);
        self.pad();
    }

    pub fn end(&mut self) {
        self.word(2);
    }

    pub fn property(&mut self, name: &str, value: &[u8]) {
        let name = [name.as_bytes(), &[0]].concat();
        let at = self.strings.windows(name.len()).position(|known| known == name).unwrap_or_else(|| {
            self.strings.extend(&name);
            self.strings.len() - name.len()
        });
        self.word(3);
        self.word(u32::try_from(value.len()).unwrap());
        self.word(u32::try_from(at).unwrap());
        self.structure.extend(value);
        self.pad();
    }

    /// Ends the root, and gives the tree: header, an empty list of reserved ranges, structure, strings.
    pub fn finish(mut self) -> Vec<u8> {
        self.end();
        self.word(9);
        let (structure, strings) = (self.structure.len() as u32, self.strings.len() as u32);
        let at = 64;
        let header = [0xD00D_FEED, at + structure + strings, at, at + structure, 48, 17, 16, 0, strings, structure];
        let mut bytes: Vec<u8> = header.into_iter().flat_map(u32::to_be_bytes).collect();
        bytes.resize(at as usize, 0);
        bytes.extend(self.structure);
        bytes.extend(self.strings);
        bytes
    }
}
