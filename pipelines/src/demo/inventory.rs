//! Units and prices: pulls by the schedule, and what the chatbot sees of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use catalog::store::pg::fault;
use catalog::store::runs;
use catalog::{Fault, Receipt, Result};
use fixtures::resman::Simulator;
use sqlx::Row;
use tokio_util::sync::CancellationToken;

use super::{Scene, ask};
use crate::cli::{print, wrote};
use crate::{show, worker};

/// Lets the schedules' ticks become jobs and works them off.
pub(super) async fn pull(scene: &Scene<'_>, out: &mut dyn Write, stop: &CancellationToken) -> Result<()> {
    let pool = &scene.database.pool;
    let before = runs::list(pool, None, 1000).await?.len();
    worker::run_scheduled_now(scene.app, scene.database, "demo", stop).await?;
    let runs = runs::list(pool, None, 1000).await?;
    let new = &runs[..runs.len().saturating_sub(before)];
    if new.is_empty() {
        return Err(Fault::us("the schedule started no run"));
    }
    let rows = sqlx::query(
        "select d.key as dataset, sum((d.value->>'received')::int8)::int8 as received, sum((d.value->>'inserted')::int8)::int8 as inserted, \
           sum((d.value->>'updated')::int8)::int8 as updated, sum((d.value->>'unchanged')::int8)::int8 as unchanged, \
           sum((d.value->>'deleted')::int8)::int8 as deleted \
         from ops.slices s, jsonb_each(s.rows) d where s.run_id = any($1) group by 1 order by 1",
    )
    .bind(new.iter().map(|r| r.id).collect::<Vec<_>>())
    .fetch_all(pool)
    .await
    .map_err(|e| fault("cannot read the run ledger", e))?;
    let number = |r: &sqlx::postgres::PgRow, name: &str| u64::try_from(r.get::<i64, _>(name)).unwrap_or_default();
    let counts: BTreeMap<String, Receipt> = (rows.iter())
        .map(|r| {
            let counts = Receipt {
                received: number(r, "received"),
                inserted: number(r, "inserted"),
                updated: number(r, "updated"),
                unchanged: number(r, "unchanged"),
                deleted: number(r, "deleted"),
                appended: 0,
            };
            (r.get("dataset"), counts)
        })
        .collect();
    print(out, format_args!("{}", show::counts(&counts)))?;
    for run in new {
        if let Some(fault) = &run.fault {
            return Err(Fault::us(format!("the demo's run of `{}` failed: {fault}", run.pipeline)));
        }
        let (rows, status) = (show::thousands(run.rows_read.unsigned_abs()), run.status.as_str());
        let rejected = run.rows_rejected;
        print(
            out,
            format_args!("{} {status} by {}: {rows} rows read, {rejected} rejected", run.pipeline, run.trigger),
        )?;
    }
    Ok(())
}

/// A unit that is on offer.
pub(super) async fn first_available(scene: &Scene<'_>) -> Result<Option<(String, String)>> {
    sqlx::query_as(
        "select property_id, unit_number from serving.available_units order by property_id, unit_number limit 1",
    )
    .fetch_optional(&scene.database.pool)
    .await
    .map_err(|e| fault("cannot read the serving tables", e))
}

/// What the chatbot sees has to be what the vendor offers; a unit that was let in between has to be gone.
pub(super) async fn compare(
    scene: &Scene<'_>,
    simulator: &Simulator,
    quoted: Option<(String, String)>,
    out: &mut dyn Write,
) -> Result<()> {
    let failed = |e| fault("cannot read the serving tables", e);
    if let Some((property, unit)) = &quoted {
        let still: bool = sqlx::query_scalar(
            "select exists (select from serving.available_units where property_id = $1 and unit_number = $2)",
        )
        .bind(property)
        .bind(unit)
        .fetch_one(&scene.database.pool)
        .await
        .map_err(failed)?;
        if still {
            return Err(Fault::us(format!("unit {unit} was let and is still offered")));
        }
        print(
            out,
            format_args!("Unit {unit} was on offer in the morning and let at noon: the chatbot no longer sees it."),
        )?;
    }
    let truth: usize = simulator.with_world(|w| w.properties.iter().map(|p| w.offered_units(&p.id).len()).sum());
    let served: i64 = sqlx::query_scalar("select count(*) from serving.available_units")
        .fetch_one(&scene.database.pool)
        .await
        .map_err(failed)?;
    print(out, format_args!("On offer at the vendor: {truth}; in serving.available_units: {served}."))?;
    if usize::try_from(served).ok() != Some(truth) {
        return Err(Fault::us(format!("the vendor offers {truth} units and the chatbot sees {served}")));
    }
    Ok(())
}

/// Three questions about units and prices.
pub(super) async fn questions(scene: &Scene<'_>, lake: &Path, out: &mut dyn Write) -> Result<()> {
    let cheapest = "What does the cheapest two-bedroom of each property cost, all required fees included?";
    ask(scene, out, cheapest, None, CHEAPEST).await?;
    let sizes = "How many units are on offer per floor plan size, and at which rent?";
    ask(scene, out, sizes, Some(lake), BY_SIZE).await?;
    ask(scene, out, "Which prices moved since the morning?", Some(lake), MOVED).await?;
    wrote(out.flush())
}

const CHEAPEST: &str = "\
select p.name as property, c.unit_number as unit, c.lease_term_months as months, c.rent, \
  c.required_monthly_fees as fees, c.total_monthly_cost as a_month, c.total_move_in_cost as to_move_in \
from serving.unit_costs c \
join serving.available_units u using (property_id, unit_number) \
join serving.properties p using (property_id) \
where u.bedrooms = 2 and c.total_monthly_cost is not null and not c.stale \
  and c.total_monthly_cost = (select min(x.total_monthly_cost) from serving.unit_costs x \
    join serving.available_units y using (property_id, unit_number) where x.property_id = c.property_id and y.bedrooms = 2) \
order by c.total_monthly_cost, p.name, c.unit_number, c.lease_term_months limit 8";

const BY_SIZE: &str = "\
select bedrooms, bathrooms, count(*) as units, min(rent_from) as lowest, cast(avg(rent_from) as decimal(10,2)) as average, \
  max(rent_from) as highest \
from available_units group by bedrooms, bathrooms order by bedrooms, bathrooms";

const MOVED: &str = "\
select unit_number as unit, lease_term_months as months, previous_rent, rent, rent - previous_rent as moved \
from price_changes where previous_rent is not null and rent is not null and rent <> previous_rent \
order by abs(rent - previous_rent) desc, unit_number, lease_term_months limit 8";
