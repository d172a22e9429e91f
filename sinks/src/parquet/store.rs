//! Where the lake's files lie. A put is whole or not at all, and lasts once it returns.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use catalog::{Blame, Fault, Result, Retry, SafeUrl};
use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use tempfile::{NamedTempFile, TempPath};
use tokio::io::AsyncReadExt;

use super::{blocking, io_fault, local};

/// Part of a file that is uploaded at once; S3 wants at least 5 MiB.
const PART_BYTES: usize = 8 << 20;

/// A folder of this machine or a prefix of a bucket.
pub(super) enum Store {
    Local(PathBuf),
    Remote { store: Arc<dyn ObjectStore>, prefix: Key, url: SafeUrl },
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Store::Local(root) => write!(f, "{}", root.display()),
            Store::Remote { url, .. } => write!(f, "{url}"),
        }
    }
}

impl Store {
    pub(super) fn open(root: &str) -> Result<Self> {
        if let Some(folder) = local(root) {
            return Ok(Store::Local(folder));
        }
        let url = url::Url::parse(root)
            .map_err(|e| Fault::user("the lake's address is neither a folder nor a URL").because(e))?;
        if url.scheme() != "s3" {
            return Err(Fault::user(format!("a lake cannot be on `{}://`", url.scheme()))
                .hint("Name a folder, or a `file://` or `s3://` URL."));
        }
        // The names that the AWS tools use; object_store keeps those it knows.
        let options = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
        let safe = SafeUrl(url.clone());
        let (store, prefix) =
            object_store::parse_url_opts(&url, options.map(|(name, value)| (name.to_ascii_lowercase(), value)))
                .map_err(|e| Fault::user(format!("cannot open the lake {safe}")).because(e))?;
        Ok(Store::Remote { store: Arc::from(store), prefix, url: safe })
    }

    /// The folder, if it is on this machine.
    pub(super) fn root(&self) -> Option<&Path> {
        if let Store::Local(root) = self { Some(root) } else { None }
    }

    /// Where temporary files go: beside the lake's own, so that a rename is enough.
    pub(super) fn scratch(&self) -> Result<PathBuf> {
        match self {
            Store::Local(root) => {
                let folder = root.join("_tmp");
                std::fs::create_dir_all(&folder).map_err(|e| io_fault("make the folder", &folder, e))?;
                Ok(folder)
            }
            Store::Remote { .. } => Ok(std::env::temp_dir()),
        }
    }

    /// Proves that files can be written.
    pub(super) async fn check(&self) -> Result<()> {
        match self {
            Store::Local(_) => {
                let folder = self.scratch()?;
                blocking(move || {
                    let mut file = NamedTempFile::new_in(&folder).map_err(|e| io_fault("write to", &folder, e))?;
                    file.write_all(b"propflow").map_err(|e| io_fault("write to", &folder, e))
                })
                .await
            }
            Store::Remote { .. } => {
                self.put("_tmp/check", Bytes::from_static(b"propflow")).await?;
                self.delete("_tmp/check").await
            }
        }
    }

    pub(super) async fn put(&self, path: &str, bytes: Bytes) -> Result<()> {
        match self {
            Store::Local(root) => {
                let (target, folder) = (root.join(path), self.scratch()?);
                blocking(move || {
                    let mut file = NamedTempFile::new_in(&folder).map_err(|e| io_fault("write to", &folder, e))?;
                    file.write_all(&bytes).map_err(|e| io_fault("write", &target, e))?;
                    place(file.into_temp_path(), &target)
                })
                .await
            }
            Store::Remote { store, prefix, url } => {
                store.put(&key(prefix, path), bytes.into()).await.map(|_| ()).map_err(|e| remote(url, path, e))
            }
        }
    }

    pub(super) async fn put_file(&self, path: String, file: TempPath) -> Result<()> {
        match self {
            Store::Local(root) => {
                let target = root.join(&path);
                blocking(move || place(file, &target)).await
            }
            Store::Remote { store, prefix, url } => {
                let mut source = tokio::fs::File::open(&file).await.map_err(|e| io_fault("read", &file, e))?;
                let upload = store.put_multipart(&key(prefix, &path)).await.map_err(|e| remote(url, &path, e))?;
                let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
                let mut part = vec![0; PART_BYTES];
                loop {
                    let size = source.read(&mut part).await.map_err(|e| io_fault("read", &file, e))?;
                    if size == 0 {
                        break;
                    }
                    upload.wait_for_capacity(4).await.map_err(|e| remote(url, &path, e))?;
                    upload.write(&part[..size]);
                }
                upload.finish().await.map(|_| ()).map_err(|e| remote(url, &path, e))
            }
        }
    }

