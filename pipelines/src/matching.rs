//! `propflow match`: the records of one person, in files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use catalog::{Fault, Result};
use clap::{Args, ValueEnum};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::SessionConfig;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use transforms::matching::{
    Attribute, Chunk, Columns, Decision, Index, Population, Profile, Quality, Resolved, Rule, Scored, Stage, decide,
    resolve,
};

use crate::cli::{End, wrote};
use crate::show::thousands;
use crate::{names, sql};

/// What to match, and what to print.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// CSV, Parquet or JSON files; together they are one population
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// The column of ids, unique over all files
    #[arg(long, value_name = "COLUMN", default_value = "id")]
    id: String,
    /// Which column holds what, such as `given_name=first,street=number+road`; without it, columns of these names:
    /// `given_name`, `family_name`, `name`, `email`, `phone`, `birth_date`, `street`, `city`, `state`, `postcode`
    #[arg(long, value_name = "WHAT=COLUMN,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// Where clusters go, as .csv or .parquet; without it to standard output as CSV
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// From which probability on two records are put into one cluster
    #[arg(long, value_name = "P")]
    threshold: Option<f64>,
    /// What decides
    #[arg(long, value_enum, default_value_t)]
    rule: RuleName,
    /// A column that tells who is who: print precision, recall and how well probabilities hold
    #[arg(long, value_name = "COLUMN", conflicts_with = "state")]
    truth: Option<String>,
    /// Say why two records are one person or not, and print nothing else
    #[arg(long, num_args = 2, value_names = ["ID", "ID"], conflicts_with = "state")]
    explain: Vec<String>,
    /// Keep what is known in this file, and next time only add rows with new ids. It holds personal data
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Country of phone numbers without a country code
    #[arg(long, default_value = "US")]
    region: String,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum RuleName {
    /// Probabilities after Fellegi and Sunter
    #[default]
    FellegiSunter,
    /// The fixed rule: 0.4 for the e-mail, 0.3 for the phone, 0.3 for the name
    Seed,
}

