//! Diagnostics for people, in the form that rustc made familiar.

use std::fmt::Write as _;

use super::secrecy::{REDACTED, Secrecy};
use super::{Diagnostic, Placed, Severity, Summary, place_all};
use crate::source::{FileId, SourceFile, Span};

/// How the text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextOptions {
    /// ANSI colours, for a terminal.
    pub color: bool,
    /// In characters. Longer source lines are cut around the caret, sentences are wrapped; only
    /// the names of files may be longer. At least 40.
    pub width: usize,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            color: false,
            width: 100,
        }
    }
}

/// The diagnostics by file and line with the lines they point to, and a summary; nothing when
/// there is none. Plain, 100 columns wide.
pub fn render_text(files: &[SourceFile], diagnostics: &[Diagnostic]) -> String {
    render_text_with(files, diagnostics, TextOptions::default())
}

/// [`render_text`] with other looks.
pub fn render_text_with(
    files: &[SourceFile],
    diagnostics: &[Diagnostic],
    options: TextOptions,
) -> String {
    if diagnostics.is_empty() {
        return String::new();
    }
    let placed = place_all(files, diagnostics);
    let mut writer = Writer {
        files,
        secrecy: Secrecy::new(files),
        options,
        out: String::new(),
    };
    for placed in &placed {
        writer.diagnostic(placed);
    }
    let _ = writeln!(writer.out, "{}", Summary::of(diagnostics));
    writer.out
}

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[1;34m";
const RESET: &str = "\x1b[0m";

struct Writer<'f> {
    files: &'f [SourceFile],
    secrecy: Secrecy<'f>,
    options: TextOptions,
    out: String,
}

impl<'f> Writer<'f> {
    fn diagnostic(&mut self, placed: &Placed<'_>) {
        let diagnostic = placed.diagnostic;
        let color = match diagnostic.severity {
            Severity::Error => RED,
            Severity::Warning => YELLOW,
        };
        let title = format!("{}[{}]", diagnostic.severity, diagnostic.code);
        let place = placed.file.zip(placed.span);
        let message = self.secrecy.sentence(place, &diagnostic.message);
        let message = self.wrapped(&message, title.chars().count() + 2, 4);
        self.paint(color, &title);
        self.paint(BOLD, &format!(": {message}"));
        self.out.push('\n');
        let number = placed
            .span
            .map(|span| span.start.line.to_string())
            .unwrap_or_default();
        let margin = " ".repeat(number.len());
        if let Some(file) = placed.file {
            self.out.push_str(&margin);
            self.paint(BLUE, "-->");
            let _ = write!(self.out, " {}", printable(self.path_of(file)));
            if let Some(span) = placed.span {
                let _ = write!(self.out, ":{}:{}", span.start.line, span.start.column);
            }
            self.out.push('\n');
            if let Some(span) = placed.span {
                self.source_line(file, span, &number, &margin, color);
            }
        }
        if let Some(help) = &placed.help {
            let help = self.secrecy.sentence(place, help);
            self.remark(&margin, "help", &help);
        }
        if let Some(related) = &diagnostic.related {
            let place = placed.related.map(|(file, span)| {
                let path = self.path_of(file);
                format!(": {path}:{}:{}", span.start.line, span.start.column)
            });
            let note = self.secrecy.sentence(placed.related, &related.note);
            let note = format!("{note}{}", place.unwrap_or_default());
            self.remark(&margin, "note", &note);
        }
        self.out.push('\n');
    }

