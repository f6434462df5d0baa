//! The root certificates that TLS trusts: those of the system or, if it has none, as in an empty
//! container, Mozilla's, which are built in.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use log::{debug, info, warn};
use native_tls::{Certificate, TlsConnector};

/// Environment variables that name the root certificates to OpenSSL.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The day on which the built-in root certificates were taken from Mozilla's list: the release day of
/// `webpki-root-certs` (a test holds the two together).
pub const AS_OF: &str = "2026-10-23";

/// Whether the built-in root certificates are trusted: nobody names others, and the system has none.
pub fn are_built_in_used() -> bool {
    let is_any_named = VARIABLES.into_iter().any(|variable| named_place(variable).is_some());
    !is_any_named && places_with_certificates(openssl_probe::probe()).is_empty()
}

/// The name of the TLS library: OpenSSL's version, with its date.
pub fn library() -> &'static str {
    #[cfg(not(any(target_vendor = "apple", windows)))]
    let name = openssl::version::version();
    #[cfg(any(target_vendor = "apple", windows))]
    let name = "the system's own library";
    name
}

/// Whether the root certificates that somebody has named can be read.
///
/// # Errors
/// Names the variable, and the file or directory that cannot be used.
pub fn check_named() -> Result<(), String> {
    VARIABLES.into_iter().filter_map(named_place).try_for_each(|(variable, path)| {
        let bad = |why: &dyn Display| Err(format!("{variable}: {}: {why}", path.display()));
        if variable == "SSL_CERT_DIR" {
            // OpenSSL takes several, and passes over those that are not there.
            let is_any_there = env::split_paths(&path).any(|path| fs::read_dir(path).is_ok());
            return if is_any_there { Ok(()) } else { bad(&"there is no such directory to read") };
        }
        match File::open(&path) {
            Ok(_) if path.is_dir() => bad(&"it is a directory; SSL_CERT_DIR takes those"),
            Ok(_) => Ok(()),
            Err(error) => bad(&format_args!(
                "{error}. Name a file that this user can read, or take the variable away"
            )),
        }
    })
}

/// Returns a TLS connector with the trusted roots loaded. The built-in ones are loaded only if the
/// system has none and no variable names others: they cost 4 ms, and whoever names a file trusts that
/// file alone.
///
/// # Errors
/// OpenSSL cannot be set up.
pub fn connector() -> Result<TlsConnector, native_tls::Error> {
    let named: Vec<_> = VARIABLES.into_iter().filter_map(named_place).collect();
    for (variable, path) in &named {
        if let Err(error) = File::open(path) {
            warn!("{variable} names {}, which cannot be read: {error}", path.display());
        }
    }
    // native-tls looks in the same places, and loads what it finds.
    let found = places_with_certificates(openssl_probe::probe());
    let mut builder = TlsConnector::builder();
    if named.is_empty() && found.is_empty() {
        let certificates = built_in()?;
        info!("TLS trusts {} built-in root certificates: the system has none", certificates.len());
        for certificate in certificates {
            builder.add_root_certificate(certificate);
        }
    } else {
        debug!("TLS trusts the root certificates in {}", listed(&found));
    }
    builder.build()
}

fn named_place(variable: &'static str) -> Option<(&'static str, PathBuf)> {
    let path = std::env::var_os(variable).filter(|path| !path.is_empty())?;
    Some((variable, path.into()))
}

fn places_with_certificates(probed: openssl_probe::ProbeResult) -> Vec<PathBuf> {
    let files = probed.cert_file.into_iter().filter(|file| has_content(file));
    let folders = probed.cert_dir.into_iter().filter(|folder| has_hashed_certificate(folder));
    files.chain(folders).collect()
}

fn has_content(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|file| file.len() > 0)
}

/// Whether OpenSSL would find a certificate in this folder: it looks certificates up by the hash of
/// their subject, in files named `5ed36f99.0`. Debian has the folder, empty, even without its package
/// of certificates.
fn has_hashed_certificate(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| is_hash_name(entry.file_name()))
}

fn is_hash_name(name: OsString) -> bool {
    let name = name.to_string_lossy();
    let Some((hash, number)) = name.split_once('.') else { return false };
    hash.len() == 8
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        && number.parse::<u8>().is_ok()
}

fn listed(places: &[PathBuf]) -> String {
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    if places.is_empty() { "no place".to_owned() } else { places.join(" and ") }
}

fn built_in() -> Result<Vec<Certificate>, native_tls::Error> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| Certificate::from_der(der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_can_read_all_built_in_certificates() {
        assert!(built_in().unwrap().len() > 100);
    }

    #[test]
    fn only_what_openssl_would_look_up_counts_as_a_certificate_in_a_folder() {
        for (name, counts) in [
            ("5ed36f99.0", true),
            ("5ed36f99.12", true),
            ("5ed36f99", false),
            ("5ed36f99.r0", false),
            ("ca-certificates.crt", false),
        ] {
            assert_eq!(is_hash_name(name.into()), counts, "{name}");
        }
    }
}
