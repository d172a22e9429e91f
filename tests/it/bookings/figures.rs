//! Figures for analysts, against sums that are made of what was told, without the models and views.

use chrono::{Datelike, Days, NaiveDate};

use super::*;

/// A stay or closed time as it was told.
struct Told {
    property: String,
    platform: &'static str,
    kind: &'static str,
    status: &'static str,
    from: NaiveDate,
    nights: u64,
    /// Cents of US dollars.
    amount: Option<i64>,
    lead_days: i64,
}

fn month(day: NaiveDate) -> NaiveDate {
    day.with_day(1).unwrap()
}

#[derive(Debug, Default)]
struct Month {
    closed: u64,
    booked: u64,
    unpriced: u64,
    revenue: f64,
}

fn near(found: Option<f64>, wanted: Option<f64>, step: f64) -> bool {
    match (found, wanted) {
        (Some(found), Some(wanted)) => (found - wanted).abs() <= step,
        (found, wanted) => found.is_none() && wanted.is_none(),
    }
}

/// Three properties over ten months, one stay behind the other.
fn world(dice: &mut ChaCha8Rng) -> Vec<Told> {
    let mut all = Vec::new();
    for property in ["P-1", "P-2", "P-3"] {
        let mut day = start().date_naive() - Days::new(75);
        while day < start().date_naive() + Days::new(220) {
            let nights = dice.random_range(1..9);
            let (kind, status) = match dice.random_range(0..20) {
                0 | 1 => ("block", "unavailable"),
                2 => ("owner", "confirmed"),
                3 => ("", "reserved"),
                4 | 5 => ("", "canceled"),
                6 => ("", "inquiry"),
                7 => ("", "declined"),
                _ => ("", "confirmed"),
            };
            let platforms = [("airbnb2", "airbnb"), ("homeaway2", "vrbo"), ("manual", "direct")];
            all.push(Told {
                property: property.to_owned(),
                platform: platforms[dice.random_range(0..3)].0,
                kind,
                status,
                from: day,
                nights,
                amount: dice.random_bool(0.85).then(|| dice.random_range(5_000..400_000)),
                lead_days: dice.random_range(0..120),
            });
            day = day + Days::new(nights + dice.random_range(0..4));
        }
    }
    all
}

type Performance = (String, NaiveDate, i64, i64, i64, Option<f64>, Option<f64>, Option<f64>, Option<f64>, i64);

