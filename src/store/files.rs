//! Folders that are private, durable, and held by descriptor.

use std::{
    fs, io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

/// An open folder.
#[derive(Debug)]
pub(super) struct Held {
    file: fs::File,
    path: PathBuf,
}

impl Held {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = fs::File::open(path)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        match path.is_dir() {
            true => Ok(Self { file, path }),
            false => Err(io::Error::other("it is no folder, or /proc is not mounted")),
        }
    }

    pub(super) fn file(&self) -> &fs::File {
        &self.file
    }

    /// Leads to this folder, whatever became of its name. Good for as long as this is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a folder that its owner alone can read: jobs and callback secrets lie in it.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
