//! What was seen in kexecs between seven kernels, 203 of them, and what the rules say of them. Each cell of the three tables
//! and each further kexec whose cause is known before it happens is here; those whose cause is a step that somebody leaves
//! out (finalize), or another configuration that changes nothing, are not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use gmfs_kernel::abi::{Abi, Family};
use gmfs_kernel::cmdline::CommandLine;
use gmfs_kernel::compat::{self, Evidence, Judgement, Mechanism, Next, Old, Reason, Uses, Verdict};
use gmfs_kernel::{Kernel, Release};

/// The kernels, as Linux released them.
const KERNELS: [&str; 7] = ["6.17.8", "6.18.15", "6.19.11", "7.0.13", "7.1.13", "7.2.8", "7.3.4"];
/// The command line of the old kernel, and of the new one unless something else is said.
const LINE: &str = "kho=on liveupdate=on kho_scratch=16M,48M,16M reserve_mem=2M:4096:alpha \
                    reserve_mem=64K:4096:beta nokaslr";
/// The init_size of the kernels: 8.1 MiB.
const INIT_SIZE: u64 = 0x81_9000;
/// Where the regions were, in a machine of 384 MiB.
const ADDRESSES: [(&str, u64); 2] = [("alpha", 0x1720_1000), ("beta", 0x1740_1000)];

fn kernel(release: &str) -> Kernel {
    let kernel = Kernel::upstream(Release::parse(release).unwrap()).unwrap();
    Kernel { load_size: Some(INIT_SIZE), ..kernel }
}

/// A kexec: what differs from the usual one.
struct Kexec {
    old: Kernel,
    new: Kernel,
    old_line: String,
    new_line: String,
    uses: Uses,
    initrd: Option<u64>,
    addresses: bool,
}

impl Kexec {
    fn new(old: &str, new: &str) -> Self {
        Self {
            old: kernel(old),
            new: kernel(new),
            old_line: LINE.to_owned(),
            new_line: LINE.to_owned(),
            uses: Uses::ALL,
            initrd: None,
            addresses: true,
        }
    }

    fn judge(&self) -> Judgement {
        let (old_line, new_line) = (CommandLine::parse(&self.old_line), CommandLine::parse(&self.new_line));
        let mut old = Old::new(self.old.clone(), Some(&old_line), self.uses);
        for region in old.regions.iter_mut().flatten().filter(|_| self.addresses) {
            region.address = ADDRESSES.iter().find(|(label, _)| *label == region.label).map(|(_, at)| *at);
        }
        let new = Next { initrd: self.initrd, ..Next::new(self.new.clone(), Some(&new_line)) };
        compat::judge(&old, &new, self.uses)
    }

    /// The verdicts in short: regions, then sessions; `-` for what the old kernel does not have.
    fn short(&self) -> String {
        let judgement = self.judge();
        let word = |mechanism| judgement.verdict(mechanism).map_or("-", Verdict::name);
        format!("{} {}", word(Mechanism::Regions), word(Mechanism::Sessions))
    }
}

/// A table: rows are old kernels, columns new ones, and each cell is what became of regions and sessions.
fn check(table: &str, columns: &[&str], change: impl Fn(&mut Kexec)) {
    let mut cells = 0;
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let mut row = row.split('|').map(str::trim);
        let old = row.next().unwrap();
        for (new, seen) in columns.iter().zip(row) {
            let mut kexec = Kexec::new(old, new);
            change(&mut kexec);
            assert_eq!(kexec.short(), seen, "{old} to {new}");
            assert_eq!(kexec.judge().is_kept(), !seen.split(' ').any(|word| !["kept", "-"].contains(&word)));
            cells += 1;
        }
    }
    assert_eq!(cells % columns.len(), 0);
    assert!(cells >= 25, "{cells}");
}

#[test]
fn with_sessions() {
    let table = "
        6.19.11 | revived-but-free lost | kept held | kept kept | panic panic | lost lost | lost lost | lost lost
        7.0.13  | revived-but-free lost | kept held | kept kept | kept kept   | lost lost | lost lost | lost lost
        7.1.13  | lost lost             | lost lost | lost lost | lost lost   | kept kept | lost lost | lost lost
        7.2.8   | lost lost             | lost lost | lost lost | lost lost   | lost lost | kept kept | kept kept
        7.3.4   | lost lost             | lost lost | lost lost | lost lost   | lost lost | kept kept | kept kept";
    check(table, &KERNELS, |_| {});
}

