//! The syntax of the Common Expression Language, without its meaning: whether a text is an
//! expression. Source: the grammar of the CEL specification.

/// Deepest nesting of parentheses, lists, calls and conditions.
const MAX_DEPTH: usize = 64;

/// # Errors
///
/// Why `text` is no expression.
pub(super) fn parse(text: &str) -> Result<(), String> {
    let tokens = tokens(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        depth: 0,
    };
    parser.expression()?;
    match parser.tokens.first() {
        None => Ok(()),
        Some(token) => Err(format!("`{}` is not expected", token.text())),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'t> {
    Name(&'t str),
    Number(&'t str),
    Text(&'t str),
    Sign(&'t str),
}

impl<'t> Token<'t> {
    fn text(self) -> &'t str {
        match self {
            Self::Name(text) | Self::Number(text) | Self::Text(text) | Self::Sign(text) => text,
        }
    }
}

/// Signs, the longer ones first.
const SIGNS: [&str; 23] = [
    "<=", ">=", "==", "!=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")",
    "[", "]", "{", "}", ",",
];

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        let Some(first) = rest.chars().next() else {
            return Ok(tokens);
        };
        let (token, length) = if let Some(length) = quoted(rest)? {
            (Token::Text(&rest[..length]), length)
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let length = end.unwrap_or(rest.len());
            (Token::Name(&rest[..length]), length)
        } else if first.is_ascii_digit() || is_fraction(rest) {
            let length = number(rest);
            (Token::Number(&rest[..length]), length)
        } else if first == '.' {
            (Token::Sign("."), 1)
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Token::Sign(sign), sign.len())
        } else {
            return Err(format!("`{first}` has no meaning"));
        };
        tokens.push(token);
        rest = &rest[length..];
    }
}

fn is_fraction(rest: &str) -> bool {
    let after = rest.strip_prefix('.');
    after.is_some_and(|after| after.starts_with(|c: char| c.is_ascii_digit()))
}

/// The length of a number, hexadecimal or decimal, with exponent and the `u` of unsigned ones.
fn number(rest: &str) -> usize {
    let mut length = 0;
    let mut before = ' ';
    for c in rest.chars() {
        let signs_exponent = (c == '+' || c == '-') && (before == 'e' || before == 'E');
        let is_hexadecimal = rest.starts_with("0x");
        if !(c.is_ascii_alphanumeric() || c == '.' || signs_exponent && !is_hexadecimal) {
            break;
        }
        before = c;
        length += 1;
    }
    length
}

/// The length of a quoted text at the start, with its prefixes `r` and `b`.
fn quoted(rest: &str) -> Result<Option<usize>, String> {
    let prefix = rest
        .bytes()
        .take(2)
        .take_while(|byte| b"rRbB".contains(byte))
        .count();
    let is_raw = rest[..prefix].contains(['r', 'R']);
    let body = &rest[prefix..];
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let Some(quote) = quotes.iter().find(|quote| body.starts_with(**quote)) else {
        return Ok(None);
    };
    let mut at = quote.len();
    while let Some(c) = body[at..].chars().next() {
        if body[at..].starts_with(quote) {
            return Ok(Some(prefix + at + quote.len()));
        }
        at += c.len_utf8();
        if c == '\\' && !is_raw {
            at += body[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    Err("a quote is never closed".to_string())
}

struct Parser<'p> {
    tokens: &'p [Token<'p>],
    depth: usize,
}

impl Parser<'_> {
    fn takes(&mut self, sign: &str) -> bool {
        let is_next = self.tokens.first() == Some(&Token::Sign(sign));
        if is_next {
            self.tokens = &self.tokens[1..];
        }
        is_next
    }

    fn wants(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) {
            return Ok(());
        }
        Err(match self.tokens.first() {
            Some(token) => format!("`{}` stands where `{sign}` is expected", token.text()),
            None => format!("it ends where `{sign}` is expected"),
        })
    }

    /// Operands and operators of two sides, and `condition ? one : other`.
    fn expression(&mut self) -> Result<(), String> {
        const OPERATORS: [&str; 13] = [
            "||", "&&", "<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "%",
        ];
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
        loop {
            self.operand()?;
            let has_sign = OPERATORS.iter().any(|operator| self.takes(operator));
            if !has_sign && !self.takes_in() {
                break;
            }
        }
        if self.takes("?") {
            self.expression()?;
            self.wants(":")?;
            self.expression()?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn takes_in(&mut self) -> bool {
        let is_next = self.tokens.first() == Some(&Token::Name("in"));
        if is_next {
            self.tokens = &self.tokens[1..];
        }
        is_next
    }

    fn operand(&mut self) -> Result<(), String> {
        while self.takes("!") || self.takes("-") {}
        self.primary()?;
        loop {
            if self.takes(".") {
                self.name()?;
                if self.takes("(") {
                    self.list_until(")")?;
                }
            } else if self.takes("[") {
                self.expression()?;
                self.wants("]")?;
            } else if self.takes("{") {
                self.entries()?;
            } else {
                return Ok(());
            }
        }
    }

    fn name(&mut self) -> Result<(), String> {
        match self.tokens.split_first() {
            Some((Token::Name(_), rest)) => {
                self.tokens = rest;
                Ok(())
            }
            Some((token, _)) => Err(format!("`{}` is no name", token.text())),
            None => Err("it ends where a name is expected".to_string()),
        }
    }

    fn primary(&mut self) -> Result<(), String> {
        if self.takes("(") {
            self.expression()?;
            return self.wants(")");
        }
        if self.takes("[") {
            return self.list_until("]");
        }
        if self.takes("{") {
            return self.entries();
        }
        if self.takes(".") {
            self.name()?;
        } else {
            match self.tokens.split_first() {
                None => return Err("it ends where a value is expected".to_string()),
                Some((Token::Sign(sign), _)) => return Err(format!("`{sign}` is no value")),
                Some((Token::Name("in"), _)) => return Err("`in` is no value".to_string()),
                Some((_, rest)) => self.tokens = rest,
            }
        }
        if self.takes("(") {
            return self.list_until(")");
        }
        Ok(())
    }

    fn list_until(&mut self, end: &str) -> Result<(), String> {
        loop {
            if self.takes(end) {
                return Ok(());
            }
            self.expression()?;
            if !self.takes(",") {
                return self.wants(end);
            }
        }
    }

    fn entries(&mut self) -> Result<(), String> {
        loop {
            if self.takes("}") {
                return Ok(());
            }
            self.expression()?;
            self.wants(":")?;
            self.expression()?;
            if !self.takes(",") {
                return self.wants("}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn expressions_are_taken() {
        for text in [
            "response.code >= 400",
            "connection.mtls && request.url_path.contains('v1beta3')",
            "!has(request.headers['x-a']) || size(a) > 3 ? 1 : -2.5e-3",
            "x in [1, 2u, 0x1F,] && m == {'a': b\"c\", r'\\d': [.d.e]}",
            "google.rpc.Status{code: 5} != null // done",
            "response.code",
        ] {
            assert_eq!(parse(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", ")++++", "a &&", "a b", "f(1,,2)", "'a", "a ? b", "a.1b", "a = b", "in",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"(".repeat(100_000)).is_err());
        assert!(parse(&"a?".repeat(100_000)).is_err());
    }
}
