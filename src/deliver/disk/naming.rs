//! The name of a written file, and the rule that it takes no file from another job.
//!
//! Two jobs may have one path: `{job_id}.json` is the same for two sources, and a file system that
//! ignores case has one file for `a` and `A`. So a file takes a free name in one step. It replaces
//! an existing file only if a delivery of the same job to the same sink, of no later event,
//! recorded that it wrote it, or if the path belongs to no other job. Otherwise, and where a folder
//! has the name, the event gets a fallback name with a hash of sink, source and job id.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use data_encoding::HEXLOWER;
use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, statat,
        unlinkat,
    },
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{Inner, WriteError, failed, path_template::with_hash};
use crate::{
    deliver::{message::Message, outcome::AttemptOutcome},
    store::{FileMark, Owner},
};

/// A complete file under a temporary name. Dropping it removes the file, unless it got its name.
pub struct Draft {
    inner: Arc<Inner>,
    folder: File,
    temporary: String,
    name: String,
    /// The name that no other job or sink can use.
    fallback: String,
    mark: FileMark,
    path: PathBuf,
    began: Instant,
    is_named: bool,
    /// The id alone does not name the job.
    has_kind: bool,
}

/// The result of taking the name.
pub enum Claim {
    /// The attempt is over.
    Done(AttemptOutcome),
    /// A file has the name.
    Taken(Draft, FileMark),
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_named {
            // A leftover is overwritten by the next attempt.
            let _ = unlinkat(&self.folder, &self.temporary, AtFlags::empty());
        }
    }
}

impl Draft {
    pub(super) fn new(
        inner: Arc<Inner>,
        (message, result): (&Message, &str),
        folder: File,
        temporary: String,
        file: &File,
        began: Instant,
    ) -> Result<Self, WriteError> {
        let (_, name) = inner.place(message, result);
        let (source, job_id) = match (&message.subject, &message.about) {
            (Some(subject), _) => (subject.source.as_str(), subject.job_id.as_str()),
            (None, Some(_)) => ("", message.event_id.as_str()),
            (None, None) => ("", ""),
        };
        let kind = message.subject.as_ref().and_then(|subject| subject.kind.as_ref()?.beside_id());
        let owner = [inner.sink.as_str(), source, job_id]
            .into_iter()
            .chain(kind)
            .fold(Sha256::new(), |hash, part| {
                hash.chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
            });
        let hash = HEXLOWER.encode(&owner.finalize()[..16]);
        let (fallback, path) = (with_hash(&name, &hash), inner.path(message, result));
        let mark = mark_of(file)?;
        Ok(Self {
            inner,
            folder,
            temporary,
            name,
            fallback,
            mark,
            path,
            began,
            is_named: false,
            has_kind: kind.is_some(),
        })
    }

    /// Returns the identity of the file.
    #[must_use]
    pub fn mark(&self) -> FileMark {
        self.mark
    }

    /// Returns the existing files under the names that this one may take.
    #[must_use]
    pub fn present(&self) -> Vec<FileMark> {
        [&self.name, &self.fallback].into_iter().filter_map(|name| self.existing(name)).collect()
    }

    /// Takes the name if it is free.
    pub async fn claim(self) -> Claim {
        let (path, began) = (self.path.clone(), self.began);
        let claimed = tokio::task::spawn_blocking(move || self.claim_now()).await;
        let claimed = claimed.unwrap_or(Err(WriteError::Interrupted));
        claimed.unwrap_or_else(|error| Claim::Done(failed(&path, error, began)))
    }

    /// Takes the name from an existing file of the same job, and the fallback name otherwise.
    pub async fn settle(self, owner: Owner) -> AttemptOutcome {
        let (path, began) = (self.path.clone(), self.began);
        let settled = tokio::task::spawn_blocking(move || self.settle_now(owner)).await;
        match settled.unwrap_or(Err(WriteError::Interrupted)) {
            Ok(()) => AttemptOutcome::delivered(began.elapsed()),
            Err(error) => failed(&path, error, began),
        }
    }

