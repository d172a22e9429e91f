//! What was last written, as hashes: an equal row is not sent again.
//!
//! For each scope of a dataset there is a list of (key hash, row hash), in the order in which the rows came. A row that
//! hashes the same as the one that was last written with its key is in the table, equal, and is skipped. The list
//! changes only in the transaction that changes the rows, and its row in the database is the lock of the scope.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use catalog::store::pg::fault;
use catalog::{Fault, Result};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

/// Key hash and row hash.
pub(crate) type Digest = (u64, u64);

/// The keys are hashes already.
#[derive(Default, Clone, Copy)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

pub(crate) type KeySet = HashSet<u64, BuildHasherDefault<AsIs>>;
type KeyMap<V> = HashMap<u64, V, BuildHasherDefault<AsIs>>;

/// How far to look ahead for a row before the whole list is indexed: rows that left are jumped over.
const WINDOW: usize = 32;

/// One scope of one dataset, while a slice is under way.
#[derive(Default)]
pub(crate) struct ScopeState {
    /// What the table holds, as far as known.
    stored: Vec<Digest>,
    /// The part of it that is stored as a patch.
    patch: Vec<u8>,
    /// Whether that is every row of the scope.
    exact: bool,
    index: Option<KeyMap<u32>>,
    at: usize,
    present: Vec<bool>,
    found: usize,
    /// What this slice brings, in order.
    seen: Vec<Digest>,
    /// Keys that are on their way to the table.
    sent: KeySet,
    /// Whether a key came twice.
    pub(crate) twice: bool,
    /// Whether a key came that is not in the list.
    pub(crate) fresh: bool,
}

impl ScopeState {
    /// Nothing is known, or, if `exact`, there is known to be nothing.
    pub(crate) fn unknown(exact: bool) -> Self {
        Self { exact, ..Self::default() }
    }

    fn read(bytes: &[u8], patch: &[u8]) -> Self {
        let (header, body) = bytes.split_at_checked(HEADER.len()).unwrap_or((bytes, &[]));
        let exact = match header {
            [b'd', 1, flag, ..] if body.len().is_multiple_of(16) => *flag == 1,
            _ => return Self::unknown(false),
        };
        let (digests, _) = body.as_chunks::<16>();
        let mut stored: Vec<Digest> = digests
            .iter()
            .map(|d| {
                let d = u128::from_le_bytes(*d);
                ((d >> 64) as u64, d as u64)
            })
            .collect();
        let (changes, _) = patch.as_chunks::<12>();
        for change in changes {
            let [a, b, c, d, row @ ..] = *change;
            if let Some(digest) = stored.get_mut(u32::from_le_bytes([a, b, c, d]) as usize) {
                digest.1 = u64::from_le_bytes(row);
            }
        }
        Self { present: vec![false; stored.len()], stored, patch: patch.to_vec(), exact, ..Self::default() }
    }

    /// Takes a row of the slice; true if it has to be sent.
    pub(crate) fn take(&mut self, digest: Digest) -> bool {
        self.seen.push(digest);
        let (key, row) = digest;
        let Some(at) = self.place(key) else {
            self.twice |= !self.sent.insert(key);
            self.fresh = true;
            return true;
        };
        self.at = at + 1;
        let again = std::mem::replace(&mut self.present[at], true);
        self.found += usize::from(!again);
        self.twice |= again;
        // A row that went out in between has to be overtaken, even by one that equals what is stored.
        let send = self.stored[at].1 != row || (again && self.sent.contains(&key));
        if send {
            self.sent.insert(key);
        }
        send
    }

    fn place(&mut self, key: u64) -> Option<usize> {
        if let Some(ahead) = self.stored[self.at.min(self.stored.len())..].iter().take(WINDOW).position(|d| d.0 == key)
        {
            return Some(self.at + ahead);
        }
        if self.stored.is_empty() {
            return None;
        }
        let stored = &self.stored;
        let index = self.index.get_or_insert_with(|| (0_u32..).zip(stored).map(|(at, d)| (d.0, at)).collect());
        index.get(&key).map(|at| *at as usize)
    }

    /// Whether rows may have left a scope that came whole.
    pub(crate) fn may_have_left(&self) -> bool {
        !self.exact || self.found < self.stored.len()
    }

    /// The hashes of the keys in the slice.
    pub(crate) fn keys(&self) -> KeySet {
        self.seen.iter().map(|d| d.0).collect()
    }

    /// What to store, or `None` when it is stored already. `whole` says that the scope is what the slice holds and no
    /// more; `gone` are the keys that left.
    fn write(&self, whole: bool, gone: &KeySet) -> Option<Write> {
        let kept: Vec<Digest>;
        let next: &[Digest] = if whole && !self.twice {
            &self.seen
        } else {
            kept = self.merged(whole, gone);
            &kept
        };
        let exact = whole || self.exact;
        if exact == self.exact && next == self.stored {
            return None;
        }
        if let Some(patch) = self.patched(next).filter(|_| exact == self.exact) {
            return Some(Write::Patch(patch));
        }
        let mut bytes = Vec::with_capacity(HEADER.len() + 16 * next.len());
        bytes.extend_from_slice(&HEADER);
        bytes[2] = u8::from(exact);
        for (key, row) in next {
            bytes.extend_from_slice(&(u128::from(*key) << 64 | u128::from(*row)).to_le_bytes());
        }
        Some(Write::Whole(bytes))
    }

