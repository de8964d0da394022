//! How an image is named: `name:tag`, or `name:tag@sha256:…`.

/// What the registry is called that a name without one stands for.
const DEFAULT_REGISTRY: &str = "docker.io";

/// A reference, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// `apache/airflow`
    pub(crate) repository: &'a str,
    /// `apache/airflow:2.7.1-python3.11`
    pub(crate) tagged: &'a str,
    /// `sha256:…`, where it is pinned.
    pub(crate) digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// `None` where there is no tag, or where what follows `@` is no sha256.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (tagged, digest) = match text.split_once('@') {
            Some((tagged, digest)) => (tagged, Some(digest)),
            None => (text, None),
        };
        let (repository, tag) = tagged.rsplit_once(':')?;
        let plain = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
        // `host:5000/name` ends in a port and a path, not in a tag.
        let whole =
            plain(repository) && plain(tag) && !tag.contains('/') && digest.is_none_or(is_digest);
        whole.then_some(Self {
            repository,
            tagged,
            digest,
        })
    }

    /// `127.0.0.1:5000`, `docker.io`: whom to ask for it.
    pub(crate) fn registry(&self) -> &'a str {
        match self.repository.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
            _ => DEFAULT_REGISTRY,
        }
    }

    /// The same tag, pinned to `digest`.
    pub(crate) fn pinned_to(&self, digest: &str) -> String {
        format!("{}@{digest}", self.tagged)
    }
}

/// Whether it is `sha256:` and 64 hex digits.
pub(crate) fn is_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:")
        .is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_has_a_tag_and_perhaps_a_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, repository, registry) in [
            ("postgres:15", "postgres", "docker.io"),
            ("apache/airflow:2.7.1", "apache/airflow", "docker.io"),
            (
                "127.0.0.1:5000/x/a:1",
                "127.0.0.1:5000/x/a",
                "127.0.0.1:5000",
            ),
            ("localhost/a:1", "localhost/a", "localhost"),
        ] {
            let plain = Reference::parse(text).unwrap();
            assert_eq!((plain.repository, plain.registry()), (repository, registry));
            assert_eq!((plain.tagged, plain.digest), (text, None));
            let pinned = plain.pinned_to(&digest);
            assert_eq!(pinned, format!("{text}@{digest}"));
            let read = Reference::parse(&pinned).unwrap();
            assert_eq!(read.digest, Some(digest.as_str()));
            assert_eq!(
                read,
                Reference {
                    digest: read.digest,
                    ..plain
                }
            );
        }
        for text in [
            "",
            "postgres",
            "postgres:",
            ":15",
            "post gres:15",
            "host:5000/postgres",
            "postgres:15@sha256:1",
            "postgres:15@md5:1",
            &format!("postgres@{digest}"),
            &format!("postgres:15@{}", digest.to_uppercase()),
        ] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }
}
