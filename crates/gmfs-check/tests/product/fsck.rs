//! What `fsck` does, in this process: check, plan and apply, in rounds until nothing more is planned.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gmfs_check::{Options, Policy, Repair, Verdict, apply, check, plan};
use gmfs_volume::Class;

use crate::image::Image;
use crate::oracle::Ended;
use crate::world::{NOW, stamp};

/// More rounds than any repair needs.
const ROUNDS: usize = 30;

/// Repairs an image, and logs the writes.
pub(crate) fn fsck(image: &mut Image, policy: Policy) -> Ended {
    image.log = Some(Vec::new());
    let mut ended = Ended::default();
    if catch_unwind(AssertUnwindSafe(|| rounds(image, policy, &mut ended))).is_err() {
        ended.failed = Some("panic".into());
    }
    ended.log = image.take_log();
    ended
}

fn rounds(image: &mut Image, policy: Policy, ended: &mut Ended) {
    let options = Options::new(NOW);
    for _ in 0..ROUNDS {
        let Ok(report) = check(&*image, &options, &|_, _| {}) else { return };
        ended.clean = report.verdict() == Verdict::Clean;
        let next = match plan(&*image, &report, policy) {
            Ok(next) => next,
            Err(error) => {
                ended.failed = Some(format!("plan: {error:?}"));
                return;
            }
        };
        let wanted = |class| policy == Policy::Lossy || class == Repair::Safe;
        let edits: Vec<_> = next.edits.into_iter().filter(|planned| wanted(planned.class)).collect();
        if edits.is_empty() {
            return;
        }
        for loses in edits.iter().filter_map(|planned| planned.losses()) {
            ended.told.push_str(&loses);
            ended.told.push('\n');
        }
        let Some(state) = report.state.clone() else { return };
        let class = if policy == Policy::Lossy { Class::Lossy } else { Class::Safe };
        match apply(image, &state, &edits, class, &stamp()) {
            Ok(forgotten) => ended.forgot += forgotten.first.len() as u64 + forgotten.more,
            Err(error) => {
                ended.failed = Some(format!("apply: {error:?}: {edits:?}"));
                ended.clean = false;
                return;
            }
        }
    }
    ended.failed = Some("it does not end".into());
}
