//! Tables: columns that line up. A terminal that is too narrow for a table gets fewer columns, or its last column on
//! several lines; no word is ever cut. Without a terminal a table is as wide as it has to be.
//!
//! Rows are kept as their text, so that a table of a million rows takes little more memory than its text.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Width, presets};
use unicode_width::UnicodeWidthStr as _;

use crate::ctx::{Ctx, OutputError};
use crate::render::style::Role;
use crate::render::wrap::wrap;

/// Rows that are laid out at once, which bounds the memory for that.
const ROWS_AT_ONCE: usize = 1024;
/// Spaces between two columns.
const GAP: usize = 2;
/// A last column that would get less than this is not wrapped: the terminal does that itself.
const NARROWEST: usize = 16;

/// A table to which rows are added.
pub(crate) struct Table {
    head: Rows,
    rows: Rows,
    right: Vec<usize>,
    /// Columns that are left out on a narrow terminal, the least important first.
    dispensable: Vec<usize>,
}

/// Rows of cells, one after the other.
#[derive(Default)]
struct Rows {
    text: String,
    /// Where the text of each cell ends, and the role of the cell.
    cells: Vec<(usize, Role)>,
    /// Where each row's cells end.
    ends: Vec<usize>,
}

impl Rows {
    fn push<'a>(&mut self, cells: impl IntoIterator<Item = (&'a str, Role)>) {
        for (text, role) in cells {
            self.text.push_str(text);
            self.cells.push((self.text.len(), role));
        }
        self.ends.push(self.cells.len());
    }

    const fn len(&self) -> usize {
        self.ends.len()
    }

    /// All rows, each as its cells.
    fn iter(&self) -> impl Iterator<Item = Vec<(&str, Role)>> {
        let (mut cell, mut start) = (0, 0);
        self.ends.iter().map(move |end| {
            let cells = self.cells.get(cell..*end).unwrap_or_default();
            cell = *end;
            let one = |(end, role): &(usize, Role)| {
                let text = self.text.get(start..*end).unwrap_or_default();
                start = *end;
                (text, *role)
            };
            cells.iter().map(one).collect()
        })
    }
}

impl Table {
    /// A table whose columns have these heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        let mut table = Self::bare(&[]);
        table.head.push(heads.iter().map(|head| (*head, Role::Heading)));
        table
    }

    /// A table without heads, with these columns aligned to the right.
    pub(crate) fn bare(right: &[usize]) -> Self {
        let (head, rows) = (Rows::default(), Rows::default());
        Self { head, rows, right: right.to_vec(), dispensable: Vec::new() }
    }

    /// Aligns these columns to the right, because they are numbers.
    #[must_use]
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    /// The columns with these heads are left out, in this order, until the rest fits the terminal.
    #[must_use]
    pub(crate) fn dispensable(mut self, heads: &[&str]) -> Self {
        let all = self.head.iter().next().unwrap_or_default();
        let place = |head: &&str| all.iter().position(|(own, _)| own == head);
        self.dispensable = heads.iter().filter_map(place).collect();
        self
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(|text| (text, Role::Plain)));
    }

    /// Adds a row of cells, each with its role.
    pub(crate) fn styled<const N: usize>(&mut self, cells: [(&str, Role); N]) {
        self.rows.push(cells);
    }

    /// Adds a row of cells, of which there are as many as the table has columns.
    pub(crate) fn cells<'a>(&mut self, cells: impl IntoIterator<Item = (&'a str, Role)>) {
        self.rows.push(cells);
    }

    /// Whether there is no row.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    /// Writes the table to standard output.
    pub(crate) fn print(self, ctx: &mut Ctx) -> Result<(), OutputError> {
        let layout = self.layout(ctx.width.map(usize::from));
        let mut rows = self.head.iter().chain(self.rows.iter()).peekable();
        while rows.peek().is_some() {
            let piece = layout.piece(rows.by_ref().take(ROWS_AT_ONCE), ctx.colour);
            for line in piece.lines() {
                ctx.line(line.trim_end())?;
            }
        }
        Ok(())
    }

    /// Which columns are shown, and how wide each is.
    fn layout(&self, columns: Option<usize>) -> Layout {
        let mut widths: Vec<usize> = Vec::new();
        for cells in self.head.iter().chain(self.rows.iter()) {
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, (text, _)) in widths.iter_mut().zip(&cells) {
                *width = (*width).max(text.width());
            }
        }
        let mut shown: Vec<Column> = (0..widths.len())
            .zip(widths)
            .map(|(index, width)| Column { index, width, right: self.right.contains(&index) })
            .collect();
        let Some(columns) = columns else { return Layout { shown, last: None } };
        let mut dispensable = self.dispensable.iter();
        while total(&shown) > columns {
            let Some(index) = dispensable.next() else { break };
            shown.retain(|column| column.index != *index);
        }
        // If the table does not fit, its last column, which is text, is wrapped.
        let before = shown.split_last().map_or(0, |(_, before)| before.iter().map(|column| column.width + GAP).sum());
        let last = columns.checked_sub(before).filter(|room| *room >= NARROWEST && total(&shown) > columns);
        Layout { shown, last }
    }
}

