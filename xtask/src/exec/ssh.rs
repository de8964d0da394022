//! One connection to another machine, that every step there shares.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use rustix::process::getuid;

use super::step::quote;
use crate::error::Failure;

/// The host's key is checked whatever a person's settings say, and nothing is asked:
/// a question in the middle of a deploy would wait for ever. The connection is
/// left open for a while, as the next command is likely to need it. What a deploy of
/// a small change sends is text.
const OPTIONS: [&str; 9] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ControlMaster=auto",
    "ControlPersist=60",
    "LogLevel=ERROR",
    "Compression=yes",
];
/// ssh's own exit status where the connection is what failed.
pub(super) const FAILED: i32 = 255;

/// How to reach another machine by ssh.
#[derive(Debug, Clone)]
pub(crate) struct Ssh {
    name: String,
    destination: String,
    options: Vec<OsString>,
    by_hand: String,
}

impl Ssh {
    /// `name` is how messages call the machine; `sockets` the folder of the
    /// shared connections, which is made where it is not there.
    ///
    /// # Errors
    /// Where that folder is somebody else's, or open to others.
    pub(crate) fn new(
        name: &str,
        destination: &str,
        own: &[String],
        sockets: &Path,
    ) -> Result<Self> {
        private(sockets)?;
        let words = own.iter().map(String::as_str).chain([destination]);
        let words: Vec<String> = words.map(quote).collect();
        let by_hand = format!("ssh {}", words.join(" "));
        let mut options: Vec<OsString> = own.iter().map(Into::into).collect();
        for option in OPTIONS {
            options.extend(["-o".into(), option.into()]);
        }
        // %C is a hash of where it leads to: a path of a Unix socket has to be short.
        let control = PathBuf::from(sockets).join("%C");
        options.extend([
            "-o".into(),
            format!("ControlPath={}", control.display()).into(),
        ]);
        Ok(Self {
            name: name.to_owned(),
            destination: destination.to_owned(),
            options,
            by_hand,
        })
    }

    /// How messages call the machine.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// ssh with a line for the shell there, and a terminal for it or none.
    pub(super) fn command(&self, line: &str, terminal: bool) -> Command {
        let mut command = Command::new("ssh");
        command
            .arg(if terminal { "-t" } else { "-T" })
            .args(&self.options)
            .args(["--", &self.destination, line]);
        command
    }

    /// ssh by a connection of its own that packs nothing: the shared one would
    /// only slow what is packed already.
    pub(super) fn unpacked(&self, line: &str) -> Command {
        let mut command = Command::new("ssh");
        // Of an option that is given twice, the first counts.
        command
            .args(["-T", "-o", "Compression=no", "-o", "ControlPath=none"])
            .args(&self.options)
            .args(["--", &self.destination, line]);
        command
    }

    /// Lets `port` of this machine's loopback lead to `to`, `address:port` as the
    /// machine there sees it, over the shared connection.
    ///
    /// # Errors
    /// ssh's own words.
    pub(super) fn forward(&self, port: u16, to: &str) -> Result<(), String> {
        let done = self.control("forward", &["-L", &leads(port, to)]);
        let done = done.map_err(|error| format!("cannot start ssh: {error}"))?;
        match done.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
        }
    }

    /// Takes that back.
    pub(super) fn cancel(&self, port: u16, to: &str) {
        self.control("cancel", &["-L", &leads(port, to)]).ok();
    }

    /// A word for the shared connection.
    fn control(&self, word: &str, more: &[&str]) -> std::io::Result<Output> {
        Command::new("ssh")
            .args(&self.options)
            .args(["-O", word])
            .args(more)
            .args(["--", &self.destination])
            .stdin(Stdio::null())
            .output()
    }

    /// The same connection for a tool that calls ssh by itself, as rsync does: its
    /// command, and where to.
    pub(super) fn rsh(&self) -> (String, String) {
        let mut words = vec!["ssh".to_owned(), "-T".to_owned()];
        words.extend(self.options.iter().map(quote));
        (words.join(" "), self.destination.clone())
    }

    /// Ends the shared connection: the next step logs in anew, with the groups
    /// that the user has by then.
    pub(crate) fn close(&self) {
        self.control("exit", &[]).ok();
    }

    /// What mends a connection that failed, by ssh's words.
    pub(super) fn hint(&self, said: &str) -> String {
        let (name, destination, by_hand) = (&self.name, &self.destination, &self.by_hand);
        let said = said.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if has(&["host identification has changed"]) {
            format!(
                "another machine answers than the one that was known: find out why before you \
                 remove its key from known_hosts ({destination})"
            )
        } else if has(&["host key verification failed", "host key is known"]) {
            format!(
                "the host's key is not known yet: {by_hand}, compare the fingerprint with \
                 the one your provider shows, and accept it once"
            )
        } else if has(&["permission denied"]) {
            format!("which user and key it takes: {by_hand}; a key with a passphrase: ssh-add")
        } else if has(&["could not resolve"]) {
            format!("see [hosts.{name}] in deploy.toml: ssh cannot find {destination}")
        } else {
            format!("see whether {name} is up and lets this machine in: {by_hand}")
        }
    }
}