#[test]
fn with_kho_alone() {
    let table = "
        6.17.8  | kept -             | panic - | panic - | panic - | lost - | lost - | lost -
        6.18.15 | revived-but-free - | kept -  | kept -  | kept -  | lost - | lost - | lost -
        6.19.11 | revived-but-free - | kept -  | kept -  | kept -  | lost - | lost - | lost -
        7.0.13  | revived-but-free - | kept -  | kept -  | kept -  | lost - | lost - | lost -
        7.1.13  | lost -             | lost -  | lost -  | lost -  | kept - | lost - | lost -
        7.2.8   | lost -             | lost -  | lost -  | lost -  | lost - | kept - | kept -
        7.3.4   | lost -             | lost -  | lost -  | lost -  | lost - | kept - | kept -";
    check(table, &KERNELS, |kexec| kexec.old_line = LINE.replace(" liveupdate=on", ""));
    // The same is said by what is in use, where the command line of the old kernel is not known.
    check(table, &KERNELS, |kexec| {
        kexec.old_line = LINE.replace(" liveupdate=on", "");
        kexec.uses = Uses { luo: false, sessions: false, ..Uses::ALL };
    });
}

#[test]
fn with_luo_and_no_session() {
    let table = "
        6.19.11 | kept - | panic - | lost - | lost - | lost -
        7.0.13  | kept - | kept -  | lost - | lost - | lost -
        7.1.13  | lost - | lost -  | kept - | lost - | lost -
        7.2.8   | lost - | lost -  | lost - | kept - | kept -
        7.3.4   | lost - | lost -  | lost - | kept - | kept -";
    check(table, &KERNELS[2..], |kexec| kexec.uses = Uses { sessions: false, ..Uses::ALL });
}

/// What is in use says whether LUO is on, where nobody knows the command line.
#[test]
fn what_is_in_use_stands_in_for_the_command_line() {
    let judge = |uses| {
        let old = Old::new(kernel("6.19.11"), None, uses);
        compat::judge(&old, &Next::new(kernel("7.0.13"), None), uses).verdict(Mechanism::Regions).unwrap()
    };
    assert_eq!(judge(Uses::ALL), Verdict::Panic);
    assert_eq!(judge(Uses { sessions: false, ..Uses::ALL }), Verdict::Panic);
    assert_eq!(judge(Uses { sessions: false, luo: false, ..Uses::ALL }), Verdict::Kept);
}

