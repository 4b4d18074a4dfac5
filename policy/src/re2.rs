//! RE2's regular expressions, which Istio and Envoy take, in the notation of the `regex` crate.
//!
//! The two agree in what they can match, and differ in notation where it hurts: `/users/{id}` is
//! plain text in RE2 and an error in the crate, `[a&&b]` and `[[x]` are plain classes in RE2 and
//! set operations in the crate. What RE2 refuses is refused here, also where the crate would
//! take it. Source: RE2's syntax page and the behaviour of Go's `regexp/syntax`.

use std::fmt;

/// Most repetitions that RE2 counts, as in `a{1000}`.
const MAX_REPEAT: u32 = 1000;

/// What RE2 has against a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Re2Error(String);

impl fmt::Display for Re2Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Re2Error {}

/// `pattern` in the notation of the `regex` crate, or itself if both read it alike.
///
/// # Errors
///
/// What RE2 refuses. Unbalanced brackets and unknown names are left to the crate to refuse.
pub fn translate(pattern: &str) -> Result<String, Re2Error> {
    let mut translation = Translation {
        rest: pattern,
        out: String::with_capacity(pattern.len() + 8),
        after_repeat: false,
    };
    while let Some(c) = translation.rest.chars().next() {
        translation.step(c)?;
    }
    Ok(translation.out)
}

struct Translation<'p> {
    rest: &'p str,
    out: String,
    /// Whether the last thing was a repetition, which RE2 does not repeat again.
    after_repeat: bool,
}

