//! Rules about the repository itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Text files of the workspace that people write, as paths below the root.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                // `.propflow`, `lake` and `target` are made by running things.
                let kept = !name.starts_with('.') || matches!(name.as_str(), ".ci" | ".config");
                let made = folder == root() && matches!(name.as_str(), "target" | "lake");
                folders.extend((kept && !made).then_some(path));
            } else if name != ".git" && std::fs::read_to_string(&path).is_ok() {
                found.push(path.strip_prefix(root()).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Folders of components: `connectors/src/<name>/`.
fn components(krate: &str) -> BTreeSet<String> {
    std::fs::read_dir(root().join(krate).join("src"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| {
            p.join("mod.rs").exists() && std::fs::read_to_string(p.join("mod.rs")).unwrap().contains("Component for")
        })
        .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn crates_depend_one_way() {
    // pipelines may use fixtures because `propflow demo` and `propflow simulate` run the simulators.
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("propflow-catalog", &[][..]),
        ("propflow-connectors", &["propflow-catalog"]),
        ("propflow-transforms", &["propflow-catalog"]),
        ("propflow-sinks", &["propflow-catalog"]),
        ("propflow-fixtures", &["propflow-catalog"]),
        (
            "propflow",
            &["propflow-catalog", "propflow-connectors", "propflow-transforms", "propflow-sinks", "propflow-fixtures"],
        ),
        (
            "propflow-tests",
            &[
                "propflow",
                "propflow-catalog",
                "propflow-connectors",
                "propflow-transforms",
                "propflow-sinks",
                "propflow-fixtures",
            ],
        ),
    ]);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), allowed.len(), "a crate is not in the list of this test");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            if dependency.starts_with("propflow") {
                assert!(allowed[name].contains(&dependency), "`{name}` must not depend on `{dependency}`");
            }
        }
    }
    // What a model computes depends on its input only.
    let transforms = packages.iter().find(|p| p["name"] == "propflow-transforms").unwrap();
    for dependency in transforms["dependencies"].as_array().unwrap() {
        let dependency = dependency["name"].as_str().unwrap();
        assert!(
            !["reqwest", "sqlx", "hyper", "axum", "object_store"].contains(&dependency),
            "transforms: {dependency}"
        );
    }
}

#[test]
fn every_component_is_registered_and_described() {
    let connectors: BTreeSet<String> = connectors::ALL.iter().map(|e| e.name.to_owned()).collect();
    // Small couriers share a folder; the others have one like everybody else.
    let has_folder = |name: &&str| root().join("sinks/src").join(name).join("mod.rs").exists();
    let couriers = sinks::COURIERS.iter().map(|e| e.name).filter(has_folder).map(str::to_owned);
    let sinks: BTreeSet<String> = sinks::ALL.iter().map(|e| e.name.to_owned()).chain(couriers).collect();
    for (krate, registered) in [("connectors", connectors), ("sinks", sinks)] {
        let folders = components(krate);
        assert!(!folders.is_empty(), "no component found in {krate}");
        assert_eq!(folders, registered, "folders and `ALL` of {krate} differ");
        for folder in folders {
            let readme = root().join(krate).join("src").join(&folder).join("README.md");
            assert!(readme.exists(), "{krate}/src/{folder} has no README.md");
        }
    }
}

#[test]
fn settings_refuse_unknown_keys() {
    for path in files().iter().filter(|p| p.extension().is_some_and(|e| e == "rs") && !p.starts_with("tests")) {
        let text = read(path);
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if !line.contains("struct Config") {
                continue;
            }
            let attributes = lines[..number].iter().rev().take_while(|l| l.starts_with('#') || l.starts_with("///"));
            let strict = attributes.clone().any(|l| l.contains("deny_unknown_fields"));
            let settings = attributes.clone().any(|l| l.contains("Deserialize"));
            assert!(strict || !settings, "{}:{}: `Config` takes unknown keys", path.display(), number + 1);
        }
    }
}

#[test]
fn nothing_is_left_unfinished_or_names_a_machine() {
    // Put together here, so that this file does not hold them.
    let forbidden = [["to", "do!"], ["unimple", "mented!"], ["/wo", "rk/"], ["../sha", "red"]].map(|w| w.concat());
    for path in files() {
        let text = read(&path);
        for word in &forbidden {
            assert!(!text.contains(word), "{} holds `{word}`", path.display());
        }
    }
}

#[test]
fn only_jobs_knows_the_queue() {
    for path in files().iter().filter(|p| p.extension().is_some_and(|e| e == "rs") && !p.starts_with("tests")) {
        let jobs = path.starts_with("pipelines/src/jobs") || path == Path::new("pipelines/src/jobs.rs");
        assert!(jobs || !read(path).contains("use apalis"), "{} uses the queue", path.display());
    }
}

/// An applied migration is history: a change of it would stop every database that has it. A new file gets a line of its
/// own in `catalog/migrations.sha256`, as `sha256sum catalog/migrations/*.sql` prints it.
#[test]
fn migrations_do_not_change() {
    let listed: BTreeMap<String, String> = read("catalog/migrations.sha256")
        .lines()
        .filter_map(|l| l.split_once("  ").map(|(sum, file)| (file.to_owned(), sum.to_owned())))
        .collect();
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("catalog/migrations")).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("catalog/migrations/{}", path.file_name().unwrap().to_string_lossy());
        let digest = sha256(&std::fs::read(&path).unwrap());
        found.insert(name, digest);
    }
    assert_eq!(found, listed, "migrations differ from catalog/migrations.sha256");
}

fn sha256(bytes: &[u8]) -> String {
    // DataFusion has the function, so no further crate is needed.
    use datafusion::prelude::{SessionContext, lit};
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let sql = datafusion::functions::expr_fn::encode(
            datafusion::functions::expr_fn::sha256(lit(bytes.to_vec())),
            lit("hex"),
        );
        let frame = SessionContext::new().read_empty().unwrap().select(vec![sql.alias("digest")]).unwrap();
        let batch = frame.collect().await.unwrap().remove(0);
        arrow::util::display::array_value_to_string(batch.column(0), 0).unwrap()
    })
}
