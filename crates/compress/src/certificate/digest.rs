//! SHA-256 as lower-case hexadecimal digits.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::Error;

/// SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// SHA-256 of the content of files, one after the other: of a model in several parts as of one in a single file.
///
/// # Errors
/// [`Error::Io`].
pub fn sha256_of_files(paths: &[impl AsRef<Path>]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    for path in paths {
        let path = path.as_ref();
        let failed = |source| Error::io("read", path, source);
        let mut file = File::open(path).map_err(failed)?;
        loop {
            match file.read(&mut piece).map_err(failed)? {
                0 => break,
                count => hash.update(&piece[..count]),
            }
        }
    }
    Ok(hexadecimal(&hash.finalize()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of FIPS 180-2, appendix B.
    #[test]
    fn published_examples() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), abc);
        let long = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(sha256(long), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");

        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        std::fs::write(&first, "a").unwrap();
        std::fs::write(&second, "bc").unwrap();
        assert_eq!(sha256_of_files(&[&first, &second]).unwrap(), abc);
    }
}
