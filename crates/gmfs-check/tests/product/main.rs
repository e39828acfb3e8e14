//! The product test: every page of a small region in every state that damage can give it, in both copies, at every
//! point at which a crash can stop a change. The region is repaired, and judged by an oracle that knows the true state.
//!
//! ```sh
//! cargo test -p gmfs-check --test product -- --nocapture                          # a part, by a fixed seed
//! GMFS_PRODUCT=all cargo test --release -p gmfs-check --test product -- --nocapture
//! ```
//!
//! `GMFS_PRODUCT_SEED` selects other samples, `GMFS_PRODUCT_MODE` one of the [`MODES`], and
//! `GMFS_PRODUCT_HISTORIES=grow,bad` some of the histories. A case that is printed as an example can be shown by
//! `GMFS_PRODUCT_CASE='grow at idle, A2 old1, B2 old1'`, and with `GMFS_PRODUCT_CRASH=2` after two groups of
//! writes of its repair.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use gmfs_check::Policy;

mod fsck;
mod image;
mod modes;
mod oracle;
mod replay;
mod rng;
mod tally;
mod world;

use modes::{Bench, MODES};
use rng::Rng;
use tally::Tally;
use world::{Others, worlds};

type Tallies = BTreeMap<String, Tally>;

/// Whether the truth cannot be known in a group of cases, so that violations are counted and are not failures: the fate
/// of blocks and files if a page has false values with a good seal, and its true twin is gone.
fn is_luck(group: &str, kind: &str) -> bool {
    group.ends_with("true twin gone")
        && matches!(kind, "freed" | "bad freed" | "silent" | "ghost" | "untold" | "stopped")
}

#[test]
fn no_combination_of_damage_loses_anything() {
    let all = std::env::var("GMFS_PRODUCT").is_ok_and(|part| part == "all");
    let seed: u64 = std::env::var("GMFS_PRODUCT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let only = std::env::var("GMFS_PRODUCT_MODE").ok();
    let histories = std::env::var("GMFS_PRODUCT_HISTORIES").ok();
    let takes_part = |name: &str| histories.as_ref().is_none_or(|named| named.split(',').any(|one| one == name));
    let begun = Instant::now();
    let (worlds, others) = (worlds(), Others::new());
    let jobs: Vec<_> = MODES
        .iter()
        .filter(|mode| only.as_ref().is_none_or(|only| mode.name == only))
        .flat_map(|mode| worlds.values().filter(|world| takes_part(world.name)).map(move |world| (mode, world)))
        .collect();
    let (next, tallies) = (AtomicUsize::new(0), Mutex::new(Tallies::new()));
    let work = || {
        while let Some((mode, world)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let share = if all { mode.all } else { mode.part };
            let salt = crc32fast::hash(format!("{} {}", mode.name, world.name).as_bytes());
            let rng = Rng::new(seed.wrapping_mul(0x1_0000_0001) ^ u64::from(salt));
            let mut bench = Bench { world, others: &others, rng, share, tallies: Tallies::new() };
            (mode.run)(&mut bench);
            if all {
                // This takes an hour or more, so progress is printed.
                let done: u64 = bench.tallies.values().map(|tally| tally.cases).sum();
                let secs = begun.elapsed().as_secs();
                println!("{secs} s: {}, history {}: {done} cases", mode.name, world.name);
                tell(&bench.tallies);
            }
            let mut tallies = tallies.lock().unwrap();
            for (group, tally) in bench.tallies {
                tallies.entry(group).or_default().merge(tally);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let tallies = tallies.into_inner().unwrap();
    let cases: u64 = tallies.values().map(|tally| tally.cases).sum();
    println!("seed {seed}, {cases} cases in {:.0} s on {threads} threads", begun.elapsed().as_secs_f64());
    println!(
        "| group | cases | violations | in full, of what is there | asked | withheld a case | put right by the gate | kinds |"
    );
    for (group, tally) in &tallies {
        println!("| {group} {tally}");
    }
    let bad = tell(&tallies);
    println!("{bad} violations in {cases} cases");
    assert_eq!(bad, 0, "violations");
}

/// Prints examples of violations, and counts all.
fn tell(tallies: &Tallies) -> u64 {
    let mut bad = 0;
    for (group, tally) in tallies {
        bad += tally.kinds.iter().filter(|(kind, _)| !is_luck(group, kind)).map(|(_, count)| count).sum::<u64>();
        for (kind, examples) in tally.examples.iter().filter(|(kind, _)| !is_luck(group, kind)) {
            examples.iter().for_each(|example| println!("{group}: {kind}: {example}"));
        }
    }
    bad
}

/// The classes of repair, as they are named in the table.
fn name_of(policy: Policy) -> &'static str {
    match policy {
        Policy::Safe => "-p",
        Policy::Lossy => "-y",
    }
}

#[test]
fn one_case_is_shown() {
    if let Ok(text) = std::env::var("GMFS_PRODUCT_CASE") {
        replay::show(&text, &worlds(), &Others::new());
    }
}