#[tokio::test]
async fn figures_of_analysts_are_what_an_independent_sum_says() {
    for seed in [11, 12] {
        let told = world(&mut ChaCha8Rng::seed_from_u64(seed));
        let house = House::new(start()).await;
        let listing = |property: &str| {
            let row = json!({
                "connection": "guesty", "connector": "guesty", "listing_id": property, "property": property,
                "time_zone": "UTC",
            });
            ("channel_listings", row)
        };
        let mut rows: Vec<Wire> = ["P-1", "P-2", "P-3"].map(listing).to_vec();
        for (at, t) in told.iter().enumerate() {
            let until = t.from + Days::new(t.nights);
            let amount = t.amount.map(|cents| format!("{}.{:02}", cents / 100, cents % 100));
            let more = json!({
                "type": if t.kind.is_empty() { Value::Null } else { json!(t.kind) }, "status": t.status,
                "platform": t.platform, "check_in_time": "16:00", "total_amount": amount, "currency": "USD",
                "booked_at": format!("{}T16:00:00Z", t.from - Days::new(t.lead_days as u64)),
            });
            let dates = (t.from.to_string(), until.to_string());
            rows.push(reservation("guesty", &format!("R{at}"), &t.property, (&dates.0, &dates.1), more));
        }
        house.hear("guesty", vec![rows]).await;

        // Occupancy, ADR, RevPAR: of the months that the calendar holds whole.
        let mut months: BTreeMap<(String, NaiveDate), Month> = BTreeMap::new();
        for t in &told {
            for night in t.from.iter_days().take(t.nights as usize) {
                let sums = months.entry((t.property.clone(), month(night))).or_default();
                match (t.kind, t.status) {
                    ("block" | "owner", _) => sums.closed += 1,
                    (_, "confirmed") => {
                        sums.booked += 1;
                        match t.amount {
                            Some(cents) => sums.revenue += cents as f64 / 100.0 / t.nights as f64,
                            None => sums.unpriced += 1,
                        }
                    }
                    _ => {}
                }
            }
        }
        let found: Vec<Performance> = sqlx::query_as(
            "select property_id, month, nights, nights_available, nights_booked, occupancy::float8, revenue::float8, \
             adr::float8, revpar::float8, nights_without_amount from serving.booking_performance",
        )
        .fetch_all(house.pool())
        .await
        .unwrap();
        let mut compared = 0;
        for (property, first, nights, available, booked, occupancy, revenue, adr, revpar, unpriced) in found {
            let days = i64::from(first.num_days_in_month());
            if nights != days {
                continue;
            }
            compared += 1;
            let sums = months.remove(&(property.clone(), first)).unwrap_or_default();
            let open = days - sums.closed as i64;
            let place = format!("seed {seed}, {property} in {first}: {sums:?}");
            assert_eq!((available, booked, unpriced), (open, sums.booked as i64, sums.unpriced as i64), "{place}");
            let share = |of: f64| (open > 0).then(|| of / open as f64);
            let priced = sums.booked - sums.unpriced;
            let wanted = (priced > 0).then_some(sums.revenue);
            assert!(near(occupancy, share(sums.booked as f64), 0.000_06), "{place}: occupancy {occupancy:?}");
            // A month whose bookings all lack an amount has no currency either.
            assert!(near(revenue, wanted, 0.006), "{place}: revenue {revenue:?}");
            assert!(near(adr, wanted.map(|r| r / priced as f64), 0.006), "{place}: ADR {adr:?}");
            assert!(near(revpar, wanted.and_then(share), 0.006), "{place}: RevPAR {revpar:?}");
        }
        assert!(compared >= 3 * 9, "{compared} months");

        // Lead time and cancellation rate, by the month of arrival.
        let mut arrivals: BTreeMap<(String, NaiveDate), (i64, i64, i64, u64)> = BTreeMap::new();
        let mut sites: BTreeMap<(String, NaiveDate, &str), (i64, u64, i64)> = BTreeMap::new();
        for t in told.iter().filter(|t| t.kind.is_empty() && !["inquiry", "declined"].contains(&t.status)) {
            let of = arrivals.entry((t.property.clone(), month(t.from))).or_default();
            *of = (of.0 + 1, of.1 + i64::from(t.status == "canceled"), of.2 + t.lead_days, of.3 + t.nights);
            if t.status != "canceled" {
                let site = match t.platform {
                    "airbnb2" => "airbnb",
                    "homeaway2" => "vrbo",
                    _ => "direct",
                };
                let of = sites.entry((t.property.clone(), month(t.from), site)).or_default();
                *of = (of.0 + 1, of.1 + t.nights, of.2 + t.amount.unwrap_or(0));
            }
        }
        let found: Vec<(String, NaiveDate, i64, i64, f64, f64, f64)> = sqlx::query_as(
            "select property_id, month, bookings, cancelled, cancellation_rate::float8, lead_days::float8, \
             nights_per_stay::float8 from serving.booking_pace",
        )
        .fetch_all(house.pool())
        .await
        .unwrap();
        assert_eq!(found.len(), arrivals.len(), "seed {seed}");
        for (property, first, bookings, cancelled, rate, lead, nights) in found {
            let wanted = arrivals[&(property.clone(), first)];
            let place = format!("seed {seed}, {property} in {first}: {wanted:?}");
            let each = |sum: f64| Some(sum / wanted.0 as f64);
            assert_eq!((bookings, cancelled), (wanted.0, wanted.1), "{place}");
            assert!(near(Some(rate), each(wanted.1 as f64), 0.000_06), "{place}: {rate}");
            assert!(near(Some(lead), each(wanted.2 as f64), 0.06), "{place}: {lead}");
            assert!(near(Some(nights), each(wanted.3 as f64), 0.006), "{place}: {nights}");
        }

        // The mix of channels.
        let found: Vec<(String, NaiveDate, String, i64, i64, f64)> = sqlx::query_as(
            "select property_id, month, platform, sum(bookings)::int8, sum(nights)::int8, coalesce(sum(revenue), 0)::float8 \
             from serving.channel_mix group by 1, 2, 3",
        )
        .fetch_all(house.pool())
        .await
        .unwrap();
        assert_eq!(found.len(), sites.len(), "seed {seed}");
        for (property, first, platform, bookings, nights, revenue) in found {
            let wanted = sites[&(property.clone(), first, platform.as_str())];
            assert_eq!(
                (bookings, nights),
                (wanted.0, wanted.1 as i64),
                "seed {seed}, {property} in {first}, {platform}"
            );
            assert!(near(Some(revenue), Some(wanted.2 as f64 / 100.0), 0.006), "{property} in {first}, {platform}");
        }
    }
}