/// How long each stage took.
#[derive(Debug, Default)]
struct Times(Vec<(&'static str, Duration)>);

impl Times {
    fn json(&self) -> Value {
        self.0.iter().map(|(stage, took)| ((*stage).to_owned(), json!(took.as_secs_f64()))).collect()
    }
}

/// Everything that was read.
struct Read {
    chunks: Vec<Chunk>,
    truth: Vec<Option<StringArray>>,
}

/// Finds the records of one person.
pub async fn run(options: &Options, as_json: bool, quiet: bool, out: &mut dyn Write) -> Result<End> {
    let profile = profile(options)?;
    let kind = options.out.as_deref().map(ending).transpose()?;
    if options.id == CLUSTER_COLUMN {
        return Err(Fault::user(format!("the column of ids cannot be called `{CLUSTER_COLUMN}`"))
            .hint("That is the name of the column that is added."));
    }
    let mut times = Times::default();
    let began = Instant::now();
    let known = match &options.state {
        Some(path) if path.exists() => Some(read_state(path, &profile)?),
        _ => None,
    };
    if known.is_some() {
        times.0.push(("open", began.elapsed()));
    }
    let began = Instant::now();
    let Read { chunks, truth } = read(options).await?;
    times.0.push(("read", began.elapsed()));
    if let Some(index) = known {
        return add(options, index, chunks, times, kind, as_json, quiet, out);
    }
    let population = Population::new(chunks)?;
    let labels = options.truth.as_ref().map(|_| labels(&population, &truth));
    drop(truth);
    let mut last = Instant::now();
    let resolved = resolve(&population, &profile, None, labels.as_deref(), &mut |stage| {
        let name = match stage {
            Stage::Block => "block",
            Stage::Train => "train",
            Stage::Score => "score",
            Stage::Cluster => "cluster",
        };
        times.0.push((name, last.elapsed()));
        last = Instant::now();
    });
    if let [a, b] = options.explain.as_slice() {
        explain(&population, &resolved, &profile, (a, b), as_json, out)?;
        return Ok(End::Done);
    }
    let pairs = (0..population.len() as u32).zip(&resolved.cluster_of);
    let pairs = pairs.map(|(record, cluster)| (population.id(record), population.id(*cluster)));
    let began = Instant::now();
    write_clusters(options, kind, pairs, as_json, out)?;
    times.0.push(("write", began.elapsed()));
    let quality = labels.as_ref().map(|labels| Quality::of(&resolved.cluster_of, labels));
    let summary = Summary { records: population.len(), resolved: &resolved, quality, times: &times };
    // Standard output belongs to the clusters, unless they went to a file.
    let mut err = io::stderr();
    let to: &mut dyn Write = if options.out.is_some() && (as_json || options.truth.is_some()) { out } else { &mut err };
    if as_json {
        wrote(writeln!(to, "{}", summary.json()))?;
    } else if !quiet || options.truth.is_some() {
        wrote(summary.print(to))?;
    }
    if let Some(path) = &options.state {
        write_state(path, &Index::new(population, resolved, profile))?;
    }
    Ok(End::Done)
}

const CLUSTER_COLUMN: &str = "cluster_id";

fn profile(options: &Options) -> Result<Profile> {
    let mut profile = match options.rule {
        RuleName::FellegiSunter => Profile::default(),
        RuleName::Seed => Profile::seed(),
    };
    if let Some(threshold) = options.threshold {
        if !(0.0..=1.0).contains(&threshold) {
            return Err(Fault::user(format!("`--threshold {threshold}` is no probability"))
                .hint("Give a number between 0 and 1."));
        }
        profile.cluster = threshold;
    }
    Ok(profile)
}

// ---- reading

/// A column of a file by its name; blanks around names in headers do not count.
fn column_of(schema: &Schema, file: &str, wanted: &str) -> Result<String> {
    let known: Vec<&str> = schema.fields().iter().map(|f| f.name().trim()).collect();
    match schema.fields().iter().find(|f| f.name().trim() == wanted.trim()) {
        Some(field) => Ok(field.name().clone()),
        None => {
            Err(Fault::user(format!("`{file}` has no column `{}`", wanted.trim())).hint(names::hint(wanted, known)))
        }
    }
}

/// What `--columns` says, or the columns that are called as the attributes are.
fn attributes(options: &Options, schema: &Schema, file: &str) -> Result<Vec<(Attribute, Vec<String>)>> {
    let mut found: Vec<(Attribute, Vec<String>)> = Vec::new();
    for pair in options.columns.iter().map(|p| p.trim()).filter(|p| !p.is_empty()) {
        let (what, columns) = pair.split_once('=').ok_or_else(|| {
            Fault::user(format!("`{pair}` in `--columns` does not say which column it is"))
                .hint("Write it as `given_name=COLUMN`.")
        })?;
        let attribute = Attribute::ALL.into_iter().find(|a| a.name() == what.trim()).ok_or_else(|| {
            Fault::user(format!("`{}` in `--columns` is nothing that people are matched by", what.trim()))
                .hint(names::hint(what, Attribute::ALL.map(Attribute::name)))
        })?;
        if found.iter().any(|(a, _)| *a == attribute) {
            return Err(Fault::user(format!("`{}` stands in `--columns` twice", attribute.name()))
                .hint("Join columns with `+`, as in `street=number+road`."));
        }
        let columns = columns.split('+').map(|c| column_of(schema, file, c)).collect::<Result<Vec<_>>>()?;
        found.push((attribute, columns));
    }
    if found.is_empty() {
        let named = |a: &Attribute| schema.fields().iter().find(|f| f.name().trim() == a.name());
        found = Attribute::ALL.iter().filter_map(|a| Some((*a, vec![named(a)?.name().clone()]))).collect();
    }
    if found.is_empty() {
        let known = schema.fields().iter().map(|f| f.name().trim());
        return Err(Fault::user(format!("nothing in `{file}` is called as what people are matched by"))
            .hint(format!("Say which column is what with `--columns`. {}", names::hint("", known))));
    }
    Ok(found)
}

async fn read(options: &Options) -> Result<Read> {
    let mut read = Read { chunks: Vec::new(), truth: Vec::new() };
    for file in &options.files {
        // One partition, so that rows keep their order; normalising is what takes time, and that is done on all cores.
        let context = transforms::session_with(SessionConfig::new().with_target_partitions(1))
            .map_err(|e| sql::plain("a session cannot be made", &e))?;
        let table = format!("'{}'", file.replace('\'', "''"));
        let schema = sql::query(&context, &format!("select * from {table} limit 0")).await?.schema();
        let columns = Columns {
            id: column_of(&schema, file, &options.id)?,
            attributes: attributes(options, &schema, file)?,
            region: options.region.to_ascii_uppercase(),
        };
        let truth = options.truth.as_ref().map(|t| column_of(&schema, file, t)).transpose()?;
        let mut wanted: Vec<&str> = vec![&columns.id];
        wanted.extend(columns.attributes.iter().flat_map(|(_, c)| c).map(String::as_str));
        wanted.extend(truth.as_deref());
        wanted.sort_unstable();
        wanted.dedup();
        let list: Vec<String> = wanted.iter().map(|c| format!("\"{}\"", c.replace('"', "\"\""))).collect();
        let rows = sql::query(&context, &format!("select {} from {table}", list.join(", "))).await?;
        let columns = Arc::new(columns);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut chunks = rows
            .map(|batch| {
                let (columns, truth, file) = (columns.clone(), truth.clone(), file.clone());
                async move {
                    let batch = batch.map_err(|e| sql::plain(&format!("`{file}` cannot be read"), &e))?;
                    tokio::task::spawn_blocking(move || {
                        let chunk = Chunk::read(&batch, &columns).map_err(|f| f.at(format!("`{file}`")))?;
                        let truth = truth.map(|t| text(&batch, &t)).transpose()?;
                        Ok::<_, Fault>((chunk, truth))
                    })
                    .await
                    .map_err(|e| Fault::us("a worker ended early").because(e))?
                }
            })
            .buffered(cores);
        while let Some((chunk, truth)) = chunks.try_next().await? {
            read.chunks.push(chunk);
            read.truth.push(truth);
        }
    }
    Ok(read)
}

fn text(batch: &RecordBatch, column: &str) -> Result<StringArray> {
    let column = batch.column_by_name(column).ok_or_else(|| Fault::us(format!("the column `{column}` went astray")))?;
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// A number for each record that says who it is; a record without one is somebody of his own.
fn labels(population: &Population, truth: &[Option<StringArray>]) -> Vec<u32> {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut next = 0u32;
    let mut fresh = || {
        next += 1;
        next
    };
    (0..population.len() as u32)
        .map(|record| {
            let (chunk, row) = population.place(record);
            match truth[chunk].as_ref().filter(|t| t.is_valid(row)) {
                Some(known) => *numbers.entry(known.value(row)).or_insert_with(&mut fresh),
                None => fresh(),
            }
        })
        .collect()
}

// ---- writing

#[derive(Debug, Clone, Copy)]
enum Ending {
    Csv,
    Parquet,
}

fn ending(path: &Path) -> Result<Ending> {
    match path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("csv") => Ok(Ending::Csv),
        Some("parquet") => Ok(Ending::Parquet),
        _ => Err(Fault::user(format!("`{}` has an ending that clusters are not written in", path.display()))
            .hint("Let the file end in `.csv` or `.parquet`.")),
    }
}

/// Rows written at a time.
const ROWS: usize = 65_536;

fn write_clusters<'a>(
    options: &Options,
    kind: Option<Ending>,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let id = options.id.trim();
    let Some((path, kind)) = options.out.as_deref().zip(kind) else {
        let mut out = BufWriter::new(out);
        let written = if as_json {
            pairs
                .into_iter()
                .try_for_each(|(record, cluster)| writeln!(out, "{}", json!({ id: record, CLUSTER_COLUMN: cluster })))
        } else {
            csv(&mut out, id, pairs)
        };
        return wrote(written.and_then(|()| out.flush()));
    };
    let failed = |e: io::Error| {
        Fault::user(format!("`{}` cannot be written", path.display()))
            .hint("Name a file in a folder that you may write.")
            .because(e)
    };
    replace(path, |file| match kind {
        Ending::Csv => {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            csv(&mut out, id, pairs).and_then(|()| out.flush()).map_err(failed)
        }
        Ending::Parquet => {
            let field = |name: &str| Field::new(name, DataType::Utf8, false);
            let schema = Arc::new(Schema::new(vec![field(id), field(CLUSTER_COLUMN)]));
            let parquet = |e| Fault::user(format!("`{}` cannot be written", path.display())).because(e);
            let mut writer = ArrowWriter::try_new(file, schema.clone(), None).map_err(parquet)?;
            let (mut records, mut clusters) = (Vec::new(), Vec::new());
            let mut flush = |records: &mut Vec<&'a str>, clusters: &mut Vec<&'a str>| -> Result<()> {
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(StringArray::from(std::mem::take(records))),
                    Arc::new(StringArray::from(std::mem::take(clusters))),
                ];
                writer.write(&RecordBatch::try_new(schema.clone(), columns)?).map_err(parquet)
            };
            for (record, cluster) in pairs {
                records.push(record);
                clusters.push(cluster);
                if records.len() == ROWS {
                    flush(&mut records, &mut clusters)?;
                }
            }
            flush(&mut records, &mut clusters)?;
            writer.close().map(|_| ()).map_err(parquet)
        }
    })
}

