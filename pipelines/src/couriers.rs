//! Courier files: who carries messages out, and with which settings.
//!
//! A courier file is a `.toml` file with a list `[[couriers]]`, in the folder of the pipeline files or built in.

use std::path::Path;

use catalog::{Fault, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::lines::Lines;
use crate::names;
use crate::settings::{check_settings, check_value};
use crate::spec::{self, interpolate};

/// One courier of a file.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CourierSpec {
    /// The courier's name; `propflow list` shows them.
    pub courier: String,
    /// The connection that messages name. Left out: the courier's name.
    #[serde(default)]
    pub connection: Option<String>,
    /// The courier's settings.
    #[serde(default)]
    pub settings: Map<String, Value>,
}

impl CourierSpec {
    /// The connection that messages name.
    pub fn connection(&self) -> &str {
        self.connection.as_deref().unwrap_or(&self.courier)
    }
}

/// The couriers of all files, as they are written: nothing is put in from the environment yet, since a courier that nobody
/// uses needs no settings.
///
/// # Errors
/// When a file is not valid.
pub fn all(folder: Option<&Path>) -> Result<Vec<CourierSpec>> {
    let (found, faults) = check(folder)?;
    if faults.is_empty() { Ok(found) } else { Err(crate::app::all_of(&faults)) }
}

/// The couriers of all files, and every problem of any of these files.
///
/// # Errors
/// When a file cannot be read.
pub fn check(folder: Option<&Path>) -> Result<(Vec<CourierSpec>, Vec<Fault>)> {
    /// The whole of a courier file.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct File {
        /// The couriers, each under `[[couriers]]`.
        couriers: Vec<CourierSpec>,
    }
    let (mut couriers, mut faults) = (Vec::new(), Vec::new());
    for file in spec::courier_files(folder)? {
        let placed = |found: Vec<Fault>| found.into_iter().map(|f| f.at(&file.place)).collect::<Vec<_>>();
        let (mut value, lines) = match Lines::read(&file.text) {
            Ok(read) => read,
            Err(found) => {
                faults.extend(placed(found));
                continue;
            }
        };
        let mut found = Vec::new();
        check_value(&mut value, &schemars::schema_for!(File).to_value(), "", &mut found);
        for (i, courier) in value["couriers"].as_array().into_iter().flatten().enumerate() {
            if let Some(name) = courier.get("courier").and_then(Value::as_str)
                && sinks::find_courier(name).is_none()
            {
                found.push(
                    Fault::user(format!("`couriers[{i}].courier`: there is no courier `{name}`"))
                        .hint(names::hint(name, sinks::COURIERS.iter().map(|e| e.name))),
                );
            }
        }
        if found.is_empty() {
            match serde_json::from_value::<File>(value) {
                Ok(file) => couriers.extend(file.couriers),
                Err(error) => found.push(Fault::user(error.to_string())),
            }
        }
        faults.extend(placed(lines.place(found)));
    }
    Ok((couriers, faults))
}

/// The courier of a connection, its settings complete.
///
/// # Errors
/// When no file describes it or a variable of the environment is missing.
pub fn find(folder: Option<&Path>, courier: &str, connection: &str) -> Result<CourierSpec> {
    let all = all(folder)?;
    let found =
        all.iter().find(|c| c.courier == courier && c.connection() == connection).cloned().ok_or_else(|| {
            let of_it = || all.iter().filter(|c| c.courier == courier).map(CourierSpec::connection);
            Fault::user(format!("no file describes the connection `{connection}` of courier `{courier}`"))
                .hint(format!("Add it to a courier file under `[[couriers]]`. {}", names::hint(connection, of_it())))
        })?;
    let mut faults = Vec::new();
    let mut settings = Value::Object(found.settings);
    interpolate(&mut settings, "settings", &mut faults, &|name| std::env::var(name).ok());
    // A variable with an empty default is as good as a setting that is not there.
    if let Value::Object(map) = &mut settings {
        map.retain(|_, value| value.as_str() != Some(""));
    }
    if let (Value::Object(map), Some(entry)) = (&mut settings, sinks::find_courier(courier)) {
        check_settings(&entry.schema(), |s| entry.check(s), map, "settings", &mut faults);
    }
    match (faults.is_empty(), settings) {
        (true, Value::Object(settings)) => Ok(CourierSpec { settings, ..found }),
        _ => Err(crate::app::all_of(&faults).at(format!("courier `{courier}` of `{connection}`"))),
    }
}