impl Translation<'_> {
    fn step(&mut self, c: char) -> Result<(), Re2Error> {
        let was_repeat = std::mem::take(&mut self.after_repeat);
        match c {
            '*' | '+' | '?' => {
                self.take(1);
                self.out.push(c);
                self.end_repeat(was_repeat)
            }
            '{' => match counted_repeat(self.rest) {
                Some((length, most)) => {
                    if most > MAX_REPEAT {
                        return refuse(format!("it repeats more than {MAX_REPEAT} times"));
                    }
                    self.out.push_str(&self.rest[..length]);
                    self.take(length);
                    self.end_repeat(was_repeat)
                }
                None => {
                    self.take(1);
                    self.out.push_str("\\{");
                    Ok(())
                }
            },
            '[' => self.class(),
            '\\' => self.escape(),
            '(' if self.rest.starts_with("(?") => self.group(),
            _ => {
                self.take(c.len_utf8());
                self.out.push(c);
                Ok(())
            }
        }
    }

    fn take(&mut self, length: usize) {
        self.rest = &self.rest[length..];
    }

    fn end_repeat(&mut self, was_repeat: bool) -> Result<(), Re2Error> {
        if was_repeat {
            return refuse("a repetition follows a repetition".to_string());
        }
        if self.rest.starts_with('?') {
            self.take(1);
            self.out.push('?');
        }
        self.after_repeat = true;
        Ok(())
    }

    /// `(?flags)`, `(?flags:`, `(?P<name>` and `(?<name>`.
    fn group(&mut self) -> Result<(), Re2Error> {
        let after = &self.rest[2..];
        for lookaround in ["=", "!", "<=", "<!"] {
            if after.starts_with(lookaround) {
                return refuse(format!("RE2 has no lookaround (`(?{lookaround}`)"));
            }
        }
        let flags = after.find(|c: char| !(c.is_ascii_alphabetic() || c == '-'));
        let flags = &after[..flags.unwrap_or(after.len())];
        if flags != "P"
            && let Some(flag) = flags.chars().find(|flag| !"imsU-".contains(*flag))
        {
            return refuse(format!("RE2 has no flag `{flag}`"));
        }
        self.out.push_str("(?");
        self.take(2);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Re2Error> {
        if let Some(quoted) = self.rest.strip_prefix("\\Q") {
            let (literal, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            for c in literal.chars() {
                push_literal(c, &mut self.out);
            }
            self.rest = rest;
            return Ok(());
        }
        let Some(c) = self.rest[1..].chars().next() else {
            return refuse("it ends with a backslash".to_string());
        };
        match c {
            'A' | 'z' | 'b' | 'B' => {
                self.take(2);
                self.out.push('\\');
                self.out.push(c);
                Ok(())
            }
            _ if self.class_escape() => Ok(()),
            _ => {
                let literal = self.literal_escape()?;
                push_literal(literal, &mut self.out);
                Ok(())
            }
        }
    }

    /// Copies `\d`, `\pN`, `\p{^Greek}` and the like, inside a class or not.
    fn class_escape(&mut self) -> bool {
        let Some(c) = self.rest[1..].chars().next() else {
            return false;
        };
        match c {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => {
                self.take(2);
                self.out.push('\\');
                self.out.push(c);
                true
            }
            'p' | 'P' => {
                let name = &self.rest[2..];
                let Some(braced) = name.strip_prefix('{') else {
                    // The letter follows.
                    self.out.push('\\');
                    self.out.push(c);
                    self.rest = name;
                    return true;
                };
                let (is_inverted, braced) = match braced.strip_prefix('^') {
                    Some(braced) => (true, braced),
                    None => (false, braced),
                };
                let is_outside = (c == 'P') != is_inverted;
                self.out.push_str(if is_outside { "\\P{" } else { "\\p{" });
                let end = braced.find('}').map_or(braced.len(), |at| at + 1);
                self.out.push_str(&braced[..end]);
                self.rest = &braced[end..];
                true
            }
            _ => false,
        }
    }

    /// Takes an escape that stands for one character.
    fn literal_escape(&mut self) -> Result<char, Re2Error> {
        let escaped = &self.rest[1..];
        let Some(c) = escaped.chars().next() else {
            return refuse("it ends with a backslash".to_string());
        };
        let (literal, length) = match c {
            'a' => ('\u{7}', 1),
            'f' => ('\u{C}', 1),
            't' => ('\t', 1),
            'n' => ('\n', 1),
            'r' => ('\r', 1),
            'v' => ('\u{B}', 1),
            'x' => hexadecimal(escaped)?,
            '0'..='7' => octal(escaped)?,
            _ if c.is_ascii_alphanumeric() || !c.is_ascii() => {
                return refuse(format!("RE2 has no escape `\\{c}`"));
            }
            _ => (c, 1),
        };
        self.take(1 + length);
        Ok(literal)
    }

    /// `[...]`, where only `]`, `-`, `\` and `[:name:]` are special.
    fn class(&mut self) -> Result<(), Re2Error> {
        self.take(1);
        self.out.push('[');
        if self.rest.starts_with('^') {
            self.take(1);
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            let Some(c) = self.rest.chars().next() else {
                return refuse("a `[` is never closed".to_string());
            };
            if c == ']' && !is_first {
                self.take(1);
                self.out.push(']');
                return Ok(());
            }
            is_first = false;
            if let Some(length) = named_class(self.rest) {
                self.out.push_str(&self.rest[..length]);
                self.take(length);
            } else if c != '\\' || !self.class_escape() {
                self.class_range()?;
            }
        }
    }

    fn class_range(&mut self) -> Result<(), Re2Error> {
        let low = self.class_char()?;
        push_literal(low, &mut self.out);
        let is_range = self.rest.starts_with('-') && !self.rest[1..].starts_with(']');
        if is_range && self.rest.len() > 1 {
            self.take(1);
            let high = self.class_char()?;
            if high < low {
                return refuse(format!("the range `{low}-{high}` is backwards"));
            }
            self.out.push('-');
            push_literal(high, &mut self.out);
        }
        Ok(())
    }

    fn class_char(&mut self) -> Result<char, Re2Error> {
        match self.rest.chars().next() {
            Some('\\') => self.literal_escape(),
            Some(c) => {
                self.take(c.len_utf8());
                Ok(c)
            }
            None => refuse("a `[` is never closed".to_string()),
        }
    }
}

fn refuse<T>(message: String) -> Result<T, Re2Error> {
    Err(Re2Error(message))
}

fn push_literal(c: char, out: &mut String) {
    match c {
        '<' | '>' | '_' => out.push(c),
        _ if c.is_ascii_punctuation() => {
            out.push('\\');
            out.push(c);
        }
        _ if c.is_control() => out.push_str(&format!("\\x{{{:X}}}", u32::from(c))),
        _ => out.push(c),
    }
}

/// The length of a `{n}`, `{n,}` or `{n,m}` at the start and its larger number; anything else in
/// braces is plain text in RE2.
fn counted_repeat(rest: &str) -> Option<(usize, u32)> {
    let end = rest.find('}')?;
    let inside = &rest[1..end];
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().unwrap_or(u32::MAX))
    };
    let most = match inside.split_once(',') {
        None => number(inside)?,
        Some((least, "")) => number(least)?,
        Some((least, most)) => number(least)?.max(number(most)?),
    };
    Some((end + 1, most))
}

/// The length of a `[:alpha:]` at the start.
fn named_class(rest: &str) -> Option<usize> {
    let name = rest.strip_prefix("[:")?;
    let end = name.find(":]")?;
    let is_name = name[..end]
        .trim_start_matches('^')
        .bytes()
        .all(|byte| byte.is_ascii_lowercase());
    is_name.then_some(end + 4)
}

