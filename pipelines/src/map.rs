//! Which listing is which property: what a person says, and what is known.

use std::io::Write;

use catalog::store::pg::fault;
use catalog::{Fault, Result};
use clap::Args;
use serde_json::json;
use sqlx::Row;

use crate::app::{App, Database};
use crate::cli::print;
use crate::names;

/// What to map.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The connection; without it the listings are shown, those without a property first
    #[arg(requires = "listing")]
    pub connection: Option<String>,
    /// The connection's id of the listing
    #[arg(requires = "connection")]
    pub listing: Option<String>,
    /// The property; without it, what was mapped by hand is taken back
    pub property: Option<String>,
}

/// Shows the listings, or ties one to a property and settles what waited for it.
///
/// # Errors
/// When the connection is unknown, or the settling fails; the mapping then stays and is settled later.
pub async fn map(app: &App, database: &Database, options: &Options, json: bool, out: &mut dyn Write) -> Result<()> {
    let (Some(connection), Some(listing)) = (&options.connection, &options.listing) else {
        return list(database, json, out).await;
    };
    let failed = |e| fault("cannot map the listing", e);
    let known: Vec<String> = sqlx::query_scalar("select distinct connection from core.listings order by 1")
        .fetch_all(&database.pool)
        .await
        .map_err(failed)?;
    if !known.is_empty() && !known.contains(connection) {
        return Err(Fault::user(format!("no connection `{connection}` has told of a listing"))
            .hint(names::hint(connection, known.iter().map(String::as_str))));
    }
    let property = options.property.as_deref().map(str::trim);
    if property == Some("") {
        return Err(Fault::user("a property needs a name").hint("Leave it out to take a mapping back."));
    }
    let mut tx = database.pool.begin().await.map_err(failed)?;
    let before: Option<String> = sqlx::query_scalar(
        "select property_id from sync.listing_map where connection = $1 and listing_id = $2 for update",
    )
    .bind(connection)
    .bind(listing)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    let change = match property {
        Some(_) => {
            "insert into sync.listing_map (connection, listing_id, property_id) values ($1, $2, $3) \
             on conflict (connection, listing_id) do update set property_id = excluded.property_id, updated_at = now()"
        }
        None => "delete from sync.listing_map where connection = $1 and listing_id = $2 and $3::text is null",
    };
    sqlx::query(change).bind(connection).bind(listing).bind(property).execute(&mut *tx).await.map_err(failed)?;
    sqlx::query("insert into ops.unsettled (connection, listing_id, what) values ($1, $2, 'listing')")
        .bind(connection)
        .bind(listing)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    let subject = format!("{connection}:{listing}");
    crate::books::audit(database, "map", &subject, json!({ "before": before, "after": property })).await?;
    let plans = app.sound_plans().await?;
    app.settle(&plans, database, "manual").await?;
    let now: Option<String> =
        sqlx::query_scalar("select property_id from core.listings where connection = $1 and listing_id = $2")
            .bind(connection)
            .bind(listing)
            .fetch_optional(&database.pool)
            .await
            .map_err(failed)?
            .flatten();
    match now {
        Some(property) => print(out, format_args!("listing `{listing}` of `{connection}` is property `{property}`")),
        None => print(out, format_args!("listing `{listing}` of `{connection}` has no property")),
    }
}

async fn list(database: &Database, json: bool, out: &mut dyn Write) -> Result<()> {
    let rows = sqlx::query(
        "select connection, listing_id, property_id, basis, name from core.listings where deleted_at is null \
         order by property_id is not null, connection, listing_id",
    )
    .fetch_all(&database.pool)
    .await
    .map_err(|e| fault("cannot read the listings", e))?;
    for row in &rows {
        let text = |column: &str| row.get::<Option<String>, _>(column);
        let (connection, listing) = (text("connection").unwrap_or_default(), text("listing_id").unwrap_or_default());
        let (property, basis, name) = (text("property_id"), text("basis"), text("name"));
        if json {
            let line = json!({ "connection": connection, "listing_id": listing, "property_id": property, "basis": basis, "name": name });
            print(out, format_args!("{line}"))?;
            continue;
        }
        let name = name.map_or(String::new(), |n| format!(" ({n})"));
        match (property, basis) {
            (Some(property), Some(basis)) => {
                print(out, format_args!("{connection} {listing}{name} is {property}, by {basis}"))?;
            }
            _ => print(
                out,
                format_args!(
                    "{connection} {listing}{name} has no property: propflow map {connection} {listing} PROPERTY"
                ),
            )?,
        }
    }
    if rows.is_empty() && !json {
        print(out, format_args!("no connection has told of a listing yet"))?;
    }
    Ok(())
}
