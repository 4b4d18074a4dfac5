//! Says what the parser stumbled over in the words of someone who writes YAML.

use std::borrow::Cow;

use super::brackets::{Bracket, unclosed};
use super::code;
use crate::diagnostic::{Diagnostic, Place};
use crate::source::{FileId, Position};

/// The diagnostic for text that is no YAML, from what the parser says of it.
pub(super) fn diagnose(file: FileId, text: &str, error: &serde_yaml::Error) -> Diagnostic {
    let found = error.to_string();
    let position = match error.location() {
        Some(location) => position_of(text, location.index()),
        None => Position::default(),
    };
    let stumble = Stumble {
        text,
        found: &found,
        position,
    };
    let Explained {
        code,
        position,
        message,
        help,
    } = stumble.explain();
    let diagnostic = Diagnostic::error(code, Place::Position { file, position }, message);
    if help.is_empty() {
        diagnostic
    } else {
        diagnostic.with_help(help)
    }
}

/// What the parser said, and where in the text.
struct Stumble<'t> {
    text: &'t str,
    found: &'t str,
    position: Position,
}

struct Explained {
    code: &'static str,
    position: Position,
    message: String,
    help: Cow<'static, str>,
}

/// Parts of the parser's messages, with what each means and what to do. The first that fits holds.
const MEANINGS: &[(&str, At, &str, &str)] = &[
    (
        "unexpected end of stream",
        At::Beginning,
        "the text that begins here is not closed before the end of the file",
        "add the closing quote or bracket; a file that is still being written is read again",
    ),
    (
        "expected ',' or ']'",
        At::Stumble,
        "a list in brackets lacks a comma or its closing `]`",
        "write `[a, b]`, or one item a line after `- `; text that holds brackets or quotes needs \
         quotes around all of it",
    ),
    (
        "expected ',' or '}'",
        At::Stumble,
        "a mapping in braces lacks a comma or its closing `}`",
        "write `{a: b, c: d}`, or one `key: value` a line; text that holds braces needs quotes",
    ),
    (
        "unknown anchor",
        At::Stumble,
        "the alias refers to an anchor (`&name`) that does not stand before it",
        "text that begins with `*` needs quotes: \"*.example.com\"",
    ),
    (
        "scanning an alias",
        At::Beginning,
        "text may not begin with `*`, which begins an alias",
        "write it in quotes: \"*.example.com\"",
    ),
    (
        "scanning an anchor",
        At::Beginning,
        "text may not begin with `&`, which begins an anchor",
        "write it in quotes",
    ),
    (
        "cannot start any token",
        At::Stumble,
        "text may not begin with this character",
        "write the text in quotes",
    ),
    (
        "mapping values are not allowed",
        At::Stumble,
        "a `key: value` pair is not allowed here",
        "indent the keys of one mapping alike; a key is followed by a colon and a space; text that \
         holds `: ` needs quotes",
    ),
    (
        "scanning a simple key",
        At::Beginning,
        "this line is no `key: value` pair",
        "write a colon and a space after the key",
    ),
    (
        "expected '-' indicator",
        At::Stumble,
        "this line stands where an item of the list above would",
        "begin it with `- `, or indent it like the key that it belongs beside",
    ),
    (
        "block sequence entries are not allowed",
        At::Stumble,
        "a list item is not allowed here",
        "begin the list on a line of its own below the key, or write `[a, b]`",
    ),
    (
        "unknown escape",
        At::Stumble,
        "in double quotes, `\\` and this character mean nothing",
        "write the backslash twice, or use single quotes, which take it as it is",
    ),
    (
        "Unicode character escape",
        At::Stumble,
        "the escape names no character",
        "write the character itself",
    ),
    (
        "expected hexdecimal number",
        At::Stumble,
        "the escape lacks digits",
        "write the backslash twice, or use single quotes, which take it as it is",
    ),
    (
        "expected node content",
        At::Stumble,
        "a value is wanted here",
        "text that begins with `]`, `}` or `,` needs quotes",
    ),
    (
        "expected <document start>",
        At::Stumble,
        "the document is over here, but the text goes on",
        "put `---` on a line of its own between documents",
    ),
    (
        "expected key",
        At::Stumble,
        "this line does not continue the mapping above",
        "indent it exactly like the keys that it belongs beside",
    ),
    (
        "expected comment or line break",
        At::Stumble,
        "after `|` or `>` the text begins on the next line",
        "put the text below, indented; or write it in quotes",
    ),
    (
        "incompatible YAML document",
        At::Stumble,
        "this version of YAML is not supported",
        "remove the `%YAML` line",
    ),
];

/// Which of the parser's two places a diagnostic points to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Where it could not go on.
    Stumble,
    /// Where that began which it could not finish.
    Beginning,
}

