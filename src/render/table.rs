//! Tables: columns that line up, and are neither cut nor wrapped unless a terminal is too narrow for them.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, presets};

use crate::ctx::{Ctx, OutputError};
use crate::render::style::Role;

/// A table in the making.
pub(crate) struct Table {
    inner: comfy_table::Table,
    right: Vec<usize>,
}

impl Table {
    /// A table whose columns have these heads.
    pub(crate) fn new(heads: &[&str]) -> Self {
        let mut table = Self::bare(&[]);
        table.inner.set_header(heads.iter().map(|head| cell(head, Role::Heading)));
        table
    }

    /// A table without heads, with these columns to the right.
    pub(crate) fn bare(right: &[usize]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::NOTHING);
        Self { inner, right: right.to_vec() }
    }

    /// These columns are numbers.
    #[must_use]
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        self.right = columns.to_vec();
        self
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.inner.add_row(cells.map(|text| cell(text, Role::Plain)));
    }

    /// Adds a row of cells that mean something.
    pub(crate) fn styled<const N: usize>(&mut self, cells: [(&str, Role); N]) {
        self.inner.add_row(cells.map(|(text, role)| cell(text, role)));
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Writes the table to standard output.
    pub(crate) fn print(mut self, ctx: &mut Ctx) -> Result<(), OutputError> {
        self.inner.set_content_arrangement(ContentArrangement::Disabled);
        if let Some(width) = ctx.width {
            self.inner.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        if ctx.colour {
            self.inner.enforce_styling();
        } else {
            self.inner.force_no_tty();
        }
        for (index, column) in self.inner.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for line in self.inner.lines() {
            ctx.line(line.trim_end())?;
        }
        Ok(())
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