fn csv<'a>(out: &mut impl Write, id: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> io::Result<()> {
    let mut line = |a: &str, b: &str| -> io::Result<()> {
        for (value, end) in [(a, ','), (b, '\n')] {
            if value.contains([',', '"', '\n', '\r']) {
                write!(out, "\"{}\"{end}", value.replace('"', "\"\""))?;
            } else {
                write!(out, "{value}{end}")?;
            }
        }
        Ok(())
    };
    line(id, CLUSTER_COLUMN)?;
    pairs.into_iter().try_for_each(|(record, cluster)| line(record, cluster))
}

/// Writes a file beside its place and moves it there, so that nobody finds half of it. Only its owner may read it.
pub(crate) fn replace(path: &Path, write: impl FnOnce(File) -> Result<()>) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |e: io::Error| {
        Fault::user(format!("`{}` cannot be written", path.display()))
            .hint("Name a file in a folder that you may write.")
            .because(e)
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(failed)?;
    let done = write(file).and_then(|()| std::fs::rename(&part, path).map_err(failed));
    if done.is_err() {
        // The first failure is the one to tell.
        let _ = std::fs::remove_file(&part);
    }
    done
}

// ---- what is known

fn read_state(path: &Path, profile: &Profile) -> Result<Index> {
    let place = |f: Fault| f.at(format!("`{}`", path.display()));
    let file = File::open(path).map_err(|e| place(Fault::user("the state cannot be opened").because(e)))?;
    let index = Index::read(BufReader::with_capacity(1 << 20, file)).map_err(place)?;
    if index.profile() != profile {
        return Err(Fault::user(format!("`{}` was made with another rule or threshold", path.display()))
            .hint("Ask as you did then, or delete it and resolve everything anew."));
    }
    Ok(index)
}

