//! The whole command surface. The doc comments are the help.

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Turns this checkout into a running Airflow for OpenDental's nightly data.
///
/// First time:   cargo xtask up        then   cargo xtask nightly --ignore-business-hours
/// Every day:    cargo xtask status    and    cargo xtask logs
/// In trouble:   cargo xtask doctor
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    verbatim_doc_comment,
    version,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Services that stay up, as docker-compose.yml names them.
const SERVICES: [&str; 4] = [
    "airflow-webserver",
    "airflow-scheduler",
    "postgres",
    "mysql",
];

/// Flags that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Show each command that runs, ready to paste, and how long it took
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at everything the stack needs; name every problem and what mends it
    ///
    /// Exit status 0 only if every check holds.
    Doctor(Doctor),
    /// Write .env from .env.template, with secrets made for this installation
    ///
    /// Never changes what a person has set. Run it again after the template
    /// gained a variable.
    Env(Env),
    /// Build the image, unless the engine has it already
    ///
    /// The tag is a hash of the image's inputs, so the same inputs are built
    /// once. Where the image registry cannot be reached, equivalents of the
    /// base images are made from Debian and PyPI packages (see bases/README.md).
    Build(Build),
    /// Show the hash of the image's inputs
    ///
    /// It moves when, and only when, something moves that the engine could see
    /// while building: files that .dockerignore admits, the Dockerfile, the
    /// base's content, the platform.
    Hash(Hash),
    /// Prepare Airflow: migrate, users, Variables, pools, connections
    ///
    /// Can be run again at any time; what exists stays.
    Init(DryRun),
    /// Start the whole stack and wait until it is really up
    ///
    /// Checks the machine, writes .env, builds the image, starts the databases,
    /// fills the demo source if no other source is configured, prepares
    /// Airflow, starts webserver and scheduler. Run again, it starts only what
    /// does not run as configured.
    Up(Up),
    /// Stop the stack; data stays
    Down(Down),
    /// Restart services (default: webserver and scheduler)
    Restart(Services),
    /// Show services, image, heartbeat, last run and freshness
    Status(Status),
    /// Show the logs of services
    Logs(Logs),
    /// Start the nightly run and follow it; its exit status is the run's
    ///
    /// The run's own guard decides whether it may start: it refuses between
    /// 06:00 and 20:59 Central. --ignore-business-hours asks it to make an
    /// exception, which it grants only where
    /// ETL_ALLOW_BUSINESS_HOURS_OVERRIDE=true in .env.
    ///
    /// Ctrl-C stops watching, not the run; --follow comes back to it, and shows
    /// a run that the schedule or somebody else started.
    Nightly(Nightly),
    /// Run the ETL's own command line in the stack
    ///
    /// For example: cargo xtask etl -- run --table patient --full
    Etl(PassOn),
    /// Run the demo source's own command line: load it, or live a day of business
    ///
    /// For example: cargo xtask demo -- advance --days 1
    Demo(PassOn),
    /// Run dbt in the stack
    ///
    /// For example: cargo xtask dbt -- build --select mart_daily_production+
    Dbt(PassOn),
    /// Run Airflow's own command line in the stack
    ///
    /// For example: cargo xtask airflow -- dags list
    Airflow(PassOn),
    /// Open a database: psql on analytics, or what is named
    ///
    /// Reads SQL from standard input where that is no terminal.
    Sql(Sql),
    /// Open a shell in a service's container (default: the scheduler's)
    Shell(Shell),
    /// Bring a host's web page to this machine, over ssh, until Ctrl-C
    ///
    /// It answers on this machine's loopback alone; no port is opened there.
    Tunnel(Tunnel),
    /// Lock what a person wrote: digests of the base images, requirements
    ///
    /// Asks the registry for the digest of each base's tag and writes it into
    /// deploy.toml; where none can be reached, it stays as it is.
    ///
    /// Each requirements*.txt has a .lock beside it with the whole resolution
    /// and its hashes: first Airflow's release with its constraints, then the
    /// image's packages under them, then what tests and the installer need.
    /// Versions that are locked stay as long as they fit. What moved is shown as
    /// a table.
    Lock(Lock),
    /// Ask for known advisories about the locked packages and crates
    ///
    /// pip-audit looks at requirements-airflow.lock, in a container of the
    /// Airflow base; cargo-audit looks at Cargo.lock. What they find may stay
    /// where audit.toml says why, and until when.
    ///
    /// Exit status 0 only if every package was looked at and every finding may
    /// stay today. An entry that nothing matches any more is a warning.
    Audit(Audit),
    /// Push the image of this tree to a registry, or to a host
    ///
    /// Under the hash of its inputs, its git revision and the channels that are
    /// named; what the registry holds already is not pushed again. Credentials
    /// are docker's own: docker login.
    Push(Push),
    /// Make a bare Debian or Ubuntu host ready for the stack
    ///
    /// Installs the distribution's Docker, Compose and rsync, lets the user speak
    /// to the engine, and makes the stack's folder. Prints its plan first; what is
    /// there stays, and no port is opened. Hosts stand in deploy.toml, [hosts.NAME].
    Provision(Provision),
    /// Bring this tree to a host and make it serve there
    ///
    /// The same image, compose files and code, with the host's own settings. A plan
    /// is printed first. Where image, compose files and settings are unchanged,
    /// nothing restarts: the scheduler reads the new code. The part that must not
    /// end half-way runs on the host by itself; what fails is taken back.
    ///
    /// A nightly run that is active is never cut: the deploy refuses, or waits with
    /// --wait-for-run. Hosts stand in deploy.toml, [hosts.NAME]; a bare one first
    /// wants: cargo xtask provision --host NAME
    Deploy(Deploy),
    /// Serve an earlier release of a host again: its code, image and settings
    ///
    /// Nothing travels and nothing is fetched: a release that is kept has all it
    /// needs on the host. One that is older than the metadata database's schema is
    /// refused.
    Rollback(Rollback),
    /// List the releases that a host keeps
    Releases(Releases),
    /// Copy a host's metadata database: DAG runs, connections, Variables, users
    ///
    /// The copy lies in backups of the stack's folder, mode 0600, and was restored
    /// once beside the database; its name is the time and Airflow's revision. All
    /// goes on meanwhile. Each restart by a deploy makes one too; they are kept for
    /// 30 days, the newest five for longer.
    Backup(Backup),
    /// Put a host's metadata database back to what a copy has
    ///
    /// Prints first how old the copy is and which DAG runs would be lost, and
    /// changes nothing without --yes. What is there is copied before; a failure
    /// puts it back. An older schema is taken forward by the release that serves,
    /// a newer one is refused.
    Restore(Restore),
    /// Remove all that the stack has on a host
    ///
    /// Containers, networks, volumes, releases, settings, logs, and images that no
    /// other container uses. Copies of the metadata database and the audit log
    /// stay, and a last copy is made before. Asks for the host's name.
    Destroy(Destroy),
    /// Show who is at work on a host, and end what hangs
    ///
    /// The lock is its kernel's and ends with its holder: after a crash there is
    /// nothing to unlock. --end ends a task that hangs, with all that it started;
    /// the next deploy goes on from what is there.
    Unlock(Unlock),
    /// Remove images of earlier builds that no container uses
    ///
    /// Looks at all that xtask built on this engine, bases and test images too;
    /// what this tree or a container uses stays. Another checkout whose stack is
    /// down builds its image again.
    Prune(DryRun),
    /// Measure the figures that the docs quote
    ///
    /// For example: cargo build --release && target/release/xtask bench image
    Bench(Bench),
    /// Run every test: Rust, Python, DAGs in the image, dbt, one whole night
    Test(Test),
}

