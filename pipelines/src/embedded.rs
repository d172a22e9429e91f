//! A private PostgreSQL, for when no `DATABASE_URL` is set.
//!
//! The server's own binaries are found on this machine; nothing is downloaded. The cluster listens on a Unix socket in a
//! folder that only its user can enter. PostgreSQL refuses to run as root, so root starts it as an unprivileged user. The
//! server dies with the process that started it, however that process dies.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use catalog::{Fault, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use sqlx::{Connection, Executor, PgConnection};

/// The database and the role inside a private cluster.
const NAME: &str = "propflow";
/// Starting takes a tenth of a second, recovery after a crash can take many; then something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a cluster is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives a power failure.
    Full,
    /// Survives the death of its process, not of the machine. For tests and demos.
    Fast,
}

/// A running private server.
#[derive(Debug)]
pub struct PrivatePostgres {
    url: String,
    /// The server's process and the thread that waits for it. `None` when another process owns the server.
    server: Option<(Pid, JoinHandle<()>)>,
    /// Holds the cluster against other owners; released when dropped, after the server has stopped.
    _lock: Option<Flock<File>>,
    dir: PathBuf,
    socket_dir: PathBuf,
}

impl PrivatePostgres {
    /// Starts the cluster in `dir`, making it first if needed. When another process runs it already, uses that one.
    ///
    /// # Errors
    /// When no server binaries are found, the folder cannot be used, or the server does not come up.
    pub async fn start(dir: &Path, durability: Durability) -> Result<Self> {
        let bin = find_binaries()?;
        let user = unprivileged_user()?;
        make_dir(dir, user.as_ref())?;
        let dir = dir.canonicalize().map_err(|e| folder_fault(dir, e))?;
        let socket_dir = socket_dir(&dir);
        let url = format!("postgres://{NAME}@localhost/{NAME}?host={}", socket_dir.display());
        let lock_file = File::create(dir.join("owner.lock")).map_err(|e| folder_fault(&dir, e))?;
        let lock = match Flock::lock(lock_file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err(_) => {
                wait_until_up(&url, || None).await?;
                return Ok(Self { url, server: None, _lock: None, dir, socket_dir });
            }
        };
        make_dir(&socket_dir, user.as_ref())?;
        let data = dir.join("data");
        if !data.join("PG_VERSION").exists() {
            make_cluster(&bin, &data, user.as_ref())?;
        }
        let log_path = dir.join("server.log");
        let start = std::time::Instant::now();
        loop {
            // The lock is ours, so whoever owned the cluster is dead; its server may take a moment to follow.
            let left_behind = data.join("postmaster.pid").exists();
            wait_for_predecessor(&data, start).await?;
            let log = File::create(&log_path).map_err(|e| folder_fault(&log_path, e))?;
            let (pid, waiter) = spawn_server(&bin, &data, &socket_dir, durability, user.clone(), log)?;
            let died = || waiter.is_finished().then(|| tail(&log_path));
            let admin = url.replace(&format!("/{NAME}?"), "/postgres?");
            match wait_until_up(&admin, died).await {
                Ok(()) => {
                    let this = Self { url, server: Some((pid, waiter)), _lock: Some(lock), dir, socket_dir };
                    create_database(&admin).await?;
                    return Ok(this);
                }
                // Its last processes still hold the shared memory.
                Err(_) if left_behind && waiter.is_finished() && start.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(fault) => {
                    let _ = kill(pid, Signal::SIGQUIT);
                    let _ = waiter.join();
                    return Err(fault);
                }
            }
        }
    }

    /// The URL of its database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder of its cluster.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Stops the server in an orderly way. One that another process owns is left alone.
    pub async fn stop(mut self) {
        if let Some((pid, waiter)) = self.server.take() {
            let _ = kill(pid, Signal::SIGINT);
            let _ = tokio::task::spawn_blocking(move || waiter.join()).await;
        }
        let _ = fs::remove_dir(&self.socket_dir);
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if let Some((pid, waiter)) = self.server.take() {
            let _ = kill(pid, Signal::SIGQUIT);
            let _ = waiter.join();
        }
    }
}

/// Where this user's private cluster lives: `PROPFLOW_HOME`, else the platform's folder for such data.
pub fn home() -> PathBuf {
    if let Some(home) = std::env::var_os("PROPFLOW_HOME") {
        return PathBuf::from(home);
    }
    // Root's own home cannot be entered by the user that the server runs as.
    if geteuid().is_root() {
        return PathBuf::from("/var/lib/propflow");
    }
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")));
    base.unwrap_or_else(std::env::temp_dir).join("propflow")
}

/// A folder for something that is thrown away, one that an unprivileged server can enter.
pub fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("propflow-{name}-{}", uuid::Uuid::now_v7().simple()))
}

