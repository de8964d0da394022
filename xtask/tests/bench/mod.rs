//! A checkout of its own and a PATH of stand-ins that note their argv.

#![allow(dead_code, unreachable_pub, reason = "each file of tests uses a part")]

pub mod airflow;

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::{Pid, Signal, kill_process_group};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// What `docker build --help` says with BuildKit inside the CLI.
pub const BUILTIN: &str = "  --secret stringArray  Secret file to expose";
/// And from the legacy builder of 28.x without its plugin.
pub const LEGACY: &str = "  --tag list  Name and optionally a tag";
pub const DOWN: &str = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. \
                    Is the docker daemon running?";
pub const DENIED: &str = "permission denied while trying to connect to the Docker daemon socket";

/// A checkout, and folders of stand-ins in the order of PATH.
pub struct Bench {
    pub root: TempDir,
    pub ports: [u16; 3],
    pub path: Vec<PathBuf>,
}

/// What one run left behind, with what differs between machines replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub stdout: String,
    pub stderr: String,
    pub status: i32,
}

impl Bench {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for name in [
            "deploy.toml",
            ".env.template",
            "docker-compose.yml",
            "docker-compose.override.yml",
            "Dockerfile.airflow",
            ".dockerignore",
            "xtask/Cargo.toml",
            "bases",
            "requirements-airflow.txt",
            "requirements-airflow.lock",
            "requirements-installer.txt",
            "requirements-installer.lock",
            "requirements-dev.txt",
            "requirements-dev.lock",
            "requirements-audit.txt",
            "requirements-audit.lock",
            "audit.toml",
            "airflow/tests/Dockerfile",
            "airflow/tests/Dockerfile.dockerignore",
            "etl_pipeline/bench/Dockerfile",
            "etl_pipeline/bench/Dockerfile.dockerignore",
            "etl_pipeline/bench/requirements.lock",
        ] {
            copy(&repository.join(name), &root.path().join("tree").join(name));
        }
        unpin(&root.path().join("tree/deploy.toml"));
        let bench = Self {
            root,
            ports: free_ports(),
            path: Vec::new(),
        };
        bench.env(&bench.valid_env());
        bench
    }

    /// The same, and an engine with every base and no image of ours yet; `cases`
    /// come before its own answers.
    pub fn stocked(cases: &str) -> Self {
        let mut bench = Self::healthy();
        let stock = bench.stock();
        bench.docker("one", BUILTIN, &format!("{cases}\n{stock}"));
        bench
    }

    /// docker 20.10 with BuildKit inside, an engine that answers, Compose 1.29.2.
    pub fn healthy() -> Self {
        let mut bench = Self::new();
        bench.docker("one", BUILTIN, &engine_up());
        bench.program("one", "docker-compose", "echo 1.29.2");
        bench
    }

    pub fn tree(&self) -> PathBuf {
        self.root.path().join("tree")
    }

    /// The project that a new `.env` names: two clones by one name have two, for their
    /// paths tell them apart.
    pub fn new_project(&self) -> String {
        let path = Sha256::digest(self.tree().as_os_str().as_encoded_bytes());
        format!("dental-tree-{:02x}{:02x}", path[0], path[1])
    }

    /// The template with every `<placeholder>` filled.
    pub fn valid_env(&self) -> String {
        let [web, postgres, mysql] = self.ports;
        let value = |name: &str| match name {
            "COMPOSE_PROJECT_NAME" => "dental".to_owned(),
            "AIRFLOW_UID" => uid().to_string(),
            "AIRFLOW_WEBSERVER_PORT" => web.to_string(),
            "POSTGRES_HOST_PORT" => postgres.to_string(),
            "MYSQL_HOST_PORT" => mysql.to_string(),
            "AIRFLOW_FERNET_KEY" => "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned(),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" => {
                "postgresql+psycopg2://airflow:AIRFLOW_DB_PASSWORD-1@postgres:5432/airflow"
                    .to_owned()
            }
            "ETL_PIPELINE_START_DATE" => "2026-01-01T00:00:00-06:00".to_owned(),
            secret => format!("{secret}-1"),
        };
        let template = fs::read_to_string(self.tree().join(".env.template")).unwrap();
        let lines = template.lines().map(|line| match line.split_once("=<") {
            Some((name, _)) => format!("{name}={}\n", value(name)),
            None => format!("{line}\n"),
        });
        lines.collect()
    }

    pub fn env(&self, text: &str) {
        let path = self.tree().join(".env");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A stand-in that notes its argv; `body` is shell, builtins only.
    pub fn program(&mut self, folder: &str, name: &str, body: &str) {
        let folder = self.root.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >>'{root}/calls'\n\
             {{ printf '%s\\n' \"== {name} $*\"; export -p; }} >>'{root}/environments'\n{body}\n",
            root = self.root.path().display()
        );
        let path = folder.join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        if !self.path.contains(&folder) {
            self.path.push(folder);
        }
    }

    /// A `docker` whose `build --help` is `help`; `cases` answer the rest.
    pub fn docker(&mut self, folder: &str, help: &str, cases: &str) {
        let body = format!(
            "case \"$1 $2\" in\n'build --help') printf '%s\\n' '{help}' ;;\n\
             'compose version') echo 'unknown command: docker compose' >&2; exit 1 ;;\n{cases}\nesac"
        );
        self.program(folder, "docker", &body);
    }

    pub fn run(&self, args: &[&str]) -> Seen {
        self.run_with(args, &[])
    }

    pub fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Seen {
        self.run_in(&self.tree(), args, env)
    }

    pub fn run_in(&self, folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Seen {
        let output = self
            .command(folder, args)
            .envs(env.iter().copied())
            .output()
            .unwrap();
        self.seen(&output)
    }

    /// Presses Ctrl-C as soon as standard error has said `until`.
    pub fn interrupt(&self, args: &[&str], until: &str) -> Seen {
        let mut child = self
            .command(&self.tree(), args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        let mut stderr = child.stderr.take().unwrap();
        while !String::from_utf8_lossy(&said).contains(until) {
            let mut some = [0; 256];
            let read = stderr.read(&mut some).unwrap();
            assert_ne!(read, 0, "ended before {until:?}: {}", self.plain(&said));
            said.extend(&some[..read]);
        }
        // As a terminal does: to all that run in the foreground.
        let group = Pid::from_child(&child);
        kill_process_group(group, Signal::INT).unwrap();
        stderr.read_to_end(&mut said).unwrap();
        let mut output = child.wait_with_output().unwrap();
        output.stderr = said;
        self.seen(&output)
    }

    fn command(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(args)
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::join_paths(&self.path).unwrap());
        command
    }

    fn seen(&self, output: &Output) -> Seen {
        Seen {
            stdout: self.plain(&output.stdout),
            stderr: self.plain(&output.stderr),
            status: output.status.code().unwrap(),
        }
    }

    /// Paths, ports and the user replaced by their names.
    pub fn plain(&self, bytes: &[u8]) -> String {
        let mut text = String::from_utf8(bytes.to_vec()).unwrap();
        text = text.replace(&self.root.path().display().to_string(), "<root>");
        let [web, postgres, mysql] = self.ports;
        for (value, name) in [(web, "<web>"), (postgres, "<postgres>"), (mysql, "<mysql>")] {
            text = replace_word(&text, &value.to_string(), name);
        }
        text.replace(&format!("user {}", uid()), "user <uid>")
    }

    /// What was called, a line each; the mark of a call is another each time.
    pub fn calls(&self) -> String {
        let told = fs::read_to_string(self.root.path().join("calls")).unwrap_or_default();
        let mut parts = told.split("XTASK_CALL=");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| {
            let (mark, rest) = part.split_at(16);
            assert!(mark.bytes().all(|b| b.is_ascii_hexdigit()), "{mark}");
            text + "XTASK_CALL=<call>" + rest
        })
    }

    /// The environment of the last call that begins with `call`.
    pub fn environment(&self, call: &str) -> String {
        let all = fs::read_to_string(self.root.path().join("environments")).unwrap();
        let mut blocks = all.rsplit("== ");
        blocks
            .find(|block| block.starts_with(call))
            .unwrap()
            .to_owned()
    }

    /// The full hash of the tree's inputs, and the image's name.
    pub fn hash_and_image(&self) -> (String, String) {
        let told = self.run(&["build", "--dry-run", "--json"]);
        let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
        let text = |key: &str| told[key].as_str().unwrap().to_owned();
        (text("inputs"), text("image"))
    }

    /// The labels of the image, as arguments of `docker build`; `hash` where it is
    /// known, each quoted where a shell needs it.
    pub fn labels(&self, hash: &str, base: &str, quoted: bool) -> String {
        let told = self.run(&["hash", "--json"]);
        let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
        let scheme = told["scheme"].as_str().unwrap();
        let manifest = format!(
            r#"{{"scheme":"{scheme}","settings":{},"files":{}}}"#,
            told["settings"], told["files"]
        );
        let lock = told["files"]["requirements-airflow.lock"].as_str().unwrap();
        let (_, lock) = lock.split_once(' ').unwrap();
        let labels = [
            format!("dental.image.inputs={hash}"),
            format!("dental.image.scheme={scheme}"),
            format!("dental.image.manifest={manifest}"),
            "org.opencontainers.image.title=airflow-dbt-dental".to_owned(),
            format!("org.opencontainers.image.base.name={base}"),
            format!("dental.image.lock={lock}"),
        ];
        let words = labels.map(|label| {
            let special = label.contains(['{', '<', ' ']);
            let quote = if quoted && special { "'" } else { "" };
            format!(" --label {quote}{label}{quote}")
        });
        words.concat()
    }

    /// Forgets every call so far.
    pub fn forget(&self) {
        for name in ["calls", "environments"] {
            fs::remove_file(self.root.path().join(name)).ok();
        }
    }

    /// An engine that has the bases, and that has what it built since.
    pub fn stock(&self) -> String {
        let built = self.root.path().join("built").display().to_string();
        let image = |name: &str| {
            format!(
                r#"{{"Id":"sha256:{name}","RepoTags":["{name}"],"Os":"linux","Architecture":"amd64","Config":{{"Labels":null}}}}"#
            )
        };
        let airflow = image("apache/airflow:2.7.1-python3.11");
        let (postgres, mariadb) = (image("postgres:15"), image("mariadb:10.11"));
        let remembered = r#"{"Id":"sha256:built","RepoTags":["%s"],"Config":{"Labels":{"dental.image.inputs":"%s"}}}\n"#;
        format!(
            "'image inspect') shift 2; all=; missing=; for name; do one=\n\
             case \"$name\" in\n\
             apache/airflow:*) one='{airflow}' ;;\n\
             postgres:*) one='{postgres}' ;;\n\
             mariadb:*) one='{mariadb}' ;;\n\
             airflow-dbt-dental:*) if [ -e '{built}' ]; then read -r one <'{built}'; fi ;;\n\
             esac\n\
             if [ \"$one\" ]; then all=\"$all${{all:+,}}$one\"; else missing=1; fi; done\n\
             printf '[%s]\\n' \"$all\"\n\
             if [ \"$missing\" ]; then echo 'Error: No such image' >&2; exit 1; fi ;;\n\
             'history --no-trunc') case \"$6\" in\n\
             airflow-dbt-dental:*) printf '34000000\\tRUN\\n432000000\\tADD\\n' ;;\n\
             *) printf '432000000\\tADD\\n' ;;\n\
             esac ;;\n\
             'build --file')\n\
             for word; do case \"$word\" in\n\
             dental.image.inputs=*) hash=${{word#*=}} ;;\n\
             *:latest) ;;\n\
             airflow-dbt-dental:*) tag=$word ;;\n\
             esac; done\n\
             printf '{remembered}' \"$tag\" \"$hash\" >'{built}'; echo 'the builder talks' >&2 ;;\n{}",
            engine_up()
        )
    }
}

/// Takes the digests out: a stand-in's images are known by their tags, whatever
/// the repository's bases are pinned to today.
fn unpin(deploy: &Path) {
    let text = fs::read_to_string(deploy).unwrap();
    let lines = text.lines().map(|line| match line.split_once("@sha256:") {
        Some((tagged, _)) if line.ends_with('"') => format!("{tagged}\"\n"),
        _ => format!("{line}\n"),
    });
    fs::write(deploy, lines.collect::<String>()).unwrap();
}

/// `from` where it is a word of its own: a port is not part of a hash.
fn replace_word(text: &str, from: &str, to: &str) -> String {
    let mut parts = text.split(from);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    for part in parts {
        let part_of_more = inside(replaced.chars().last()) || inside(part.chars().next());
        replaced.push_str(if part_of_more { from } else { to });
        replaced.push_str(part);
    }
    replaced
}

pub fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

/// 50000 is the image's own user, for who runs as root.
pub fn uid() -> u32 {
    match rustix::process::getuid().as_raw() {
        0 => 50_000,
        uid => uid,
    }
}

/// Three that nobody listens on, and that no other test is given: below those that
/// the system hands to whoever asks for any.
pub fn free_ports() -> [u16; 3] {
    static NEXT: AtomicU16 = AtomicU16::new(15_000);
    [(); 3].map(|()| {
        loop {
            let port = NEXT.fetch_add(1, Ordering::Relaxed);
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return port;
            }
        }
    })
}

