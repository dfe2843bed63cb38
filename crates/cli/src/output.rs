//! What commands print.

use std::io::{self, IsTerminal as _, Write};

use dalsegno_host::visible::{acts, visible};

use crate::arguments::Format;

/// Something to show: in a table, as JSON, or by its id alone.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) cells: Vec<String>,
    pub(crate) json: String,
}

/// Prints data on stdout. A terminal gets it [visible], a pipe as it is. A reader that has
/// disconnected is not an error.
pub(crate) fn data(text: &str) {
    let mut out = io::stdout().lock();
    let text = match out.is_terminal() {
        true => visible(text),
        false => text.into(),
    };
    let _ = writeln!(out, "{text}");
}

/// Prints messages for people on stderr, [visible] wherever they go.
pub(crate) fn talk(text: &str) {
    styled(&visible(text));
}

/// Prints messages that hold colours. The caller has made the rest visible.
pub(crate) fn styled(text: &str) {
    let mut out = io::stderr().lock();
    let _ = writeln!(out, "{text}");
}

/// Many rows in a form.
pub(crate) fn rows(format: Format, head: &[&str], rows: &[Row]) -> String {
    let joined =
        |part: fn(&Row) -> &str, between: &str| rows.iter().map(part).collect::<Vec<_>>().join(between);
    match format {
        Format::Table | Format::Wide => table(head, rows),
        Format::Csv => csv(head, rows),
        Format::Json => format!("[{}]", joined(|row| &row.json, ",\n ")),
        Format::Jsonl => joined(|row| &row.json, "\n"),
        Format::Id => joined(|row| &row.id, "\n"),
    }
}

/// One row in a form; in a table each cell has a line of its own.
pub(crate) fn one(format: Format, head: &[&str], row: &Row) -> String {
    match format {
        Format::Csv => csv(head, std::slice::from_ref(row)),
        Format::Table | Format::Wide => {
            let width = head.iter().map(|name| name.len()).max().unwrap_or(0);
            let pairs = head.iter().zip(&row.cells).filter(|(_, cell)| !cell.is_empty());
            let lines: Vec<String> = pairs
                .map(|(name, cell)| format!("{name:width$}  {}", shown(cell)))
                .collect();
            lines.join("\n")
        }
        Format::Json | Format::Jsonl => row.json.clone(),
        Format::Id => row.id.clone(),
    }
}

/// A row in a form, alone in its line; in a table columns are as wide as their heads ask for at least.
pub(crate) fn line(format: Format, head: &[&str], row: &Row) -> String {
    match format {
        Format::Table | Format::Wide => table_line(head, row),
        Format::Csv => csv_line(row.cells.iter().map(String::as_str)),
        Format::Json | Format::Jsonl => row.json.replace(['\n', '\r'], " "),
        Format::Id => row.id.clone(),
    }
}

/// As RFC 4180 has it, but for the ends of lines; the head in small letters.
fn csv(head: &[&str], rows: &[Row]) -> String {
    let names: Vec<String> = head.iter().map(|name| name.to_lowercase()).collect();
    let mut lines = vec![csv_line(names.iter().map(String::as_str))];
    lines.extend(
        rows.iter()
            .map(|row| csv_line(row.cells.iter().map(String::as_str))),
    );
    lines.join("\n")
}

pub(crate) fn csv_line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    let cell = |cell: &str| match cell.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    };
    cells.map(cell).collect::<Vec<_>>().join(",")
}

fn table_line(head: &[&str], row: &Row) -> String {
    let width = |name: &str| match name {
        "NO" | "TASK" => 5,
        "TIME" => 27,
        "CHANGE" => 19,
        _ => 24,
    };
    let cells = head.iter().zip(&row.cells);
    let padded: Vec<String> = cells
        .map(|(name, cell)| format!("{:1$}", shown(cell), width(name)))
        .collect();
    padded.join(" ").trim_end().to_owned()
}

fn table(head: &[&str], rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.cells.iter().map(|cell| shown(cell)).collect())
        .collect();
    let width = |column: usize| {
        let cells = cells
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let filled = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| padded(cell, *width));
        filled.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(
        cells
            .iter()
            .map(|row| line(row.iter().map(String::as_str).collect())),
    );
    lines.join("\n")
}

/// Filled up with spaces. The width of a format string ends at 65535.
fn padded(cell: &str, width: usize) -> String {
    let missing = width.saturating_sub(cell.chars().count());
    cell.to_owned() + &" ".repeat(missing)
}

/// A number of bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}

/// The beginning of what may be long, for a column.
pub(crate) fn cut(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A user's text in one line, without characters that act on a terminal or on other text.
pub(crate) fn shown(cell: &str) -> String {
    if !cell.contains(acts) {
        return cell.to_owned();
    }
    cell.chars()
        .map(|letter| match acts(letter) {
            true => letter.escape_default().to_string(),
            false => letter.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn sample() -> Vec<Row> {
        let row = |id: &str, status: &str| Row {
            id: id.into(),
            cells: vec![id.into(), status.into()],
            json: format!("{{\"id\":\"{id}\"}}"),
        };
        vec![row("order-9", "Running"), row("ü\u{1b}[2J", "Completed")]
    }

    #[test]
    fn rows_in_every_form() {
        let print = |format| rows(format, &["ID", "STATUS"], &sample());
        expect![[r#"
            ID          STATUS
            order-9     Running
            ü\u{1b}[2J  Completed"#]]
        .assert_eq(&print(Format::Table));
        assert_eq!(print(Format::Jsonl).lines().count(), 2);
        assert!(print(Format::Json).starts_with("[{\"id\":\"order-9\"},\n"));
        assert!(print(Format::Id).starts_with("order-9\n"));
        let mut long = sample();
        long[0].cells[0] = "x".repeat(100_000);
        assert!(rows(Format::Table, &["ID", "STATUS"], &long).contains("  Running\n"));
        assert_eq!(cut(&"ü".repeat(61)), "ü".repeat(60) + "…");
        assert_eq!(rows(Format::Json, &["ID"], &[]), "[]");
        long[0].cells[0] = "a,\"b\"".into();
        assert_eq!(
            rows(Format::Csv, &["ID", "STATUS"], &long[..1]),
            "id,status\n\"a,\"\"b\"\"\",Running"
        );
        assert_eq!(
            one(Format::Table, &["id", "status"], &sample()[0]),
            "id      order-9\nstatus  Running"
        );
    }

    #[test]
    fn text_that_acts_on_a_terminal_is_escaped() {
        // Failures of instances reached the terminal raw, and ids with U+202E read backwards.
        for (text, cell, lines) in [
            ("plain ü 日本", "plain ü 日本", "plain ü 日本"),
            ("a\u{1b}[2J\u{7}", "a\\u{1b}[2J\\u{7}", "a\\u001b[2J\\u0007"),
            ("one\ntwo\r", "one\\ntwo\\r", "one\ntwo\\u000d"),
            ("ab\u{202e}dc", "ab\\u{202e}dc", "ab\\u202edc"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}", "a\\u200bb\\ufeff"),
            ("\u{e0041}", "\\u{e0041}", "\\udb40\\udc41"),
            ("\u{9b}31m", "\\u{9b}31m", "\\u009b31m"),
        ] {
            assert_eq!(shown(text), cell);
            assert_eq!(visible(text), lines);
        }
        let json = serde_json::json!({"id": "ab\u{202e}dc"});
        let read: serde_json::Value = serde_json::from_str(&visible(&json.to_string())).unwrap();
        assert_eq!(read, json);
    }
}