impl Stumble<'_> {
    fn explain(&self) -> Explained {
        if self.found.contains("control characters") {
            return self.control_character();
        }
        if let Some(position) = self.indenting_tab() {
            return Explained {
                code: code::TAB,
                position,
                message: "a tab stands in the indentation".to_string(),
                help: "indent with spaces: YAML takes no tabs there".into(),
            };
        }
        let line = line_of(self.text, self.position.line);
        if self.is_at_tab(line) {
            return Explained {
                code: code::TAB,
                position: self.position,
                message: "a tab stands where YAML takes spaces alone".to_string(),
                help: "write a space in its place".into(),
            };
        }
        if line.contains("{{") {
            return self.syntax(
                self.position,
                "this is a template, not YAML",
                "render it first, such as with `helm template`, and put the result here",
            );
        }
        let before: String = line
            .chars()
            .take((self.position.column as usize).saturating_sub(1))
            .collect();
        if self.found.contains("expected key") && before.trim_end().ends_with(['"', '\'']) {
            return self.syntax(
                self.position,
                "more text follows the closing quote",
                "quote all of the text; in single quotes, write a quote twice: 'it''s'",
            );
        }
        if let Some(bracket) = unclosed(self.text)
            && bracket.position.line < self.position.line
        {
            return self.unclosed(bracket);
        }
        for (part, at, message, help) in MEANINGS {
            if self.found.contains(part) {
                let position = match at {
                    At::Stumble => self.position,
                    At::Beginning => self.beginning().unwrap_or(self.position),
                };
                return self.syntax(position, message, help);
            }
        }
        let end = self.found.find(" at line ").unwrap_or(self.found.len());
        self.syntax(self.position, &self.found[..end], "")
    }

    fn syntax(&self, position: Position, message: &str, help: &'static str) -> Explained {
        Explained {
            code: code::SYNTAX,
            position,
            message: message.to_string(),
            help: help.into(),
        }
    }

    /// What is not closed makes all that follows a part of it, so that the text goes wrong
    /// anywhere below.
    fn unclosed(&self, bracket: Bracket) -> Explained {
        let (what, close) = match bracket.is_list {
            true => ("list", ']'),
            false => ("mapping", '}'),
        };
        let line = self.position.line;
        Explained {
            code: code::SYNTAX,
            position: bracket.position,
            message: format!("the {what} that begins here is not closed"),
            help: format!(
                "add the `{close}` that ends it; as it is, the text goes wrong in line {line}"
            )
            .into(),
        }
    }

    /// The place after `while parsing … at line L column C`. The parser ends lines as YAML 1.1 does,
    /// also at U+0085, U+2028 and U+2029.
    fn beginning(&self) -> Option<Position> {
        let (_, context) = self.found.rsplit_once(" at line ")?;
        let (line, column) = context.split_once(" column ")?;
        let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
        let is_break = |&(at, character): &(usize, char)| match character {
            '\n' | '\u{85}' | '\u{2028}' | '\u{2029}' => true,
            '\r' => !self.text[at..].starts_with("\r\n"),
            _ => false,
        };
        let mut characters = self.text.char_indices();
        for _ in 1..line {
            characters.find(is_break)?;
        }
        let first = characters.nth(column.checked_sub(1)?);
        let offset = first.map_or(self.text.len(), |(at, _)| at);
        Some(position_of(self.text, offset))
    }

    /// A tab before the first other character of the line that the parser stumbled in.
    fn indenting_tab(&self) -> Option<Position> {
        let text = line_of(self.text, self.position.line);
        let indent = &text[..text.len() - text.trim_start().len()];
        let column = indent.chars().position(|character| character == '\t')?;
        let column = u32::try_from(column).ok()?.saturating_add(1);
        Some(Position {
            line: self.position.line,
            column,
        })
    }

    /// Whether it is a tab that begins no text, as between `-` and the item.
    fn is_at_tab(&self, line: &str) -> bool {
        let at = (self.position.column as usize).saturating_sub(1);
        self.found.contains("cannot start any token") && line.chars().nth(at) == Some('\t')
    }

    fn control_character(&self) -> Explained {
        let is_refused = |character: char| {
            let is_control = character.is_control();
            let is_other = matches!(character, '\u{fffe}' | '\u{ffff}' | '\u{feff}');
            is_other || is_control && !matches!(character, '\t' | '\n' | '\r' | '\u{85}')
        };
        let mut characters = self.text.char_indices();
        let found = characters.find(|&(_, character)| is_refused(character));
        let (offset, character) = found.unwrap_or_default();
        Explained {
            code: code::SYNTAX,
            position: position_of(self.text, offset),
            message: format!(
                "the character U+{:04X} is not allowed",
                u32::from(character)
            ),
            help: "remove it; in double quotes it can be written as an escape such as \"\\x01\""
                .into(),
        }
    }
}

/// The place of the character that begins this many bytes into the text.
pub(super) fn position_of(text: &str, offset: usize) -> Position {
    let mut position = Position::default();
    for (at, character) in text.char_indices().take_while(|(at, _)| *at < offset) {
        let is_break = match character {
            '\n' => true,
            '\r' => !text[at..].starts_with("\r\n"),
            _ => false,
        };
        if is_break {
            position.line = position.line.saturating_add(1);
            position.column = 1;
        } else {
            position.column = position.column.saturating_add(1);
        }
    }
    position
}

/// The text of a line, from 1.
fn line_of(text: &str, line: u32) -> &str {
    crate::source::lines(text)
        .nth((line as usize).saturating_sub(1))
        .unwrap_or_default()
}
