//! Names that a proxy acts on.

/// What a proxy has to know about a header, decided once while the head is parsed, so that
/// rewriting the head is one pass without comparing names again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderKind {
    /// End-to-end, passed on as it is.
    Other,
    /// `Host` (RFC 9110 section 7.2).
    Host,
    /// `Content-Length` (RFC 9110 section 8.6).
    ContentLength,
    /// `Transfer-Encoding` (RFC 9112 section 6.1); hop-by-hop.
    TransferEncoding,
    /// `Connection` (RFC 9110 section 7.6.1); hop-by-hop.
    Connection,
    /// `Keep-Alive` (RFC 9112 appendix C.2.2); hop-by-hop.
    KeepAlive,
    /// `Proxy-Connection` (RFC 9112 appendix C.2.2); hop-by-hop, never acted on.
    ProxyConnection,
    /// `TE` (RFC 9110 section 10.1.4); hop-by-hop.
    Te,
    /// `Trailer` (RFC 9110 section 6.6.2); may be passed on.
    Trailer,
    /// `Upgrade` (RFC 9110 section 7.8); hop-by-hop.
    Upgrade,
    /// `HTTP2-Settings` (RFC 7540 section 3.2.1); hop-by-hop.
    Http2Settings,
    /// `Expect` (RFC 9110 section 10.1.1).
    Expect,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `X-Forwarded-Proto`.
    XForwardedProto,
    /// `X-Forwarded-Host`.
    XForwardedHost,
    /// `X-Forwarded-Client-Cert`.
    XForwardedClientCert,
    /// `X-Request-Id`.
    XRequestId,
    /// `Server`.
    Server,
    /// `Date`.
    Date,
    /// Any `X-Envoy-…`.
    XEnvoy,
    /// Named by a `Connection` header of the same head, so hop-by-hop.
    NamedByConnection,
}

impl HeaderKind {
    /// The kind of a field name, without regard to ASCII case. Never `NamedByConnection`.
    #[inline]
    pub fn of_name(name: &[u8]) -> HeaderKind {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => HeaderKind::Te,
            4 if is("host") => HeaderKind::Host,
            4 if is("date") => HeaderKind::Date,
            6 if is("server") => HeaderKind::Server,
            6 if is("expect") => HeaderKind::Expect,
            7 if is("upgrade") => HeaderKind::Upgrade,
            7 if is("trailer") => HeaderKind::Trailer,
            10 if is("connection") => HeaderKind::Connection,
            10 if is("keep-alive") => HeaderKind::KeepAlive,
            12 if is("x-request-id") => HeaderKind::XRequestId,
            14 if is("content-length") => HeaderKind::ContentLength,
            14 if is("http2-settings") => HeaderKind::Http2Settings,
            15 if is("x-forwarded-for") => HeaderKind::XForwardedFor,
            16 if is("x-forwarded-host") => HeaderKind::XForwardedHost,
            16 if is("proxy-connection") => HeaderKind::ProxyConnection,
            17 if is("transfer-encoding") => HeaderKind::TransferEncoding,
            17 if is("x-forwarded-proto") => HeaderKind::XForwardedProto,
            23 if is("x-forwarded-client-cert") => HeaderKind::XForwardedClientCert,
            _ => match name.first_chunk::<8>() {
                Some(prefix) if prefix.eq_ignore_ascii_case(b"x-envoy-") => HeaderKind::XEnvoy,
                _ => HeaderKind::Other,
            },
        }
    }

    /// Whether the header belongs to one connection and is never passed on
    /// (RFC 9110 section 7.6.1).
    #[inline]
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            HeaderKind::Connection
                | HeaderKind::KeepAlive
                | HeaderKind::ProxyConnection
                | HeaderKind::TransferEncoding
                | HeaderKind::Te
                | HeaderKind::Upgrade
                | HeaderKind::Http2Settings
                | HeaderKind::NamedByConnection
        )
    }
}
