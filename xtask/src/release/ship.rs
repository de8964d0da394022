//! Bringing a release's files to a host, beside those that serve.

use std::time::Duration;

use anyhow::Result;
use xshell::cmd;

use super::Release;
use super::code::{Code, LIST, nul_separated};
use crate::config::Host;
use crate::error::Failure;
use crate::exec::{Machine, Step, quote};

const ANSWER: Duration = Duration::from_secs(60);
const TRAVEL: Duration = Duration::from_secs(600);

/// What travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shipped {
    /// Files whose content travelled.
    pub(crate) changed: usize,
    /// Files that are in the release before and not in this one.
    pub(crate) removed: usize,
}

/// Brings the code of a release into its folder there. What the release `like`
/// has is linked, the rest travels; what then lies there is compared with what is
/// here, file by file, before it gets its name.
///
/// # Errors
/// Where a file changed here meanwhile, or did not arrive as it is.
pub(crate) fn ship(
    here: &Machine,
    there: &Machine,
    host: &Host,
    release: &Release,
    code: &Code,
    like: Option<&str>,
    files: &[(&str, String)],
) -> Result<Shipped> {
    let incoming = format!("{}/code/incoming/{}", host.directory, release.id);
    let shipped = arrive(here, there, host, &incoming, release, code, like, files);
    if shipped.is_err() {
        let discard = cmd!(there.sh(), "rm -rf {incoming}");
        let step = Step::new("remove what had arrived", discard).limit(ANSWER);
        // The first error is the one to tell.
        there.run(&step).ok();
    }
    shipped
}

#[expect(clippy::too_many_arguments, reason = "those of `ship`, and the folder")]
fn arrive(
    here: &Machine,
    there: &Machine,
    host: &Host,
    incoming: &str,
    release: &Release,
    code: &Code,
    like: Option<&str>,
    files: &[(&str, String)],
) -> Result<Shipped> {
    let directory = &host.directory;
    let before = start(there, directory, incoming, like)?;
    let shipped = bring(here, there, incoming, code, &before)?;
    finish(there, directory, incoming, release, code, files)?;
    Ok(shipped)
}

/// Brings what an image is made of into a folder there that keeps it,
/// so that only what changed since the last time travels. Gives the folder.
///
/// # Errors
/// Where a file did not arrive as it is.
pub(crate) fn ship_inputs(
    here: &Machine,
    there: &Machine,
    host: &Host,
    code: &Code,
) -> Result<(String, Shipped)> {
    let folder = format!("{}/build", host.directory);
    let list = || -> Result<Code> {
        let script = format!("set -eu; umask 022; mkdir -p \"$1\"\n{LIST}");
        let step = Step::new(
            "list what the image is made of there",
            cmd!(there.sh(), "sh -c {script} list {folder}"),
        )
        .limit(ANSWER);
        Ok(Code::read(&there.read(&step)?))
    };
    let shipped = bring(here, there, &folder, code, &list()?)?;
    if list()? == *code {
        return Ok((folder, shipped));
    }
    Err(not_as_listed())
}

/// Makes `code` of what lies in the folder, which is `before`.
fn bring(
    here: &Machine,
    there: &Machine,
    folder: &str,
    code: &Code,
    before: &Code,
) -> Result<Shipped> {
    let changes = code.since(before);
    if !changes.removed.is_empty() {
        let step = Step::new(
            "remove what does not belong there",
            cmd!(
                there.sh(),
                "sh -c 'cd \"$1\" && xargs -0 rm -f --' remove {folder}"
            ),
        )
        .limit(ANSWER);
        let gone = there.feed(&step, |to| {
            Ok(to.write_all(nul_separated(&changes.removed).as_bytes())?)
        })?;
        if !gone.ok() {
            return Err(there.failed(&step, &gone).into());
        }
    }
    if !changes.changed.is_empty() {
        travel(here, there, folder, &changes.changed)?;
    }
    Ok(Shipped {
        changed: changes.changed.len(),
        removed: changes.removed.len(),
    })
}

fn not_as_listed() -> anyhow::Error {
    Failure::tool("failed to ship the code: what arrived is not what was listed here")
        .hint("a file changed while it travelled: try again")
        .into()
}