    fn path_of(&self, file: FileId) -> &'f str {
        let file = self.files.get(file.0 as usize);
        file.map_or("?", |file| file.path.as_str())
    }

    fn remark(&mut self, margin: &str, name: &str, text: &str) {
        let start = format!("{margin} = {name}: ");
        let text = self.wrapped(text, start.len(), start.len());
        let _ = write!(self.out, "{margin} ");
        self.paint(BLUE, "=");
        self.paint(BOLD, &format!(" {name}"));
        let _ = writeln!(self.out, ": {text}");
    }

    fn source_line(&mut self, file: FileId, span: Span, number: &str, margin: &str, color: &str) {
        let width = self.options.width.max(40) - number.len() - 3;
        let start = (span.start.column as usize).saturating_sub(1);
        let window = match self.secrecy.line(file, span) {
            Some(line) => Window::around(line, start, span.length as usize, width),
            None => Window::around(REDACTED, 0, 0, width),
        };
        let _ = write!(self.out, "{margin} ");
        self.paint(BLUE, "|");
        self.out.push('\n');
        self.paint(BLUE, &format!("{number} |"));
        if !window.text.is_empty() {
            let _ = write!(self.out, " {}", window.text);
        }
        self.out.push('\n');
        let _ = write!(self.out, "{margin} ");
        self.paint(BLUE, "|");
        let _ = write!(self.out, " {}", " ".repeat(window.caret_at));
        self.paint(color, &"^".repeat(window.carets));
        self.out.push('\n');
    }

    fn paint(&mut self, color: &str, text: &str) {
        if self.options.color {
            let _ = write!(self.out, "{color}{text}{RESET}");
        } else {
            self.out.push_str(text);
        }
    }

    /// The text in lines no wider than the page, the first one `taken` characters in, the
    /// further ones indented.
    fn wrapped(&self, text: &str, taken: usize, indent: usize) -> String {
        let width = self.options.width.max(40);
        let mut out = String::new();
        let mut column = taken;
        let mut is_line_start = true;
        for word in printable(text).split(' ').filter(|word| !word.is_empty()) {
            let length = word.chars().count();
            if !is_line_start && column + 1 + length > width {
                let _ = write!(out, "\n{}", " ".repeat(indent));
                column = indent;
                is_line_start = true;
            }
            if !is_line_start {
                out.push(' ');
                column += 1;
            }
            // A word longer than a line is cut, so that nothing leaves the page.
            for character in word.chars() {
                if column == width {
                    let _ = write!(out, "\n{}", " ".repeat(indent));
                    column = indent;
                }
                out.push(character);
                column += 1;
            }
            is_line_start = false;
        }
        out
    }
}

/// The part of a line that is shown, and where its carets go, all in characters.
struct Window {
    text: String,
    caret_at: usize,
    carets: usize,
}

const CUT: &str = "...";

impl Window {
    fn around(line: &str, start: usize, length: usize, width: usize) -> Self {
        // Never more of the line than is shown: a file of one line may have megabytes.
        let before = line.chars().take(start).count();
        let start = start.min(before);
        let end = line
            .char_indices()
            .nth(start + width)
            .map_or(line.len(), |(at, _)| at);
        let is_whole = start < width && line[end..].is_empty();
        let text = if is_whole {
            line.trim_end()
        } else {
            &line[..end]
        };
        let length_shown = text.chars().count();
        let start = start.min(length_shown);
        if is_whole && length_shown < width {
            let carets = length.min(length_shown - start).max(1);
            return Self {
                text: printable(text),
                caret_at: start,
                carets,
            };
        }
        // Some of what stands before the caret tells where in the line it is.
        let shown = width - 2 * CUT.len() - 1;
        let from = start
            .saturating_sub(shown / 3)
            .min(length_shown.saturating_sub(shown));
        let to = (from + shown).min(length_shown);
        let before = if from > 0 { CUT } else { "" };
        let after = if to < length_shown || end < line.len() {
            CUT
        } else {
            ""
        };
        let middle: String = text.chars().skip(from).take(to - from).collect();
        Self {
            text: format!("{before}{}{after}", printable(&middle)),
            caret_at: before.len() + start - from,
            carets: length.min(to - start).max(1),
        }
    }
}

/// One cell for each character: a tab becomes a space, and what a terminal would act upon
/// (escape sequences, marks that turn the writing direction) a replacement character.
fn printable(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\t' | '\n' | '\r' => ' ',
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => {
                char::REPLACEMENT_CHARACTER
            }
            character if character.is_control() => char::REPLACEMENT_CHARACTER,
            character => character,
        })
        .collect()
}