#[derive(Debug, Default, Args)]
pub(crate) struct DryRun {
    /// Look for real, print what would be done, change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Json {
    /// Print JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// A host of deploy.toml, instead of this machine; also before anything was
    /// deployed there
    #[arg(long, value_name = "NAME", conflicts_with = "fix")]
    pub(crate) host: Option<String>,
    /// Print JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Mend what can be mended: on Debian and Ubuntu, install and start the
    /// distribution's engine and Compose (as root, or through sudo)
    #[arg(long)]
    pub(crate) fix: bool,
    /// With --fix: print what would be done, change nothing
    #[arg(long, requires = "fix")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Env {
    #[command(subcommand)]
    pub(crate) command: Option<EnvCommand>,
    #[command(flatten)]
    pub(crate) dry: DryRun,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// Name everything in .env that is missing or malformed
    Check,
    /// Name what differs between a host's settings here and those that it serves
    /// with; never a value
    Diff(EnvDiff),
    /// Let a host serve what it serves with the settings that are here
    ///
    /// As a deploy would that changes nothing else, from any checkout: its code and
    /// image stay, Airflow restarts.
    Push(EnvPush),
    /// Make a host's passwords and keys anew, in its env_file here and there
    ///
    /// The databases of its stack take the new passwords, what the old Fernet key
    /// wrote is written by the new one, and Airflow restarts. A failure goes back to
    /// the old ones. Passwords of other servers stay.
    Rotate(EnvRotate),
}

