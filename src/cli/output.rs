//! How answers look: tables and lines for people, documents for programs, colours on a terminal only.
//!
//! What is asked for goes to standard output; how it goes on the way there, to standard error.

use std::io::{self, IsTerminal, Write};

use bytesize::ByteSize;
use clap::ValueEnum;
use serde::Serialize;

/// A format for programs.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// How a cell is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Neither good nor bad.
    Plain,
    /// As promised.
    Good,
    /// Not known, or about to be bad.
    Doubtful,
    /// Not as promised.
    Bad,
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// How it is meant.
    pub tone: Tone,
}

impl Cell {
    /// A cell without a tone.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }

    /// A cell with one.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

/// Where answers go.
#[derive(Debug)]
pub struct Printer {
    format: Option<Format>,
    colour: bool,
    progress_colour: bool,
}

impl Printer {
    /// Colours are used on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
    #[must_use]
    pub fn new(format: Option<Format>) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        Self {
            format,
            colour: wanted && io::stdout().is_terminal(),
            progress_colour: wanted && io::stderr().is_terminal(),
        }
    }

    /// Print the document where one was asked for, otherwise what `text` makes.
    ///
    /// # Errors
    /// When standard output cannot be written, or the document cannot be made.
    pub fn answer<T: Serialize>(&mut self, document: &T, text: impl FnOnce(bool) -> String) -> io::Result<()> {
        let text = match self.format {
            Some(Format::Json) => serde_json::to_string_pretty(document).map_err(io::Error::other)? + "\n",
            Some(Format::Yaml) => serde_yaml::to_string(document).map_err(io::Error::other)?,
            None => text(self.colour),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Tell how it goes. That nobody can read it is no reason to stop.
    pub fn progress(&self, text: &str, tone: Tone) {
        let _ = writeln!(io::stderr().lock(), "{}", painted(text, tone, self.progress_colour));
    }
}

/// The table: columns as wide as their widest cell, two spaces between them, none at a line's end.
#[must_use]
pub fn table(headings: &[&str], rows: &[Vec<Cell>], colour: bool) -> String {
    let heading: Vec<Cell> = headings.iter().map(|it| Cell::plain(*it)).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&heading]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut out = String::new();
    for row in [&heading].into_iter().chain(rows) {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            out.push_str(&painted(&cell.text, cell.tone, colour));
            if index + 1 < row.len() {
                let gap = width - cell.text.chars().count() + 2;
                out.extend(std::iter::repeat_n(' ', gap));
            }
        }
        out.push('\n');
    }
    out
}

/// The text in the colour of its tone.
fn painted(text: &str, tone: Tone, colour: bool) -> String {
    let code = match tone {
        Tone::Plain => None,
        Tone::Good => Some("32"),
        Tone::Doubtful => Some("33"),
        Tone::Bad => Some("31"),
    };
    match code {
        Some(code) if colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        Some(_) | None => text.to_owned(),
    }
}

/// An amount of data: `1.2 GiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// A length of time in its two largest units: `45s`, `3m20s`, `2d4h`.
#[must_use]
pub fn short(seconds: u64) -> String {
    let (days, hours, minutes, rest) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let pair = |large: u64, one: &str, small: u64, two: &str| match small {
        0 => format!("{large}{one}"),
        _ => format!("{large}{one}{small}{two}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => pair(minutes, "m", rest, "s"),
        (0, _, _) => pair(hours, "h", minutes, "m"),
        _ => pair(days, "d", hours, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_with_and_without_colour() {
        let rows =
            [vec![Cell::toned("no", Tone::Bad), Cell::plain("b")], vec![Cell::plain("longer"), Cell::plain("c")]];
        assert_eq!(table(&["A", "B"], &rows, false), "A       B\nno      b\nlonger  c\n");
        assert_eq!(table(&["A", "B"], &rows, true), "A       B\n\u{1b}[31mno\u{1b}[0m      b\nlonger  c\n");
    }

    #[test]
    fn an_age_is_told_in_two_units() {
        let told = [0, 59, 60, 200, 3_600, 7_380, 86_400, 187_300].map(short);
        assert_eq!(told, ["0s", "59s", "1m", "3m20s", "1h", "2h3m", "1d", "2d4h"]);
    }
}
