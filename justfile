# `just` lists the recipes. Everything here is a short name for a command that also works without it.

# Outside the checkout, so that a fresh clone compiles only what is ours.
export CARGO_TARGET_DIR := env("CARGO_TARGET_DIR", env("HOME") / ".cache/propflow/target")

propflow := "cargo run --quiet --"

_default:
    @just --list --unsorted

# Start a private PostgreSQL and a simulated vendor, run the pipelines, ask three questions
demo *ARGS:
    {{ propflow }} demo {{ ARGS }}

# All tests, or those whose name holds a word
test *FILTER:
    cargo test --workspace {{ FILTER }}

# What CI runs, but for installing PostgreSQL
verify:
    cargo fmt --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    cargo test --workspace
    @if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: skipped"; fi
    @if command -v cargo-machete >/dev/null; then cargo machete; else echo "cargo-machete is not installed: skipped"; fi

# Load a range of days: just backfill PIPELINE 2026-01-01 2026-06-30
backfill PIPELINE FROM TO *ARGS:
    {{ propflow }} backfill "{{ PIPELINE }}" --from "{{ FROM }}" --to "{{ TO }}" {{ ARGS }}

# Ask the lake: just sql "select count(*) from units"
sql QUERY LAKE="lake" *ARGS:
    {{ propflow }} sql --lake "{{ LAKE }}" {{ quote(QUERY) }} {{ ARGS }}

# Read again what a run could not read
replay *ARGS:
    {{ propflow }} replay {{ ARGS }}

# The figures, each beside its floor, in release
bench *ARGS:
    cargo build --release --workspace
    "$CARGO_TARGET_DIR/release/propflow-bench" {{ ARGS }}

# Bring the database at DATABASE_URL up to date
db-up:
    {{ propflow }} migrate

# Accept the snapshots as they are now; read the diff before you commit it
snapshots:
    INSTA_UPDATE=always cargo test --workspace --test it

# Build and open the documentation of the code
docs:
    cargo doc --workspace --no-deps --open

# The shape of a new connector: just new-connector acme
new-connector NAME:
    #!/usr/bin/env bash
    set -euo pipefail
    name="{{ NAME }}"
    if ! [[ "$name" =~ ^[a-z][a-z0-9_]*$ ]]; then
        echo "\`$name\` is no name for a connector: use lower-case letters, digits and _" >&2
        exit 2
    fi
    folder="connectors/src/$name"
    if [ -e "$folder" ]; then
        echo "\`$folder\` exists" >&2
        exit 2
    fi
    kind=$(sed -E 's/(^|_)([a-z0-9])/\U\2/g' <<<"$name")
    mkdir -p "$folder"
    cat > "$folder/mod.rs" <<RUST
    //! \`$name\`: rows from a file of JSON lines. Replace \`api.rs\` by calls of the vendor.

    mod api;
    mod datasets;

    use std::path::PathBuf;

    use async_trait::async_trait;
    use catalog::{Component, Cursor, Env, Fault, Result};
    use futures::StreamExt;
    use futures::stream::{self, BoxStream};
    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::{Value, json};

    use crate::source::{Event, Read, Request, Source, Stream};

    /// Where the rows are.
    #[derive(Debug, Clone, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Config {
        /// A file with one JSON object a line.
        pub path: PathBuf,
    }

    /// The connector.
    #[derive(Debug)]
    pub struct $kind {
        path: PathBuf,
        connection: String,
    }

    #[async_trait]
    impl Component for $kind {
        type Live = dyn Source;
        type Config = Config;
        const NAME: &'static str = "$name";
        const ABOUT: &'static str = "rows from a file of JSON lines";

        async fn open(config: Config, env: Env) -> Result<Box<dyn Source>> {
            Ok(Box::new(Self { path: config.path, connection: env.connection }))
        }

        fn address(rest: &str) -> Option<Value> {
            Some(json!({ "path": rest }))
        }
    }

    #[async_trait]
    impl Source for $kind {
        fn streams(&self) -> Vec<Stream> {
            vec![Stream {
                name: "items",
                about: "every row of the file",
                datasets: vec![datasets::items()],
                backfill: false,
                changes: false,
            }]
        }

        async fn check(&self) -> Result<()> {
            api::items(&self.path).await.map(|_| ())
        }

        fn read(&self, request: Request) -> BoxStream<'_, Result<Event>> {
            let events = async move {
                if !matches!(request.read, Read::Snapshot) {
                    return Err(Fault::user("\`$name\` can only be read whole"));
                }
                let rows = datasets::batch(&self.connection, &api::items(&self.path).await?)?;
                Ok(vec![
                    Event::Rows { dataset: datasets::ITEMS, batch: rows },
                    Event::Checkpoint(Cursor::of(&"read")?),
                ])
            };
            stream::once(events)
                .flat_map(|events| match events {
                    Ok(events) => stream::iter(events).map(Ok).boxed(),
                    Err(fault) => stream::iter([Err(fault)]).boxed(),
                })
                .boxed()
        }
    }
    RUST
    cat > "$folder/api.rs" <<RUST
    //! What the vendor is asked, and its answers as plain structs: no Arrow, no cursors.

    use std::path::Path;

    use catalog::{Fault, Result};
    use serde::Deserialize;

    /// One object of the file.
    #[derive(Debug, Deserialize)]
    pub(super) struct Item {
        pub(super) id: String,
        pub(super) name: Option<String>,
    }

    /// Every object. A line that is none fails the reading, with its number.
    pub(super) async fn items(path: &Path) -> Result<Vec<Item>> {
        let text = tokio::fs::read_to_string(path)
            .await
            .map_err(|e| Fault::user(format!("\`{}\` cannot be read", path.display())).because(e))?;
        (text.lines().enumerate())
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| {
                serde_json::from_str(line)
                    .map_err(|e| Fault::user(format!("\`{}\` line {}: not an item", path.display(), number + 1)).because(e))
            })
            .collect()
    }
    RUST
    cat > "$folder/datasets.rs" <<RUST
    //! The wire datasets: text as it came, each row behind the connection that it belongs to.

    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use catalog::dataset::text;
    use catalog::{Dataset, Result};

    use super::api::Item;

    pub(super) const ITEMS: &str = "${name}_items";

    pub(super) fn items() -> Dataset {
        Dataset::new(ITEMS, "one item of the file")
            .columns([
                text("connection", "the connection that listed it").key(),
                text("id", "\`id\` as written").key(),
                text("name", "\`name\` as written"),
            ])
            .scope("connection")
    }

    pub(super) fn batch(connection: &str, rows: &[Item]) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![connection; rows.len()])),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|i| &i.id))),
            Arc::new(StringArray::from_iter(rows.iter().map(|i| i.name.as_deref()))),
        ];
        Ok(RecordBatch::try_new(items().schema(), columns)?)
    }
    RUST
    cat > "$folder/README.md" <<MARKDOWN
    # $name

    Reads a file with one JSON object a line: \`id\` (required) and \`name\`.

    - Permissions: the file must be readable.
    - Pages, rate limits: none.
    - Odd behaviour: a line that is not such an object fails the reading; nothing is loaded from it.
    MARKDOWN
    echo "Made $folder. Add two lines to connectors/src/lib.rs:"
    echo "    pub mod $name;"
    echo "    Entry::of::<$name::$kind>(),        (in ALL)"
