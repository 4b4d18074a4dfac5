//! The four forms of a request target (RFC 9112 section 3.2).

use super::authority::{split_authority, valid_authority};
use super::charset::is_target;
use super::{HeadErrorKind, Span};

/// The form of a request target, with its parts as ranges of the parsed buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    #[default]
    Origin,
    /// `http://authority/path?query`; the scheme is `http` or `https` in any case.
    Absolute {
        /// Without `://`, as sent.
        scheme: Span,
        /// Host and optional port, validated, without user information.
        authority: Span,
        /// From the `/` or `?` on; empty when the target ends with the authority.
        path: Span,
    },
    /// `host:port` of a CONNECT.
    Authority,
    /// `*` of an OPTIONS.
    Asterisk,
}

/// Decides the form of `target`, which lies at `offset` in the parsed buffer, and checks it.
pub(super) fn classify(
    method: &[u8],
    target: &[u8],
    offset: usize,
) -> Result<TargetForm, HeadErrorKind> {
    if !is_target(target) {
        return Err(HeadErrorKind::InvalidTarget);
    }
    if method == b"CONNECT" {
        let (_, port) = split_authority(target);
        return match port {
            Some(port) if !port.is_empty() && valid_authority(target) => Ok(TargetForm::Authority),
            _ if target.contains(&b'@') => Err(HeadErrorKind::UserInfoInTarget),
            _ => Err(HeadErrorKind::InvalidTarget),
        };
    }
    match target {
        [b'/', ..] => Ok(TargetForm::Origin),
        b"*" if method == b"OPTIONS" => Ok(TargetForm::Asterisk),
        _ => absolute(target, offset),
    }
}

fn absolute(target: &[u8], offset: usize) -> Result<TargetForm, HeadErrorKind> {
    let scheme_len = target
        .iter()
        .position(|b| *b == b':')
        .ok_or(HeadErrorKind::InvalidTarget)?;
    let scheme = &target[..scheme_len];
    let rest = target[scheme_len + 1..]
        .strip_prefix(b"//")
        .ok_or(HeadErrorKind::InvalidTarget)?;
    if !(scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https")) {
        return Err(HeadErrorKind::UnsupportedScheme);
    }
    let authority_len = rest
        .iter()
        .position(|b| matches!(b, b'/' | b'?'))
        .unwrap_or(rest.len());
    let authority = &rest[..authority_len];
    if authority.contains(&b'@') {
        return Err(HeadErrorKind::UserInfoInTarget);
    }
    if !valid_authority(authority) {
        return Err(HeadErrorKind::InvalidTarget);
    }
    let authority_start = scheme_len + "://".len();
    let path_start = authority_start + authority_len;
    Ok(TargetForm::Absolute {
        scheme: Span::at(offset, scheme_len),
        authority: Span::at(offset + authority_start, authority_len),
        path: Span::at(offset + path_start, target.len() - path_start),
    })
}
