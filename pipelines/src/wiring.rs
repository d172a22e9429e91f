//! The built-in pipelines and couriers, pointed at simulated vendors.

use std::path::{Path, PathBuf};

use catalog::{Fault, Result};
use fixtures::resman::Simulator;
use serde_json::{Map, Value, json};

use crate::simulate;
use crate::spec::{self, SpecFile};

/// A simulated vendor, and how the built-in pipelines of its connector reach it.
#[derive(Debug, Clone)]
pub struct Wire {
    /// The connector.
    pub connector: &'static str,
    /// What the environment would say.
    pub variables: Vec<(&'static str, String)>,
    /// Settings that take the place of those in the file.
    pub settings: Value,
}

impl Wire {
    /// The way to a simulated ResMan.
    pub fn resman(simulator: &Simulator) -> Self {
        // The simulator has no limits to respect, and nobody wants to wait for a demo.
        let limits = json!({ "calls_per_sec": 1000, "burst": 100, "backoff_ms": 20 });
        Self { connector: "resman", variables: simulate::environment(simulator), settings: json!({ "limits": limits }) }
    }
}

/// The built-in pipelines of ResMan, pointed at a simulator.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_specs(dir: &Path, simulator: &Simulator, lake: &Path) -> Result<PathBuf> {
    write(dir, lake, &[Wire::resman(simulator)], &[])
}

/// Writes the built-in pipelines of these vendors, and the couriers with these variables, into a folder below `dir`, and gives
/// that folder. Secrets go into files of their own, as a user's would.
///
/// # Errors
/// When the folder cannot be written.
pub fn write(dir: &Path, lake: &Path, wires: &[Wire], couriers: &[(&'static str, String)]) -> Result<PathBuf> {
    let specs = dir.join("specs");
    std::fs::create_dir_all(&specs).map_err(|e| unwritable(dir, e))?;
    for file in spec::built_in_pipelines() {
        let table = parsed(&file)?;
        let connector = table["source"]["connector"].as_str().unwrap_or_default().to_owned();
        let Some(wire) = wires.iter().find(|w| w.connector == connector) else { continue };
        let mut variables = wire.variables.clone();
        variables.push(("PROPFLOW_LAKE", lake.display().to_string()));
        let mut table = table;
        if let (Some(settings), Some(other)) = (table["source"]["settings"].as_object_mut(), wire.settings.as_object())
        {
            settings.extend(other.clone());
        }
        let name = table["name"].as_str().unwrap_or("pipeline").to_owned();
        save(dir, &specs.join(format!("{name}.toml")), table, &variables)?;
    }
    for file in spec::courier_files(None)? {
        let mut variables = couriers.to_vec();
        variables.extend(wires.iter().flat_map(|w| w.variables.clone()));
        let mut table = parsed(&file)?;
        // Variables of couriers are looked up when they are used; what is not set here nobody uses.
        let known: Vec<Value> = (table["couriers"].as_array().into_iter().flatten())
            .filter(|c| missing(c, &variables).is_empty())
            .cloned()
            .collect();
        table["couriers"] = Value::Array(known);
        save(dir, &specs.join("couriers.toml"), table, &variables)?;
    }
    Ok(specs)
}

/// Keeps a secret in a file of its own, and gives the reference to it.
///
/// # Errors
/// When the file cannot be written.
pub fn secret(dir: &Path, name: &str, value: &str) -> Result<String> {
    let path = dir.join(name);
    std::fs::write(&path, value).map_err(|e| unwritable(dir, e))?;
    Ok(format!("file:{}", path.display()))
}

fn unwritable(dir: &Path, error: std::io::Error) -> Fault {
    Fault::user(format!("`{}` cannot be written", dir.display())).because(error)
}

fn parsed(file: &SpecFile) -> Result<Value> {
    let table = file.text.parse::<toml::Table>().map_err(|e| Fault::us("a built-in file is not TOML").because(e))?;
    serde_json::to_value(table).map_err(|e| Fault::us("a built-in file has no JSON form").because(e))
}

fn save(dir: &Path, path: &Path, mut table: Value, variables: &[(&'static str, String)]) -> Result<()> {
    let mut faults = Vec::new();
    let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
    spec::interpolate(&mut table, "", &mut faults, &lookup);
    if !faults.is_empty() {
        return Err(crate::app::all_of(&faults));
    }
    secrets_to_files(&mut table, dir, variables)?;
    let text = toml::to_string(&table).map_err(|e| Fault::us("a file cannot be written as TOML").because(e))?;
    std::fs::write(path, text).map_err(|e| unwritable(dir, e))
}

/// The secrets of the environment that a value names and nobody set.
fn missing(value: &Value, variables: &[(&'static str, String)]) -> Vec<String> {
    match value {
        Value::String(text) => {
            let name = text.strip_prefix("env:").filter(|name| variables.iter().all(|(n, _)| n != name));
            name.map(str::to_owned).into_iter().collect()
        }
        Value::Array(items) => items.iter().flat_map(|v| missing(v, variables)).collect(),
        Value::Object(map) => map.values().flat_map(|v| missing(v, variables)).collect(),
        _ => Vec::new(),
    }
}

fn secrets_to_files(value: &mut Value, dir: &Path, variables: &[(&'static str, String)]) -> Result<()> {
    match value {
        Value::String(text) => {
            let named = text.strip_prefix("env:").and_then(|name| variables.iter().find(|(n, _)| *n == name));
            if let Some((name, value)) = named {
                *text = secret(dir, name, value)?;
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|v| secrets_to_files(v, dir, variables)),
        Value::Object(map) => {
            // An empty setting is as good as none.
            drop_empty(map);
            map.values_mut().try_for_each(|v| secrets_to_files(v, dir, variables))
        }
        _ => Ok(()),
    }
}

fn drop_empty(map: &mut Map<String, Value>) {
    map.retain(|_, value| value.as_str() != Some(""));
}