#[derive(Debug, Args)]
pub(crate) struct EnvRotate {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// Only these: AIRFLOW_FERNET_KEY, say (default: all that are ours)
    #[arg(value_name = "SECRET")]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print the names and how it ended as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EnvDiff {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// Print the names as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EnvPush {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print the names and how it ended as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print image, tag and hash as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// Ask the registry for the base images again, even where equivalents of
    /// them were made before
    #[arg(long)]
    pub(crate) pull: bool,
    /// Build nothing; show which inputs changed, appeared or vanished since the
    /// image that runs, or the last build where none runs
    #[arg(long, conflicts_with_all = ["dry_run", "pull"])]
    pub(crate) why: bool,
    /// Build twice with nothing from before and compare: the same inputs have to
    /// give the same image; what differs is named by layer and file
    #[arg(long, conflicts_with_all = ["dry_run", "pull", "why"])]
    pub(crate) verify: bool,
    /// Refuse to build unless it is for this platform: linux/amd64, linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// With --why: since `running`, `last`, an image's tag or a git revision
    #[arg(long, requires = "why", value_name = "WHAT")]
    pub(crate) since: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Provision {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    #[command(flatten)]
    pub(crate) dry: DryRun,
}

/// What becomes of a run that is active.
#[derive(Debug, Args)]
pub(crate) struct ActiveRun {
    /// Wait until an active run has ended, so many minutes at most
    #[arg(
        long,
        value_name = "MINUTES",
        num_args = 0..=1,
        default_missing_value = "180",
        conflicts_with = "now"
    )]
    pub(crate) wait_for_run: Option<u64>,
    /// Do not ask whether a run is active; it may see two versions, or its task may
    /// be tried again. It is written into the host's audit log
    #[arg(long)]
    pub(crate) now: bool,
}

impl ActiveRun {
    /// How long to wait for one, in seconds; `None`: do not ask.
    pub(crate) fn seconds(&self) -> Option<u64> {
        (!self.now).then(|| self.wait_for_run.unwrap_or(0) * 60)
    }
}

/// Whose stack a command means.
#[derive(Debug, Default, Args)]
pub(crate) struct At {
    /// A host of deploy.toml, instead of this machine
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
}

