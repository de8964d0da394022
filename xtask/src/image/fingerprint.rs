//! One sha256 over everything that decides an image.

use std::fmt;
use std::os::unix::ffi::OsStrExt;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::inputs::Input;

/// Moves every hash when what is hashed, or how, changes.
pub(super) const SCHEME: &str = "airflow-dbt-dental/2";
/// Hex digits in a tag: 48 bits tell any images of one project apart.
const TAG_LENGTH: usize = 12;

/// The hash of an image's inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes settings (build args, base, platform) and files.
    ///
    /// Each part is written with its length before it, so that no two lists of
    /// parts run together into the same bytes.
    pub(crate) fn of(settings: &[(&str, &str)], inputs: &[Input]) -> Self {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(SCHEME.as_bytes());
        part(&(settings.len() as u64).to_be_bytes());
        for (name, value) in settings {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        for input in inputs {
            part(input.kind.mark());
            part(input.path.as_os_str().as_bytes());
            part(&input.content);
        }
        Self(hash.finalize().into())
    }

    /// The first 12 hex digits.
    pub(crate) fn tag(&self) -> String {
        self.to_string()[..TAG_LENGTH].to_owned()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::inputs::Kind;
    use super::*;

    fn input(path: &str, kind: Kind, content: u8) -> Input {
        Input {
            path: path.into(),
            kind,
            content: [content; 32],
        }
    }

    #[test]
    fn every_part_moves_the_hash() {
        let base = || (vec![("base", "b")], vec![input("a", Kind::File, 1)]);
        let (settings, inputs) = base();
        let first = Fingerprint::of(&settings, &inputs);
        let others = [
            Fingerprint::of(&[("base", "c")], &inputs),
            Fingerprint::of(&[("bas", "eb")], &inputs),
            Fingerprint::of(&[], &inputs),
            Fingerprint::of(&settings, &[]),
            Fingerprint::of(&settings, &[input("b", Kind::File, 1)]),
            Fingerprint::of(&settings, &[input("a", Kind::Executable, 1)]),
            Fingerprint::of(&settings, &[input("a", Kind::Link, 1)]),
            Fingerprint::of(&settings, &[input("a", Kind::File, 2)]),
        ];
        for other in &others {
            assert_ne!(&first, other);
        }
        let (settings, inputs) = base();
        assert_eq!(first, Fingerprint::of(&settings, &inputs));
        assert_eq!(first.tag(), &first.to_string()[..12]);
    }
}
