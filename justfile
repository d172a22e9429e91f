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
    cp -r connectors/template "$folder"
    sed -i "s/Template/$kind/g; s/template/$name/g" "$folder"/*
    echo "Made $folder. Add two lines to connectors/src/lib.rs:"
    echo "    pub mod $name;"
    echo "    Entry::of::<$name::$kind>(),        (in ALL)"
