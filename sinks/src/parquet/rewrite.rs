//! Reading and rewriting files of a lake in place, for those who must take rows out of what is else immutable.
//!
//! A file is replaced as a whole, under its own name, by a rename (or a put, on S3): whoever reads sees the old one or the new
//! one. Commit records stay as they are; their counts then say how many rows there were.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use catalog::dataset::KEY;
use catalog::{Fault, Result};

use super::spool::{failed, temp, writer};
use super::store::Store;
use super::{blocking, io_fault};

/// How old a file in `_tmp` is when nobody can be writing it any more.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// A lake whose files are rewritten.
#[derive(Debug)]
pub struct Lake {
    store: Store,
}

/// One data file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeFile {
    /// Its dataset.
    pub dataset: String,
    /// Its path below the lake's root.
    pub path: String,
}

/// What becomes of the rows of a file.
#[derive(Debug)]
pub enum Change {
    /// Nothing.
    Same,
    /// These stand in their place; none means that the file goes.
    Rows(RecordBatch),
}

impl Lake {
    /// A lake at a folder or URL. Touches nothing yet.
    ///
    /// # Errors
    /// As for the sink.
    pub fn open(root: &str) -> Result<Self> {
        Ok(Self { store: Store::open(root)? })
    }

    /// Whether its folder is there. A prefix of a bucket is as soon as the bucket is, which listing it tells.
    pub fn is_there(&self) -> bool {
        self.store.root().is_none_or(Path::is_dir)
    }

    /// Every data file, in the order of their paths. A lake that is not there has none.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub async fn files(&self) -> Result<Vec<LakeFile>> {
        let mut files: Vec<LakeFile> = self
            .store
            .list()
            .await?
            .into_iter()
            .filter_map(|path| {
                let (dataset, rest) = path.split_once('/')?;
                let data = !dataset.starts_with('_') && rest.ends_with(".parquet");
                data.then(|| LakeFile { dataset: dataset.to_owned(), path: path.clone() })
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// The rows of a file, batch by batch; `None` when it has gone meanwhile.
    ///
    /// # Errors
    /// When it is no Parquet.
    pub async fn rows(&self, file: &LakeFile) -> Result<Option<(SchemaRef, ParquetRecordBatchReader)>> {
        let Some(bytes) = self.store.get(&file.path).await? else { return Ok(None) };
        read(bytes, &file.path).map(Some)
    }

    /// Puts what `change` makes of a file's rows in their place. Says whether anything changed; when nothing does, the file
    /// is not touched.
    ///
    /// # Errors
    /// When it cannot be read or written, or `change` fails. Then the file is as it was.
    pub async fn rewrite(
        &self,
        file: &LakeFile,
        change: &(dyn Fn(&RecordBatch) -> Result<Change> + Sync),
    ) -> Result<bool> {
        let Some(bytes) = self.store.get(&file.path).await? else { return Ok(false) };
        let mut differs = false;
        for batch in read(bytes.clone(), &file.path)?.1 {
            if matches!(change(&batch?)?, Change::Rows(_)) {
                differs = true;
                break;
            }
        }
        if !differs {
            return Ok(false);
        }
        let folder = self.store.scratch()?;
        let (schema, reader) = read(bytes, &file.path)?;
        let keys = schema.metadata().get(KEY).cloned().unwrap_or_default();
        let keys: Vec<&str> = keys.split(',').filter(|k| schema.column_with_name(k).is_some()).collect();
        let target = temp(&folder)?;
        let mut out = writer(&keys, &schema, target.as_file(), 8192, &folder)?;
        let mut count = 0;
        for batch in reader {
            let batch = batch?;
            let batch = match change(&batch)? {
                Change::Same => batch,
                Change::Rows(rows) => rows,
            };
            count += batch.num_rows();
            out.write(&batch).map_err(|e| failed(&folder, e))?;
        }
        out.close().map_err(|e| failed(&folder, e))?;
        if count == 0 {
            self.store.delete(&file.path).await?;
        } else {
            self.store.put_file(file.path.clone(), target.into_temp_path()).await?;
        }
        Ok(true)
    }

    /// Takes away what was left half-done and holds something that `found` recognises: rows of interrupted copies, which the
    /// next copy then fetches again, and files of dead processes. Gives how many of them there were.
    ///
    /// # Errors
    /// When a copy is under way now, or a file cannot be read.
    pub async fn forget_leftovers(
        &self,
        found: impl Fn(&[u8]) -> bool + Send + 'static,
        now: SystemTime,
    ) -> Result<usize> {
        let Some(root) = self.store.root().map(Path::to_owned) else { return Ok(0) };
        blocking(move || {
            let mut gone = 0;
            for path in
                entries(&root.join("_state"))?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "journal"))
            {
                let bytes = std::fs::read(&path).map_err(|e| io_fault("read", &path, e))?;
                if !found(&bytes) {
                    continue;
                }
                let file = File::options().write(true).open(&path).map_err(|e| io_fault("open", &path, e))?;
                if file.try_lock().is_err() {
                    return Err(
                        Fault::user("a copy into the lake is under way").hint("Wait for its end, then try again.")
                    );
                }
                file.set_len(0).map_err(|e| io_fault("write", &path, e))?;
                gone += 1;
            }
            for path in entries(&root.join("_tmp"))? {
                let age = std::fs::metadata(&path).and_then(|m| m.modified()).ok();
                if age.and_then(|at| now.duration_since(at).ok()).is_some_and(|age| age > ABANDONED) {
                    std::fs::remove_file(&path).map_err(|e| io_fault("remove", &path, e))?;
                    gone += 1;
                }
            }
            Ok(gone)
        })
        .await
    }
}

fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_fault("list", folder, e)),
    };
    let entries: std::io::Result<Vec<_>> = listed.map(|entry| entry.map(|e| e.path())).collect();
    entries.map(|all| all.into_iter().filter(|p| p.is_file()).collect()).map_err(|e| io_fault("list", folder, e))
}

fn read(bytes: Bytes, path: &str) -> Result<(SchemaRef, ParquetRecordBatchReader)> {
    let wrong = |e| Fault::user(format!("`{path}` cannot be read as Parquet")).because(e);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(wrong)?;
    let schema = builder.schema().clone();
    Ok((schema, builder.with_batch_size(8192).build().map_err(wrong)?))
}
