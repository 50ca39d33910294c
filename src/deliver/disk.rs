//! One attempt at writing an event into a folder: beside its place, synced, renamed, the folder synced.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Instant,
};

use sha2::{Digest as _, Sha256};

use super::{
    Compression, DiskConfig,
    envelope::Payload,
    parcel::{Parcel, Subject},
    report::{Report, plain},
};
use crate::{job::hex, units::Time};

/// The longest name of a file or folder that is written; most file systems end at 255.
const MAX_NAME: usize = 200;

/// A folder that events are written into.
pub struct Disk {
    config: DiskConfig,
}

impl Disk {
    /// The sink of a folder.
    #[must_use]
    pub fn new(config: &DiskConfig) -> Self {
        Self { config: config.clone() }
    }

    /// The folder.
    #[must_use]
    pub fn target(&self) -> String {
        self.config.dir.display().to_string()
    }

    /// Writes an event once. Doing it again writes the same bytes to the same place.
    pub async fn attempt(&self, parcel: &Parcel, _now: Time) -> Report {
        let begun = Instant::now();
        let job = Writing {
            dir: self.config.dir.clone(),
            path: parcel.subject.as_ref().map(|subject| self.path(parcel, subject)),
            beside: format!(".{}.tmp", parcel.event_id),
            payload: Payload::of(parcel, self.config.format),
            compress: self.config.compress,
        };
        let written = tokio::task::spawn_blocking(move || job.write()).await;
        match written.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => Report::delivered(begun.elapsed()),
            Err(error) => Report::failed(error, begun.elapsed()),
        }
    }

    /// The file of an event, below the folder. Every value is escaped before it is put in, so none of them can
    /// name another folder.
    fn path(&self, parcel: &Parcel, subject: &Subject) -> PathBuf {
        let time = parcel.time.calendar();
        let values = [
            ("{source}", escaped(&subject.source)),
            ("{job_id}", escaped(subject.job_id.as_str())),
            ("{outcome}", subject.outcome.as_str().to_owned()),
            ("{event_id}", escaped(&parcel.event_id)),
            ("{yyyy}", format!("{:04}", time.year())),
            ("{mm}", format!("{:02}", time.month())),
            ("{dd}", format!("{:02}", time.day())),
        ];
        let mut path = self.config.dir.clone();
        let components: Vec<&str> = self.config.path.split('/').filter(|part| !part.is_empty()).collect();
        for (index, component) in components.iter().enumerate() {
            let mut name = (*component).to_owned();
            for (placeholder, value) in &values {
                name = name.replace(placeholder, value);
            }
            let last = index + 1 == components.len();
            if last && self.config.compress == Some(Compression::Zstd) {
                name.push_str(".zst");
            }
            path.push(shortened(name));
        }
        path
    }
}

/// Everything but letters, digits, `-`, `_` and `.` as `%XX`, and a dot at the start too: no value is `..`,
/// hidden, or a path.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for (index, byte) in value.bytes().enumerate() {
        let plain =
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && index > 0);
        if plain {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// A name that a file system takes. A longer one ends in a hash of the whole, so that different ids stay
/// different, and keeps its extension.
fn shortened(name: String) -> String {
    if name.len() <= MAX_NAME {
        return name;
    }
    let extension = name.find(".json").map_or("", |at| &name[at..]);
    let extension = if extension.len() <= 16 { extension } else { "" };
    let hash = hex(&Sha256::digest(&name)[..8]);
    let mut keep = MAX_NAME - extension.len() - hash.len() - 1;
    while !name.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}~{hash}{extension}", &name[..keep])
}

/// One write, apart from the sink, for a thread that may block.
struct Writing {
    dir: PathBuf,
    /// `None` for a test event, which leaves nothing behind.
    path: Option<PathBuf>,
    beside: String,
    payload: Payload,
    compress: Option<Compression>,
}

impl Writing {
    fn write(&self) -> Result<(), String> {
        let path = self.path.as_deref();
        let folder = path.and_then(Path::parent).unwrap_or(&self.dir);
        let cannot =
            |what: &Path, error: &io::Error| format!("cannot write {}: {}", what.display(), plain(error));
        make_folders(folder).map_err(|error| cannot(folder, &error))?;
        let beside = folder.join(&self.beside);
        let written = self.fill(&beside).and_then(|()| match path {
            Some(path) => fs::rename(&beside, path).and_then(|()| sync_folder(folder)),
            None => fs::remove_file(&beside),
        });
        written.map_err(|error| {
            // What was begun takes up room that may be just what is missing.
            let _ = fs::remove_file(&beside);
            cannot(path.unwrap_or(folder), &error)
        })
    }