    /// The patch that makes `next` of what is stored, unless it grows beyond an eighth of the list or keys moved.
    fn patched(&self, next: &[Digest]) -> Option<Vec<u8>> {
        if next.len() != self.stored.len() {
            return None;
        }
        let mut patch = self.patch.clone();
        for (place, (new, old)) in (0_u32..).zip(next.iter().zip(&self.stored)) {
            if new != old {
                if new.0 != old.0 || patch.len() > 2 * next.len() {
                    return None;
                }
                patch.extend_from_slice(&place.to_le_bytes());
                patch.extend_from_slice(&new.1.to_le_bytes());
            }
        }
        Some(patch)
    }

    /// The last digest of each key, in order of first sight; what is stored comes first unless the slice is all.
    fn merged(&self, whole: bool, gone: &KeySet) -> Vec<Digest> {
        let mut places: KeyMap<usize> = KeyMap::default();
        let mut out: Vec<Digest> = Vec::new();
        let stored = if whole { &[][..] } else { &self.stored };
        for (key, row) in stored.iter().filter(|d| !gone.contains(&d.0)).chain(&self.seen) {
            match places.get(key) {
                Some(at) => out[*at].1 = *row,
                None => {
                    places.insert(*key, out.len());
                    out.push((*key, *row));
                }
            }
        }
        out
    }
}

/// How a scope is saved: a list that is rewritten whole costs 16 bytes a row, and most slices change few rows.
enum Write {
    Whole(Vec<u8>),
    Patch(Vec<u8>),
}

/// Version 1 of the stored form: a mark, the version, whether the list is exact, then 16 bytes a row.
const HEADER: [u8; 16] = [b'd', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The table of digests.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// Its quoted name.
    pub(crate) table: String,
}

impl Store {
    /// Locks these scopes until the transaction ends and reads what was last written to them.
    pub(crate) async fn lock(
        &self,
        tx: &mut PgConnection,
        dataset: &str,
        scopes: &[String],
        trust: bool,
    ) -> Result<HashMap<String, ScopeState>> {
        let what = "cannot read what was last written";
        if scopes.is_empty() {
            return Ok(HashMap::new());
        }
        // A row that is not there cannot be locked: it is made first, and a second worker waits for it here. Every
        // worker takes them in the same order.
        sqlx::query(AssertSqlSafe(format!(
            "insert into {} (dataset, scope, digests) select $1, s, '' from unnest($2::text[]) s order by s on conflict do nothing",
            self.table
        )))
        .bind(dataset)
        .bind(scopes)
        .execute(&mut *tx)
        .await
        .map_err(|e| fault(what, e))?;
        let rows = sqlx::query(AssertSqlSafe(format!(
            "select scope, digests, patch from {} where dataset = $1 and scope = any($2) order by scope for update",
            self.table
        )))
        .bind(dataset)
        .bind(scopes)
        .fetch_all(tx)
        .await
        .map_err(|e| fault(what, e))?;
        rows.iter()
            .map(|row| {
                let scope: String = row.try_get(0).map_err(|e| fault(what, e))?;
                let bytes: &[u8] = row.try_get(1).map_err(|e| fault(what, e))?;
                let patch: &[u8] = row.try_get(2).map_err(|e| fault(what, e))?;
                let state = if trust { ScopeState::read(bytes, patch) } else { ScopeState::unknown(false) };
                Ok::<_, Fault>((scope, state))
            })
            .collect()
    }

    /// Saves the scopes that changed.
    pub(crate) async fn save(
        &self,
        tx: &mut PgConnection,
        dataset: &str,
        scopes: &HashMap<String, ScopeState>,
        whole: &HashSet<&str>,
        gone: &HashMap<String, KeySet>,
    ) -> Result<()> {
        let none = KeySet::default();
        let (mut lists, mut patches) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for (name, state) in scopes {
            let (into, bytes) = match state.write(whole.contains(name.as_str()), gone.get(name).unwrap_or(&none)) {
                None => continue,
                Some(Write::Whole(bytes)) => (&mut lists, bytes),
                Some(Write::Patch(bytes)) => (&mut patches, bytes),
            };
            into.0.push(name.as_str());
            into.1.push(bytes);
        }
        for ((names, bytes), set) in [(lists, "digests = n.bytes, patch = ''"), (patches, "patch = n.bytes")] {
            if names.is_empty() {
                continue;
            }
            sqlx::query(AssertSqlSafe(format!(
                "update {} d set {set}, updated_at = now() \
                 from unnest($2::text[], $3::bytea[]) n (scope, bytes) where d.dataset = $1 and d.scope = n.scope",
                self.table
            )))
            .bind(dataset)
            .bind(names)
            .bind(bytes)
            .execute(&mut *tx)
            .await
            .map_err(|e| fault("cannot save what was written", e))?;
        }
        Ok(())
    }

    /// Forgets everything about these datasets.
    pub(crate) async fn forget(&self, tx: &mut PgConnection, datasets: &[String]) -> Result<()> {
        sqlx::query(AssertSqlSafe(format!("delete from {} where dataset = any($1)", self.table)))
            .bind(datasets)
            .execute(tx)
            .await
            .map_err(|e| fault("cannot forget what was written", e))?;
        Ok(())
    }
}