fn write_state(path: &Path, index: &Index) -> Result<()> {
    replace(path, |file| index.write(BufWriter::with_capacity(1 << 20, file)))
}

#[expect(clippy::too_many_arguments, reason = "what a run knows at this point")]
fn add(
    options: &Options,
    mut index: Index,
    chunks: Vec<Chunk>,
    mut times: Times,
    kind: Option<Ending>,
    as_json: bool,
    quiet: bool,
    out: &mut dyn Write,
) -> Result<End> {
    let began = Instant::now();
    let known = index.len();
    let mut moved = 0;
    for chunk in chunks {
        moved += index.add(&index.unknown(chunk))?.moved.len();
    }
    times.0.push(("add", began.elapsed()));
    let began = Instant::now();
    write_clusters(options, kind, index.clusters(), as_json, out)?;
    write_state(options.state.as_deref().unwrap_or(Path::new("")), &index)?;
    times.0.push(("write", began.elapsed()));
    let added = index.len() - known;
    let mut err = io::stderr();
    if as_json {
        let summary = json!({ "known": known, "added": added, "moved": moved, "seconds": times.json() });
        let to: &mut dyn Write = if options.out.is_some() { out } else { &mut err };
        wrote(writeln!(to, "{summary}"))?;
    } else if !quiet {
        wrote(writeln!(
            err,
            "{} new records beside {} known ones; {} known records changed their cluster",
            thousands(added as u64),
            thousands(known as u64),
            thousands(moved as u64)
        ))?;
        wrote(print_times(&mut err, &times))?;
    }
    Ok(End::Done)
}

// ---- telling

struct Summary<'a> {
    records: usize,
    resolved: &'a Resolved,
    quality: Option<Quality>,
    times: &'a Times,
}

