//! The views of the schema `serving`, and the role that may read them and nothing else.

use catalog::datasets::serving::{EXTRA, QUERIES, SETTLED_EXTRA, VIEWS};
use catalog::datasets::{bookings, stored};
use catalog::store::pg::fault;
use catalog::{Fault, Result, WriteMode};
use sqlx::PgPool;
use sqlx::postgres::PgConnection;

use super::names::{literal, quote};
use super::tables::run;
use super::{Options, PostgresSink};
use crate::{Sink, Target};

/// The role that readers are members of.
const READER: &str = "propflow_reader";

/// Makes the tables of `core` for every stored dataset and the serving views over them. Does nothing, and takes no lock,
/// when they were made by this catalog already: readers are disturbed only by a new version.
///
/// # Errors
/// When the tables that are there do not fit, or the user may not create them.
pub async fn migrate(pool: &PgPool) -> Result<()> {
    let what = "cannot look at the serving views";
    let stamp = format!("propflow: views of readers, made from catalog {:016x}", digest());
    let found: Option<String> =
        sqlx::query_scalar("select obj_description(to_regnamespace('serving'), 'pg_namespace')")
            .fetch_one(pool)
            .await
            .map_err(|e| fault(what, e))?;
    if found.as_deref() == Some(&stamp) {
        return Ok(());
    }
    let targets: Vec<Target> = stored().into_iter().map(|dataset| Target { mode: dataset.mode, dataset }).collect();
    let mut sink = PostgresSink::new(pool.clone(), Options { ledger: true, ..Options::default() });
    sink.prepare(&targets).await?;
    let mut connection = pool.acquire().await.map_err(|e| fault(what, e))?;
    create_views(&mut connection).await?;
    run(&mut connection, "cannot mark the serving views", format!("comment on schema serving is {}", literal(&stamp)))
        .await?;
    Ok(())
}

/// Changes with anything that tables or views are made from.
fn digest() -> u64 {
    xxhash_rust::xxh3::xxh3_64(
        format!("{VIEW_RULES} {VIEWS:?} {QUERIES:?} {EXTRA:?} {SETTLED_EXTRA:?} {:?}", stored()).as_bytes(),
    )
}

/// Raised when the text of the views below changes in another way than through the catalog.
const VIEW_RULES: u32 = 3;

/// The SQL condition that a property has left every list of an account that it was on: nobody reads it any more. One that
/// never was on a list, such as one of a bare feed, has left none. Needs the table `core.account_properties`; `property` is a column of
/// another alias than `u`.
pub fn unlisted(property: &str) -> String {
    let lists =
        |which: &str| format!("(select from core.account_properties u where u.property_id = {property}{which})");
    format!("(exists {} and not exists {})", lists(""), lists(" and u.deleted_at is null"))
}

/// Makes or renews the serving views over the tables of `core`, and lets `propflow_reader` read them. Run it after
/// [`prepare`](crate::Sink::prepare); running it again changes nothing.
///
/// A row is left out when it was withdrawn, when its property was, or when its account no longer lists the property. A
/// property that no account lists, such as one read from a bare feed, stays. `price_history` keeps everything.
///
/// # Errors
/// When the role is missing and the user may not create one.
pub async fn create_views(connection: &mut PgConnection) -> Result<()> {
    let mut sql = String::from("begin; select pg_advisory_xact_lock(hashtextextended('propflow.serving', 0));\n");
    sql.push_str("create schema if not exists serving;\n");
    for view in VIEWS {
        let dataset = view.dataset().ok_or_else(|| Fault::us(format!("the view `{}` has no dataset", view.name)))?;
        let (name, table) = (format!("serving.{}", quote(view.name)?), format!("core.{}", quote(&dataset.name)?));
        let columns = dataset
            .columns
            .iter()
            .map(|c| Ok(format!("t.{}", quote(&c.name)?)))
            .collect::<Result<Vec<_>>>()?
            .join(", ");
        let live = if dataset.mode == WriteMode::History {
            String::new()
        } else {
            format!(
                " where t.deleted_at is null \
                 and not exists (select from core.properties p where p.property_id = t.property_id and p.deleted_at is not null) \
                 and not {}",
                unlisted("t.property_id")
            )
        };
        let (fresh, live) = if bookings::is_settled(&dataset.name) {
            // Settled rows are as old as their property's settling; one that is overdue by a quarter of an hour is stale.
            let fresh = "f.settled_at as as_of, coalesce(f.due_at < now() - interval '15 minutes', true) as stale";
            (fresh, "ops.settled f on f.property_id = t.property_id where t.deleted_at is null".to_owned())
        } else {
            let fresh = "f.observed_at as as_of, \
                coalesce(f.observed_at + make_interval(secs => f.limit_seconds) < now(), true) as stale";
            (fresh, format!("ops.freshness f on f.scope = t.property_id{live}"))
        };
        // Dropped and made again: `or replace` could not follow a column that moved. One transaction, so no reader sees
        // the gap, and what someone built on a view makes this fail instead of going away.
        sql.push_str(&format!(
            "drop view if exists {name};\ncreate view {name} as select {columns}, {fresh} \
             from {table} t left join {live};\n\
             comment on view {name} is {};\n",
            literal(view.about)
        ));
        let described = dataset.columns.iter().map(|c| (c.name.as_str(), c.about.as_str()));
        for (column, about) in described.chain(view.extra().iter().map(|(name, _, about)| (*name, *about))) {
            sql.push_str(&format!("comment on column {name}.{} is {};\n", quote(column)?, literal(about)));
        }
    }
    for query in QUERIES {
        let name = format!("serving.{}", quote(query.name)?);
        for input in query.inputs() {
            quote(input)?;
        }
        let body = query.over(|table| format!("(select * from core.\"{table}\" where deleted_at is null)"));
        sql.push_str(&format!(
            "drop view if exists {name};\ncreate view {name} as {body};\ncomment on view {name} is {};\n",
            literal(query.about)
        ));
        for (column, about, _) in query.columns {
            sql.push_str(&format!("comment on column {name}.{} is {};\n", quote(column)?, literal(about)));
        }
    }
    let made = match role(connection).await {
        Ok(()) => {
            sql.push_str(&format!(
                "grant usage on schema serving to {READER};\ngrant select on all tables in schema serving to {READER};\n"
            ));
            run(connection, "cannot make the serving views", format!("{sql}commit")).await.map(|_| ())
        }
        Err(fault) => Err(fault),
    };
    if made.is_err() {
        // The simple protocol leaves a failed transaction open.
        let _ = run(connection, "cannot roll back", "rollback".to_owned()).await;
    }
    made
}

async fn role(connection: &mut PgConnection) -> Result<()> {
    let what = "cannot make the role `propflow_reader`";
    let there: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
        .bind(READER)
        .fetch_one(&mut *connection)
        .await
        .map_err(|e| fault(what, e))?;
    if there {
        return Ok(());
    }
    match sqlx::raw_sql("create role propflow_reader nologin").execute(connection).await {
        // Two processes that start together: the other one was first. Roles belong to the whole server.
        Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42710" | "23505")) => Ok(()),
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("42501") => {
            Err(Fault::user(format!("{what}: the database user may not create roles"))
                .hint("Let an administrator run `create role propflow_reader nologin`, then try again."))
        }
        Err(e) => Err(fault(what, e)),
        Ok(_) => Ok(()),
    }
}