/// An engine on another machine, so that no figure of this one is seen.
pub fn engine_up() -> String {
    engine("20.10.24+dfsg1", 8 << 30)
}

pub fn engine(version: &str, memory: u64) -> String {
    let now = jiff::Timestamp::now();
    let info = format!(
        r#"{{"ServerVersion":"{version}","DockerRootDir":"/var/lib/docker","Name":"a-host-of-no-name","MemTotal":{memory},"SystemTime":"{now}"}}"#
    );
    format!(
        "'info --format') printf '%s\\n' '{info}' ;;\n\
         'version --format') echo '{version}' ;;\n\
         'image inspect') echo '[]'; echo 'Error: No such image' >&2; exit 1 ;;"
    )
}

/// 20.10's CLI: JSON with the error inside, status 0.
pub fn engine_silent(said: &str) -> String {
    format!(
        "'info --format') printf '%s\\n' '{{\"ServerErrors\":[\"{said}\"]}}' ;;\n\
         *) echo '{said}' >&2; exit 1 ;;"
    )
}

/// A run that printed nothing but talk.
pub fn seen(stderr: String, status: i32) -> Seen {
    Seen {
        stdout: String::new(),
        stderr,
        status,
    }
}

/// How long a step took is behind two spaces, at the end of its line.
pub fn without_durations(text: &str) -> String {
    let lines = text.lines().map(|line| match line.rsplit_once("  ") {
        Some((done, time)) if time.ends_with(" ms") || time.ends_with(" s") => {
            format!("{done}  <time>\n")
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}
