//! Brackets and braces of a text that is no YAML: which of them is never closed.

use crate::source::Position;

/// Where a list in brackets or a mapping in braces begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bracket {
    pub position: Position,
    pub is_list: bool,
}

/// The first bracket that is not closed before the end of its document, or before another one is
/// closed that was opened before it. It is found without a parser, since there is none that reads
/// this text: quotes and comments are passed over, and outside of brackets only what begins a
/// value opens one.
pub(super) fn unclosed(text: &str) -> Option<Bracket> {
    let mut open: Vec<Bracket> = Vec::new();
    // How far the line is indented whose text stands below it, after `|` or `>`.
    let mut text_below = None;
    for (line, text) in (1..).zip(crate::source::lines(text)) {
        if text.starts_with("---") || text.starts_with("...") {
            if !open.is_empty() {
                break;
            }
            continue;
        }
        let indent = text.len() - text.trim_start().len();
        if text_below.is_some_and(|around| indent > around || text.trim().is_empty()) {
            continue;
        }
        text_below = (open.is_empty() && begins_text(text)).then_some(indent);
        // What stands before a character, blanks apart: at the beginning of a line, nothing.
        let mut before = ' ';
        let mut was_blank = true;
        let mut quote = None;
        let mut column = 0;
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            column += 1;
            if let Some(mark) = quote {
                match character {
                    '\\' if mark == '"' => {
                        column += u32::from(characters.next().is_some());
                    }
                    _ if character == mark => quote = None,
                    _ => {}
                }
                continue;
            }
            let begins_value = matches!(before, ' ' | ':' | '-' | '?' | '[' | '{' | ',');
            let may_begin = begins_value && (was_blank || matches!(before, '[' | '{' | ','));
            match character {
                '#' if was_blank => break,
                '"' | '\'' if may_begin => quote = Some(character),
                '[' | '{' if may_begin => open.push(Bracket {
                    position: Position { line, column },
                    is_list: character == '[',
                }),
                ']' | '}' => match open.pop() {
                    Some(last) if last.is_list != (character == ']') => return Some(last),
                    _ => {}
                },
                _ => {}
            }
            was_blank = character.is_whitespace();
            if !was_blank {
                before = character;
            }
        }
    }
    open.first().copied()
}

/// Whether the lines below are text: the line ends in `|`, `>-` and the like.
fn begins_text(line: &str) -> bool {
    let last = line
        .trim_end()
        .rsplit([' ', '\t'])
        .next()
        .unwrap_or_default();
    let rest = last.strip_prefix(['|', '>']);
    rest.is_some_and(|rest| rest.chars().all(|c| matches!(c, '+' | '-' | '1'..='9')))
}

#[cfg(test)]
mod tests {
    use super::unclosed;

    fn place(text: &str) -> Option<(u32, u32)> {
        unclosed(text).map(|bracket| (bracket.position.line, bracket.position.column))
    }

    #[test]
    fn the_bracket_that_is_never_closed_is_found() {
        assert_eq!(place("a: [\nb:\n- {c: d}\n- [e]\n"), Some((1, 4)));
        assert_eq!(place("a: [b, {c: d]\ne: f\n"), Some((1, 8)));
        assert_eq!(place("- - {a: b\n"), Some((1, 5)));
        assert_eq!(place("a: [b\n---\nc: d]\n"), Some((1, 4)));
    }

    #[test]
    fn brackets_in_texts_open_nothing() {
        for closed in [
            "a: [b,\n  c]\n",
            "a: \"[\"\nb: '{'\nc: \"\\\"[\"\n",
            "a: b # [\n",
            "a: x[0\nb: f{\n",
            "a: {b: [c, {d: e}], f: \"}\"}\n",
            "a: it's [here\n",
            "a: |\n  [section\n\n  {{ x }\nb: c\n",
        ] {
            assert_eq!(place(closed), None, "{closed}");
        }
    }
}