/// As `-L` takes it.
fn leads(port: u16, to: &str) -> String {
    format!("127.0.0.1:{port}:{to}")
}

/// Makes the folder for this user alone, or sees that it is.
fn private(folder: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("failed to make {}", folder.display()))?;
    let found = fs::symlink_metadata(folder)
        .with_context(|| format!("failed to look at {}", folder.display()))?;
    let ours = found.is_dir() && found.uid() == getuid().as_raw() && found.mode() & 0o077 == 0;
    if ours {
        return Ok(());
    }
    Err(Failure::user(format!(
        "failed to share a connection in {}: it has to be this user's alone",
        folder.display()
    ))
    .hint(format!("rm -r {}", folder.display()))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn ssh(folder: &Path) -> Ssh {
        let own = ["-p".to_owned(), "2222".to_owned()];
        Ssh::new("ec2", "ubuntu@host", &own, folder).unwrap()
    }

    #[test]
    fn the_line_is_one_word_after_every_option() {
        let folder = tempfile::tempdir().unwrap();
        let sockets = folder.path().join("sockets");
        let command = ssh(&sockets).command("docker ps --all", false);
        let words: Vec<String> = command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        assert_eq!(words[..3], ["-T", "-p", "2222"]);
        assert_eq!(
            words[words.len() - 3..],
            ["--", "ubuntu@host", "docker ps --all"]
        );
        let shell = ssh(&sockets).command("bash", true);
        assert_eq!(shell.get_args().next().unwrap(), "-t");
        for option in OPTIONS {
            assert!(words.contains(&option.to_owned()), "{option}");
        }
        let alone = ssh(&sockets).unpacked("docker load");
        let words: Vec<_> = alone.get_args().collect();
        assert_eq!(
            words[1..5],
            ["-o", "Compression=no", "-o", "ControlPath=none"]
        );
        assert_eq!(words[words.len() - 1], "docker load");
    }

    #[test]
    fn a_folder_that_others_can_enter_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sockets = folder.path().join("sockets");
        ssh(&sockets);
        fs::set_permissions(&sockets, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Ssh::new("ec2", "host", &[], &sockets).unwrap_err();
        assert!(error.to_string().contains("this user's alone"), "{error}");
    }

    #[test]
    fn each_kind_of_failure_has_its_hint() {
        let folder = tempfile::tempdir().unwrap();
        let ssh = ssh(&folder.path().join("sockets"));
        for (said, expected) in [
            (
                "No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.",
                "the host's key is not known yet",
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "another machine answers",
            ),
            (
                "ubuntu@h: Permission denied (publickey).",
                "which user and key it takes: ssh -p 2222 ubuntu@host; ",
            ),
            (
                "ssh: Could not resolve hostname h",
                "see [hosts.ec2] in deploy.toml",
            ),
            (
                "connect to host h port 22: Connection refused",
                "see whether ec2 is up",
            ),
        ] {
            let hint = ssh.hint(said);
            assert!(hint.starts_with(expected), "{said}: {hint}");
        }
    }
}
