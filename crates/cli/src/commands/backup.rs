//! `dalsegno backup` and `dalsegno restore`

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use dalsegno_core::store::Store;
use dalsegno_store_embedded::backup::{self, BackupError, BackupInfo};
use dalsegno_store_embedded::{EmbeddedStore, Options};

use super::verify;
use crate::failure::{Exit, Failure};
use crate::output::{self, Row};
use crate::session::Session;

/// Behind the name of a file that is not whole yet.
const PARTIAL: &str = ".partial";
/// Behind the name of a file: the folder in which it is proved.
const CHECKED: &str = ".check";

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno backup --to orders.backup --hub orders\nThe hub goes on meanwhile. With --path it has to be one that nobody has open."
)]
pub(crate) struct Backup {
    /// The file to write; there must be none of that name
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Of the hub in this folder, instead of one of a host that runs
    #[arg(long, value_name = "FOLDER")]
    path: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: dalsegno restore orders.backup --path .dalsegno/hub\nThen start the host on that folder."
)]
pub(crate) struct Restore {
    /// The file of the backup
    file: PathBuf,
    /// The folder of the new hub, which is not there or empty
    #[arg(long, value_name = "FOLDER", required_unless_present = "check")]
    path: Option<PathBuf>,
    /// Make no hub: restore it aside, verify that, and remove it again
    #[arg(long, conflicts_with = "path")]
    check: bool,
}

impl Backup {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        if self.to.exists() {
            return Err(taken(&self.to));
        }
        let partial = with(&self.to, PARTIAL);
        let written = match &self.path {
            Some(folder) => offline(session, folder, &partial).await,
            None => online(session, &partial).await,
        };
        let info = match written {
            Ok(()) => proved(session, &partial, &self.to).await,
            Err(failure) => Err(failure),
        };
        if info.is_err() {
            // What is left is of no use to anybody.
            let _ = fs::remove_file(&partial);
        }
        tell(session, &info?, "backed up");
        Ok(Exit::Ok)
    }
}

impl Restore {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Failure> {
        let Some(folder) = self.path else {
            return self.prove(session).await;
        };
        let (file, place) = (self.file, folder.clone());
        let restored = aside(session, "restoring", move || {
            backup::restore(&file, &place).map_err(refused)
        });
        tell(session, &restored.await?, "restored");
        session.say(&format!("the hub is in {}", folder.display()));
        Ok(Exit::Ok)
    }

    /// Is there a hub in the file that a host would open, and does all in it fit together?
    async fn prove(&self, session: &Session) -> Result<Exit, Failure> {
        let (file, folder) = (self.file.clone(), with(&self.file, CHECKED));
        let checked = aside(session, "checking", move || {
            // An attempt that was cut off may have left it.
            let _ = fs::remove_dir_all(&folder);
            let checked = check(&file, &folder);
            let _ = fs::remove_dir_all(&folder);
            checked
        });
        let (info, problems) = checked.await?;
        for problem in &problems {
            output::talk(&format!("problem: {problem}"));
        }
        if problems.is_empty() {
            tell(session, &info, "sound");
            Ok(Exit::Ok)
        } else {
            tell(session, &info, &format!("{} problems", problems.len()));
            Ok(Exit::Unexpected)
        }
    }
}

fn check(file: &Path, folder: &Path) -> Result<(BackupInfo, Vec<String>), Failure> {
    let info = backup::restore(file, folder).map_err(refused)?;
    let report = verify::read(folder)?;
    let problems = match report.is_sound() {
        true => verify::check_meaning(folder)?,
        false => report.problems,
    };
    Ok((info, problems))
}

/// From a host that runs, as it sends it.
async fn online(session: &Session, partial: &Path) -> Result<(), Failure> {
    let hub = &session.hub;
    let name = session.ask(hub.info()).await?.name;
    let mut pieces = hub.backup(&name).await?;
    let mut file = create(partial)?;
    while let Some(piece) = pieces.next().await? {
        file.write_all(piece.as_ref())
            .map_err(|error| unwritten(partial, &error))?;
    }
    file.sync_all().map_err(|error| unwritten(partial, &error))
}

/// Of a folder that nobody has open. It is opened as a start does it, so its log is in the backup.
async fn offline(session: &Session, folder: &Path, partial: &Path) -> Result<(), Failure> {
    let (folder, partial) = (folder.to_owned(), partial.to_owned());
    aside(session, "copying", move || {
        if !folder.join("identity").exists() {
            let text = format!("{} holds no hub", folder.display());
            return Err(Failure::configuration(&text));
        }
        let store = EmbeddedStore::open(&folder, Options::default()).map_err(|error| {
            let failure = Failure::unopened(&folder, &error);
            match error.is_in_use() {
                true => failure.help("dalsegno backup without --path asks the host that has it open"),
                false => failure,
            }
        })?;
        let pieces = store.backup("default").map_err(|error| Failure::unread(&error))?;
        let mut file = create(&partial)?;
        for piece in pieces.into_iter().flatten() {
            let piece = piece.map_err(|error| Failure::unread(&error))?;
            file.write_all(&piece)
                .map_err(|error| unwritten(&partial, &error))?;
        }
        file.sync_all().map_err(|error| unwritten(&partial, &error))
    })
    .await
}

/// Reads what was written back from the disk, then gives it its name.
async fn proved(session: &Session, partial: &Path, to: &Path) -> Result<BackupInfo, Failure> {
    let (partial, to) = (partial.to_owned(), to.to_owned());
    aside(session, "reading back", move || {
        let info = backup::check_file(&partial).map_err(refused)?;
        // A link of another name does not replace a file that came meanwhile, as a rename does.
        fs::hard_link(&partial, &to)
            .and_then(|()| fs::remove_file(&partial))
            .map_err(|error| unwritten(&to, &error))?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(|error| unwritten(&to, &error))?;
        Ok(info)
    })
    .await
}

/// Readable by its owner alone: it holds whatever users gave.
fn create(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| unwritten(path, &error))
}

async fn aside<T: Send + 'static>(
    session: &Session,
    what: &str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = session.patiently(tokio::task::spawn_blocking(work), || format!("still {what}"));
    done.await
        .unwrap_or_else(|error| Err(Failure::unexpected(&error)))
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(suffix);
    name.into()
}

fn taken(path: &Path) -> Failure {
    Failure::usage(format!("{} is there already", path.display())).help("choose another name")
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::unexpected(&format_args!("{} cannot be written: {error}", path.display()))
}

fn refused(error: BackupError) -> Failure {
    if error.is_occupied() {
        return Failure::usage(error.to_string()).help("choose another folder with --path");
    }
    Failure::unexpected(&error)
}

fn tell(session: &Session, info: &BackupInfo, what: &str) {
    let json = serde_json::json!({
        "result": what,
        "hub": info.hub,
        "store": info.store,
        "partitions": info.partitions,
        "lastCommit": info.position,
        "databaseBytes": info.database_bytes,
    });
    let row = Row {
        id: info.hub.clone(),
        cells: vec![
            what.to_owned(),
            info.hub.clone(),
            info.position.to_string(),
            info.partitions.to_string(),
            output::bytes(info.database_bytes),
        ],
        json: json.to_string(),
    };
    session.one(&["result", "hub", "commits", "partitions", "tables"], &row);
}
