//! From pipeline files to something that can run, with every problem reported at once.

use std::collections::BTreeMap;

use catalog::{Env, Fault, Result, WriteMode};
use serde_json::Value;
use transforms::Model;

use crate::names;
use crate::schedule::Schedule;
use crate::settings::{check_settings, check_value};
use crate::spec::{ReadSpec, Spec, SpecFile, interpolate};

/// A pipeline that has passed every check that needs no call outside.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What the file says.
    pub spec: Spec,
    /// Where the file stands.
    pub place: String,
    /// The models to run on each slice, in order.
    pub models: Vec<&'static Model>,
    /// The stream's own datasets that are stored as they are.
    pub direct: Vec<sinks::Target>,
}

impl Plan {
    /// The datasets that its slices write, with their usual modes.
    pub fn targets(&self) -> Vec<sinks::Target> {
        let mut targets = targets(&self.models);
        targets.extend(self.direct.iter().cloned());
        targets
    }
}

/// The datasets that models write.
pub fn targets(models: &[&Model]) -> Vec<sinks::Target> {
    models
        .iter()
        .filter_map(|m| catalog::datasets::find(&m.name))
        .map(|d| sinks::Target { dataset: d.clone(), mode: d.mode })
        .collect()
}

/// The datasets of a stream that the catalog does not know, so that no model makes anything of them: they are stored as
/// they come.
pub fn direct(datasets: &[catalog::Dataset]) -> Vec<sinks::Target> {
    let own = datasets.iter().filter(|d| catalog::datasets::find(&d.name).is_none());
    own.map(|d| sinks::Target { dataset: d.clone(), mode: d.mode }).collect()
}

/// The models that a stream's datasets feed, directly or through other models.
pub fn models_for(datasets: &[catalog::Dataset]) -> Result<Vec<&'static Model>> {
    let mut known: Vec<&str> = datasets.iter().map(|d| d.name.as_str()).collect();
    let mut chosen = Vec::new();
    for model in transforms::models::all()? {
        if model.inputs.iter().any(|i| known.contains(&i.as_str())) {
            known.push(&model.name);
            chosen.push(model);
            if model.name == "source_bookings" {
                // These tables are made of it by no model.
                known.extend([transforms::settle::ASSIGNMENTS, transforms::settle::GUEST_ASSIGNMENTS]);
            }
        }
    }
    Ok(chosen)
}

/// Reads every file and checks all of them, without a call outside. Problems of one file do not hide those of another.
pub async fn check(files: &[SpecFile]) -> (Vec<Plan>, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut plans: Vec<Plan> = Vec::new();
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let mut found = Vec::new();
        if let Some(plan) = check_file(file, &mut found).await {
            if let Some(other) = places.insert(plan.spec.name.clone(), file.place.clone()) {
                found.push(
                    Fault::user(format!("the name `{}` is taken by `{other}`", plan.spec.name))
                        .hint("Give each pipeline a name of its own."),
                );
            } else if found.is_empty() {
                plans.push(plan);
            }
        }
        faults.extend(found.into_iter().map(|f| f.at(&file.place)));
    }
    (plans, faults)
}

async fn check_file(file: &SpecFile, faults: &mut Vec<Fault>) -> Option<Plan> {
    let table: toml::Table = match file.text.parse() {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(0, |s| file.text[..s.start.min(file.text.len())].lines().count().max(1));
            faults.push(
                Fault::user(format!("line {line}: {}", error.message().trim())).hint("The file must be valid TOML."),
            );
            return None;
        }
    };
    let mut value = match serde_json::to_value(&table) {
        Ok(value) => value,
        Err(error) => {
            faults.push(Fault::user("the file holds a value that has no JSON form").because(error));
            return None;
        }
    };
    interpolate(&mut value, "", faults, &|name| std::env::var(name).ok());
    let before = faults.len();
    let schema = schemars::schema_for!(Spec).to_value();
    let doubts = check_value(&mut value, &schema, "", faults);
    let mut spec: Spec = match serde_json::from_value(value) {
        Ok(spec) => spec,
        Err(error) => {
            // What is wrong was named above, in better words.
            if faults.len() == before && doubts.is_empty() {
                faults.push(Fault::user(error.to_string()));
            } else {
                faults.extend(doubts);
            }
            return None;
        }
    };
    let (models, direct) = check_source(&mut spec, faults).await;
    let written: Vec<_> = targets(&models).into_iter().chain(direct.iter().cloned()).collect();
    check_sinks(&mut spec, &written, faults);
    check_schedule(&spec, faults);
    Some(Plan { spec, place: file.place.clone(), models, direct })
}

