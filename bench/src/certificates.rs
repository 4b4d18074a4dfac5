//! Certificates for the proxies: an authority, and one certificate (ECDSA, P-256) for all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};

use crate::peers::HOST;

/// The folder of the files, named as a Kubernetes secret names them; it is the folder's name too.
const NAME: &str = "bench-cert";

/// Makes them in `directory`, unless they are there, and returns the folder `tls.crt`, `tls.key`
/// and `ca.crt` lie in, with `both.pem`, which is certificate and key in one.
pub fn make(directory: &Path) -> io::Result<PathBuf> {
    let folder = directory.join(NAME);
    if folder.join("both.pem").is_file() {
        return Ok(folder);
    }
    fs::create_dir_all(&folder)?;
    let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
    let mut authority = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority
        .self_signed(&authority_key)
        .map_err(io::Error::other)?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
    let mut params = CertificateParams::new(vec![HOST.to_string()]).map_err(io::Error::other)?;
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.signed_by(&key, &issuer).map_err(io::Error::other)?;
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    fs::write(folder.join("ca.crt"), root.pem())?;
    fs::write(folder.join("tls.crt"), &certificate)?;
    fs::write(folder.join("tls.key"), &key)?;
    fs::write(folder.join("both.pem"), certificate + &key)?;
    Ok(folder)
}