    /// Takes the name, where no record tells who owns an existing file. One with the same bytes is
    /// that of an earlier attempt. A name that only the kind would tell from that of another job is
    /// left to the default kind.
    pub(super) fn take_name(self) -> Result<(), WriteError> {
        let template = &self.inner.template;
        if template.tells_jobs_apart(usize::MAX, false)
            && !template.tells_jobs_apart(usize::MAX, self.has_kind)
        {
            return self.take_fallback();
        }
        match self.claim_now()? {
            Claim::Done(_) => Ok(()),
            Claim::Taken(draft, _) => {
                let is_same = draft.is_equal(&draft.name).unwrap_or(false);
                draft.settle_now(if is_same { Owner::Same } else { Owner::Unknown })
            }
        }
    }

    fn take_fallback(mut self) -> Result<(), WriteError> {
        renameat(&self.folder, &self.temporary, &self.folder, &self.fallback)?;
        self.is_named = true;
        Ok(self.folder.sync_all()?)
    }

    /// Returns whether the file of this name has the bytes of this one.
    fn is_equal(&self, name: &str) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |name: &str| openat(&self.folder, name, flags, Mode::empty()).map(File::from);
        let (own, other) = (open(&self.temporary)?, open(name)?);
        if !other.metadata()?.is_file() || own.metadata()?.len() != other.metadata()?.len() {
            return Ok(false);
        }
        let (mut own, mut other) = (BufReader::new(own), BufReader::new(other));
        loop {
            let (left, right) = (own.fill_buf()?, other.fill_buf()?);
            let equal = left.len().min(right.len());
            if equal == 0 || left[..equal] != right[..equal] {
                return Ok(left.is_empty() && right.is_empty());
            }
            own.consume(equal);
            other.consume(equal);
        }
    }

    fn claim_now(mut self) -> Result<Claim, WriteError> {
        let named =
            renameat_with(&self.folder, &self.temporary, &self.folder, &self.name, RenameFlags::NOREPLACE);
        let named = match named {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.link(),
            done => done,
        };
        match named {
            Ok(()) => {
                self.is_named = true;
                self.folder.sync_all()?;
                Ok(Claim::Done(AttemptOutcome::delivered(self.began.elapsed())))
            }
            Err(Errno::EXIST) => match self.existing(&self.name) {
                Some(there) => Ok(Claim::Taken(self, there)),
                // The other file was removed at this moment.
                None => Err(Errno::EXIST.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a free name where the file system cannot rename without replacing.
    fn link(&self) -> Result<(), Errno> {
        match linkat(&self.folder, &self.temporary, &self.folder, &self.name, AtFlags::empty()) {
            Ok(()) => {
                // A second name is harmless; the next attempt removes it.
                let _ = unlinkat(&self.folder, &self.temporary, AtFlags::empty());
                Ok(())
            }
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => match self.existing(&self.name) {
                Some(_) => Err(Errno::EXIST),
                None => renameat(&self.folder, &self.temporary, &self.folder, &self.name),
            },
            Err(error) => Err(error),
        }
    }

    fn settle_now(mut self, owner: Owner) -> Result<(), WriteError> {
        let is_ours = match owner {
            Owner::Same => true,
            Owner::Other => false,
            Owner::Unknown => {
                self.inner.template.tells_jobs_apart(usize::MAX, self.has_kind)
                    && !self.is_case_blind()
                    && !self.is_folder(&self.name)
            }
        };
        let name = if is_ours { &self.name } else { &self.fallback };
        if !is_ours {
            let (sink, file, beside) = (&self.inner.sink, self.path.display(), name);
            tracing::warn!(sink, %file, beside, "existing file not known to belong to this job; event written beside it");
        }
        renameat(&self.folder, &self.temporary, &self.folder, name)?;
        self.is_named = true;
        Ok(self.folder.sync_all()?)
    }

    /// Returns the file of this name itself, without following a link.
    fn existing(&self, name: &str) -> Option<FileMark> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, name, flags, Mode::empty()).ok()?;
        mark_of(&File::from(file)).ok()
    }

    /// Returns whether a folder has this name, which no file can take from it.
    fn is_folder(&self, name: &str) -> bool {
        let found = statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory)
    }

    /// Returns whether the file system ignores case in names.
    fn is_case_blind(&self) -> bool {
        self.existing(&self.temporary.to_ascii_uppercase()).is_some()
    }
}

fn mark_of(file: &File) -> Result<FileMark, WriteError> {
    let data = file.metadata()?;
    Ok(FileMark { inode: data.ino(), size: data.size(), seconds: data.mtime(), nanos: data.mtime_nsec() })
}