/// The newest installed server binaries of a version that propflow supports.
fn find_binaries() -> Result<PathBuf> {
    let complete = |dir: &Path| dir.join("initdb").exists() && dir.join("postgres").exists();
    if let Some(dir) = std::env::var_os("PROPFLOW_PG_BIN").map(PathBuf::from) {
        return if complete(&dir) {
            Ok(dir)
        } else {
            Err(Fault::user(format!(
                "`PROPFLOW_PG_BIN` names `{}`, which has no `initdb` and `postgres`",
                dir.display()
            )))
        };
    }
    let mut found: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let roots = [
        ("/usr/lib/postgresql", "bin"),
        ("/usr", "bin"),
        ("/usr/local", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/Library/PostgreSQL", "bin"),
    ];
    for (root, bin) in roots {
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let version = name.strip_prefix("postgresql@").or_else(|| name.strip_prefix("pgsql-")).unwrap_or(&name);
                let version = version.parse().ok().filter(|v| *v >= 15)?;
                Some((version, entry.path().join(bin)))
            })
            .collect();
        versions.sort();
        found.extend(versions.into_iter().rev().map(|(_, path)| path));
    }
    found.push(PathBuf::from("/usr/local/pgsql/bin"));
    found.into_iter().find(|dir| complete(dir)).ok_or_else(|| {
        Fault::user("no PostgreSQL server is installed here and `DATABASE_URL` is not set").hint(
            "Install PostgreSQL 15 or later (Debian: `apt-get install postgresql`), name its folder in \
             `PROPFLOW_PG_BIN`, or set `DATABASE_URL` to a server.",
        )
    })
}

/// Whom root runs the server as.
fn unprivileged_user() -> Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Ok(Some(user)) = User::from_name(name) {
            return Ok(Some(user));
        }
    }
    Err(Fault::user("PostgreSQL cannot run as root, and there is neither a user `postgres` nor `nobody`")
        .hint("Run propflow as an ordinary user, or set `DATABASE_URL`."))
}

fn folder_fault(path: &Path, error: std::io::Error) -> Fault {
    Fault::user(format!("the folder `{}` cannot be used for PostgreSQL", path.display()))
        .hint("Choose another one with `PROPFLOW_HOME`.")
        .because(error)
}

/// Makes a folder that only the server's user (and root) can enter.
fn make_dir(path: &Path, user: Option<&User>) -> Result<()> {
    if let Some(parent) = path.parent().filter(|p| !p.exists()) {
        // The server's user, who may be another one, has to pass through the folders above its own.
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(|e| folder_fault(parent, e))?;
    }
    if !path.exists() {
        fs::DirBuilder::new().mode(0o700).create(path).map_err(|e| folder_fault(path, e))?;
    }
    let owner = user.map_or_else(geteuid, |u| u.uid);
    let found = fs::metadata(path).map_err(|e| folder_fault(path, e))?;
    if let Some(user) = user {
        chown(path, Some(user.uid), Some(user.gid)).map_err(|e| folder_fault(path, e.into()))?;
    } else if found.uid() != owner.as_raw() {
        return Err(Fault::user(format!("the folder `{}` belongs to another user", path.display()))
            .hint("Choose another one with `PROPFLOW_HOME`."));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|e| folder_fault(path, e))
}

/// A socket's path may have 107 bytes at most, so the socket of a cluster that lies deep lives apart from it.
fn socket_dir(dir: &Path) -> PathBuf {
    let inside = dir.join("socket");
    if inside.join(".s.PGSQL.5432").as_os_str().len() <= 100 {
        return inside;
    }
    let digest = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, dir.as_os_str().as_encoded_bytes());
    Path::new("/tmp").join(format!("propflow-pg-{}", &digest.simple().to_string()[..16]))
}

fn as_user<'a>(command: &'a mut Command, user: Option<&User>) -> &'a mut Command {
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    // The current folder may be one that the user cannot enter.
    command.current_dir("/")
}

fn make_cluster(bin: &Path, data: &Path, user: Option<&User>) -> Result<()> {
    make_dir(data, user)?;
    let mut command = Command::new(bin.join("initdb"));
    command.args([
        "--username",
        NAME,
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--no-instructions",
        "--no-sync",
        "-D",
    ]);
    command.arg(data).stdin(Stdio::null()).env_remove("PGDATA");
    let output =
        as_user(&mut command, user).output().map_err(|e| Fault::user("`initdb` cannot be started").because(e))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    // A half-made cluster would be taken for a whole one next time.
    let _ = fs::remove_dir_all(data);
    Err(Fault::user(format!("`initdb` failed: {}", text.lines().last().unwrap_or("no message").trim()))
        .hint("Check free space and the folder's owner; `PROPFLOW_HOME` names another folder."))
}

/// Compression of the pages that the server writes ahead, which halves what an update of many rows waits for; not every
/// build of the server has it.
const COMPRESSED: &str = "wal_compression=lz4";

