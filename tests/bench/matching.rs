//! Identity resolution: a million people, a thousand more, and one.

use std::time::Instant;

use fixtures::people::{Contact, PeopleShape, people};
use nix::sys::resource::{UsageWho, getrusage};
use pipelines::show::thousands;
use transforms::matching::{Chunk, Index, Person, Population, Profile, Quality, Record, find, resolve};

use crate::{Result, say};

fn known(value: &str) -> Option<&str> {
    Some(value).filter(|v| !v.is_empty())
}

fn person(contact: &Contact) -> Person<'_> {
    Person {
        given_name: known(&contact.given_name),
        family_name: known(&contact.family_name),
        name: None,
        email: known(&contact.email),
        phone: known(&contact.phone),
        birth_date: known(&contact.birth_date),
        street: known(&contact.street),
        city: known(&contact.city),
        state: known(&contact.state),
        postcode: known(&contact.postcode),
    }
}

/// CPU seconds of this process so far, and the largest resident set in MiB.
fn used() -> Result<(f64, i64)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let secs = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    Ok((secs(usage.user_time()) + secs(usage.system_time()), usage.max_rss() / 1024))
}

/// Resolves `rows` generated people, adds a thousand, asks for single ones.
pub(crate) async fn run(rows: usize) -> Result<()> {
    say(&format!("\nmatch: {} generated people, 15 % of the rows repeat somebody", thousands(rows as u64)));
    let more = 1_000.min(rows);
    let step = rows / more + 1;
    let (mut chunk, mut later, mut asked) = (Chunk::default(), Chunk::default(), Vec::new());
    let mut people_of = Vec::new();
    let began = Instant::now();
    for (row, contact) in people(PeopleShape { seed: 1, rows: rows + more, duplicates: 0.15 }).enumerate() {
        let id = contact.id.to_string();
        if row % step == 0 {
            asked.push(Record::new(&person(&contact), "US"));
            later.push(&id, &person(&contact), "US");
        } else {
            chunk.push(&id, &person(&contact), "US");
            people_of.push(contact.person as u32);
        }
    }
    say(&format!("  generate and normalise on one core {:>7.2} s", began.elapsed().as_secs_f64()));
    let population = Population::new(vec![chunk])?;
    let truth: Vec<u32> = (0..population.len() as u32).map(|r| people_of[population.place(r).1]).collect();
    let (mut last, mut cpu) = (Instant::now(), used()?.0);
    let mut score_cpu = 0.0;
    let began = Instant::now();
    let resolved = resolve(&population, &Profile::default(), None, None, &mut |stage| {
        let now = used().map_or(cpu, |u| u.0);
        score_cpu = if stage == transforms::matching::Stage::Score { now - cpu } else { score_cpu };
        say(&format!("  {stage:?}: {:.2} s, {:.2} s of CPU", last.elapsed().as_secs_f64(), now - cpu));
        (last, cpu) = (Instant::now(), now);
    });
    let quality = Quality::of(&resolved.cluster_of, &truth);
    say(&format!(
        "  in all {:.2} s (asked: at most 20 s with reading); {} pairs, {} a CPU-second (asked: 400,000)",
        began.elapsed().as_secs_f64(),
        thousands(resolved.candidates),
        thousands((resolved.candidates as f64 / score_cpu.max(1e-9)) as u64),
    ));
    say(&format!("  precision {:.4}, recall {:.4}, F1 {:.4}", quality.precision, quality.recall, quality.f1));
    let scorer = resolved.scorer.clone();
    let mut index = Index::new(population, resolved, Profile::default());
    say(&format!("  peak memory {} MiB, index included (asked: 1,024)", used()?.1));
    let mut times = Vec::with_capacity(asked.len());
    for record in &asked {
        let began = Instant::now();
        std::hint::black_box(find(&index, &scorer, &Profile::default(), record).await?.len());
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
    say(&format!("  one record against all: p50 {:.2} ms, p99 {:.2} ms (asked: below 20 ms)", at(50), at(99)));
    let began = Instant::now();
    let added = index.add(&later)?;
    say(&format!(
        "  {} new records: {:.3} s (asked: at most 1 s); {} known records moved",
        thousands(added.records.len() as u64),
        began.elapsed().as_secs_f64(),
        added.moved.len()
    ));
    Ok(())
}
