//! Text that fits its reader's terminal.

/// Where the output is no terminal.
const DEFAULT_WIDTH: usize = 100;
/// In less no sentence can be read.
const LEAST_WIDTH: usize = 40;

/// How many columns standard output has.
pub fn width() -> usize {
    use std::io::IsTerminal as _;
    let is_terminal = std::io::stdout().is_terminal();
    let known = is_terminal.then(terminal_size::terminal_size).flatten();
    let columns = known.map_or(DEFAULT_WIDTH, |(columns, _)| usize::from(columns.0));
    columns.max(LEAST_WIDTH)
}

/// The text with its long lines broken between words and behind commas. What goes on below begins
/// where the second column of the line does, if it has two: there are two spaces before it. A word
/// that is longer than a line stays whole, since it is a path or a name.
pub fn fit(text: &str, width: usize) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let end = if line.ends_with('\n') { "\n" } else { "" };
        fit_line(&line[..line.len() - end.len()], width, &mut out);
        out.push_str(end);
    }
    out
}

fn fit_line(line: &str, width: usize, out: &mut String) {
    if line.chars().count() <= width {
        return out.push_str(line);
    }
    let indent = second_column(line, width);
    let mut column = 0;
    let mut rest = line;
    while !rest.is_empty() {
        let gap = rest.len() - rest.trim_start_matches(' ').len();
        let word = gap + word_length(&rest[gap..]);
        let length = rest[gap..word].chars().count();
        if column > indent && column + gap + length > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            out.push_str(&rest[..gap]);
            column += gap;
        }
        out.push_str(&rest[gap..word]);
        column += length;
        rest = &rest[word..];
    }
}

/// Bytes up to a space or behind a comma: long lists have no spaces.
fn word_length(text: &str) -> usize {
    match text.find([' ', ',']) {
        Some(end) if text[end..].starts_with(',') => end + 1,
        Some(end) => end,
        None => text.len(),
    }
}

/// Where the second column of a line begins; a little behind its first one where there is none, or
/// where it is too far to the right to put more below it.
fn second_column(line: &str, width: usize) -> usize {
    /// An indentation of as much is that of a second column whose first is empty.
    const FAR: usize = 14;
    let first = line.len() - line.trim_start_matches(' ').len();
    if first >= FAR && first <= width / 2 {
        return first;
    }
    let second = line[first..].find("  ").map(|at| {
        let after = &line[first + at..];
        let value = after.trim_start_matches(' ');
        let column = line[..first + at].chars().count() + after.len() - value.len();
        let words = value.split(' ').flat_map(|word| word.split_inclusive(','));
        let longest = words.map(|word| word.chars().count()).max();
        (column, longest.unwrap_or_default())
    });
    match second {
        Some((column, longest)) if column <= width / 2 && column + longest <= width => column,
        _ => first.min(width / 2) + 4,
    }
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn what_fits_stays_as_it_is() {
        let text = "a  b\n\n   c d   e\n";
        assert_eq!(fit(text, 40), text);
        assert_eq!(fit("no end", 40), "no end");
    }

    #[test]
    fn a_long_value_goes_on_below_its_beginning() {
        let line = "route     `cart` takes all that begins with /cart  (conf/shop.yaml:3:4)\n";
        let broken = "route     `cart` takes all that begins\n          with /cart\n          (conf/shop.yaml:3:4)\n";
        assert_eq!(fit(line, 40), broken);
    }

    #[test]
    fn a_long_sentence_is_indented() {
        let line = "one two three four five six seven eight nine ten";
        assert_eq!(
            fit(line, 40),
            "one two three four five six seven eight\n    nine ten"
        );
        assert_eq!(
            fit(&format!("  {line}"), 40),
            "  one two three four five six seven\n      eight nine ten"
        );
    }

    #[test]
    fn a_word_longer_than_a_line_stays_whole() {
        let path = "x".repeat(60);
        assert_eq!(
            fit(&format!("files      {path} é"), 40),
            format!("files\n    {path}\n    é")
        );
    }
}
