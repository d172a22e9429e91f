//! Documentation made from the catalog, so that it cannot disagree with it.

use std::fmt::Write;

use catalog::Dataset;
use catalog::datasets::{serving, stored};

/// A page as Markdown: `serving` or `datasets`.
pub fn page(name: &str) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = if name == "serving" { serving_page(&mut out) } else { datasets_page(&mut out) };
    out
}

fn serving_page(out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "<!-- Made by `propflow docs serving`; a test compares them. -->\n\
         # The serving contract\n\n\
         What the chatbot and other readers may rely on: the views of the PostgreSQL schema `serving`. Read them with the \
         role `propflow_reader`, which sees nothing else (`grant propflow_reader to your_login`).\n\n\
         - A unit that may not be offered is not in `available_units`, and no price of it is in `unit_costs`.\n\
         - `as_of` says when the vendor last confirmed the property. `stale` says that this is longer ago than the \
           pipeline's `freshness.limit_hours`; it is computed when you read, so a pull that never came shows at once. Do not \
           quote a stale row without a word of warning.\n\
         - A null amount is unknown, never free. `unit_costs.complete` is false when a required fee has no known amount; then \
           the totals are a lower bound, and `unknown_fees` names the fees.\n\
         - All rows of a property change together, in one transaction.\n\
         - A property that its account no longer lists is in no view.\n"
    )?;
    for view in serving::VIEWS {
        let Some(dataset) = view.dataset() else { continue };
        writeln!(out, "## serving.{}\n\n{}\n", view.name, view.about)?;
        columns(out, dataset, view.extra())?;
    }
    for query in serving::QUERIES {
        let place = if query.lake { " Also a view of the lake." } else { "" };
        writeln!(out, "## serving.{}\n\n{}{place}\n", query.name, query.about)?;
        writeln!(out, "| column | meaning |\n| --- | --- |")?;
        for (name, about, personal) in query.columns {
            writeln!(out, "| `{name}`{} | {about} |", if *personal { " (personal)" } else { "" })?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn datasets_page(out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "<!-- Made by `propflow docs datasets`; a test compares them. -->\n\
         # Datasets\n\n\
         The canonical and served tables, as they stand in the schema `core` and in the lake. `key` columns tell rows \
         apart; `personal` marks personal data.\n"
    )?;
    for dataset in stored() {
        writeln!(out, "## {}\n\n{} Version {}.\n", dataset.name, dataset.about, dataset.version)?;
        columns(out, &dataset, &[])?;
    }
    Ok(())
}

fn columns(out: &mut String, dataset: &Dataset, extra: &[(&str, &str, &str)]) -> std::fmt::Result {
    writeln!(out, "| column | type | meaning |\n| --- | --- | --- |")?;
    for c in &dataset.columns {
        let mut marks = String::new();
        if c.key {
            marks.push_str(" (key)");
        }
        if c.sensitive {
            marks.push_str(" (personal)");
        }
        writeln!(out, "| `{}` | {}{marks} | {} |", c.name, c.kind.as_str(), c.about)?;
    }
    for (name, kind, about) in extra {
        writeln!(out, "| `{name}` | {kind} | {about} |")?;
    }
    writeln!(out)
}