/// A kexec with a change: old kernel, new kernel, what is changed, and what became of regions and sessions, and of each
/// region if that differs.
type Row = (&'static str, &'static str, Change, &'static str);

/// A change of a kexec.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// Words added to the new command line.
    NewAdds(&'static str),
    /// Words left out of the new command line.
    NewLacks(&'static [&'static str]),
    /// A word of the new command line, and what stands in its place.
    NewHas(&'static str, &'static str),
    /// A word of the old command line, and what stands in its place; and the size of an initrd.
    OldHas(&'static str, &'static str, Option<u64>),
    /// Both command lines lack these words.
    BothLack(&'static [&'static str]),
    /// The new kernel is configured without these.
    Without(&'static [Family]),
    /// The new kernel is Debian's, without KHO, of this init_size; and the scratch areas of the old one.
    Debian(&'static str),
}

const KHO: &str = " kho=on";
const LIVE: &str = " liveupdate=on";
const ALPHA: &str = " reserve_mem=2M:4096:alpha";
const BETA: &str = " reserve_mem=64K:4096:beta";
const SCRATCH: &str = " kho_scratch=16M,48M,16M";
const INITRD: u64 = 21 << 20;

fn apply(kexec: &mut Kexec, change: Change) {
    // Each word has a blank before it.
    let (mut old, mut new) = (format!(" {LINE}"), format!(" {LINE}"));
    let without = |line: &str, word: &str| {
        assert!(line.contains(word), "{word}");
        line.replace(word, "")
    };
    match change {
        Change::NewAdds(word) => new.push_str(word),
        Change::NewLacks(words) => words.iter().for_each(|word| new = without(&new, word)),
        Change::NewHas(word, other) => new = without(&new, word) + other,
        Change::OldHas(word, other, initrd) => {
            old = without(&old, word) + other;
            kexec.initrd = initrd;
        }
        Change::BothLack(words) => {
            for word in words {
                (old, new) = (without(&old, word), without(&new, word));
            }
        }
        Change::Without(families) => {
            kexec.new.abi = families.iter().fold(kexec.new.abi.clone(), |abi, family| abi.without(*family));
        }
        Change::Debian(scratch) => {
            old = without(&old, SCRATCH) + scratch;
            kexec.new.abi = Abi::default();
            kexec.new.load_size = Some(0x3c3_3000);
        }
    }
    (kexec.old_line, kexec.new_line) = (old, new);
}

/// Everything that is not a matter of the two releases alone, with LUO on and sessions in use.
const ROWS: &[Row] = {
    use Change::{BothLack, Debian, NewAdds, NewHas, NewLacks, OldHas, Without};
    const RENAMED: Change = NewHas(ALPHA, " reserve_mem=2M:4096:gamma");
    const SMALLER: Change = NewHas(ALPHA, " reserve_mem=1M:4096:alpha");
    const REORDERED: Change = NewHas(ALPHA, ALPHA);
    const ALPHA_HELD: &str = "held kept; alpha held, beta kept";
    &[
        ("6.19.11", "6.17.8", NewAdds(" quiet"), "revived-but-free lost"),
        ("6.19.11", "6.19.11", NewAdds(" mem=320M"), "corrupt corrupt"),
        ("6.19.11", "6.19.11", NewLacks(&[KHO]), "kept held"),
        ("6.19.11", "6.19.11", NewLacks(&[LIVE]), "kept held"),
        ("6.19.11", "6.19.11", NewLacks(&[SCRATCH]), "kept kept"),
        ("6.19.11", "6.19.11", RENAMED, ALPHA_HELD),
        ("6.19.11", "6.19.11", REORDERED, "kept kept"),
        ("6.19.11", "6.19.11", SMALLER, ALPHA_HELD),
        ("6.19.11", "7.0.13", NewLacks(&[KHO]), "kept held"),
        ("6.19.11", "7.0.13", NewHas(LIVE, " liveupdate=off"), "panic panic"),
        ("6.19.11", "7.0.13", NewHas(KHO, " kho=off"), "kept held"),
        ("6.19.11", "7.0.13", NewLacks(&[LIVE]), "panic panic"),
        ("6.19.11", "7.3.4", NewLacks(&[KHO, LIVE]), "lost lost"),
        ("7.0.13", "7.0.13", NewAdds(" mem=320M"), "panic panic"),
        ("7.0.13", "7.0.13", NewLacks(&[KHO]), "kept held"),
        ("7.0.13", "7.0.13", NewLacks(&[LIVE]), "kept held"),
        ("7.0.13", "7.0.13", NewLacks(&[SCRATCH]), "kept kept"),
        ("7.0.13", "7.0.13", RENAMED, ALPHA_HELD),
        ("7.0.13", "7.0.13", REORDERED, "kept kept"),
        ("7.0.13", "7.0.13", SMALLER, ALPHA_HELD),
        ("7.1.13", "7.1.13", NewAdds(" mem=320M"), "panic panic"),
        ("7.1.13", "7.1.13", NewLacks(&[KHO]), "kept held"),
        ("7.1.13", "7.1.13", NewLacks(&[LIVE]), "kept held"),
        ("7.1.13", "7.1.13", NewLacks(&[SCRATCH]), "kept kept"),
        ("7.1.13", "7.1.13", RENAMED, ALPHA_HELD),
        ("7.1.13", "7.1.13", REORDERED, "kept kept"),
        ("7.1.13", "7.1.13", SMALLER, ALPHA_HELD),
        ("7.2.8", "7.2.8", NewAdds(" mem=320M"), "panic panic"),
        ("7.2.8", "7.2.8", NewLacks(&[KHO]), "kept held"),
        ("7.2.8", "7.2.8", NewLacks(&[LIVE]), "kept held"),
        ("7.2.8", "7.2.8", SMALLER, ALPHA_HELD),
        // These two booted, gave wrong bytes, and panicked later.
        ("7.2.8", "7.3.4", NewAdds(" mem=376M"), "panic panic"),
        ("7.3.4", "7.3.4", NewAdds(" mem=376M"), "panic panic"),
        ("7.3.4", "7.3.4", NewHas(SCRATCH, " kho_scratch=32M,96M,32M"), "kept kept"),
        ("7.3.4", "7.3.4", NewHas(KHO, " kho=off"), "kept held"),
        ("7.3.4", "7.3.4", NewLacks(&[KHO]), "kept held"),
        ("7.3.4", "7.3.4", NewAdds(" mem=320M"), "panic panic"),
        ("7.3.4", "7.3.4", NewLacks(&[LIVE]), "kept held"),
        ("7.3.4", "7.3.4", NewLacks(&[KHO, LIVE]), "kept held"),
        ("7.3.4", "7.3.4", NewLacks(&[SCRATCH]), "kept kept"),
        ("7.3.4", "7.3.4", NewAdds(" reserve_mem=1M:4096:gamma"), "kept kept"),
        ("7.3.4", "7.3.4", NewHas(ALPHA, " reserve_mem=2M:16M:alpha"), ALPHA_HELD),
        ("7.3.4", "7.3.4", NewHas(ALPHA, " reserve_mem=2M:64:alpha"), "kept kept"),
        ("7.3.4", "7.3.4", NewLacks(&[ALPHA]), ALPHA_HELD),
        ("7.3.4", "7.3.4", RENAMED, ALPHA_HELD),
        ("7.3.4", "7.3.4", NewHas(ALPHA, " reserve_mem=4M:4096:alpha"), ALPHA_HELD),
        ("7.3.4", "7.3.4", NewLacks(&[ALPHA, BETA]), "held kept; alpha held, beta held"),
        ("7.3.4", "7.3.4", REORDERED, "kept kept"),
        ("7.3.4", "7.3.4", SMALLER, ALPHA_HELD),
        (
            "7.3.4",
            "7.3.4",
            NewHas(
                " reserve_mem=2M:4096:alpha reserve_mem=64K:4096:beta",
                " reserve_mem=64K:4096:alpha reserve_mem=2M:4096:beta",
            ),
            "held kept; alpha held, beta held",
        ),
        ("7.3.4", "7.3.4", NewHas(SCRATCH, " kho_scratch=8M,24M,8M"), "kept kept"),
        ("7.3.4", "7.3.4", OldHas(SCRATCH, " kho_scratch=4M,16M,16M", Some(13 << 20)), "kept kept"),
        ("7.3.4", "7.3.4", OldHas(SCRATCH, " kho_scratch=16M,16M,16M", Some(INITRD)), "refused refused"),
        ("7.3.4", "7.3.4", OldHas(SCRATCH, " kho_scratch=16M,32M,16M", Some(INITRD)), "kept kept"),
        ("7.3.4", "7.3.4", OldHas(SCRATCH, " kho_scratch=16M,4M,4M", None), "kept kept"),
        ("7.3.4", "7.3.4", OldHas(SCRATCH, " kho_scratch=4M,4M,16M", None), "kept kept"),
        ("7.3.4", "7.3.4", OldHas(SCRATCH, " kho_scratch=4M,4M,4M", None), "refused refused"),
        ("7.3.4", "7.3.4", OldHas(SCRATCH, " kho_scratch=8M,8M,8M", None), "refused refused"),
        ("7.3.4", "7.3.4", BothLack(&[KHO, LIVE]), "lost lost"),
        ("7.3.4", "7.3.4", OldHas(KHO, "", None), "lost lost"),
        ("7.3.4", "7.3.4", Without(&Family::ALL), "lost lost"),
        ("7.3.4", "7.3.4", Without(&[Family::Luo, Family::Memfd]), "kept held"),
        ("7.3.4", "7.3.4", Without(&[Family::Memfd]), "kept held"),
        ("7.3.4", "7.3.4", Debian(" kho_scratch=16M,160M,16M"), "lost lost"),
        ("7.3.4", "7.3.4", Debian(SCRATCH), "refused refused"),
        ("7.3.4", "7.3.4", Debian(" kho_scratch=16M,64M,16M"), "lost lost"),
        ("7.3.4", "7.3.4", Debian(""), "lost lost"),
    ]
};

/// The same with KHO alone: `liveupdate=` is left out of the old command line, and regions are all there is.
const KHO_ROWS: &[Row] = {
    use Change::{BothLack, NewAdds, NewHas, NewLacks};
    const ALPHA_HELD: &str = "held -; alpha held, beta kept";
    &[
        ("6.17.8", "6.17.8", NewAdds(" mem=320M"), "corrupt -"),
        ("6.17.8", "6.17.8", NewLacks(&[KHO]), "kept -"),
        ("6.17.8", "6.17.8", NewLacks(&[SCRATCH]), "kept -"),
        ("6.17.8", "6.17.8", NewHas(ALPHA, " reserve_mem=2M:4096:gamma"), ALPHA_HELD),
        ("6.17.8", "6.17.8", NewHas(ALPHA, ALPHA), "kept -"),
        ("6.17.8", "6.17.8", NewHas(ALPHA, " reserve_mem=1M:4096:alpha"), ALPHA_HELD),
        ("6.17.8", "6.18.15", BothLack(&[ALPHA, BETA]), "none -"),
        ("6.17.8", "6.19.11", NewAdds(" quiet"), "panic -"),
        ("6.17.8", "7.0.13", NewAdds(" quiet"), "panic -"),
        ("6.17.8", "7.0.13", BothLack(&[ALPHA, BETA]), "none -"),
        ("6.18.15", "6.18.15", NewAdds(" mem=320M"), "corrupt -"),
        ("6.18.15", "6.18.15", NewLacks(&[KHO]), "kept -"),
        ("6.18.15", "6.18.15", NewLacks(&[SCRATCH]), "kept -"),
        ("6.18.15", "6.18.15", NewHas(ALPHA, " reserve_mem=2M:4096:gamma"), ALPHA_HELD),
        ("6.18.15", "6.18.15", NewHas(ALPHA, ALPHA), "kept -"),
        ("6.18.15", "6.18.15", NewHas(ALPHA, " reserve_mem=1M:4096:alpha"), ALPHA_HELD),
        ("7.0.13", "7.0.13", BothLack(&[ALPHA, BETA]), "none -"),
    ]
};

#[test]
fn with_a_change() {
    let all = ROWS.iter().map(|row| (row, false)).chain(KHO_ROWS.iter().map(|row| (row, true)));
    for ((old, new, change, seen), kho_only) in all {
        let mut kexec = Kexec::new(old, new);
        apply(&mut kexec, *change);
        if kho_only {
            kexec.old_line = kexec.old_line.replace(LIVE, "");
        }
        let (seen, regions) = seen.split_once("; ").map_or((*seen, None), |(seen, regions)| (seen, Some(regions)));
        assert_eq!(kexec.short(), seen, "{old} to {new}, {change:?}");
        let judgement = kexec.judge();
        if let Some(regions) = regions {
            let found = judgement.regions.iter().map(|one| format!("{} {}", one.region.label, one.verdict.name()));
            assert_eq!(found.collect::<Vec<_>>().join(", "), regions, "{old} to {new}, {change:?}");
        }
        // A rule that decides what was seen is a rule that was seen.
        assert!(judgement.rulings.iter().all(|ruling| ruling.evidence == Evidence::Run), "{old} to {new}, {change:?}");
    }
}

/// With no session, a kernel that cannot take the memory of memfds opens `/dev/liveupdate` all the same.
#[test]
fn without_a_session_memfds_do_not_matter() {
    let mut kexec = Kexec::new("7.3.4", "7.3.4");
    kexec.new.abi = kexec.new.abi.without(Family::Memfd);
    assert_eq!(kexec.judge().verdict(Mechanism::Luo), Some(Verdict::Held));
    kexec.uses.sessions = false;
    assert_eq!(kexec.judge().verdict(Mechanism::Luo), Some(Verdict::Kept));
    assert!(kexec.judge().is_kept());
}

#[test]
fn an_address_that_is_not_known_is_not_guessed() {
    let mut kexec = Kexec::new("7.3.4", "7.3.4");
    kexec.addresses = false;
    let reason = |kexec: &Kexec| {
        let ruling = kexec.judge().rulings.remove(0);
        (ruling.verdict, ruling.reason)
    };
    kexec.new_line = LINE.replace("2M:4096", "2M:16M");
    assert_eq!(reason(&kexec), (Verdict::NotKnown, Reason::AddressUnknown));
    // A region that is held for certain decides.
    kexec.new_line = LINE.replace("2M:4096", "1M:4096").replace("64K:4096", "64K:16M");
    assert_eq!(reason(&kexec), (Verdict::Held, Reason::SizeDiffers));
    // What is a multiple of the old alignment is one of a part of it.
    kexec.new_line = LINE.replace("2M:4096", "2M:1K");
    assert_eq!(reason(&kexec), (Verdict::Kept, Reason::Agree));
    kexec.new_line = LINE.replace("2M:4096", "2M:3000");
    assert_eq!(reason(&kexec), (Verdict::NotKnown, Reason::AddressUnknown));
}

#[test]
fn memory_that_ended_before_may_end_there_again() {
    let mut kexec = Kexec::new("7.3.4", "7.3.4");
    kexec.old_line.push_str(" mem=320M");
    kexec.new_line.push_str(" mem=320M");
    assert_eq!(kexec.short(), "kept kept");
    kexec.new_line.push_str(" mem=316M");
    assert_eq!(kexec.short(), "panic panic");
    let line = CommandLine::parse("kho=on mem=1G");
    let old = Old { memory_end: Some(1 << 30), ..Old::new(kernel("7.3.4"), None, Uses::ALL) };
    assert!(
        compat::judge(&old, &Next { luo: true, regions: None, ..Next::new(kernel("7.3.4"), Some(&line)) }, Uses::ALL)
            .is_kept()
    );
}

#[test]
fn strings_of_what_nobody_has_run() {
    let mut kexec = Kexec::new("7.3.4", "7.3.4");
    // The same versions in a kernel that gmfs does not know: twice that was a panic.
    let unknown = Kernel { release: Release::parse("7.4.1"), ..kernel("7.3.4") };
    kexec.new = unknown.clone();
    assert_eq!(kexec.short(), "not-known not-known");
    // From such a kernel to itself, or to the next one of its series.
    kexec.old = unknown.clone();
    assert_eq!(kexec.short(), "kept kept");
    assert!(kexec.judge().rulings.iter().all(|ruling| ruling.evidence == Evidence::Assumed));
    // Other versions are other versions in any kernel.
    kexec.new.abi.add(Family::Kho, 9);
    kexec.new.release = Release::parse("7.5.1");
    assert_eq!(kexec.judge().rulings[0].reason, Reason::SeveralVersions);
    kexec.new.abi = kexec.new.abi.without(Family::Kho);
    kexec.new.abi.add(Family::Kho, 9);
    assert_eq!(kexec.short(), "lost lost");
    // A distribution that has KHO where Linux had none: the form of its map is not known.
    let vendor = Kernel { release: Release::parse("6.12.0-99.el10"), ..kernel("6.18.15") };
    (kexec.old, kexec.new) = (vendor.clone(), kernel("6.18.15"));
    assert_eq!(kexec.short(), "not-known -");
    kexec.new = vendor;
    assert_eq!(kexec.short(), "kept -");
    let vendor = Kernel { release: Release::parse("6.12.0-99.el10"), ..kernel("7.3.4") };
    (kexec.old, kexec.new) = (vendor, kernel("7.3.4"));
    assert_eq!(kexec.short(), "not-known not-known");
}

#[test]
fn versions_of_luo_and_memfds_that_differ() {
    let mut kexec = Kexec::new("7.3.4", "7.3.4");
    kexec.new.abi = kexec.new.abi.without(Family::Luo);
    kexec.new.abi.add(Family::Luo, 6);
    assert_eq!((kexec.short().as_str(), kexec.judge().rulings[0].evidence), ("panic panic", Evidence::Source));
    let mut kexec = Kexec::new("7.3.4", "7.3.4");
    kexec.new.abi = kexec.new.abi.without(Family::Memfd);
    kexec.new.abi.add(Family::Memfd, 3);
    assert_eq!(kexec.short(), "kept held");
    let mut kexec = Kexec::new("7.3.4", "7.3.4");
    kexec.new.abi = kexec.new.abi.without(Family::ReserveMem);
    assert_eq!(kexec.short(), "held kept");
}

#[test]
fn what_is_in_use_by_a_word_of_the_user_is_answered() {
    let mut kexec = Kexec::new("6.18.15", "6.18.15");
    assert_eq!(kexec.judge().verdict(Mechanism::Sessions), None);
    kexec.uses.assumed = false;
    assert_eq!(kexec.judge().verdict(Mechanism::Sessions), Some(Verdict::Lost));
    let uses = Uses { regions: false, ..Uses::ALL };
    let old = Old::new(kernel("7.3.4"), None, uses);
    let judgement = compat::judge(&old, &Next::new(kernel("7.3.4"), None), uses);
    assert_eq!((judgement.verdict(Mechanism::Regions), judgement.is_kept()), (None, true));
}

#[test]
fn regions_of_an_unknown_command_line_cannot_be_compared() {
    let line = CommandLine::parse(LINE);
    let old = Old::new(kernel("7.3.4"), None, Uses::ALL);
    let judgement = compat::judge(&old, &Next::new(kernel("7.3.4"), Some(&line)), Uses::ALL);
    assert_eq!(judgement.rulings[0].reason, Reason::RegionsUnknown);
    assert_eq!(judgement.verdict(Mechanism::Sessions), Some(Verdict::Kept));
}
