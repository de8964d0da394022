//! Docker's words, and what they mean: the one place that reads them.

/// Why a registry did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no such manifest.
    Absent,
    /// It could not be reached at all, in these words: worth another try.
    OutOfReach(&'static str),
    /// It broke off or is not well: worth another try.
    Broken,
    /// It wants other credentials, or none will do: another try is none.
    Authentication,
    /// Its certificate is signed by nobody this machine knows.
    Certificate,
    /// Anything else, in docker's words.
    Other,
}

/// What docker says, in lower case, when the registry itself is out of reach, as
/// opposed to one that answers no.
const OUT_OF_REACH: [&str; 9] = [
    "no such host",
    "server misbehaving",
    "connection refused",
    "network is unreachable",
    "no route to host",
    "i/o timeout",
    "tls handshake timeout",
    "client.timeout",
    "temporary failure in name resolution",
];

/// Its other words; the first that fits. They are asked later: who cannot be
/// reached has refused nothing.
const WORDS: [(&str, Fault); 22] = [
    ("no such manifest", Fault::Absent),
    ("manifest unknown", Fault::Absent),
    ("name unknown", Fault::Absent),
    (": not found", Fault::Absent),
    ("x509:", Fault::Certificate),
    ("certificate signed by unknown", Fault::Certificate),
    ("no basic auth credentials", Fault::Authentication),
    ("unauthorized", Fault::Authentication),
    ("authentication required", Fault::Authentication),
    ("access denied", Fault::Authentication),
    ("access to the resource is denied", Fault::Authentication),
    ("access forbidden", Fault::Authentication),
    ("403 forbidden", Fault::Authentication),
    ("connection reset", Fault::Broken),
    ("broken pipe", Fault::Broken),
    ("timeout", Fault::Broken),
    ("deadline exceeded", Fault::Broken),
    ("eof", Fault::Broken),
    ("500 internal server error", Fault::Broken),
    ("502 bad gateway", Fault::Broken),
    ("503 service unavailable", Fault::Broken),
    ("toomanyrequests", Fault::Broken),
];

/// What docker's words mean.
pub(crate) fn fault(said: &str) -> Fault {
    if let Some(words) = out_of_reach(said) {
        return Fault::OutOfReach(words);
    }
    let said = said.to_lowercase();
    WORDS
        .iter()
        .find(|(words, _)| said.contains(words))
        .map_or(Fault::Other, |(_, fault)| *fault)
}

/// What of docker's words says that the registry cannot be reached.
pub(in crate::image) fn out_of_reach(said: &str) -> Option<&'static str> {
    let said = said.to_lowercase();
    OUT_OF_REACH.into_iter().find(|words| said.contains(*words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_apart_by_dockers_words() {
        for (said, expected) in [
            ("no such manifest: h:5000/x:1", Fault::Absent),
            ("errors:\nmanifest unknown: manifest unknown", Fault::Absent),
            ("no basic auth credentials", Fault::Authentication),
            (
                "unauthorized: authentication required",
                Fault::Authentication,
            ),
            (
                "denied: requested access to the resource is denied",
                Fault::Authentication,
            ),
            (
                "dial tcp 10.0.0.1:5000: connect: no route to host",
                Fault::OutOfReach("no route to host"),
            ),
            (
                "unauthorized: dial tcp: lookup auth: no such host",
                Fault::OutOfReach("no such host"),
            ),
            ("Put \"https://h/v2/\": EOF", Fault::Broken),
            (
                "x509: certificate signed by unknown authority",
                Fault::Certificate,
            ),
            (
                "http: server gave HTTP response to HTTPS client",
                Fault::Other,
            ),
        ] {
            assert_eq!(fault(said), expected, "{said}");
        }
    }
}
