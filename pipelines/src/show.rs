//! How runs, faults and ledgers look to a person.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Duration;

use catalog::store::runs::{Run, Status};
use catalog::{Fault, Note, Receipt};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use indicatif::{ProgressBar, ProgressStyle};

use crate::progress::{Observer, Progress};
use crate::run::Summary;

/// A progress bar per run on standard error; silent when that is no terminal.
#[derive(Debug, Default)]
pub struct Bars {
    bar: Mutex<Option<(ProgressBar, u64)>>,
}

impl Bars {
    fn with(&self, change: impl FnOnce(&mut Option<(ProgressBar, u64)>)) {
        change(&mut self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Observer for Bars {
    fn on(&self, progress: &Progress<'_>) {
        self.with(|slot| match progress {
            Progress::Started { pipeline, resumed_at, .. } => {
                let bar = ProgressBar::new_spinner();
                if let Ok(style) =
                    ProgressStyle::with_template("{spinner} {prefix} {wide_bar} {pos}/{len} {elapsed} {msg}")
                {
                    bar.set_style(style);
                }
                bar.set_prefix((*pipeline).to_owned());
                if let Some(slice) = resumed_at {
                    bar.set_message(format!("goes on at slice {slice}"));
                }
                bar.enable_steady_tick(Duration::from_millis(120));
                *slot = Some((bar, 0));
            }
            Progress::Ahead(count) => {
                if let Some((bar, _)) = slot {
                    bar.set_length(*count);
                }
            }
            Progress::Committed { rows, .. } => {
                if let Some((bar, total)) = slot {
                    bar.inc(1);
                    *total += rows.values().map(|c| c.received).sum::<u64>();
                    bar.set_message(format!("{} rows", thousands(*total)));
                }
            }
            Progress::ScopeFailed { scope, fault } => {
                if let Some((bar, _)) = slot {
                    bar.println(format!("  {scope}: {}", fault.chain()));
                }
            }
            Progress::Finished => {
                if let Some((bar, _)) = slot.take() {
                    bar.finish_and_clear();
                }
            }
        });
    }
}

/// A number with a comma between thousands.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A fault as a person reads it: what, then what to do.
pub fn fault(out: &mut dyn Write, fault: &Fault) -> io::Result<()> {
    writeln!(out, "error: {}", fault.chain())?;
    if let Some(hint) = &fault.hint {
        writeln!(out, "hint: {hint}")?;
    }
    Ok(())
}

/// A run's result as a person reads it.
pub fn summary(out: &mut dyn Write, summary: &Summary, took: Duration) -> io::Result<()> {
    let end = match summary.status {
        Status::Succeeded => "succeeded",
        Status::Partial => "ended, but not everything could be read",
        Status::Stopped => "stopped cleanly; the next run goes on from here",
        Status::Failed => "failed",
        Status::Running => "is running",
    };
    writeln!(out, "{} {end} after {:.1} s: {} slices", summary.pipeline, took.as_secs_f64(), summary.slices)?;
    if !summary.rows.is_empty() {
        writeln!(out, "{}", counts(&summary.rows))?;
    }
    if summary.rejected_rows + summary.rejected_values > 0 {
        let place =
            if summary.unrecorded.is_empty() { "see `propflow rejects`" } else { "`--rejects FILE` keeps them all" };
        writeln!(
            out,
            "rejected: {} rows not loaded, {} values left unknown; {place}",
            summary.rejected_rows, summary.rejected_values
        )?;
        for reject in summary.unrecorded.iter().take(10) {
            writeln!(out, "  {} {}: {}", reject.dataset, reject.key, reject.reason)?;
        }
    }
    notes(out, &summary.notes)?;
    for (scope, reason) in &summary.failed_scopes {
        writeln!(out, "not read: {scope}: {reason}")?;
    }
    Ok(())
}

/// Row counts as a table; what became of the rows only when the sink knows it.
pub fn counts(rows: &BTreeMap<String, Receipt>) -> Table {
    let compared = rows.values().all(Receipt::compared);
    let shown = if compared { 6 } else { 2 };
    let mut table = Table::new();
    let header = ["dataset", "rows", "new", "changed", "equal", "gone"];
    table.load_style(UTF8_FULL_CONDENSED).set_header(&header[..shown]);
    for (dataset, c) in rows {
        let numbers = [c.received, c.inserted, c.updated, c.unchanged, c.deleted].map(thousands);
        table.add_row(std::iter::once(dataset.clone()).chain(numbers).take(shown));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Notes, the loudest twelve.
pub fn notes(out: &mut dyn Write, notes: &[Note]) -> io::Result<()> {
    let shown: Vec<_> = notes.iter().filter(|n| n.topic != "scope_failed").collect();
    for note in shown.iter().take(12) {
        let times = if note.count > 1 { format!(" ({} times)", thousands(note.count)) } else { String::new() };
        writeln!(out, "note: {}{times}", note.text)?;
    }
    if shown.len() > 12 {
        writeln!(out, "note: and {} more; see `propflow status --run ID`", shown.len() - 12)?;
    }
    Ok(())
}

/// The run ledger as a table.
pub fn runs(runs: &[Run]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_header(["run", "pipeline", "by", "status", "began", "took", "rows", "rejected", "why"]);
    for run in runs {
        let took = run.finished_at.map_or("–".to_owned(), |end| {
            let ms = (end - run.created_at).num_milliseconds();
            format!("{}.{} s", ms / 1000, ms % 1000 / 100)
        });
        table.add_row([
            run.id.to_string(),
            run.pipeline.clone(),
            run.trigger.clone(),
            run.status.as_str().to_owned(),
            run.created_at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
            took,
            thousands(u64::try_from(run.rows_read).unwrap_or_default()),
            thousands(u64::try_from(run.rows_rejected).unwrap_or_default()),
            run.fault.clone().unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_grouped() {
        assert_eq!(super::thousands(0), "0");
        assert_eq!(super::thousands(1234), "1,234");
        assert_eq!(super::thousands(1_234_567), "1,234,567");
    }
}
