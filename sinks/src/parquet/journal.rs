//! What a copy has committed but not yet put into files of the lake.
//!
//! A page of a thousand rows is no size for a Parquet file, and yet a copy that is killed should not have to fetch it
//! again. So a commit appends rows and cursor to a journal beside the lake; when enough has come together it becomes one
//! slice of the lake, named after the first one in the journal, and the journal starts anew. Killed at any point, the next
//! process finds the journal, and what it puts into the lake from it replaces what was put before.
//!
//! Only a lake on this machine has a journal. On another store rows wait in memory, and an interrupted copy goes on behind
//! the last file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use catalog::slice::Scope;
use catalog::{Cursor, Fault, Result, Slice, SliceId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::io_fault;
use super::store::Store;
use crate::Kept;

/// What stands before each entry: a mark, and then three numbers, the lengths of its head and body and their hash.
const MARK: [u8; 8] = *b"pfjrnl02";
/// The length of the mark and the numbers.
const PREFIX: usize = MARK.len() + 24;
/// Small writes are put together up to this size.
const WRITE_BYTES: usize = 64 << 10;

/// The state of a copy, as it is stored in the lake.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    copy: String,
    run: uuid::Uuid,
    next: u32,
    cursor: Cursor,
    whole: bool,
    at: DateTime<Utc>,
}

/// The head of an entry; it stands behind the rows, for only then are their lengths known.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Head {
    id: SliceId,
    pipeline: String,
    observed_at: DateTime<Utc>,
    complete: BTreeMap<String, Vec<Scope>>,
    cursor: Option<Cursor>,
    /// The dataset and the bytes of each table, in order.
    tables: Vec<(String, u64)>,
}

/// Rows of one dataset, in the order in which they came.
pub(super) type Rows = Vec<(String, RecordBatch)>;

/// The journal of one copy.
#[derive(Debug)]
pub(super) struct Journal {
    copy: String,
    state: String,
    /// The file, locked as long as this lives; none on another store than this machine.
    file: Option<(PathBuf, File)>,
    /// What the lake's next slice will say: of the first entry the name and time, of all the scopes, of the last the cursor.
    open: Option<Head>,
    last: Option<(SliceId, Cursor)>,
    /// Rows of a former process, not yet taken.
    found: Rows,
    kept: Option<Kept>,
}

impl Journal {
    /// Opens the journal of a copy, and reads what a former process left in it.
    pub(super) async fn open(store: &Store, copy: &str) -> Result<Self> {
        let name = format!("{:016x}", xxh3_64(copy.as_bytes()));
        let state = format!("_state/{name}.json");
        let stored: Option<State> = match store.get(&state).await? {
            Some(bytes) => serde_json::from_slice(&bytes).ok().filter(|s: &State| s.copy == copy),
            None => None,
        };
        let mut this = Self {
            copy: copy.to_owned(),
            state,
            file: None,
            open: None,
            last: None,
            found: Vec::new(),
            kept: stored.map(|s| Kept { run: s.run, next: s.next, cursor: s.cursor, whole: s.whole, at: s.at }),
        };
        if let Some(root) = store.root() {
            let path = root.join("_state").join(format!("{name}.journal"));
            this.read(&path)?;
        }
        Ok(this)
    }

    fn read(&mut self, path: &Path) -> Result<()> {
        let failed = |e| io_fault("open", path, e);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| io_fault("make the folder", folder, e))?;
        }
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        if file.try_lock().is_err() {
            return Err(Fault::user("another process is making this copy now")
                .retry(catalog::Retry::Backoff)
                .hint("Wait for it. Nothing is lost by waiting."));
        }
        let at = file.metadata().and_then(|m| m.modified()).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let mut sound = 0;
        // An entry that was being written when its process ended is no entry.
        while let Some((head, rows, end)) = entry(&bytes, sound) {
            self.add(&head);
            self.found.extend(rows);
            sound = end;
        }
        if sound < bytes.len() {
            file.set_len(sound as u64).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        }
        if let Some((id, cursor)) = &self.last {
            let (run, next, cursor) = (id.run, id.number + 1, cursor.clone());
            self.kept = Some(Kept { run, next, cursor, whole: false, at: at.into() });
        }
        self.file = Some((path.to_owned(), file));
        Ok(())
    }

    /// What there is of the copy so far.
    pub(super) fn kept(&self) -> Option<Kept> {
        self.kept.clone()
    }

    /// The rows that a former process left, if they belong to this run; those of another one are forgotten, since it reads
    /// them again.
    pub(super) fn take_found(&mut self, run: Option<uuid::Uuid>) -> Result<Rows> {
        let found = std::mem::take(&mut self.found);
        let theirs = self.open.as_ref().map(|head| head.id.run);
        if !found.is_empty() && run.is_some() && run != theirs {
            self.clear()?;
            return Ok(Vec::new());
        }
        Ok(found)
    }

    fn add(&mut self, head: &Head) {
        if let Some(cursor) = &head.cursor {
            self.last = Some((head.id, cursor.clone()));
        }
        match &mut self.open {
            None => self.open = Some(head.clone()),
            Some(open) => {
                for (dataset, scopes) in &head.complete {
                    open.complete.entry(dataset.clone()).or_default().extend(scopes.iter().cloned());
                }
                open.cursor.clone_from(&head.cursor);
            }
        }
    }

    /// Takes a slice. When this returns, its rows and its cursor outlive this process.
    pub(super) fn append(&mut self, slice: &Slice, rows: &[(String, RecordBatch)]) -> Result<()> {
        let head = Head {
            id: slice.id,
            pipeline: slice.pipeline.clone(),
            observed_at: slice.observed_at,
            complete: slice.complete.clone(),
            cursor: slice.cursor.clone(),
            tables: Vec::with_capacity(rows.len()),
        };
        let taken = head.clone();
        let Some((path, file)) = &mut self.file else {
            self.add(&taken);
            return Ok(());
        };
        let start = file.stream_position().map_err(|e| io_fault("write", path, e))?;
        if let Err(fault) = append(path, file, start, head, rows) {
            // A slice that did not fit is not in the journal: neither its rows nor its cursor may count.
            let _ = file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start)));
            return Err(fault);
        }
        self.add(&taken);
        Ok(())
    }

    /// The slice of the lake that the entries make up, if there are any.
    pub(super) fn slice(&self) -> Option<Slice> {
        let head = self.open.as_ref()?;
        Some(Slice {
            id: head.id,
            pipeline: head.pipeline.clone(),
            observed_at: head.observed_at,
            complete: head.complete.clone(),
            cursor: head.cursor.clone(),
            follows: None,
            rejects: Vec::new(),
            notes: Vec::new(),
        })
    }

    /// The entries are in the lake: notes how far the copy is, and starts anew. `whole` says that the source has ended.
    pub(super) async fn settled(&mut self, store: &Store, now: DateTime<Utc>, whole: bool) -> Result<()> {
        let last = self.last.take();
        let former = self.kept.take();
        let known = last.map(|(id, cursor)| (id.run, id.number + 1, cursor));
        let known = known.or(former.map(|k| (k.run, k.next, k.cursor)));
        if let Some((run, next, cursor)) = known {
            let state = State { copy: self.copy.clone(), run, next, cursor: cursor.clone(), whole, at: now };
            let bytes =
                serde_json::to_vec(&state).map_err(|e| Fault::us("a copy's state has no JSON form").because(e))?;
            store.put(&self.state, bytes.into()).await?;
            self.kept = Some(Kept { run, next, cursor, whole, at: now });
        }
        self.clear()
    }

    fn clear(&mut self) -> Result<()> {
        self.open = None;
        self.last = None;
        match &self.file {
            Some((path, file)) => {
                let mut file: &File = file;
                file.set_len(0).and_then(|()| file.rewind()).map_err(|e| io_fault("write", path, e))
            }
            None => Ok(()),
        }
    }
}

