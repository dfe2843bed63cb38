//! Folders that are durable: a folder whose name was never synced is gone after a power loss, with
//! everything in it that was.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Creates a folder and those above it that are missing, private to their user, with durable names.
pub(crate) fn create(folder: &Path) -> io::Result<()> {
    create_with(folder, &mut sync)
}

/// Makes the name of a folder durable that may have been created by a process that was cut off
/// before it did so, and the names of the folders above it as far as they can be opened.
pub(crate) fn sync_names(folder: &Path) -> io::Result<()> {
    sync_names_with(folder, &mut sync)
}

fn create_with(folder: &Path, sync: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    let missing: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|folder| !folder.exists())
        .map(Path::to_owned)
        .collect();
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    // From the inside out, so that a name which is durable leads to names which are.
    for created in missing {
        created.parent().map_or(Ok(()), &mut *sync)?;
    }
    Ok(())
}

fn sync_names_with(folder: &Path, sync: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    for (above, parent) in folder.ancestors().skip(1).enumerate() {
        match sync(parent) {
            // A folder of somebody else was not created by us.
            Err(_) if above > 0 => return Ok(()),
            synced => synced?,
        }
    }
    Ok(())
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_folder_that_is_created_has_its_name_synced_in_the_one_above() {
        // The name of the hub's folder was never synced: a power loss took the whole hub.
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let mut synced = Vec::new();
        let hub = root.join("a/b/hub");
        let mut note = |folder: &Path| {
            synced.push(folder.strip_prefix(&root).unwrap().to_owned());
            Ok(())
        };
        create_with(&hub, &mut note).unwrap();
        create_with(&hub, &mut note).unwrap();
        assert_eq!(synced, ["a/b", "a", ""].map(PathBuf::from));
        for folder in [hub.clone(), root.join("a")] {
            let mode = folder.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
        }
    }

    #[test]
    fn a_folder_whose_name_cannot_be_synced_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let mut refuse = |_: &Path| Err(io::Error::other("input/output error"));
        assert!(create_with(&root.path().join("a/hub"), &mut refuse).is_err());
        assert!(sync_names_with(&root.path().join("a/hub"), &mut refuse).is_err());
    }

    #[test]
    fn folders_above_that_are_not_ours_to_open_do_not_matter() {
        let mut synced = 0;
        let mut first_only = |_: &Path| {
            synced += 1;
            match synced {
                1 => Ok(()),
                _ => Err(io::ErrorKind::PermissionDenied.into()),
            }
        };
        sync_names_with(Path::new("/srv/data/hub"), &mut first_only).unwrap();
        assert_eq!(synced, 2);
    }
}
