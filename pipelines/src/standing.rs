//! What the tables hold of a connection; see [`catalog::standing`].

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use catalog::Result;
use catalog::standing::{Standing, Stored, Tables};
use catalog::store::pg::fault;
use chrono::NaiveDate;
use sqlx::types::Json;
use sqlx::{PgPool, Row};

const WHAT: &str = "cannot see which reservations stand";

/// The tables of a database.
#[derive(Debug, Clone)]
pub struct PgTables(pub PgPool);

#[async_trait]
impl Tables for PgTables {
    async fn standing(&self, connection: &str, from: NaiveDate) -> Result<Vec<Standing>> {
        let rows = sqlx::query(
            "select b.source_booking_id as id, (array_agg(b.listing_id order by b.segment))[1] as listing, \
               min(b.check_in) as first, max(b.check_out) as last, bool_and(b.identity = 'strong') as named, \
               (array_agg(b.kind order by b.segment))[1] as kind \
             from core.source_bookings b \
             where b.connection = $1 and b.check_out >= $2 and b.deleted_at is null \
               and b.status not in ('cancelled', 'declined', 'expired') \
               and not exists (select from core.source_removals r where r.connection = b.connection \
                 and r.object = 'reservation' and r.object_id = b.source_booking_id and r.version >= b.version) \
             group by 1 order by 1",
        )
        .bind(connection)
        .bind(from)
        .fetch_all(&self.0)
        .await
        .map_err(|e| fault(WHAT, e))?;
        Ok(rows
            .iter()
            .map(|row| Standing {
                id: row.get("id"),
                listing: row.get("listing"),
                from: row.get("first"),
                until: row.get("last"),
                named: row.get("named"),
                kind: row.get("kind"),
            })
            .collect())
    }

    async fn stored(&self, connection: &str, ids: &[String]) -> Result<BTreeSet<String>> {
        let found: Vec<String> = sqlx::query_scalar(
            "select distinct source_booking_id from core.source_bookings \
             where connection = $1 and source_booking_id = any($2) and deleted_at is null",
        )
        .bind(connection)
        .bind(ids)
        .fetch_all(&self.0)
        .await
        .map_err(|e| fault(WHAT, e))?;
        Ok(found.into_iter().collect())
    }

    async fn reservations(&self, connection: &str, ids: &[String]) -> Result<BTreeMap<String, Stored>> {
        // A pipeline that loads into a lake alone has no tables.
        let there: bool = sqlx::query_scalar("select to_regclass('core.source_bookings') is not null")
            .fetch_one(&self.0)
            .await
            .map_err(|e| fault(WHAT, e))?;
        if !there {
            return Ok(BTreeMap::new());
        }
        let rows = sqlx::query(
            "select b.source_booking_id as id, b.version, \
               (select jsonb_object_agg(key, value) from jsonb_each_text(to_jsonb(b)) where value is not null) as cells \
             from core.source_bookings b \
             where b.connection = $1 and b.source_booking_id = any($2) and b.segment = 0 and b.deleted_at is null",
        )
        .bind(connection)
        .bind(ids)
        .fetch_all(&self.0)
        .await
        .map_err(|e| fault(WHAT, e))?;
        let stored = |row: &sqlx::postgres::PgRow| {
            let Json(cells) = row.get("cells");
            (row.get("id"), Stored { version: row.get("version"), cells })
        };
        Ok(rows.iter().map(stored).collect())
    }
}
