//! What seals records: for TLS 1.3 in the very buffer that they leave in.

use super::tls_records::{Exhausted, HEADER_BYTES};
use ring::aead;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageEncrypter, Nonce, OutboundChunks, OutboundPlainMessage, make_tls13_aad,
};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion, SupportedCipherSuite};

/// A key that seals.
pub enum Sealer {
    /// TLS 1.3 (RFC 8446 section 5.2).
    InPlace(Box<(aead::LessSafeKey, Iv)>),
    /// TLS 1.2, whose nonces depend on the suite: by rustls, which makes a copy.
    Copying(Box<dyn MessageEncrypter>),
}

impl Sealer {
    /// # Errors
    /// The secrets are not those of such a suite.
    pub fn new(
        suite: SupportedCipherSuite,
        secrets: ConnectionTrafficSecrets,
    ) -> Result<Self, Error> {
        let (algorithm, key, iv) = parts(secrets)?;
        Ok(match suite {
            SupportedCipherSuite::Tls13(_) => {
                let key = aead::UnboundKey::new(algorithm, key.as_ref());
                let key = key.map_err(|_| Error::EncryptError)?;
                Self::InPlace(Box::new((aead::LessSafeKey::new(key), iv)))
            }
            SupportedCipherSuite::Tls12(suite) => {
                let fixed_len = suite.aead_alg.key_block_shape().fixed_iv_len;
                let (fixed, explicit) = iv.as_ref().split_at(fixed_len);
                Self::Copying(suite.aead_alg.encrypter(key, fixed, explicit))
            }
        })
    }

    /// Appends a record to `out`, the one of this `number` under the key: no two may have the same.
    /// Its content is both `parts`, together no more than a record may hold.
    ///
    /// # Errors
    /// The cipher refuses it, which ends the use of the key.
    pub fn seal(
        &mut self,
        number: u64,
        kind: ContentType,
        parts: [&[u8]; 2],
        out: &mut Vec<u8>,
    ) -> Result<(), Exhausted> {
        let (key, iv) = match self {
            Self::InPlace(key) => &**key,
            Self::Copying(encrypter) => {
                let plain = OutboundPlainMessage {
                    typ: kind,
                    version: ProtocolVersion::TLSv1_2,
                    payload: OutboundChunks::new(&parts),
                };
                let sealed = encrypter.encrypt(plain, number).map_err(|_| Exhausted)?;
                out.extend_from_slice(&sealed.encode());
                return Ok(());
            }
        };
        let [head, body] = parts;
        let inner_len = head.len() + body.len() + 1;
        let len = inner_len + key.algorithm().tag_len();
        out.reserve(HEADER_BYTES + len);
        // What is authenticated along with the content is the header itself.
        let header = make_tls13_aad(len);
        out.extend_from_slice(&header);
        let start = out.len();
        out.extend_from_slice(head);
        out.extend_from_slice(body);
        out.push(kind.into());
        let nonce = aead::Nonce::assume_unique_for_key(Nonce::new(iv, number).0);
        let inner = &mut out[start..];
        match key.seal_in_place_separate_tag(nonce, aead::Aad::from(header), inner) {
            Ok(tag) => {
                out.extend_from_slice(tag.as_ref());
                Ok(())
            }
            Err(_) => {
                // Nothing leaves in clear.
                out.truncate(start - HEADER_BYTES);
                Err(Exhausted)
            }
        }
    }
}

/// The cipher, the key and what nonces are made of.
///
/// # Errors
/// The cipher is none that we know.
pub fn parts(
    secrets: ConnectionTrafficSecrets,
) -> Result<(&'static aead::Algorithm, AeadKey, Iv), Error> {
    use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
    match secrets {
        Aes128Gcm { key, iv } => Ok((&aead::AES_128_GCM, key, iv)),
        Aes256Gcm { key, iv } => Ok((&aead::AES_256_GCM, key, iv)),
        Chacha20Poly1305 { key, iv } => Ok((&aead::CHACHA20_POLY1305, key, iv)),
        _ => Err(Error::General("a cipher that is not known".to_string())),
    }
}
