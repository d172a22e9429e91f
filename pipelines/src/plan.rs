//! From pipeline files to something that can run, with every problem reported at once.

use std::collections::BTreeMap;

use catalog::{Env, Fault, Result, WriteMode};
use serde::Deserialize as _;
use serde_json::{Map, Value};
use transforms::Model;

use crate::lines::{Lines, told};
use crate::names;
use crate::schedule::Schedule;
use crate::settings::{check_settings, check_value, unusable};
use crate::spec::{ReadSpec, ScheduleSpec, Spec, SpecFile, interpolate};

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

/// Reads every file and checks all of them, without a call outside. Neither problems of another file nor others of the same
/// file hide one: only what is no valid TOML does.
pub async fn check(files: &[SpecFile]) -> (Vec<Plan>, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut plans: Vec<Plan> = Vec::new();
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let (value, lines) = match Lines::read(&file.text) {
            Ok(read) => read,
            Err(found) => {
                faults.extend(found.into_iter().map(|f| f.at(&file.place)));
                continue;
            }
        };
        let mut found = Vec::new();
        if let Some(name) = word(&value, "/name")
            && let Some(other) = places.insert(name.to_owned(), file.place.clone())
        {
            found.push(
                Fault::user(format!("`name`: `{name}` is taken by `{other}`"))
                    .hint("Give each pipeline a name of its own."),
            );
        }
        plans.extend(check_file(file, value, &mut found).await);
        faults.extend(lines.place(found).into_iter().map(|f| f.at(&file.place)));
    }
    (plans, faults)
}

/// Checks the parts of a file one by one, as far as each is there: what is missing or of a wrong type has been told by the
/// schema and says nothing about the rest.
async fn check_file(file: &SpecFile, mut value: Value, faults: &mut Vec<Fault>) -> Option<Plan> {
    interpolate(&mut value, "", faults, &|name| std::env::var(name).ok());
    check_value(&mut value, &schemars::schema_for!(Spec).to_value(), "", faults);
    let (models, direct) = check_source(&mut value, faults).await;
    let written: Vec<_> = targets(&models).into_iter().chain(direct.iter().cloned()).collect();
    check_sinks(&mut value, &written, faults);
    check_schedule(&value, faults);
    if !faults.is_empty() {
        return None;
    }
    match serde_json::from_value(value) {
        Ok(spec) => Some(Plan { spec, place: file.place.clone(), models, direct }),
        Err(error) => {
            faults.push(Fault::user(error.to_string()));
            None
        }
    }
}

fn word<'a>(value: &'a Value, at: &str) -> Option<&'a str> {
    value.pointer(at)?.as_str()
}

/// The settings of a component, made when they were left out; `None` when something else stands there.
fn settings(component: &mut Value) -> Option<&mut Map<String, Value>> {
    component.as_object_mut()?.entry("settings").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

async fn check_source(value: &mut Value, faults: &mut Vec<Fault>) -> (Vec<&'static Model>, Vec<sinks::Target>) {
    let wanted = match check_models(value, faults) {
        Ok(wanted) => wanted,
        Err(fault) => {
            faults.push(fault);
            return Default::default();
        }
    };
    let Some(streams) = check_connector(value, faults).await else { return Default::default() };
    let (Some(connector), Some(wanted_stream)) = (word(value, "/source/connector"), word(value, "/source/stream"))
    else {
        return Default::default();
    };
    let Some(stream) = streams.iter().find(|s| s.name == wanted_stream) else {
        faults.push(
            Fault::user(format!("`source.stream`: connector `{connector}` has no stream `{wanted_stream}`"))
                .hint(names::hint(wanted_stream, streams.iter().map(|s| &*s.name))),
        );
        return Default::default();
    };
    match models_for(&stream.datasets) {
        Ok(fed) => {
            let chosen = fed.into_iter().filter(|m| wanted.as_ref().is_none_or(|w| w.contains(&m.name.as_str())));
            (chosen.collect(), direct(&stream.datasets))
        }
        Err(fault) => {
            faults.push(fault);
            Default::default()
        }
    }
}

/// The names of the models that a file asks for, itself or by their layer; nothing when it asks for none.
fn check_models(value: &Value, faults: &mut Vec<Fault>) -> Result<Option<Vec<&'static str>>> {
    let Some(names) = value.get("models").and_then(Value::as_array) else { return Ok(None) };
    let all = transforms::models::all()?;
    let mut wanted = Vec::new();
    for (i, name) in names.iter().enumerate().filter_map(|(i, name)| Some((i, name.as_str()?))) {
        let meant = all.iter().filter(|m| m.name == name || m.layer == name);
        let before = wanted.len();
        wanted.extend(meant.map(|m| m.name.as_str()));
        if wanted.len() == before {
            faults.push(
                Fault::user(format!("`models[{i}]`: there is no model or layer `{name}`"))
                    .hint(names::hint(name, all.iter().map(|m| m.name.as_str()))),
            );
        }
    }
    Ok(Some(wanted))
}

