//! Keys made for tests, and tokens signed with them.
#![allow(dead_code)] // Each test binary uses its own part.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RsaKeyPair,
};
use serde_json::{Value, json};

/// An RSA key that signs nothing but tokens of tests (PKCS #1, DER), since none can be made here.
const RSA_KEY: &str = "MIIEpAIBAAKCAQEAu0G5b9YMkeDjTBDSsYvCgGGagO+kr1myVmAD9NvTU2hOV7egFDAd9eS2OIm89PxAzmLx\
i/JVeibqgOglbE3UZof2aU1zQLrXtqdeETLBqFHyPIsAaIcl8NOKFzjBJNMTstnC3ANZQmBAzDRFaj74zYbd\
hFEWp9pHxsxJB7KOY5IqaFx2NnjumDPWC6V//UuyfspAufkqWc7cnThuW7wfkVEiqClyM4bSy9hcP7AcMZGq\
Cp97szEtfZcQnrO+wk4NRFQCYFx1zNfDRhRFnEZYymh3iC0xDtwA4jwPFiTMXgqsincRaWBaDX5Eysp+h11c\
L7gfeXr5QfPNhKBDXqoapQIDAQABAoIBAAMNMyRrbJEEBTA8JfLWwDivXoEzZo+k+o8FyYq3+l2lmYE8cNNj\
ZVmYfI+3Tuj/I185pY4OSO5QrAmlvtZg/lEdbhqRNIudf95uI85L8XP4weXSrhMGAMxH5jwypJMhDXUgr1g+\
hbnbL7MkNu1gUVWoGPwLBj9+AyVuNtJ1SnS86eiehQ0mEg0k8ovWEy4okgo3eifELiy6vlTMjX5RYFg4mAVo\
TxKHNC90vFE1qBvPBZrsU5de6tSrRXA7Cb9eOrDaKcbaSFdXKQiALmx03KWKDZ07JK7OH7ExLziZZ4R9hxxR\
pWGO0vuo67KseZGtWMAWpd7xWOWj7yN0Naq7XpECgYEA4GEi4pHexNwDSfHlMenBiS1lGbVdsLb1tOoWy6sQ\
8u+pR1j8O7bwHTtXZjxQHH/hd7RT08c5IO1uuSn2JE/kOlpeEFbutKDEBOs8j4Hg3Rt9Zf6bj3U+1C7wGMK3\
teQJ4gYmL1gZLu+KoqvJGCeRxDdfxVPTj0RKyd/u33TK8cMCgYEA1aVTEF3cgxeECYQHffXgZ+5GYa+sRK8X\
s8tecwVQaKcu/VivfqzxJRtPKF0HeRxS2p6zkAY2zWGhmrEH6mjUt1Qu1+fbQE3BMnN69yYSwwSQL26Kdfyo\
FOTxvF7IJVz9DTC4BrFZQYhm1+lFaqcBqdfj3hSVPDYHv7cRAHOw03cCgYAXK/DeVRIcYlw0lraEoQ9Li1SV\
gxVZ2oslU8dm4ROvAvEIXTgvMoU5f5dXB4N+bfZq1kSR6lEMBXkZxiuVNGrtW8e7CD8+iBu2JlTqvQ7rxpr8\
nX6TIhiK8Q36gKFYN2SN4vSujvqKzlIS2oq549w51z4csrt2YCcZEfcpPHZ44QKBgQCokUoJptU/BcXjMC4t\
H1wRBLq5hr9YbgI4lSSPgkjgWdDEij3lqBSYX4TEZypnT4a8Ae3RnGWPBRJaGIYTWOVFRQG0zrZ6dR8TbHRA\
HuU8xBPzqLdMwq3n1oA5TVuDx2vOBXudpD61ayciAmcH8H9qf/HFnt3k5QiWJp4eiimhnwKBgQDU8WMN9s32\
jxzhfR6ExphehlTppFRukNb/JFFg4BePjbFldfz4gLPpn58xNYkGtlViSfkJ0VRD9mMI+oabLoynXBCB8UXH\
EeJm9tKjcY11U0tIAlbtQSWnpnoRSlxZJupmLVJHVAtvIj26G+zXP1lUvr1Fq7Jm13oFkpLDEB3eNA==";

