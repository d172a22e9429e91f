//! What copies leave behind: the cursor of each, in the transaction of its rows.

use catalog::store::pg::fault;
use catalog::{Cursor, Fault, Result, Retry, Slice};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::names::{literal, quote};
use super::tables;
use crate::Kept;

/// The table of copies in a schema, and the copy that is under way.
#[derive(Debug)]
pub(crate) struct Copies {
    table: String,
    name: String,
    /// Whether this process has written to its row: from then on the row says who goes on with the copy.
    ours: bool,
}

impl Copies {
    pub(crate) fn new(schema: &str, name: &str) -> Result<Self> {
        Ok(Self { table: format!("{}.propflow_copies", quote(schema)?), name: name.to_owned(), ours: false })
    }

    /// What was kept last.
    pub(crate) async fn read(&self, connection: &mut PgConnection) -> Result<Option<Kept>> {
        let what = "cannot read what the copy left behind";
        if !self.exists(connection).await? {
            return Ok(None);
        }
        let sql = format!("select run_id, next_slice, cursor, whole, updated_at from {} where copy = $1", self.table);
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(&self.name)
            .fetch_optional(connection)
            .await
            .map_err(|e| fault(what, e))?;
        let Some(row) = row else { return Ok(None) };
        let next: i32 = row.try_get(1).map_err(|e| fault(what, e))?;
        Ok(Some(Kept {
            run: row.try_get(0).map_err(|e| fault(what, e))?,
            next: u32::try_from(next).unwrap_or_default(),
            cursor: Cursor(row.try_get(2).map_err(|e| fault(what, e))?),
            whole: row.try_get(3).map_err(|e| fault(what, e))?,
            at: row.try_get(4).map_err(|e| fault(what, e))?,
        }))
    }

    async fn exists(&self, connection: &mut PgConnection) -> Result<bool> {
        tables::exists(connection, "select to_regclass($1) is not null", &self.table).await
    }

    /// Makes the table, unless it is there.
    pub(crate) async fn prepare(&self, connection: &mut PgConnection) -> Result<()> {
        if self.exists(connection).await? {
            return Ok(());
        }
        let sql = format!(
            "create table {0} (copy text primary key, run_id uuid not null, next_slice integer not null, \
             cursor jsonb not null, whole boolean not null, created_at timestamptz not null default now(), \
             updated_at timestamptz not null default now()); comment on table {0} is {1}",
            self.table,
            literal("how far each `propflow copy` into this schema has come")
        );
        tables::run(connection, "cannot make the table of copies", sql).await.map(|_| ())
    }

    /// Saves how far the copy is. Rows and cursor become durable together, so nothing has to wait for the disk.
    pub(crate) async fn save(&mut self, tx: &mut PgConnection, slice: &Slice) -> Result<()> {
        let Some(cursor) = &slice.cursor else { return Ok(()) };
        let what = "cannot save how far the copy is";
        let next = i32::try_from(slice.id.number).ok().and_then(|n| n.checked_add(1));
        let next = next.ok_or_else(|| Fault::us("a copy cannot have that many slices"))?;
        let sql = if self.ours {
            format!(
                "update {} set cursor = $4, next_slice = $3, whole = false, updated_at = now() \
                 where copy = $1 and run_id = $2 and next_slice = $3 - 1",
                self.table
            )
        } else {
            format!(
                "insert into {} (copy, run_id, next_slice, cursor, whole) values ($1, $2, $3, $4, false) \
                 on conflict (copy) do update set run_id = excluded.run_id, next_slice = excluded.next_slice, \
                 cursor = excluded.cursor, whole = false, updated_at = now()",
                self.table
            )
        };
        let written = sqlx::query(AssertSqlSafe(sql))
            .bind(&self.name)
            .bind(slice.id.run)
            .bind(next)
            .bind(&cursor.0)
            .execute(tx)
            .await
            .map_err(|e| fault(what, e))?
            .rows_affected();
        if written == 0 {
            return Err(Fault::user("another process has gone on with this copy")
                .retry(Retry::Never)
                .hint("Nothing is lost: it carries on from here."));
        }
        Ok(())
    }

    /// The slice was committed.
    pub(crate) fn saved(&mut self) {
        self.ours = true;
    }

    /// Marks the end. This commit waits for the disk, and with it all that came before are there.
    pub(crate) async fn finish(&self, connection: &mut PgConnection, whole: bool) -> Result<()> {
        if !self.ours {
            return Ok(());
        }
        let sql = format!("update {} set whole = {whole}, updated_at = now() where copy = $1", self.table);
        sqlx::query(AssertSqlSafe(sql))
            .bind(&self.name)
            .execute(connection)
            .await
            .map(|_| ())
            .map_err(|e| fault("cannot mark the end of the copy", e))
    }
}
