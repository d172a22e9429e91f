//! Pipeline files: what to read, through which models, into which sinks, and when.

use std::path::Path;
use std::time::Duration;

use catalog::{Fault, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The pipelines that come with propflow, by file name.
const BUILT_IN: &[(&str, &str)] = &[
    ("airbnb_bookings.toml", include_str!("../specs/airbnb_bookings.toml")),
    ("guesty_bookings.toml", include_str!("../specs/guesty_bookings.toml")),
    ("hostaway_bookings.toml", include_str!("../specs/hostaway_bookings.toml")),
    ("intake_bookings.toml", include_str!("../specs/intake_bookings.toml")),
    ("ownerrez_bookings.toml", include_str!("../specs/ownerrez_bookings.toml")),
    ("resman_inventory.toml", include_str!("../specs/resman_inventory.toml")),
    ("resman_people.toml", include_str!("../specs/resman_people.toml")),
    ("resman_residents.toml", include_str!("../specs/resman_residents.toml")),
    ("vrbo_bookings.toml", include_str!("../specs/vrbo_bookings.toml")),
];

/// How a built-in pipeline of a vendor that not everyone has names the environment variable that switches it on.
const SWITCHED_ON_BY: &str = "# Switched on by ";

/// Whether a built-in pipeline is meant to run here: its vendor's credentials are set, or it runs everywhere.
fn switched_on(text: &str, lookup: impl Fn(&str) -> Option<String>) -> bool {
    let switch = text.lines().find_map(|line| line.strip_prefix(SWITCHED_ON_BY));
    switch.is_none_or(|name| lookup(name.trim()).is_some_and(|value| !value.is_empty()))
}

/// The courier files that come with propflow.
const BUILT_IN_COURIERS: &[(&str, &str)] = &[("couriers.toml", include_str!("../specs/couriers.toml"))];

/// One pipeline file.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The pipeline's name, unique among the files.
    pub name: String,
    /// One line for `propflow list`.
    pub about: String,
    /// Where rows come from.
    pub source: SourceSpec,
    /// Names or layers of models to run on each slice. Left out: every model that the stream feeds.
    pub models: Option<Vec<String>>,
    /// Where rows go, in the order of writing. A sink that keeps cursors is committed last whatever its place.
    pub sinks: Vec<SinkSpec>,
    /// When to run by itself.
    pub schedule: Option<ScheduleSpec>,
    /// When served rows count as stale.
    #[serde(default)]
    pub freshness: Freshness,
    /// What the vendor does not say about its values.
    #[serde(default)]
    pub defaults: Defaults,
}

/// Where rows come from.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// The connector's name; `propflow list` shows them.
    pub connector: String,
    /// A name for this account of the vendor. Left out: the connector's name.
    pub connection: Option<String>,
    /// The connector's stream.
    pub stream: String,
    /// How much a run reads.
    #[serde(default)]
    pub read: ReadSpec,
    /// The connector's settings.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

/// How much a run reads when nothing else is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadSpec {
    /// Everything that is there.
    #[default]
    Snapshot,
    /// What has changed since the run before; the first run reads everything.
    Changes,
}

impl From<ReadSpec> for connectors::Read {
    fn from(spec: ReadSpec) -> Self {
        match spec {
            ReadSpec::Snapshot => Self::Snapshot,
            ReadSpec::Changes => Self::Changes { since: None },
        }
    }
}

/// Where rows go.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkSpec {
    /// The sink's name; `propflow list` shows them.
    pub sink: String,
    /// The sink's settings.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

/// When to run.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSpec {
    /// Cron expressions of five or six fields.
    #[serde(default)]
    pub cron: Vec<String>,
    /// For cron expressions: an IANA time zone, or `property`: each property at its own local time.
    #[serde(default)]
    pub zone: String,
    /// In place of cron expressions: how often to ask what has changed, as `1s`, `500ms` or `2m`. For streams that can be read
    /// from a cursor on; what brings nothing leaves no run.
    #[serde(default)]
    pub every: Option<String>,
}

impl ScheduleSpec {
    /// The pause between polls, if it polls.
    ///
    /// # Errors
    /// When it is no such time, or shorter than 200 milliseconds or longer than an hour.
    pub fn every(&self) -> Result<Option<Duration>> {
        let Some(text) = &self.every else { return Ok(None) };
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let millis = match unit.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => 0,
        };
        let pause = Duration::from_millis(number.parse::<u64>().unwrap_or_default().saturating_mul(millis));
        if pause < Duration::from_millis(200) || pause > Duration::from_secs(3600) {
            return Err(Fault::user(format!("`{text}` is not a time between polls"))
                .hint("Write it as `500ms`, `1s` or `2m`: 200 milliseconds at least and an hour at most."));
        }
        Ok(Some(pause))
    }
}

/// When served rows count as stale.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Freshness {
    /// Hours since the vendor last confirmed a property.
    pub limit_hours: u32,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { limit_hours: 26 }
    }
}

/// What the vendor does not say about its values.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// ISO 4217 code of amounts without a currency.
    #[serde(default = "usd")]
    pub currency: String,
    /// ISO 3166-1 alpha-2 code of phone numbers without a country code.
    #[serde(default = "us")]
    pub region: String,
}

fn usd() -> String {
    "USD".to_owned()
}

fn us() -> String {
    "US".to_owned()
}

impl Default for Defaults {
    fn default() -> Self {
        Self { currency: usd(), region: us() }
    }
}

