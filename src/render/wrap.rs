//! Text on several lines, broken between words only.

use unicode_width::UnicodeWidthStr as _;

/// The lines of a text for `width` columns. A word that is longer than that gets a line of its own and stays whole.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    lines(text, width, width)
}

/// A text for a terminal of `width` columns, with all lines but the first indented; without a terminal, as it is.
pub(crate) fn hang(text: &str, width: Option<u16>, indent: usize) -> String {
    match width.map(usize::from).filter(|width| *width > 2 * indent) {
        Some(width) => lines(text, width, width - indent).join(&format!("\n{}", " ".repeat(indent))),
        None => text.to_owned(),
    }
}

/// The lines of a text, of which the first has another width than the rest.
fn lines(text: &str, first: usize, rest: usize) -> Vec<String> {
    let words = text.trim_start_matches(' ');
    // Spaces at the front stay.
    let mut line = " ".repeat(text.len() - words.len());
    let (mut lines, mut used, mut started) = (Vec::new(), line.len(), false);
    for word in words.split(' ') {
        let room = if lines.is_empty() { first } else { rest };
        if started && used + 1 + word.width() > room {
            lines.push(std::mem::take(&mut line));
            used = 0;
        } else if started {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += word.width();
        started = true;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("one-and-two three", 7), ["one-and-two", "three"]);
        assert_eq!(wrap("", 7), [""]);
        assert_eq!(wrap("  one two", 7), ["  one", "two"]);
        assert_eq!(hang("one two three four", Some(9), 2), "one two\n  three\n  four");
        assert_eq!(hang("one two three four", None, 2), "one two three four");
    }
}