/// Makes the folder, with links to the files that serve, and lists them, with so much
/// of each hash as finds what changed: the whole is compared at the end.
fn start(there: &Machine, directory: &str, incoming: &str, like: Option<&str>) -> Result<Code> {
    // Left by deploys that were interrupted; a running one holds the lock only later,
    // so only what is an hour old is taken for left.
    let script = format!(
        "set -eu; umask 022; code=$2/code\n\
         mkdir -p \"$code/incoming\" \"$code/releases\"\n\
         find \"$code/incoming\" -mindepth 1 -maxdepth 1 -mmin +60 -exec rm -rf {{}} +\n\
         if [ -n \"$3\" ]; then cp -al \"$code/releases/$3\" \"$1\"; rm -rf \"$1/.release\"; else mkdir \"$1\"; fi\n\
         touch \"$1\"\n{{\n{LIST}}} | sed -E 's/^([0-9a-f]{{16}})[0-9a-f]{{48}} /\\1 /'"
    );
    let like = like.unwrap_or_default();
    let step = Step::new(
        "make the release's folder",
        cmd!(
            there.sh(),
            "sh -c {script} start {incoming} {directory} {like}"
        ),
    )
    .limit(ANSWER);
    Ok(Code::read(&there.read(&step)?))
}

/// rsync writes beside and renames: a file that another release links to stays as
/// it is.
fn travel(here: &Machine, there: &Machine, incoming: &str, paths: &[String]) -> Result<()> {
    let Some((rsh, destination)) = there.rsh() else {
        anyhow::bail!("failed to ship: the host is this machine");
    };
    if which::which("rsync").is_err() {
        return Err(
            Failure::user("failed to ship the code: rsync is not on this machine")
                .hint("sudo apt-get install rsync")
                .into(),
        );
    }
    let to = format!("{destination}:{incoming}/");
    let step = Step::new(
        "ship the code",
        cmd!(
            here.sh(),
            "rsync --links --perms --chmod=D755,Fa+rX,u+w,go-w --ignore-times
             --protect-args --from0 --files-from=- ./ {to}"
        ),
    )
    .env("RSYNC_RSH", rsh)
    .limit(TRAVEL);
    let sent = here.feed(&step, |to| {
        Ok(to.write_all(nul_separated(paths).as_bytes())?)
    })?;
    if sent.ok() {
        Ok(())
    } else {
        Err(here.failed(&step, &sent).into())
    }
}

/// Adds what the release says of itself, compares, and gives the folder its name.
fn finish(
    there: &Machine,
    directory: &str,
    incoming: &str,
    release: &Release,
    code: &Code,
    files: &[(&str, String)],
) -> Result<()> {
    let (id, expected) = (&release.id, code.digest());
    let mut script = String::from("set -eu; umask 022; mkdir \"$1/.release\"\n");
    for (name, text) in files {
        script.push_str(&format!(
            "printf %s {} >\"$1/.release/{name}\"\n",
            quote(text)
        ));
    }
    script.push_str(&format!(
        "found=$({{\n{LIST}}} | sha256sum)\n\
         [ \"${{found%% *}}\" = \"$2\" ] || exit 9\n\
         mv -T \"$1\" \"$3/code/releases/$4\"\n"
    ));
    let step = Step::new(
        "give the release its name",
        cmd!(there.sh(), "sh -s - {incoming} {expected} {directory} {id}"),
    )
    .limit(ANSWER);
    let done = there.feed(&step, |to| Ok(to.write_all(script.as_bytes())?))?;
    match done.code {
        Some(0) => Ok(()),
        Some(9) => Err(not_as_listed()),
        _ => Err(there.failed(&step, &done).into()),
    }
}

/// Writes the variables of one service without Compose, for the host's user alone.
pub(crate) fn write_run_env(there: &Machine, path: &str, text: &str) -> Result<()> {
    write_secrets(there, "write the variables of a service", path, text)
}

/// Writes settings and secrets, for the host's user alone; the content is its name.
pub(crate) fn write_env(there: &Machine, host: &Host, name: &str, text: &str) -> Result<()> {
    let path = format!("{}/env/{name}.env", host.directory);
    write_secrets(there, "write the settings", &path, text)
}

/// By standard input, whole or not at all, also after a power cut.
fn write_secrets(there: &Machine, doing: &'static str, path: &str, text: &str) -> Result<()> {
    let script = "set -eu; umask 077; mkdir -p \"$(dirname \"$1\")\"; \
                  cat >\"$1.$$\"; sync \"$1.$$\"; mv \"$1.$$\" \"$1\"";
    let step = Step::new(doing, cmd!(there.sh(), "sh -c {script} write {path}")).limit(ANSWER);
    let written = there.feed(&step, |to| Ok(to.write_all(text.as_bytes())?))?;
    match written.ok() {
        true => Ok(()),
        false => Err(there.failed(&step, &written).into()),
    }
}
