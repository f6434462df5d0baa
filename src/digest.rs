//! SHA-256; the only user of sha2.

use sha2::{Digest, Sha256};

/// Bytes of a hash.
pub const LENGTH: usize = 32;

/// Returns the SHA-256 of all `parts`, one behind the other. Where their borders matter, the caller marks
/// them.
pub fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; LENGTH] {
    let hash = parts.into_iter().fold(Sha256::new(), |hash, part| hash.chain_update(part));
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::sha256;

    #[test]
    fn parts_are_hashed_as_one_text() {
        let whole = sha256([&b"abc"[..]]);
        assert_eq!(whole[..4], [0xba, 0x78, 0x16, 0xbf], "the example of FIPS 180-2");
        assert_eq!(sha256([&b"a"[..], b"", b"bc"]), whole);
    }
}