/// A command that looks at this machine's stack, or at a host's.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) at: At,
    /// Print JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Releases {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// Print JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// List the copies that are there, and make none
    #[arg(long, conflicts_with_all = ["to", "dry_run"])]
    pub(crate) list: bool,
    /// Bring the copy here as well: a folder, or a file's name
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print the copy and how it ended as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// A copy by its name there, or a file here (default: the newest copy there)
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) from: Option<String>,
    /// Serve that release with it: one that is kept and was made for the copy's
    /// schema (default: the one that serves)
    #[arg(long, value_name = "ID")]
    pub(crate) release: Option<String>,
    /// Do it, although the runs that were printed are lost
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print what would be lost, change nothing; as without --yes, with exit status 0
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    /// Print what would be lost, and how it ended, as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Destroy {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// Do not ask: the host's name once more
    #[arg(long, value_name = "NAME")]
    pub(crate) confirm: Option<String>,
    /// Make no last copy of the metadata database
    #[arg(long)]
    pub(crate) no_backup: bool,
    /// Remove the copies and the audit log as well; no last copy is made then
    #[arg(long)]
    pub(crate) with_backups: bool,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print what goes and what stays as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Unlock {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// End the task that holds the lock: asked to, then killed after ten seconds
    #[arg(long)]
    pub(crate) end: bool,
    /// Print JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// The release to go back to (default: the last good one before the one that
    /// serves)
    #[arg(long, value_name = "ID")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Print how it ended as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// The host's name in deploy.toml; several are taken one after the other
    #[arg(long, value_name = "NAME", required = true)]
    pub(crate) host: Vec<String>,
    /// Look for real, print the plan, change nothing
    #[arg(long, visible_alias = "plan")]
    pub(crate) dry_run: bool,
    /// Print the plan and how it ended as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) run: ActiveRun,
    /// Deploy although files are not committed; the release is marked as dirty
    #[arg(long)]
    pub(crate) allow_dirty: bool,
    /// For a host without Compose: bring image, code and settings, and print the
    /// `docker run` that starts each service, ready to paste there; start nothing
    #[arg(long, conflicts_with_all = ["json", "dry_run"])]
    pub(crate) print_docker_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Where to: registry.example.com/team (default: registry in deploy.toml)
    #[arg(long)]
    pub(crate) registry: Option<String>,
    /// Where to: a host of deploy.toml, by the transport that it has there. Over ssh
    /// only the layers that it lacks travel; by a registry it pulls by digest; or it
    /// builds the same inputs by itself
    #[arg(long, value_name = "NAME", conflicts_with_all = ["registry", "channel"])]
    pub(crate) host: Option<String>,
    /// Another name for it, moved to this image: stable, say
    #[arg(long, value_name = "TAG")]
    pub(crate) channel: Vec<String>,
    /// Push although inputs of the image are not committed; the revision's name
    /// then ends in -dirty
    #[arg(long)]
    pub(crate) allow_dirty: bool,
    /// Print image, tag, digest and what was pushed as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Hash {
    /// Print the hash and all its parts as JSON, with what is not pinned
    #[arg(long)]
    pub(crate) json: bool,
    /// Show each part: settings, then every file with its own hash
    #[arg(long)]
    pub(crate) files: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Open the web page when the stack is up
    #[arg(long)]
    pub(crate) open: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Remove the data as well: metadata, demo source, analytics
    #[arg(long)]
    pub(crate) volumes: bool,
    /// With --volumes: do not ask
    #[arg(long, requires = "volumes")]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Services {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Which ones
    #[arg(value_parser = SERVICES)]
    pub(crate) services: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) at: At,
    /// Go on showing what comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the last lines of each service
    #[arg(long, default_value_t = 200)]
    pub(crate) tail: u32,
    /// Which ones (default: all)
    #[arg(value_parser = SERVICES)]
    pub(crate) services: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Nightly {
    #[command(flatten)]
    pub(crate) at: At,
    /// Follow the run that is queued or running, instead of starting one
    #[arg(
        long,
        conflicts_with_all = ["ignore_business_hours", "full", "no_wait", "dry_run"]
    )]
    pub(crate) follow: bool,
    /// Ask the guard to let the run start in business hours
    #[arg(long)]
    pub(crate) ignore_business_hours: bool,
    /// Load every table as a whole, not what changed
    #[arg(long)]
    pub(crate) full: bool,
    /// Start it and return at once
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Print the run and its tasks as JSON on standard output when it ends
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) dry: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct PassOn {
    #[command(flatten)]
    pub(crate) at: At,
    /// Arguments for the tool, after `--`
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

/// A database of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Database {
    /// Where raw data and marts live
    Analytics,
    /// Airflow's own
    Metadata,
    /// OpenDental's MySQL, by the account that can only read
    Source,
}

