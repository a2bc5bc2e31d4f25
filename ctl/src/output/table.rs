//! Tables as etcd's tools draw them.

use std::fmt::Write as _;

/// A frame with a header in capitals, each name in the middle, and rows of values on the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max();
            widest.unwrap_or_default().max(name.chars().count())
        })
        .collect();
    let line = |left: char, middle: &str, right: char| {
        let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", bars.join(middle))
    };
    let mut text = line('┌', "┬", '┐');
    text.push('│');
    for (name, width) in header.iter().zip(&widths) {
        let _ = write!(text, " {:^width$} │", name.to_uppercase());
    }
    text.push('\n');
    text.push_str(&line('├', "┼", '┤'));
    for row in rows {
        text.push('│');
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, " {cell:>width$} │");
        }
        text.push('\n');
    }
    text.push_str(&line('└', "┴", '┘'));
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_what_they_hold() {
        let rows = [
            vec!["123456789".to_owned(), String::new()],
            vec!["1".to_owned(), "é".to_owned()],
        ];
        assert_eq!(
            table(&["revision", "b"], &rows),
            "┌───────────┬───┐\n\
             │ REVISION  │ B │\n\
             ├───────────┼───┤\n\
             │ 123456789 │   │\n\
             │         1 │ é │\n\
             └───────────┴───┘\n"
        );
    }
}