/// How many columns of the terminal these columns take.
fn total(shown: &[Column]) -> usize {
    let gaps = shown.len().saturating_sub(1) * GAP;
    shown.iter().map(|column| column.width).sum::<usize>() + gaps
}

/// A column that is shown.
struct Column {
    index: usize,
    width: usize,
    right: bool,
}

/// How a table fits the terminal.
struct Layout {
    shown: Vec<Column>,
    /// The room for the last column, if it has to be wrapped.
    last: Option<usize>,
}

impl Layout {
    /// Some rows, laid out so that all pieces of the table line up.
    fn piece<'r>(&self, rows: impl Iterator<Item = Vec<(&'r str, Role)>>, colour: bool) -> comfy_table::Table {
        let mut piece = comfy_table::Table::new();
        piece.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if colour {
            piece.enforce_styling();
        } else {
            piece.force_no_tty();
        }
        let last = self.shown.len().saturating_sub(1);
        for row in rows {
            let text = |n: usize, text: &str| match self.last.filter(|_| n == last) {
                Some(room) => wrap(text, room).join("\n"),
                None => text.to_owned(),
            };
            let of = |column: &Column| row.get(column.index).copied().unwrap_or_default();
            let cells = self.shown.iter().enumerate().map(|(n, column)| {
                let (content, role) = of(column);
                cell(&text(n, content), role)
            });
            piece.add_row(cells);
        }
        let gap = u16::try_from(GAP).unwrap_or_default();
        for (n, (column, shown)) in piece.column_iter_mut().zip(&self.shown).enumerate() {
            column.set_padding((0, gap));
            if shown.right {
                column.set_cell_alignment(CellAlignment::Right);
            }
            // A word that is longer than the last column stays whole.
            let width = u16::try_from(shown.width.saturating_add(GAP)).unwrap_or(u16::MAX);
            if n < last || self.last.is_none() {
                column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
            }
        }
        piece
    }
}

fn cell(text: &str, role: Role) -> Cell {
    let cell = Cell::new(text);
    match role {
        Role::Plain => cell,
        Role::Heading => cell.add_attribute(Attribute::Bold),
        Role::Good => cell.fg(Color::DarkGreen),
        Role::Warn => cell.fg(Color::DarkYellow),
        Role::Bad => cell.fg(Color::Red).add_attribute(Attribute::Bold),
        Role::Directory => cell.fg(Color::Blue).add_attribute(Attribute::Bold),
        Role::Dim => cell.add_attribute(Attribute::Dim),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(table: &Table, columns: Option<usize>) -> Vec<String> {
        let layout = table.layout(columns);
        let piece = layout.piece(table.head.iter().chain(table.rows.iter()), false);
        piece.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// A line without its escape sequences.
    fn strip(line: &str) -> String {
        let mut parts = line.split('\x1b');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |all, part| all + part.split_once('m').map_or(part, |(_, rest)| rest))
    }

    fn table() -> Table {
        let mut table = Table::new(&["Number", "Note", "What it is"]).right(&[0]).dispensable(&["Note"]);
        table.row(["7", "short", "one two three four"]);
        table.row(["12345678", "", "über"]);
        table
    }

    #[test]
    fn without_a_terminal_a_table_is_as_wide_as_it_has_to_be() {
        assert_eq!(
            shown(&table(), None),
            ["  Number  Note   What it is", "       7  short  one two three four", "12345678         über"]
        );
        assert_eq!(shown(&table(), Some(35)), shown(&table(), None));
    }

    #[test]
    fn columns_go_before_words_are_wrapped_and_no_word_is_cut() {
        let narrower = ["  Number  What it is", "       7  one two three four", "12345678  über"];
        assert_eq!(shown(&table(), Some(34)), narrower);
        assert_eq!(shown(&table(), Some(28)), narrower);
        let narrowest = ["  Number  What it is", "       7  one two three", "          four", "12345678  über"];
        assert_eq!(shown(&table(), Some(27)), narrowest);
        // If not even that helps, the terminal wraps the lines.
        assert_eq!(shown(&table(), Some(9)), narrower);
    }

    #[test]
    fn a_word_longer_than_its_column_stays_whole() {
        let mut table = Table::bare(&[]);
        let long = format!("/{}", "x".repeat(60));
        table.row(["Path", &format!("at {long}")]);
        assert_eq!(shown(&table, Some(40)), ["Path  at".to_owned(), format!("      {long}")]);
    }

    #[test]
    fn colours_take_no_room() {
        let mut table = Table::bare(&[]);
        table.styled([("a", Role::Bad), ("b", Role::Plain)]);
        table.styled([("aaa", Role::Plain), ("b", Role::Good)]);
        let layout = table.layout(None);
        let coloured = layout.piece(table.rows.iter(), true).lines().map(|line| strip(&line)).collect::<Vec<_>>();
        let plain = layout.piece(table.rows.iter(), false).lines().collect::<Vec<_>>();
        assert_eq!(coloured, plain);
        assert!(layout.piece(table.rows.iter(), true).to_string().contains("\x1b["));
    }
}