/// Base64 for URLs, without padding.
pub fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for piece in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..piece.len()].copy_from_slice(piece);
        let number = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for at in 0..=piece.len() {
            out.push(char::from(DIGITS[(number >> (18 - 6 * at) & 63) as usize]));
        }
    }
    out
}

fn rsa_der() -> Vec<u8> {
    let digit = |byte: u8| {
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
            .iter()
            .position(|known| *known == byte)
    };
    let digits: Vec<usize> = RSA_KEY.bytes().filter_map(digit).collect();
    let mut out = Vec::new();
    for piece in digits.chunks(4) {
        let number = piece
            .iter()
            .enumerate()
            .fold(0, |sum, (at, d)| sum | d << (18 - 6 * at));
        let bytes = (number as u32).to_be_bytes();
        out.extend_from_slice(&bytes[1..piece.len()]);
    }
    out
}

/// Somebody with a key.
pub struct Signer {
    id: String,
    algorithm: Algorithm,
    name: String,
    key: EncodingKey,
    public: Value,
    modulus: Vec<u8>,
}

impl Signer {
    fn new(id: &str, name: &str, key: EncodingKey, public: Value) -> Self {
        Self {
            id: id.to_string(),
            algorithm: name.parse().expect("an algorithm"),
            name: name.to_string(),
            key,
            public,
            modulus: Vec::new(),
        }
    }

    pub fn ec_p256(id: &str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).expect("a key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let public = json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)});
        Self::new(id, "ES256", EncodingKey::from_ec_der(der.as_ref()), public)
    }

    pub fn ec_p384(id: &str) -> Self {
        let algorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).expect("a key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(48);
        let public = json!({"kty": "EC", "crv": "P-384", "x": base64url(x), "y": base64url(y)});
        Self::new(id, "ES384", EncodingKey::from_ec_der(der.as_ref()), public)
    }

    pub fn ed25519(id: &str) -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key");
        let x = base64url(pair.public_key().as_ref());
        let public = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        Self::new(id, "EdDSA", EncodingKey::from_ed_der(der.as_ref()), public)
    }

    /// All have the same key.
    pub fn rsa(id: &str, algorithm: &str) -> Self {
        let der = rsa_der();
        let pair = RsaKeyPair::from_der(&der).expect("a key");
        let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
        let (n, e) = (base64url(&public.n), base64url(&public.e));
        let json = json!({"kty": "RSA", "n": n, "e": e});
        Self {
            modulus: public.n,
            ..Self::new(id, algorithm, EncodingKey::from_rsa_der(&der), json)
        }
    }

    pub fn shared(id: &str, algorithm: &str) -> Self {
        let secret = b"a secret that two share, for tests";
        let public = json!({"kty": "oct", "k": base64url(secret)});
        Self::new(id, algorithm, EncodingKey::from_secret(secret), public)
    }

    /// Signs with HS256 and whatever bytes.
    pub fn with_secret(id: &str, secret: &[u8]) -> Self {
        Self::new(id, "HS256", EncodingKey::from_secret(secret), Value::Null)
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn algorithm(&self) -> &str {
        &self.name
    }

    /// The modulus of an RSA key.
    pub fn modulus(&self) -> Vec<u8> {
        self.modulus.clone()
    }

    pub fn is_same_key(&self, other: &Self) -> bool {
        self.public == other.public && self.name == other.name
    }

    /// The public key as a JSON Web Key Set.
    pub fn key_set(&self) -> String {
        let mut key = self.public.clone();
        key["kid"] = json!(self.id);
        key["alg"] = json!(self.name);
        json!({"keys": [key]}).to_string()
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.id, claims)
    }

    /// Signs under the name of a key.
    pub fn sign_as(&self, id: &str, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(id.to_string());
        encode(&header, claims, &self.key).expect("a token")
    }
}