fn print_times(out: &mut dyn Write, times: &Times) -> io::Result<()> {
    let parts: Vec<String> = times.0.iter().map(|(name, took)| format!("{name} {:.2} s", took.as_secs_f64())).collect();
    writeln!(out, "{}", parts.join(", "))
}

impl Summary<'_> {
    fn people(&self) -> usize {
        (0..).zip(&self.resolved.cluster_of).filter(|(record, cluster)| record == *cluster).count()
    }

    fn pairs_a_sec(&self) -> f64 {
        let score = self.times.0.iter().find(|(name, _)| *name == "score").map_or(0.0, |(_, t)| t.as_secs_f64());
        self.resolved.candidates as f64 / score.max(1e-9)
    }

    fn json(&self) -> Value {
        let r = self.resolved;
        json!({
            "records": self.records, "people": self.people(), "copies": r.copies, "candidates": r.candidates,
            "likely_pairs": r.likely, "pairs_a_sec": self.pairs_a_sec(), "seconds": self.times.json(),
            "skipped": r.skipped, "quality": self.quality, "calibration": r.calibration,
        })
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let r = self.resolved;
        writeln!(
            out,
            "{} records, {} people; {} word-for-word copies, {} pairs compared at {} a second, {} of them likely",
            thousands(self.records as u64),
            thousands(self.people() as u64),
            thousands(r.copies),
            thousands(r.candidates),
            thousands(self.pairs_a_sec() as u64),
            thousands(r.likely)
        )?;
        print_times(out, self.times)?;
        let skipped: usize = r.skipped.iter().map(|s| s.keys).sum();
        if skipped > 0 {
            writeln!(
                out,
                "{} keys of {} kinds are too common to compare all who share them; finer keys stood in (`--json` lists them)",
                thousands(skipped as u64),
                r.skipped.len()
            )?;
        }
        if let Some(q) = &self.quality {
            writeln!(out, "precision {:.4}, recall {:.4}, F1 {:.4} over pairs", q.precision, q.recall, q.f1)?;
            writeln!(out, "probability from     pairs    said    seen")?;
            for b in &r.calibration {
                writeln!(out, "{:>16} {:>9}  {:>6.3}  {:>6.3}", b.from, b.pairs, b.said, b.seen)?;
            }
        }
        Ok(())
    }
}

fn explain(
    population: &Population,
    resolved: &Resolved,
    profile: &Profile,
    (a, b): (&str, &str),
    as_json: bool,
    out: &mut dyn Write,
) -> Result<()> {
    let find = |id: &str| {
        population.find(id, population.len()).ok_or_else(|| {
            Fault::user("there is no record with one of the ids of `--explain`")
                .hint("Give two ids of the column that `--id` names.")
        })
    };
    let (first, second) = (find(a)?, find(b)?);
    let scored = resolved.scorer.score(&population.record(first), &population.record(second));
    let decision = decide(profile, &scored);
    let together = resolved.cluster_of[first as usize] == resolved.cluster_of[second as usize];
    if as_json {
        return wrote(writeln!(out, "{}", json!({ "scored": scored, "decision": decision, "one_cluster": together })));
    }
    wrote(print_explanation(out, profile, &scored, decision, together))
}

fn print_explanation(
    out: &mut dyn Write,
    profile: &Profile,
    scored: &Scored,
    decision: Decision,
    together: bool,
) -> io::Result<()> {
    let line = |out: &mut dyn Write, what: &str, level: &str, weight: f64| {
        writeln!(out, "{what:<16} {level:<36} {weight:>8.2}")
    };
    if profile.rule == Rule::Seed {
        for field in &scored.fields {
            line(out, field.field, field.level, field.weight)?;
        }
        line(out, "sum", "", scored.weight)?;
    } else {
        writeln!(out, "{:<16} {:<36} {:>8}", "", "", "bits")?;
        line(out, "before looking", "", scored.prior)?;
        for field in &scored.fields {
            line(out, field.field, field.level, field.weight)?;
        }
        line(out, "household", "what a common household explains", scored.household)?;
        line(out, "sum", "", scored.weight)?;
    }
    let decision = match decision {
        Decision::Merge => "one person: merge",
        Decision::Review => "perhaps one person: have a look",
        Decision::New => "two people",
    };
    writeln!(out, "probability {:.4}: {decision}", scored.probability)?;
    let cluster = if together { "in one cluster" } else { "in two clusters" };
    writeln!(out, "the records are {cluster}")
}