/// Writes an entry at the end of the file.
fn append(path: &Path, file: &mut File, start: u64, mut head: Head, rows: &[(String, RecordBatch)]) -> Result<()> {
    let failed = |e| io_fault("write", path, e);
    // The rows go to the file as they are encoded. What stands before them comes last: until then there is no entry.
    file.write_all(&[0; PREFIX]).map_err(failed)?;
    let mut body = Body { file: BufWriter::with_capacity(WRITE_BYTES, &*file), hash: Xxh3::new(), length: 0 };
    for (dataset, batch) in rows {
        let begin = body.length;
        let mut writer = StreamWriter::try_new(&mut body, batch.schema_ref()).map_err(|e| arrow_fault(path, e))?;
        writer.write(batch).and_then(|()| writer.finish()).map_err(|e| arrow_fault(path, e))?;
        drop(writer);
        head.tables.push((dataset.clone(), body.length - begin));
    }
    let head = serde_json::to_vec(&head).map_err(|e| Fault::us("a slice has no JSON form").because(e))?;
    body.file.write_all(&head).and_then(|()| body.file.flush()).map_err(failed)?;
    let (length, hash) = (body.length, xxh3_64(&head) ^ body.hash.digest().rotate_left(1));
    drop(body);
    let mut prefix = MARK.to_vec();
    for number in [head.len() as u64, length, hash] {
        prefix.extend_from_slice(&number.to_le_bytes());
    }
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.write_all(&prefix))
        .and_then(|()| file.seek(SeekFrom::End(0)))
        .map(|_| ())
        .map_err(failed)
}

/// The rows of an entry on their way into the file.
struct Body<'a> {
    file: BufWriter<&'a File>,
    hash: Xxh3,
    length: u64,
}

impl Write for Body<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = self.file.write(bytes)?;
        self.hash.update(&bytes[..taken]);
        self.length += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn arrow_fault(path: &Path, error: ArrowError) -> Fault {
    match error {
        ArrowError::IoError(_, error) => io_fault("write", path, error),
        other => other.into(),
    }
}

/// The entry that starts at a place, and where it ends.
fn entry(bytes: &[u8], at: usize) -> Option<(Head, Rows, usize)> {
    let rest = bytes.get(at..)?.strip_prefix(&MARK)?;
    let (numbers, rest) = rest.split_at_checked(24)?;
    let number = |n: usize| Some(u64::from_le_bytes(numbers.get(n * 8..n * 8 + 8)?.try_into().ok()?));
    let (body, rest) = rest.split_at_checked(usize::try_from(number(1)?).ok()?)?;
    let head_bytes = rest.get(..usize::try_from(number(0)?).ok()?)?;
    if xxh3_64(head_bytes) ^ xxh3_64(body).rotate_left(1) != number(2)? {
        return None;
    }
    let head: Head = serde_json::from_slice(head_bytes).ok()?;
    let mut rows = Vec::new();
    let mut from = 0;
    for (dataset, size) in &head.tables {
        let end = from + usize::try_from(*size).ok()?;
        for batch in StreamReader::try_new(body.get(from..end)?, None).ok()? {
            rows.push((dataset.clone(), batch.ok()?));
        }
        from = end;
    }
    let end = at + PREFIX + body.len() + head_bytes.len();
    Some((head, rows, end))
}