impl Database {
    /// As the command line has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Analytics => "analytics",
            Self::Metadata => "metadata",
            Self::Source => "source",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Sql {
    #[command(flatten)]
    pub(crate) at: At,
    /// Which database
    #[arg(value_enum, default_value_t = Database::Analytics)]
    pub(crate) database: Database,
    /// Run this statement and return, instead of opening a prompt
    #[arg(short, long)]
    pub(crate) command: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Shell {
    #[command(flatten)]
    pub(crate) at: At,
    /// The service
    #[arg(default_value = "airflow-scheduler", value_parser = SERVICES)]
    pub(crate) service: String,
}

#[derive(Debug, Args)]
pub(crate) struct Tunnel {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// The port of this machine (default: the one it has there)
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Open the web page
    #[arg(long)]
    pub(crate) open: bool,
}

#[derive(Debug, Default, Args)]
pub(crate) struct Lock {
    /// Change nothing; fail where a lock is not what it would be
    ///
    /// A tag that moved away from the digest that is written down is a warning:
    /// that digest is still good.
    #[arg(long, conflicts_with_all = ["upgrade", "dry_run"])]
    pub(crate) check: bool,
    /// Look for versions published up to today: of all packages, or of those
    /// that are named
    ///
    /// Airflow's release and its constraints stay. With names, base images are
    /// not looked at.
    #[arg(long, value_name = "PACKAGE", num_args = 0..)]
    pub(crate) upgrade: Option<Vec<String>>,
    /// The Debian packages of the local base images instead
    #[arg(long, conflicts_with = "upgrade")]
    pub(crate) bases: bool,
    #[command(flatten)]
    pub(crate) dry: DryRun,
}

/// Who is asked for advisories about Python packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// The package index's own JSON
    Pypi,
    /// OSV, which gathers those of all languages
    Osv,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    pub(crate) dry: DryRun,
    /// Who is asked about the Python packages
    #[arg(long, value_enum, default_value_t = Service::Pypi, conflicts_with = "cargo")]
    pub(crate) service: Service,
    /// The Python packages only
    #[arg(long, conflicts_with = "cargo")]
    pub(crate) python: bool,
    /// The crates only
    #[arg(long)]
    pub(crate) cargo: bool,
    /// Print everything that was found, and why it may stay, as JSON on standard
    /// output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Something that takes too long to be a part of every run
    #[arg(value_enum, conflicts_with_all = ["fast", "within", "only"])]
    pub(crate) suite: Option<Suite>,
    /// Leave out everything that needs containers
    #[arg(long)]
    pub(crate) fast: bool,
    /// Begin no part that, at this machine's pace, would end later than so many
    /// minutes after the start; what is left out is named at the end
    #[arg(long, value_name = "MINUTES")]
    pub(crate) within: Option<u64>,
    /// Only the parts with this in their name, and what they stand on
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
}

/// A suite of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Every fault in the middle of a deploy, at every phase; about an hour
    Faults,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
    /// How often what takes less than a second is measured
    #[arg(long, default_value_t = 11, global = true)]
    pub(crate) runs: usize,
    /// Print every run as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum BenchCommand {
    /// Hash, no-op build, cold build against pip, one changed requirement, push
    Image,
    /// A deploy with nothing to do, one changed line, an image by each transport, the
    /// way back; on a whole machine in a container, reached by a real ssh
    Deploy,
}
