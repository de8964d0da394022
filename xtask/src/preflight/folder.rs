//! The logs folder: the container's user has to be able to write in it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::check::Check;

/// A folder, as far as permissions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Folder {
    uid: u32,
    gid: u32,
    mode: u32,
}

/// The logs folder and the first of what is in it that differs; empty where
/// there is none yet.
pub(super) fn read(logs: &Path) -> Result<Vec<(String, Folder)>> {
    let look = |path: &Path| -> Result<Option<Folder>> {
        match fs::metadata(path) {
            Ok(found) => Ok(found.is_dir().then(|| Folder {
                uid: found.uid(),
                gid: found.gid(),
                mode: found.mode() & 0o777,
            })),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("failed to look at {}", path.display()))
            }
        }
    };
    let Some(folder) = look(logs)? else {
        return Ok(Vec::new());
    };
    let mut found = vec![("airflow/logs".to_owned(), folder)];
    // One that we may not list belongs to somebody else: the folder itself tells.
    for entry in fs::read_dir(logs).into_iter().flatten().flatten() {
        if let Some(inner) = look(&entry.path())? {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.push((format!("airflow/logs/{name}"), inner));
        }
    }
    Ok(found)
}

/// Whether `airflow_uid` in group 0, as the containers run, may write there.
/// `up` makes the folder and, as root, gives it to that user.
pub(super) fn check(found: &[(String, Folder)], airflow_uid: u32, my_uid: u32) -> Check {
    let give = format!("sudo chown -R {airflow_uid}:0 airflow/logs");
    let closed = found
        .iter()
        // As root, `up` gives the folder itself to the right user.
        .skip(usize::from(my_uid == 0))
        .find(|(_, folder)| !may_write(folder, airflow_uid));
    if let Some((name, folder)) = closed {
        let says = format!(
            "{name} belongs to user {} (mode {:04o}): user {airflow_uid} of the containers cannot \
             write there",
            folder.uid, folder.mode
        );
        return Check::fail("logs", says).fix(give);
    }
    if found.is_empty() && my_uid != 0 && my_uid != airflow_uid {
        let says = format!(
            "airflow/logs would belong to you (user {my_uid}): user {airflow_uid} of the \
             containers could not write there"
        );
        return Check::fail("logs", says).fix(format!("set AIRFLOW_UID={my_uid} in .env"));
    }
    Check::pass("logs", format!("user {airflow_uid} can write airflow/logs"))
}

fn may_write(folder: &Folder, uid: u32) -> bool {
    let bits = if folder.uid == uid {
        folder.mode >> 6
    } else if folder.gid == 0 {
        folder.mode >> 3
    } else {
        folder.mode
    };
    bits & 0o3 == 0o3
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    #[test]
    fn the_containers_user_has_to_get_in() {
        let logs = |uid, gid, mode| vec![("airflow/logs".to_owned(), Folder { uid, gid, mode })];
        for (found, airflow_uid, my_uid, state) in [
            (logs(1000, 1000, 0o755), 1000, 1000, State::Pass),
            (logs(0, 0, 0o755), 1000, 1000, State::Fail),
            (logs(0, 0, 0o775), 1000, 1000, State::Pass),
            (logs(2000, 2000, 0o777), 1000, 1000, State::Pass),
            (logs(1000, 0, 0o575), 1000, 1000, State::Fail),
            (logs(0, 0, 0o755), 50_000, 0, State::Pass),
            (vec![], 50_000, 0, State::Pass),
            (vec![], 1000, 1000, State::Pass),
            (vec![], 50_000, 1000, State::Fail),
        ] {
            let check = check(&found, airflow_uid, my_uid);
            assert_eq!(check.state, state, "{found:?}: {}", check.says);
        }
    }

    #[test]
    fn a_folder_of_another_user_inside_is_found_for_root_as_well() {
        let root = tempfile::tempdir().unwrap();
        let logs = root.path().join("logs");
        fs::create_dir_all(logs.join("scheduler")).unwrap();
        let mut found = read(&logs).unwrap();
        assert_eq!(found.len(), 2);
        found[1].1 = Folder {
            uid: 0,
            gid: 0,
            mode: 0o755,
        };
        let check = check(&found, 50_000, 0);
        assert_eq!(check.state, State::Fail);
        assert!(
            check
                .says
                .starts_with("airflow/logs/scheduler belongs to user 0")
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_none() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(&root.path().join("logs")).unwrap(), []);
    }
}