/// `x41` or `x{41}` at the start: the character and the length.
fn hexadecimal(escaped: &str) -> Result<(char, usize), Re2Error> {
    let (digits, length) = match escaped[1..].strip_prefix('{') {
        Some(braced) => match braced.find('}') {
            Some(end) => (&braced[..end], end + 3),
            None => return refuse("a `\\x{` is never closed".to_string()),
        },
        None => match escaped.get(1..3) {
            Some(digits) => (digits, 3),
            None => return refuse("`\\x` wants two hexadecimal digits".to_string()),
        },
    };
    let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = u32::from_str_radix(digits, 16).ok();
    match value.filter(|_| is_hexadecimal).and_then(char::from_u32) {
        Some(c) => Ok((c, length)),
        None => refuse(format!("`\\x{digits}` is no character")),
    }
}

/// `0`, `012` or `123` at the start; a lone digit from 1 is a back-reference, which RE2 lacks.
fn octal(escaped: &str) -> Result<(char, usize), Re2Error> {
    let digits = escaped.bytes().take(3);
    let length = digits
        .take_while(|digit| (b'0'..=b'7').contains(digit))
        .count();
    if length == 1 && !escaped.starts_with('0') {
        return refuse(format!(
            "RE2 has no back-references (`\\{}`)",
            &escaped[..1]
        ));
    }
    let value = u32::from_str_radix(&escaped[..length], 8).unwrap_or_default();
    Ok((char::from_u32(value).unwrap_or_default(), length))
}

#[cfg(test)]
mod tests {
    use super::translate;

    fn matches(pattern: &str, text: &str) -> bool {
        let translated = translate(pattern).unwrap();
        let regex = regex::Regex::new(&format!("^(?:{translated})$"));
        regex
            .unwrap_or_else(|error| panic!("{pattern}: {error}"))
            .is_match(text)
    }

    #[test]
    fn braces_that_count_nothing_are_plain_text() {
        assert!(matches("/users/{id}", "/users/{id}"));
        assert!(matches("a{,2}", "a{,2}"));
        assert!(matches("a{2,3}", "aaa"));
        assert!(matches("{", "{"));
        assert!(matches("x{2}?y", "xxy"));
    }

    #[test]
    fn classes_have_no_set_operations() {
        assert!(matches("[a&&b]", "&"));
        assert!(matches("[[x]+", "[x["));
        assert!(matches("[]a]", "]"));
        assert!(matches("[a-c~~]", "~"));
        assert!(matches("[[:digit:]_-]+", "1-_"));
        assert!(matches(r"[^\d\]]", "x"));
        assert!(matches(r"[+--]", ","));
    }

    #[test]
    fn escapes_mean_what_they_mean_in_re2() {
        assert!(matches(r"\Qa.b{\E+", "a.b{{"));
        assert!(!matches(r"\Qa.b\E", "axb"));
        assert!(matches(r"\x41\x{42}\103", "ABC"));
        assert!(matches(r"\<a\>\/\-\_", "<a>/-_"));
        assert!(matches(r"\pL\p{^L}", "a1"));
        // A name in braces was taken for plain text, and refused.
        assert!(matches(r"\p{Greek}\p{Lu}\P{Lu}\P{^Lu}[\p{L}-]", "αAaAb"));
        assert!(matches(r"\d+\.html", "12.html"));
    }

    #[test]
    fn ordinary_patterns_pass_unchanged_in_meaning() {
        assert!(matches(".*end=(bad|good)-guy", "x end=bad-guy"));
        assert!(matches("(?i)abc", "ABC"));
        assert!(matches("(?P<name>a)(?:b)", "ab"));
        assert!(matches("^(.*?;)?(user=jason)(;.*)?$", "a;user=jason;b"));
    }

    #[test]
    fn what_re2_lacks_is_refused_with_the_reason() {
        let refused = [
            ("(?=a)", "lookaround"),
            ("(?<!a)", "lookaround"),
            (r"(a)\1", "back-references"),
            ("a**", "repetition follows"),
            ("a{2}{3}", "repetition follows"),
            ("a{1001}", "1000 times"),
            ("[a", "never closed"),
            ("[z-a]", "backwards"),
            (r"\u0041", "no escape"),
            ("(?x)a", "no flag `x`"),
            ("a\\", "backslash"),
            (r"\x{110000}", "no character"),
        ];
        for (pattern, reason) in refused {
            let error = translate(pattern).unwrap_err().to_string();
            assert!(error.contains(reason), "{pattern}: {error}");
        }
    }
}
