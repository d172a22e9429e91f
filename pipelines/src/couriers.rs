//! Courier files: who carries messages out, and with which settings.
//!
//! A courier file is a `.toml` file with a list `[[couriers]]`, in the folder of the pipeline files or built in.

use std::path::Path;

use catalog::{Fault, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
    /// The whole of a courier file.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct File {
        couriers: Vec<CourierSpec>,
    }
    let mut found = Vec::new();
    for file in spec::courier_files(folder)? {
        let wrong = |e: &toml::de::Error| Fault::user(format!("{}: {}", file.place, e.message().trim()));
        let mut value: Value = toml::from_str(&file.text).map_err(|e| wrong(&e))?;
        let mut faults = Vec::new();
        check_value(&mut value, &schemars::schema_for!(File).to_value(), "", &mut faults);
        if !faults.is_empty() {
            return Err(crate::app::all_of(&faults).at(&file.place));
        }
        let parsed: File = toml::from_str(&file.text).map_err(|e| wrong(&e))?;
        for courier in &parsed.couriers {
            if sinks::find_courier(&courier.courier).is_none() {
                return Err(Fault::user(format!("{}: there is no courier `{}`", file.place, courier.courier))
                    .hint(names::hint(&courier.courier, sinks::COURIERS.iter().map(|e| e.name))));
            }
        }
        found.extend(parsed.couriers);
    }
    Ok(found)
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
