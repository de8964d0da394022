//! A whole machine to deploy to, reached by a real ssh, and a checkout whose
//! deploy.toml knows it.

use std::fs::{self, DirBuilder};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

use super::host::{IMAGE, RIGHTS, build_image};
use crate::config::environment;
use crate::context::Context;
use crate::exec::{Machine, Step};

/// Its name in the checkout's deploy.toml.
pub(crate) const NAME: &str = "bench";
/// Its own file of a CA, where this machine needs one.
const CA: &str = "/etc/ssl/certs/this-network.pem";
/// Until its engine answers.
const LIMIT: Duration = Duration::from_secs(120);

/// Debian 13 with its engine and sshd in a container; gone with all it holds, and the
/// checkout, when dropped.
#[derive(Debug)]
pub(crate) struct Remote<'a> {
    machine: &'a Machine,
    docker: PathBuf,
    container: String,
    folder: PathBuf,
    port: u16,
    own: String,
}

impl<'a> Remote<'a> {
    /// Starts it, ready for a first deploy: `containerd` or `classic` is how its
    /// engine keeps images.
    pub(crate) fn start(context: &'a Context, kind: &str) -> Result<Self> {
        let docker = build_image(context)?;
        // Paths of sockets are short, those of checkouts are not.
        let folder = PathBuf::from(format!("/tmp/xtask-bench-{}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
        let (machine, sh, key) = (&context.machine, context.machine.sh(), folder.join("key"));
        let generate = cmd!(sh, "ssh-keygen -q -t ed25519 -N '' -f {key}");
        machine.run(&Step::new("make a key", generate))?;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .context("failed to find a free port")?
            .port();
        let public = fs::read_to_string(folder.join("key.pub"))?;
        let authorized = format!("AUTHORIZED_KEY={}", public.trim());
        let publish = format!("127.0.0.1:{port}:22");
        let mut run = Step::new(
            "start another machine",
            cmd!(
                sh,
                "{docker} run --detach --env {authorized} --publish {publish}"
            ),
        )
        .args(RIGHTS.lines());
        if let Some(ca) = environment::ca_bundle() {
            run = run.args(["--volume", &format!("{}:{CA}:ro", ca.display())]);
        }
        let mut remote = Self {
            machine,
            container: machine.read(&run.args([IMAGE, kind]))?,
            docker,
            folder,
            port,
            own: String::new(),
        };
        remote.furnish(context)?;
        Ok(remote)
    }

    fn furnish(&mut self, context: &Context) -> Result<()> {
        let (from, tree) = (context.workspace.root(), self.tree());
        let script = "mkdir \"$2\" && tar -C \"$1\" --exclude=./target --exclude=./.cache \
                      --exclude=./.env --exclude=./.git -c . | tar -C \"$2\" -x";
        let copy = cmd!(self.machine.sh(), "sh -c {script} copy {from} {tree}");
        self.machine.run(&Step::new("copy the checkout", copy))?;
        let at = self.folder.display();
        fs::write(
            self.folder.join("ssh_config"),
            format!("Host clinic\n  HostName 127.0.0.1\n  UserKnownHostsFile {at}/known_hosts\n"),
        )?;
        self.own = fs::read_to_string(tree.join("deploy.toml"))?;
        self.know("")?;
        let key = self.wait("cat /etc/ssh/ssh_host_ed25519_key.pub")?;
        let known = format!("[127.0.0.1]:{} {key}\n", self.port);
        fs::write(self.folder.join("known_hosts"), known)?;
        self.wait("docker version")?;
        self.there("install -d -o ubuntu -m 750 /srv/dental")?;
        self.machine.run(&self.xtask(&["env"]))?;
        let env = fs::read_to_string(tree.join(".env"))?;
        let demo = "COMPOSE_PROJECT_NAME=dental-bench\nDEMO_SCALE=0.05\n";
        let set = |line: &&str| {
            !demo
                .lines()
                .any(|own| own.split('=').next() == line.split('=').next())
        };
        let kept: Vec<&str> = env.lines().filter(set).collect();
        fs::write(tree.join(".env.bench"), kept.join("\n") + "\n" + demo)?;
        self.git(&["init", "--quiet"])?;
        self.commit()
    }

    /// The host's table in deploy.toml, with `more` keys, a line each.
    pub(crate) fn know(&self, more: &str) -> Result<()> {
        let (at, port) = (self.folder.display(), self.port);
        let ca = match environment::ca_bundle() {
            Some(_) => format!("ca_bundle = \"{CA}\"\n"),
            None => String::new(),
        };
        let host = format!(
            "\n[hosts.{NAME}]\nssh = \"clinic\"\nuser = \"ubuntu\"\nport = {port}\n\
             identity = \"{at}/key\"\nssh_config = \"{at}/ssh_config\"\n\
             directory = \"/srv/dental\"\nenv_file = \".env.bench\"\n{ca}{more}"
        );
        fs::write(
            self.tree().join("deploy.toml"),
            format!("{}{host}", self.own),
        )
        .context("failed to write the host into deploy.toml")
    }

    /// The checkout.
    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Replaces text in a file of the checkout.
    pub(crate) fn change(&self, path: &str, change: impl FnOnce(String) -> String) -> Result<()> {
        let path = self.tree().join(path);
        let read = || -> std::io::Result<()> {
            let text = fs::read_to_string(&path)?;
            fs::write(&path, change(text))
        };
        read().with_context(|| format!("failed to change {}", path.display()))
    }

    /// All that is in the checkout becomes a commit.
    pub(crate) fn commit(&self) -> Result<()> {
        self.git(&["add", "--all"])?;
        let who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"];
        self.git(&[&who[..], &["commit", "--quiet", "--message", "x"]].concat())
    }

    fn git(&self, args: &[&str]) -> Result<()> {
        let sh = self.at_tree();
        let git = cmd!(sh, "git {args...}");
        self.machine.run(&Step::new("keep a commit", git))
    }

    fn at_tree(&self) -> Shell {
        let sh = self.machine.sh().clone();
        sh.change_dir(self.tree());
        sh
    }

    /// This very program in the checkout, sharing its connection for a minute.
    pub(crate) fn xtask(&self, args: &[&str]) -> Step {
        self.xtask_by(&self.folder, args)
    }

    /// The same, with connections of its own: the first command logs in.
    pub(crate) fn xtask_anew(&self, args: &[&str], time: usize) -> Result<Step> {
        let folder = self.folder.join(time.to_string());
        fs::create_dir_all(&folder)?;
        Ok(self.xtask_by(&folder, args))
    }

    fn xtask_by(&self, sockets: &Path, args: &[&str]) -> Step {
        let sh = self.at_tree();
        let what = format!("run xtask {}", args.join(" "));
        Step::new(what, cmd!(sh, "/proc/self/exe {args...}")).env("XDG_RUNTIME_DIR", sockets)
    }

    /// ssh there with a command, as a person calls it.
    pub(crate) fn ssh(&self) -> [String; 9] {
        let at = self.folder.display();
        [
            "ssh".into(),
            "-F".into(),
            format!("{at}/ssh_config"),
            "-l".into(),
            "ubuntu".into(),
            "-i".into(),
            format!("{at}/key"),
            format!("-p{}", self.port),
            "clinic".into(),
        ]
    }

    /// Bytes on the wire so far, both ways, headers and all.
    pub(crate) fn wire(&self) -> Result<u64> {
        let told = self.there(
            "cat /sys/class/net/eth0/statistics/rx_bytes /sys/class/net/eth0/statistics/tx_bytes",
        )?;
        let counts = told.lines().map(str::parse::<u64>);
        counts
            .sum::<std::result::Result<u64, _>>()
            .context("failed to read what the other machine counts")
    }

    /// What a script says there, as root; not over the wire that is counted.
    pub(crate) fn there(&self, script: &str) -> Result<String> {
        let (docker, container) = (&self.docker, &self.container);
        let run = cmd!(
            self.machine.sh(),
            "{docker} exec {container} sh -c {script}"
        );
        self.machine
            .read(&Step::new("look at the other machine", run))
    }

    fn wait(&self, script: &str) -> Result<String> {
        let started = Instant::now();
        loop {
            match self.there(script) {
                Ok(told) if !told.is_empty() => return Ok(told),
                Err(error) if started.elapsed() > LIMIT => return Err(error),
                _ => thread::sleep(Duration::from_millis(200)),
            }
        }
    }
}

impl Drop for Remote<'_> {
    fn drop(&mut self) {
        let (docker, container) = (&self.docker, &self.container);
        let remove = cmd!(
            self.machine.sh(),
            "{docker} rm --force --volumes {container}"
        );
        self.machine
            .run(&Step::new("remove the other machine", remove))
            .ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}
