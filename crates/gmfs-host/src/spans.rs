//! Sets of ranges.

use gmfs_io::Span;

/// The part that two ranges have in common.
pub(crate) fn common(a: Span, b: Span) -> Option<Span> {
    let (start, end) = (a.offset.max(b.offset), a.end().min(b.end()));
    (start < end).then(|| Span::new(start, end.saturating_sub(start)))
}

/// The parts of `range` that are in none of `covers`, ascending.
pub(crate) fn without(range: Span, covers: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut covers: Vec<Span> = covers.into_iter().filter_map(|cover| common(cover, range)).collect();
    covers.sort();
    let mut found = Vec::new();
    let mut at = range.offset;
    for cover in covers {
        if cover.offset > at {
            found.push(Span::new(at, cover.offset.saturating_sub(at)));
        }
        at = at.max(cover.end());
    }
    if at < range.end() {
        found.push(Span::new(at, range.end().saturating_sub(at)));
    }
    found
}

/// The parts of `range` that are in one of `covers`, ascending. Parts of several covers are not joined.
pub(crate) fn within(range: Span, covers: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut found: Vec<Span> = covers.into_iter().filter_map(|cover| common(cover, range)).collect();
    found.sort();
    found
}

/// Ranges ascending, with neighbours and overlaps joined.
pub(crate) fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort();
    let mut found: Vec<Span> = Vec::new();
    for span in spans.into_iter().filter(|span| span.len > 0) {
        match found.last_mut() {
            Some(last) if last.end() >= span.offset => {
                last.len = last.end().max(span.end()).saturating_sub(last.offset);
            }
            _ => found.push(span),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_and_joined() {
        let all = Span::new(10, 90);
        let holes = [Span::new(0, 20), Span::new(50, 10), Span::new(55, 10), Span::new(95, 50)];
        assert_eq!(without(all, holes), [Span::new(20, 30), Span::new(65, 30)]);
        assert_eq!(within(all, holes)[0], Span::new(10, 10));
        assert_eq!(joined(holes.to_vec()), [Span::new(0, 20), Span::new(50, 15), Span::new(95, 50)]);
        assert_eq!(without(all, [all]), []);
    }
}