impl Spec {
    /// The name of the vendor account.
    pub fn connection(&self) -> &str {
        self.source.connection.as_deref().unwrap_or(&self.source.connector)
    }
}

/// A pipeline file's text and where it stands.
#[derive(Debug, Clone)]
pub struct SpecFile {
    /// The path, or `built in: NAME`.
    pub place: String,
    /// The TOML.
    pub text: String,
}

/// All pipelines that come with propflow, whether they are switched on here or not.
pub fn built_in_pipelines() -> Vec<SpecFile> {
    built_in(BUILT_IN)
}

/// The pipeline files of a folder; without one, those that come with propflow and are switched on here.
pub fn files(folder: Option<&Path>) -> Result<Vec<SpecFile>> {
    let Some(folder) = folder else {
        let on = |(_, text): &&(&str, &str)| switched_on(text, |name| std::env::var(name).ok());
        return Ok(built_in(&BUILT_IN.iter().copied().filter(|f| on(&f)).collect::<Vec<_>>()));
    };
    let all = read(folder)?;
    if all.is_empty() {
        return Err(Fault::user(format!("there is no `.toml` file in `{}`", folder.display()))
            .hint("Put pipeline files there, or name another folder with `--specs`."));
    }
    Ok(all.into_iter().filter(|file| !is_courier_file(file)).collect())
}

/// The courier files of a folder. Without a folder, and for a folder that has none, those that come with propflow.
pub fn courier_files(folder: Option<&Path>) -> Result<Vec<SpecFile>> {
    let found: Vec<SpecFile> = match folder {
        Some(folder) => read(folder)?.into_iter().filter(is_courier_file).collect(),
        None => Vec::new(),
    };
    Ok(if found.is_empty() { built_in(BUILT_IN_COURIERS) } else { found })
}

/// Whether a file describes couriers. One that is no valid TOML counts as a pipeline file, where it is named as such.
fn is_courier_file(file: &SpecFile) -> bool {
    file.text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("couriers"))
}

fn built_in(files: &[(&str, &str)]) -> Vec<SpecFile> {
    let file = |(name, text): &(&str, &str)| SpecFile { place: format!("built in: {name}"), text: (*text).to_owned() };
    files.iter().map(file).collect()
}

/// Every `.toml` file of a folder, by name.
fn read(folder: &Path) -> Result<Vec<SpecFile>> {
    let unreadable = |e: std::io::Error| {
        Fault::user(format!("the folder of pipeline files `{}` cannot be read", folder.display()))
            .hint("Name another one with `--specs`, or leave it out to use the built-in pipelines.")
            .because(e)
    };
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .map_err(unreadable)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| Fault::user(format!("`{}` cannot be read", path.display())).because(e))?;
            Ok(SpecFile { place: path.display().to_string(), text })
        })
        .collect()
}

/// Puts environment variables into `${NAME}` and `${NAME:-default}`, everywhere in a value. Every name without a value
/// is a fault, and null stands in its place: a file itself has no word for that.
pub fn interpolate(value: &mut Value, place: &str, faults: &mut Vec<Fault>, lookup: &impl Fn(&str) -> Option<String>) {
    match value {
        Value::String(text) if text.contains("${") => match expand(text, lookup) {
            Ok(expanded) => *text = expanded,
            Err(fault) => {
                faults.push(fault.at(format!("`{place}`")));
                *value = Value::Null;
            }
        },
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                interpolate(item, &format!("{place}[{i}]"), faults, lookup);
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                interpolate(
                    item,
                    &if place.is_empty() { key.clone() } else { format!("{place}.{key}") },
                    faults,
                    lookup,
                );
            }
        }
        _ => {}
    }
}

fn expand(text: &str, lookup: &impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let (inside, behind) = after
            .split_once('}')
            .ok_or_else(|| Fault::user("a `${` is not closed").hint("Write `${NAME}` or `${NAME:-default}`."))?;
        let (name, default) = inside.split_once(":-").map_or((inside, None), |(n, d)| (n, Some(d)));
        let value = lookup(name).filter(|v| !v.is_empty()).or_else(|| default.map(str::to_owned));
        out.push_str(&value.ok_or_else(|| {
            Fault::user(format!("the environment variable `{name}` is not set"))
                .hint("Set it, or give a default as `${NAME:-default}`.")
        })?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_vendor_without_credentials_is_left_out() {
        let on = |set: &[&str]| -> Vec<&str> {
            let lookup = |name: &str| set.contains(&name).then(|| "x".to_owned());
            BUILT_IN.iter().filter(|(_, text)| switched_on(text, lookup)).map(|(name, _)| *name).collect()
        };
        assert_eq!(on(&[]), ["resman_inventory.toml"]);
        assert_eq!(on(&["OWNERREZ_TOKEN"]), ["ownerrez_bookings.toml", "resman_inventory.toml"]);
        assert_eq!(on(&["OWNERREZ_TOKEN", "HOSTAWAY_CLIENT_SECRET", "VRBO_FEED_1"]).len(), 4);
    }

    #[test]
    fn every_unset_variable_is_named_and_nothing_is_left_in_place() {
        let mut value = json!({"a": "${ONE}/x", "b": ["${TWO:-two}", "${THREE}"], "c": "${FOUR"});
        let mut faults = Vec::new();
        interpolate(&mut value, "", &mut faults, &|name| (name == "ONE").then(|| "1".to_owned()));
        assert_eq!(value["a"], "1/x");
        assert_eq!(value["b"][0], "two");
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, ["`b[1]`: the environment variable `THREE` is not set", "`c`: a `${` is not closed"]);
    }
}
