//! The process environment, read nowhere else.

use std::path::PathBuf;

/// Variables that name a CA bundle for this machine's own tools, in the order
/// in which they are asked.
const CA_VARIABLES: [&str; 4] = [
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

/// <https://no-color.org>
pub(crate) fn no_colour() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Whether this runs as a job of GitHub Actions.
pub(crate) fn github_actions() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

/// Names the file whose Markdown GitHub shows on the page of a job.
pub(crate) const GITHUB_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// That file.
pub(crate) fn github_summary() -> Option<PathBuf> {
    let path = std::env::var_os(GITHUB_SUMMARY).filter(|_| github_actions());
    path.map(PathBuf::from)
}

/// The CA bundle that this machine's tools are told to use, as behind a
/// TLS-inspecting proxy. Names a file that exists.
pub(crate) fn ca_bundle() -> Option<PathBuf> {
    CA_VARIABLES
        .iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from)
        .find(|path| path.is_file())
}

/// Where the docker CLIs look for the engine, where a person has said so.
pub(crate) fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|v| !v.is_empty())
}

/// The folder of the docker CLI's own settings and plugins.
pub(crate) fn docker_config() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty());
    let own = set("DOCKER_CONFIG").map(PathBuf::from);
    own.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".docker")))
}

/// A folder for what lives as long as this login, for this user alone.
pub(crate) fn runtime_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    folder.filter(|folder| folder.is_dir())
}

/// Who runs this and where, for the records of a host: `user@machine`.
pub(crate) fn person() -> String {
    let set = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    let user = set("USER")
        .or_else(|| set("LOGNAME"))
        .unwrap_or_else(|| rustix::process::getuid().as_raw().to_string());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{user}@{}", machine.trim())
}

/// Those of `names` that this process has in its environment.
pub(crate) fn set_among<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    names
        .into_iter()
        .filter(|name| std::env::var_os(name).is_some())
        .collect()
}

/// PATH with `folder` before it.
pub(crate) fn path_after(folder: &std::path::Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
    // Joining fails only for a folder with a colon in its name: then PATH is
    // all that is left, and the tool says what it lacks.
    std::env::join_paths(folders).unwrap_or(path)
}