/// Whether the server takes a setting.
fn takes(bin: &Path, data: &Path, user: Option<&User>, setting: &str) -> bool {
    let mut command = Command::new(bin.join("postgres"));
    command.arg("-D").arg(data).args(["-c", setting, "-C", "wal_compression"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    as_user(&mut command, user).status().is_ok_and(|status| status.success())
}

fn spawn_server(
    bin: &Path,
    data: &Path,
    socket_dir: &Path,
    durability: Durability,
    user: Option<User>,
    log: File,
) -> Result<(Pid, JoinHandle<()>)> {
    let mut command = Command::new(bin.join("postgres"));
    command.arg("-D").arg(data).arg("-k").arg(socket_dir);
    let mut settings = vec![
        "listen_addresses=",
        // Taken as it is used; below it, an update of many rows reads the table from the system again.
        "shared_buffers=512MB",
        "max_wal_size=4GB",
        "max_connections=200",
        "log_min_messages=warning",
    ];
    match durability {
        Durability::Full => {
            settings.push("fsync=on");
            if takes(bin, data, user.as_ref(), COMPRESSED) {
                settings.push(COMPRESSED);
            }
        }
        Durability::Fast => settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]),
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    let errors = log.try_clone().map_err(|e| Fault::user("the server's log cannot be opened").because(e))?;
    // In the terminal's foreground group, Ctrl-C would end the server under whoever is about to end cleanly.
    command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
    as_user(&mut command, user.as_ref());
    let parent = nix::unistd::getpid();
    let die_with_parent = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGQUIT)?;
        // The parent may have died before the line above.
        if nix::unistd::getppid() == parent { Ok(()) } else { Err(std::io::Error::other("the parent is gone")) }
    };
    #[expect(unsafe_code, reason = "the closure runs between fork and exec and makes only async-signal-safe calls")]
    // SAFETY: prctl and getppid are async-signal-safe; nothing is allocated unless the parent is dead.
    unsafe {
        command.pre_exec(die_with_parent);
    }
    // The death signal follows the *thread* that forks, so the thread that forks is the one that stays and waits.
    let (sender, receiver) = mpsc::sync_channel(1);
    let waiter = std::thread::Builder::new()
        .name("private-postgres".to_owned())
        .spawn(move || match command.spawn() {
            Ok(mut child) => {
                let _ = sender.send(Ok(child.id()));
                let _ = child.wait();
            }
            Err(e) => {
                let _ = sender.send(Err(e));
            }
        })
        .map_err(|e| Fault::us("a thread for PostgreSQL cannot be started").because(e))?;
    let pid = receiver
        .recv()
        .map_err(|e| Fault::us("the thread for PostgreSQL ended early").because(e))?
        .map_err(|e| Fault::user("`postgres` cannot be started").because(e))?;
    Ok((Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), waiter))
}

/// Waits until the server that a dead owner left behind has ended. It was told to when its owner died, and has to write
/// nothing, but a loaded machine may give it its turn late.
async fn wait_for_predecessor(data: &Path, since: std::time::Instant) -> Result<()> {
    let lock = data.join("postmaster.pid");
    loop {
        let pid = fs::read_to_string(&lock).ok().and_then(|text| text.lines().next()?.trim().parse().ok());
        // A process of another user under this number is not the server: its number was given away again.
        let Some(pid) = pid.filter(|pid| kill(Pid::from_raw(*pid), None).is_ok()) else { return Ok(()) };
        if since.elapsed() > PATIENCE {
            return Err(Fault::user(format!(
                "process {pid} still holds the private PostgreSQL in `{}`",
                data.display()
            ))
            .hint(format!("End it, or remove `{}` when that process is no PostgreSQL.", lock.display())));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Waits until the server takes connections. `died` gives the server's last words when it has ended.
async fn wait_until_up(url: &str, died: impl Fn() -> Option<String>) -> Result<()> {
    let start = std::time::Instant::now();
    loop {
        match PgConnection::connect(url).await {
            Ok(connection) => {
                let _ = connection.close().await;
                return Ok(());
            }
            Err(error) => {
                if let Some(words) = died() {
                    return Err(Fault::user(format!("the private PostgreSQL ended while starting: {words}")));
                }
                if start.elapsed() > PATIENCE {
                    return Err(Fault::remote("the private PostgreSQL does not answer").because(error));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn create_database(admin: &str) -> Result<()> {
    let what = "the private database cannot be made";
    let failed = |e| catalog::store::pg::fault(what, e);
    let mut connection = PgConnection::connect(admin).await.map_err(failed)?;
    let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(NAME)
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    if !there {
        connection.execute(sqlx::AssertSqlSafe(format!("create database {NAME}"))).await.map_err(failed)?;
    }
    let _ = connection.close().await;
    Ok(())
}

fn tail(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(path) {
        let _ = file.read_to_string(&mut text);
    }
    text.lines().last().unwrap_or("no message").trim().to_owned()
}
