//! Tables: columns that line up, and are neither cut nor wrapped unless a terminal is too narrow for them.
//!
//! Rows are kept as their text and laid out a piece at a time, so that a table of a million rows takes little more
//! memory than its text.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Width, presets};

use crate::ctx::{Ctx, OutputError};
use crate::render::style::Role;

/// Rows that are laid out at once.
const ROWS_AT_ONCE: usize = 1024;
/// Columns of space behind each column.
const GAP: u16 = 2;

/// A table in the making.
pub(crate) struct Table {
    head: Rows,
    rows: Rows,
    right: Vec<usize>,
}

/// Rows of cells, behind one another.
#[derive(Default)]
struct Rows {
    text: String,
    /// Where each cell's text ends, and what it is.
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

    /// The cells of one row.
    fn row(&self, row: usize) -> Vec<Cell> {
        let end_of = |ends: &[usize], at: usize| ends.get(at).copied().unwrap_or_default();
        let from = row.checked_sub(1).map_or(0, |before| end_of(&self.ends, before));
        let mut start = from.checked_sub(1).and_then(|before| self.cells.get(before)).map_or(0, |(end, _)| *end);
        let mut cells = Vec::new();
        for (end, role) in self.cells.get(from..end_of(&self.ends, row)).unwrap_or_default() {
            cells.push(cell(self.text.get(start..*end).unwrap_or_default(), *role));
            start = *end;
        }
        cells
    }
}

impl Table {
    /// A table whose columns have these heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        let mut table = Self::bare(&[]);
        table.head.push(heads.iter().map(|head| (*head, Role::Heading)));
        table
    }

    /// A table without heads, with these columns to the right.
    pub(crate) fn bare(right: &[usize]) -> Self {
        Self { head: Rows::default(), rows: Rows::default(), right: right.to_vec() }
    }

    /// These columns are numbers.
    #[must_use]
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows.push(cells.map(|text| (text, Role::Plain)));
    }

    /// Adds a row of cells that mean something.
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
        let widths = self.widths(ctx);
        for start in (0..self.rows.len().max(1)).step_by(ROWS_AT_ONCE) {
            for line in self.piece(start, &widths, ctx).lines() {
                ctx.line(line.trim_end())?;
            }
        }
        Ok(())
    }

    /// The widths that line the pieces up, gaps included; none if there is one piece, or if the terminal is too narrow
    /// for them.
    fn widths(&self, ctx: &Ctx) -> Vec<u16> {
        let mut widths: Vec<u16> = Vec::new();
        if self.rows.len() <= ROWS_AT_ONCE {
            return widths;
        }
        for start in (0..self.rows.len()).step_by(ROWS_AT_ONCE) {
            let here = self.piece(start, &[], ctx).column_max_content_widths();
            widths.resize(widths.len().max(here.len()), 0);
            for (width, here) in widths.iter_mut().zip(here) {
                *width = (*width).max(here.saturating_add(GAP));
            }
        }
        let total: u64 = widths.iter().map(|width| u64::from(*width)).sum();
        let fits = ctx.width.is_none_or(|columns| total <= u64::from(columns));
        if fits { widths } else { Vec::new() }
    }

    /// Some rows from `start` on, the first ones with the heads above them.
    fn piece(&self, start: usize, widths: &[u16], ctx: &Ctx) -> comfy_table::Table {
        let mut piece = comfy_table::Table::new();
        piece.load_style(presets::NOTHING);
        if start == 0 && self.head.len() > 0 {
            piece.set_header(self.head.row(0));
        }
        for row in start..self.rows.len().min(start + ROWS_AT_ONCE) {
            piece.add_row(self.rows.row(row));
        }
        piece.set_content_arrangement(ContentArrangement::Disabled);
        if let Some(width) = ctx.width {
            piece.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        if ctx.colour {
            piece.enforce_styling();
        } else {
            piece.force_no_tty();
        }
        for (index, column) in piece.column_iter_mut().enumerate() {
            column.set_padding((0, GAP));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            if let Some(width) = widths.get(index) {
                column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(*width)));
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

    #[test]
    fn pieces_line_up_as_one_table_does() {
        let ctx = Ctx::new(crate::ctx::ColorWhen::Never, false, false);
        let mut table = Table::new(&["N", "Text"]).right(&[0]);
        let count = 3 * ROWS_AT_ONCE;
        for n in 0..count {
            let text = if n == 2 * ROWS_AT_ONCE { "the widest of all" } else { "x" };
            table.styled([(&n.to_string(), Role::Plain), (text, Role::Dim), ("|", Role::Plain)]);
        }
        let widths = table.widths(&ctx);
        assert_eq!(widths, [4 + 2, 17 + 2, 1 + 2]);
        let mut lines = Vec::new();
        for start in (0..count).step_by(ROWS_AT_ONCE) {
            lines.extend(table.piece(start, &widths, &ctx).lines());
        }
        assert_eq!(lines.len(), count + 1);
        assert!(lines[1..].iter().all(|line| line.find('|') == Some(25)), "{:?}", &lines[..3]);
        assert_eq!(lines[1].trim_end(), "   0  x                  |");
    }
}