    /// The file's bytes, or `None` when there is none.
    pub(super) async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        match self {
            Store::Local(root) => match std::fs::read(root.join(path)) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(io_fault("read", &root.join(path), e)),
            },
            Store::Remote { store, prefix, url } => match store.get(&key(prefix, path)).await {
                Ok(found) => found.bytes().await.map(Some).map_err(|e| remote(url, path, e)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(remote(url, path, e)),
            },
        }
    }

    /// The paths of all files that lie two folders deep or deeper.
    pub(super) async fn list(&self) -> Result<Vec<String>> {
        match self {
            Store::Local(root) => {
                let root = root.clone();
                blocking(move || {
                    let mut paths = Vec::new();
                    for top in folders(&root)? {
                        walk(&root.join(&top), &top, 3, &mut paths)?;
                    }
                    Ok(paths)
                })
                .await
            }
            Store::Remote { store, prefix, url } => {
                let found: Vec<object_store::ObjectMeta> =
                    store.list(Some(prefix)).try_collect().await.map_err(|e| remote(url, "", e))?;
                let path = |meta: &object_store::ObjectMeta| {
                    let parts = meta.location.prefix_match(prefix)?;
                    Some(parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
                };
                Ok(found.iter().filter_map(path).collect())
            }
        }
    }

    /// Removes a file, if it is there.
    pub(super) async fn delete(&self, path: &str) -> Result<()> {
        match self {
            Store::Local(root) => match std::fs::remove_file(root.join(path)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io_fault("remove", &root.join(path), e)),
                _ => Ok(()),
            },
            Store::Remote { store, prefix, url } => match store.delete(&key(prefix, path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(e) => Err(remote(url, path, e)),
            },
        }
    }
}

/// The names of the folders in a folder, hidden ones and those that are not there apart.
fn folders(folder: &Path) -> Result<Vec<String>> {
    let listed = match std::fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io_fault("list", folder, e)),
    };
    let mut names = Vec::new();
    for entry in listed {
        let entry = entry.map_err(|e| io_fault("list", folder, e))?;
        if entry.path().is_dir()
            && let Ok(name) = entry.file_name().into_string()
            && !name.starts_with('_')
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Adds the files of a folder and, so many levels down, of those in it.
fn walk(folder: &Path, name: &str, levels: u8, paths: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|e| io_fault("list", folder, e))? {
        let entry = entry.map_err(|e| io_fault("list", folder, e))?;
        let Ok(below) = entry.file_name().into_string() else { continue };
        let path = format!("{name}/{below}");
        if entry.path().is_file() {
            paths.push(path);
        } else if levels > 0 {
            walk(&entry.path(), &path, levels - 1, paths)?;
        }
    }
    Ok(())
}

/// Flushes a temporary file and gives it its name; then the name lasts too.
fn place(file: TempPath, target: &Path) -> Result<()> {
    let folder = target.parent().unwrap_or(target);
    std::fs::create_dir_all(folder).map_err(|e| io_fault("make the folder", folder, e))?;
    // A temporary file is its owner's alone, but the lake is there to be read.
    let fail = |e| io_fault("write", target, e);
    File::open(&file).and_then(|f| f.sync_all()).map_err(fail)?;
    open_to_readers(&file).map_err(fail)?;
    file.persist(target).map_err(|e| fail(e.error))?;
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io_fault("write", folder, e))
}

#[cfg(unix)]
fn open_to_readers(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn open_to_readers(_: &Path) -> std::io::Result<()> {
    Ok(())
}

fn key(prefix: &Key, path: &str) -> Key {
    Key::from_iter(prefix.parts().chain(Key::from(path).parts()))
}

fn remote(url: &SafeUrl, path: &str, error: object_store::Error) -> Fault {
    use object_store::Error as E;
    let text = format!("cannot use `{path}` in the lake {url}");
    let fault = match &error {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            Fault::new(Blame::User, Retry::Never, text).hint("Check the AWS credentials and the bucket's policy.")
        }
        E::NotFound { .. } => Fault::user(text).hint("Make the bucket first."),
        _ => Fault::remote(text),
    };
    fault.because(error)
}
