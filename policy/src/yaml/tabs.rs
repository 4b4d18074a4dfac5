//! Tabs behind the colon of a key, which the marked parser refuses and the other one takes.

use std::borrow::Cow;

/// The text in the form that the marked parser takes, every character in its place. A scalar that
/// stands without quotes ends at a colon with a tab, so that none is changed; what else changes is
/// told apart by [`is_name`].
pub(super) fn as_marked(text: &str) -> Cow<'_, str> {
    match text.contains(":\t") {
        true => Cow::Owned(text.replace(":\t", ": ")),
        false => Cow::Borrowed(text),
    }
}

/// Whether a key that was read from such a text is this name.
pub(super) fn is_name(key: &str, name: &str) -> bool {
    key == name || name.contains(":\t") && key == as_marked(name)
}