async fn check_source(spec: &mut Spec, faults: &mut Vec<Fault>) -> (Vec<&'static Model>, Vec<sinks::Target>) {
    let connection = spec.connection().to_owned();
    let source = &mut spec.source;
    let Some(entry) = connectors::find(&source.connector) else {
        faults.push(
            Fault::user(format!("`source.connector`: there is no connector `{}`", source.connector))
                .hint(names::hint(&source.connector, connectors::ALL.iter().map(|e| e.name))),
        );
        return Default::default();
    };
    if !check_settings(&entry.schema(), |s| entry.check(s), &mut source.settings, "source.settings", faults) {
        return Default::default();
    }
    // Opening resolves the secrets and makes no call outside.
    let env = Env { connection, ..Env::default() };
    let streams = match entry.open(Value::Object(source.settings.clone()), env).await {
        Ok(source) => source.streams(),
        Err(fault) => {
            faults.push(fault.at("`source.settings`"));
            return Default::default();
        }
    };
    let Some(stream) = streams.iter().find(|s| s.name == source.stream) else {
        faults.push(
            Fault::user(format!("`source.stream`: connector `{}` has no stream `{}`", source.connector, source.stream))
                .hint(names::hint(&source.stream, streams.iter().map(|s| &*s.name))),
        );
        return Default::default();
    };
    let (fed, all) = match (models_for(&stream.datasets), transforms::models::all()) {
        (Ok(fed), Ok(all)) => (fed, all),
        (Err(fault), _) | (_, Err(fault)) => {
            faults.push(fault);
            return Default::default();
        }
    };
    let direct = direct(&stream.datasets);
    let Some(wanted) = &spec.models else { return (fed, direct) };
    for name in wanted {
        if !all.iter().any(|m| m.name == *name || m.layer == *name) {
            faults.push(
                Fault::user(format!("`models`: there is no model or layer `{name}`"))
                    .hint(names::hint(name, all.iter().map(|m| m.name.as_str()))),
            );
        }
    }
    (fed.into_iter().filter(|m| wanted.iter().any(|w| *w == m.name || *w == m.layer)).collect(), direct)
}

fn check_sinks(spec: &mut Spec, targets: &[sinks::Target], faults: &mut Vec<Fault>) {
    if spec.sinks.is_empty() {
        faults.push(Fault::user("`sinks` is empty").hint("Name at least one sink, such as `postgres`."));
    }
    for (i, sink) in spec.sinks.iter_mut().enumerate() {
        let place = format!("sinks[{i}]");
        let Some(entry) = sinks::find(&sink.sink) else {
            faults.push(
                Fault::user(format!("`{place}.sink`: there is no sink `{}`", sink.sink))
                    .hint(names::hint(&sink.sink, sinks::ALL.iter().map(|e| e.name))),
            );
            continue;
        };
        check_settings(&entry.schema(), |s| entry.check(s), &mut sink.settings, &format!("{place}.settings"), faults);
        let modes = sinks::modes(&sink.sink);
        for target in targets {
            if !modes.contains(&target.mode) {
                faults.push(Fault::user(format!(
                    "`{place}`: sink `{}` cannot write `{}` as {}",
                    sink.sink,
                    target.dataset.name,
                    mode_word(target.mode)
                )));
            }
        }
    }
}

fn mode_word(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Append => "an append",
        WriteMode::Upsert => "an upsert",
        WriteMode::Snapshot => "a snapshot",
        WriteMode::History => "a history",
    }
}

fn check_schedule(spec: &Spec, faults: &mut Vec<Fault>) {
    let Some(schedule) = &spec.schedule else { return };
    match schedule.every() {
        Ok(None) => {}
        Ok(Some(_)) => {
            if !schedule.cron.is_empty() || !schedule.zone.is_empty() {
                faults.push(
                    Fault::user("`schedule`: it has `every` and also `cron` or `zone`")
                        .hint("Keep `every` to poll for changes, or the others to run at set times."),
                );
            }
            if spec.source.read != ReadSpec::Changes {
                faults.push(
                    Fault::user("`schedule.every`: the pipeline does not read changes")
                        .hint("Set `read = \"changes\"` in `[source]`, or use `cron`."),
                );
            }
            return;
        }
        Err(fault) => return faults.push(fault.at("`schedule.every`")),
    }
    if schedule.zone.is_empty() {
        return faults.push(Fault::user("`schedule.zone`: this key is required and missing"));
    }
    let zone = if schedule.zone == "property" {
        chrono_tz::UTC
    } else {
        match schedule.zone.parse() {
            Ok(zone) => zone,
            Err(_) => {
                faults.push(
                    Fault::user(format!("`schedule.zone`: `{}` is not a time zone", schedule.zone))
                        .hint("Use an IANA name such as `America/Chicago`, or `property`."),
                );
                chrono_tz::UTC
            }
        }
    };
    if let Err(fault) = Schedule::parse(&spec.name, &schedule.cron, zone) {
        faults.push(fault.at("`schedule.cron`"));
    }
}
