//! The text of certificates and keys (RFC 7468), told from the path of a file that holds it.

pub(crate) const NOT_A_PATH: &str =
    "the text of a certificate or key stands where its path belongs";
pub(crate) const PATH_HELP: &str = "write it to a file that the proxy may read and give its path; \
                                    `credentialName:` takes a `kind: Secret` document instead";

/// Whether the text is PEM, or a part of it, rather than a path.
pub(crate) fn is_pem(text: &str) -> bool {
    text.contains("-----BEGIN") || text.contains('\n')
}
