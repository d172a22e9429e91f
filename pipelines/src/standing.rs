//! What the tables hold of a connection; see [`catalog::standing`].

use std::collections::BTreeSet;

use async_trait::async_trait;
use catalog::Result;
use catalog::standing::{Standing, Tables};
use catalog::store::pg::fault;
use chrono::NaiveDate;
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
}