/// The streams of a file's connector, as far as its settings let it be opened.
async fn check_connector(value: &mut Value, faults: &mut Vec<Fault>) -> Option<Vec<connectors::Stream>> {
    let name = word(value, "/source/connector")?.to_owned();
    let connection = word(value, "/source/connection").unwrap_or(&name).to_owned();
    let Some(entry) = connectors::find(&name) else {
        faults.push(
            Fault::user(format!("`source.connector`: there is no connector `{name}`"))
                .hint(names::hint(&name, connectors::ALL.iter().map(|e| e.name))),
        );
        return None;
    };
    let settings = settings(value.get_mut("source")?)?;
    let clean = !told(faults, "source.settings");
    let sound = check_settings(&entry.schema(), |s| entry.check(s), settings, "source.settings", faults) && clean;
    // Opening resolves the secrets and makes no call outside.
    match entry.open(Value::Object(settings.clone()), Env { connection, ..Env::default() }).await {
        Ok(source) => Some(source.streams()),
        Err(fault) => {
            if sound {
                faults.extend(unusable(&entry.schema(), settings, "source.settings", fault));
            }
            None
        }
    }
}

fn check_sinks(value: &mut Value, targets: &[sinks::Target], faults: &mut Vec<Fault>) {
    let Some(all) = value.get_mut("sinks").and_then(Value::as_array_mut) else { return };
    if all.is_empty() {
        faults.push(Fault::user("`sinks`: the list is empty").hint("Name at least one sink, such as `postgres`."));
    }
    for (i, sink) in all.iter_mut().enumerate() {
        let place = format!("sinks[{i}]");
        let Some(name) = word(sink, "/sink").map(str::to_owned) else { continue };
        let Some(entry) = sinks::find(&name) else {
            faults.push(
                Fault::user(format!("`{place}.sink`: there is no sink `{name}`"))
                    .hint(names::hint(&name, sinks::ALL.iter().map(|e| e.name))),
            );
            continue;
        };
        if let Some(settings) = settings(sink) {
            check_settings(&entry.schema(), |s| entry.check(s), settings, &format!("{place}.settings"), faults);
        }
        let modes = sinks::modes(&name);
        for target in targets.iter().filter(|t| !modes.contains(&t.mode)) {
            let (dataset, mode) = (&target.dataset.name, mode_word(target.mode));
            faults.push(Fault::user(format!("`{place}.sink`: sink `{name}` cannot write `{dataset}` as {mode}")));
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

fn check_schedule(value: &Value, faults: &mut Vec<Fault>) {
    let Some(schedule) = value.get("schedule") else { return };
    let Ok(schedule) = ScheduleSpec::deserialize(schedule) else { return };
    match schedule.every() {
        Ok(None) if told(faults, "schedule.every") => return,
        Ok(None) => {}
        Ok(Some(_)) => {
            if !schedule.cron.is_empty() || !schedule.zone.is_empty() {
                faults.push(
                    Fault::user("`schedule`: it has `every` and also `cron` or `zone`")
                        .hint("Keep `every` to poll for changes, or the others to run at set times."),
                );
            }
            let read = value.pointer("/source/read").map_or(Ok(ReadSpec::default()), ReadSpec::deserialize);
            if !matches!(read, Ok(ReadSpec::Changes)) && !told(faults, "source.read") {
                faults.push(
                    Fault::user("`schedule.every`: the pipeline does not read changes")
                        .hint("Set `read = \"changes\"` in `[source]`, or use `cron`."),
                );
            }
            return;
        }
        Err(fault) => return faults.push(fault.at("`schedule.every`")),
    }
    let property = schedule.zone == "property";
    if schedule.zone.is_empty() {
        if !told(faults, "schedule.zone") {
            faults.push(
                Fault::user("`schedule.zone`: this key is required and missing")
                    .hint("Use an IANA name such as `America/Chicago`, or `property`."),
            );
        }
    } else if !property && schedule.zone.parse::<chrono_tz::Tz>().is_err() {
        faults.push(
            Fault::user(format!("`schedule.zone`: `{}` is not a time zone", schedule.zone))
                .hint("Use an IANA name such as `America/Chicago`, or `property`."),
        );
    }
    let name = word(value, "/name").unwrap_or("schedule");
    let cron = |expressions: &[String]| Schedule::parse(name, expressions, chrono_tz::UTC).err();
    if schedule.cron.is_empty() && !told(faults, "schedule.cron") {
        faults.extend(cron(&[]).map(|fault| fault.at("`schedule.cron`")));
    }
    for (i, expression) in schedule.cron.iter().enumerate() {
        faults.extend(cron(std::slice::from_ref(expression)).map(|fault| fault.at(format!("`schedule.cron[{i}]`"))));
    }
}
