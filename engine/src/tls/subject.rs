//! Distinguished names as RFC 2253 writes them, which is how Envoy shows them.

use std::fmt::Write as _;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// `CN=cart,OU=shop,O=example`: the last part first, what has a meaning escaped.
pub fn rfc2253(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let parts: Vec<_> = name.iter().collect();
    for part in parts.into_iter().rev() {
        if !out.is_empty() {
            out.push(',');
        }
        for (at, attribute) in part.iter().enumerate() {
            if at > 0 {
                out.push('+');
            }
            write_attribute(attribute, &mut out);
        }
    }
    out
}

fn write_attribute(attribute: &AttributeTypeAndValue<'_>, out: &mut String) {
    match oid2abbrev(attribute.attr_type(), oid_registry()) {
        Ok("Email") => out.push_str("emailAddress"),
        Ok(short) => out.push_str(short),
        Err(_) => out.push_str(&attribute.attr_type().to_id_string()),
    }
    out.push('=');
    let value = attribute.attr_value();
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::T61String => {
            write_escaped(value.data, out);
        }
        // Of what is no text the bytes are shown (RFC 2253 section 2.4).
        _ => {
            out.push('#');
            for byte in value.data {
                // Writing to a String cannot fail.
                let _ = write!(out, "{byte:02X}");
            }
        }
    }
}

fn write_escaped(text: &[u8], out: &mut String) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            b' ' if at == 0 || at == last => out.push_str("\\ "),
            b'#' if at == 0 => out.push_str("\\#"),
            b' '..=b'~' => out.push(char::from(*byte)),
            other => {
                let _ = write!(out, "\\{other:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    fn shown(parts: &[(DnType, &str)]) -> String {
        let mut name = DistinguishedName::new();
        for (kind, value) in parts {
            name.push(kind.clone(), *value);
        }
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = name;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let (_, parsed) = X509Certificate::from_der(certificate.der()).expect("a certificate");
        rfc2253(parsed.subject())
    }

    #[test]
    fn the_last_part_comes_first_and_what_has_a_meaning_is_escaped() {
        assert_eq!(shown(&[]), "");
        let parts = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "A, B \"C\""),
            (DnType::CommonName, " #caf\u{e9} "),
        ];
        assert_eq!(
            shown(&parts),
            "CN=\\ #caf\\C3\\A9\\ ,O=A\\, B \\\"C\\\",C=DE"
        );
        assert_eq!(shown(&[(DnType::CommonName, "#1")]), "CN=\\#1");
    }
}
