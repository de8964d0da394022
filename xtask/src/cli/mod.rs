//! The whole command surface. The doc comments are the help.

mod host;
mod image;
mod project;
mod stack;
#[cfg(test)]
mod written;

use clap::{Args, Parser, Subcommand};

pub(crate) use host::*;
pub(crate) use image::*;
pub(crate) use project::*;
pub(crate) use stack::*;

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
    /// once. Where deploy.toml names a registry and somebody has pushed it
    /// there, it is pulled. Where the base images' registry cannot be reached,
    /// equivalents are made from Debian and PyPI packages (see bases/README.md).
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
    /// Run everything that a change has to pass: formats, lints, tests, whole nights
    ///
    /// The same on a laptop and in CI. What looks at files goes on beside what runs
    /// databases, stacks and hosts; nothing stops at a failure, and the end has a line
    /// for each part. As a job of GitHub Actions findings stand at their lines.
    ///
    /// For example: cargo xtask ci --only ruff --only "ETL tests"
    Ci(Ci),
    /// Print a shell's completions, for the program that `cargo install` makes
    ///
    /// For example, once: cargo install --path xtask; then in ~/.bashrc:
    /// source <(xtask completions bash). It works on the checkout around the current
    /// folder, as cargo xtask does.
    Completions(Completions),
    /// Write docs/reference.md: what --help says of each command
    Reference(Reference),
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

/// Whose stack a command means.
#[derive(Debug, Default, Args)]
pub(crate) struct At {
    /// A host of deploy.toml, instead of this machine
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
}

/// The host that a command is about.
#[derive(Debug, Args)]
pub(crate) struct OnHost {
    /// The host's name in deploy.toml
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
}
