//! Sets of ranges.

use gmfs_io::Span;

/// The parts of `range` that are in one of `covers`, ascending. Parts of several covers are not joined.
pub(crate) fn within(range: Span, covers: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut found: Vec<Span> = covers.into_iter().filter_map(|cover| cover.common(range)).collect();
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
        assert_eq!(all.without(holes), [Span::new(20, 30), Span::new(65, 30)]);
        assert_eq!(within(all, holes)[0], Span::new(10, 10));
        assert_eq!(joined(holes.to_vec()), [Span::new(0, 20), Span::new(50, 15), Span::new(95, 50)]);
        assert_eq!(all.without([all]), []);
    }
}
