//! Character classes of RFC 9110 section 5.6.2, 5.5 and RFC 3986.

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const REG_NAME: u8 = 4;
const VALUE: u8 = 8;

static CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let alnum = b.is_ascii_alphanumeric();
        if alnum || in_list(b, b"!#$%&'*+-.^_`|~") {
            table[i] |= TOKEN;
        }
        if b > b' ' && b < 0x7f && b != b'#' {
            table[i] |= TARGET;
        }
        if alnum || in_list(b, b"-._~!$&'()*+,;=") {
            table[i] |= REG_NAME;
        }
        if b == b'\t' || (b >= b' ' && b != 0x7f) {
            table[i] |= VALUE;
        }
        i += 1;
    }
    table
};

const fn in_list(b: u8, list: &[u8]) -> bool {
    let mut i = 0;
    while i < list.len() {
        if list[i] == b {
            return true;
        }
        i += 1;
    }
    false
}

#[inline]
fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|b| CLASS[*b as usize] & class != 0)
}

/// Whether `bytes` is a token: a method, a field name, a connection option
/// (RFC 9110 section 5.6.2). Empty is not.
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// Whether `bytes` may stand in a field value: no control character but HTAB
/// (RFC 9110 section 5.5). Empty may.
#[inline]
pub fn is_field_value(bytes: &[u8]) -> bool {
    all(bytes, VALUE)
}

#[inline]
pub(crate) fn is_token_byte(b: u8) -> bool {
    CLASS[b as usize] & TOKEN != 0
}

#[inline]
pub(crate) fn is_field_value_byte(b: u8) -> bool {
    CLASS[b as usize] & VALUE != 0
}

/// Visible ASCII without `#`. Wider than RFC 3986 (`|`, `{`, `"` … are sent by real clients and
/// read alike by everyone), but no control, no space, no fragment, nothing above 0x7e.
#[inline]
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    all(bytes, TARGET)
}

/// `unreserved / sub-delims` of RFC 3986 section 3.2.2, without `%`.
#[inline]
pub(crate) fn is_reg_name_byte(b: u8) -> bool {
    CLASS[b as usize] & REG_NAME != 0
}