    fn fill(&self, beside: &Path) -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(beside)?;
        // A left-over of another time may have had another mode.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        let mut reader = self.payload.reader().map_err(io::Error::other)?;
        match self.compress {
            None => {
                io::copy(&mut reader, &mut file)?;
            }
            Some(Compression::Zstd) => {
                let mut encoder =
                    zstd::stream::write::Encoder::new(&mut file, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                io::copy(&mut reader, &mut encoder)?;
                encoder.finish()?.flush()?;
            }
        }
        file.sync_all()
    }
}

/// Makes a folder with those above it, each made durable in the one it lies in.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        make_folders(above)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        // Another delivery was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(above.unwrap_or(Path::new("."))),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::{deliver::Body, job::Outcome};

    const JOB: &[u8] = b"{ \"n\": 1e-400,  \"m\":1234567890123456789012345 }\n";

    fn parcel(job_id: &str) -> Parcel {
        let subject = Subject {
            source: "retab".to_owned(),
            job_id: job_id.parse().unwrap(),
            outcome: Outcome::Completed,
            labels: BTreeMap::new(),
            reason: None,
        };
        let time = Time::parse("2026-11-23T17:00:02.5Z").unwrap();
        Parcel::job("evt_abc".to_owned(), time, subject, Body::Inline(Bytes::from_static(JOB)))
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
        }
        found
    }

    #[tokio::test]
    async fn a_job_is_written_as_it_is_for_its_owner_alone_and_again_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let sink = Disk::new(&DiskConfig::to(folder.path().join("out")));
        for _ in 0..2 {
            let report = sink.attempt(&parcel("job_1"), Time(0)).await;
            assert_eq!(report.error, None);
            let path = folder.path().join("out/retab/job_1.json");
            assert_eq!(files(folder.path()), std::slice::from_ref(&path));
            assert_eq!(fs::read(&path).unwrap(), JOB);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[tokio::test]
    async fn no_id_leads_out_of_the_folder_and_different_ids_stay_different() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let sink = Disk::new(&DiskConfig::to(&out));
        let long = "x".repeat(255);
        let ids =
            ["../../etc/passwd", "/etc/passwd", "a/b", "a%2Fb", ".hidden", "...", "a b", "ü", "x%00", "CON"];
        let (a, b) = (format!("{long}a"), format!("{long}b"));
        let ids: Vec<&str> = ids.into_iter().chain([a.as_str(), b.as_str()]).collect();
        for id in &ids {
            assert_eq!(sink.attempt(&parcel(id), Time(0)).await.error, None, "{id}");
        }
        let written = files(folder.path());
        assert_eq!(written.len(), ids.len(), "{written:?}");
        assert!(written.iter().all(|path| path.parent() == Some(&out.join("retab"))), "{written:?}");
        assert!(written.iter().all(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.')));
    }

    #[tokio::test]
    async fn dates_and_compression() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = DiskConfig::to(folder.path());
        config.path = "{yyyy}/{mm}/{dd}/{outcome}-{event_id}.json".to_owned();
        config.compress = Some(Compression::Zstd);
        assert_eq!(Disk::new(&config).attempt(&parcel("job_1"), Time(0)).await.error, None);
        let path = folder.path().join("2026/11/23/completed-evt_abc.json.zst");
        assert_eq!(zstd::decode_all(File::open(path).unwrap()).unwrap(), JOB);
    }

    #[tokio::test]
    async fn a_test_leaves_nothing_and_a_failure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let sink = Disk::new(&DiskConfig::to(folder.path().join("out")));
        let test = Parcel::test("evt_test1".to_owned(), Time(0), "hello");
        assert_eq!(sink.attempt(&test, Time(0)).await.error, None);
        assert!(files(folder.path()).is_empty());
        fs::write(folder.path().join("file"), "").unwrap();
        let sink = Disk::new(&DiskConfig::to(folder.path().join("file/out")));
        let error = sink.attempt(&parcel("job_1"), Time(0)).await.error.unwrap();
        assert!(error.starts_with("cannot write ") && error.contains("Not a directory"), "{error}");
    }
}
