//! The program that `cargo install --path xtask` makes.

#![expect(clippy::unwrap_used, reason = "a test ends where something is wrong")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn said(output: Output) -> String {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// With the profile of these tests, whose crates are built.
#[test]
fn it_finds_the_checkout_from_any_folder_of_it_and_a_shell_knows_its_commands() {
    let folder = tempfile::tempdir().unwrap();
    let install = Command::new(env!("CARGO"))
        .args(["install", "--path", "xtask", "--debug", "--quiet"])
        .args(["--locked", "--offline", "--no-track", "--root"])
        .arg(folder.path())
        .current_dir(root())
        .output();
    said(install.unwrap());
    let program = folder.path().join("bin/xtask");
    let run = |args: &[&str], at: &Path| Command::new(&program).args(args).current_dir(at).output();

    let inside = root().join("airflow/dags");
    let hash = said(run(&["hash"], &inside).unwrap());
    let here = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("hash")
        .current_dir(root())
        .output();
    assert_eq!(hash, said(here.unwrap()));

    let outside = run(&["hash"], folder.path()).unwrap();
    let told = format!(
        "error: failed to find the repository around {}\n\
         hint: cd into a checkout; its root holds docker-compose.yml and Dockerfile.airflow\n",
        folder.path().display()
    );
    assert_eq!(String::from_utf8(outside.stderr).unwrap(), told);
    assert_eq!(outside.status.code(), Some(2));

    let script = "source <(\"$1\" completions bash)
        COMP_WORDS=(xtask night); COMP_CWORD=1
        _xtask xtask night xtask; echo \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash")
        .args(["-c", script, "bash"])
        .arg(&program)
        .output();
    assert_eq!(said(completed.unwrap()), "nightly\n");
}
