//! SQL models and the engine that runs them over one slice.
//!
//! A model is a file `models/<layer>/<name>.sql`: comment lines that describe it, then one query whose result is the
//! dataset of the model's name. A long model is written in steps: a line `-- step: name` begins a query whose result is
//! a table for the queries behind it, and `-- result` the last one. Steps are run once each, however often they are
//! read; a common table expression is run again wherever it is named. The engine plans each step once a process, against
//! the schemas of the catalog, and runs that plan over the tables of a slice, so that a slice of a single property
//! costs no planning.

mod judge;
mod project;
mod step;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use catalog::{Dataset, Fault, Reject, Result, datasets};
use chrono::{DateTime, Utc};
use datafusion::common::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use self::judge::Judge;
use self::step::{ISSUE, Query, REJECT, Steps, queries};
use self::table::{SLICE, Tables, wire_table};
use crate::functions;

/// The layers, in the order in which they run.
pub const LAYERS: [&str; 3] = ["normalise", "serve", "settle"];

/// One SQL model.
pub struct Model {
    /// Its name, which is also that of the dataset it computes.
    pub name: String,
    /// One of [`LAYERS`].
    pub layer: String,
    /// What one row is and by which rules it comes about.
    pub about: String,
    /// The tables it reads.
    pub inputs: Vec<String>,
    /// The key of its rows; the same as the dataset's.
    pub key: Vec<String>,
    /// Conditions that hold for every row. As in SQL's `check`, an unknown result passes.
    pub checks: Vec<String>,
    /// The whole text.
    pub sql: String,
    dataset: &'static Dataset,
    queries: Vec<Query>,
    plan: OnceLock<Arc<Plan>>,
}

/// A model, read against the catalog.
struct Plan {
    steps: Steps,
    checks: Vec<Arc<dyn PhysicalExpr>>,
}

/// What every model may know about the slice: the columns of the one-row table `slice`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceInfo {
    /// When the rows were read from the vendor.
    pub observed_at: DateTime<Utc>,
    /// The connection they came through.
    pub connection: String,
    /// ISO 4217 code of amounts whose currency the vendor does not state.
    pub currency: String,
    /// ISO 3166-1 alpha-2 code of the country whose customs phone numbers follow.
    pub region: String,
    /// Whether the vendor was asked to work concessions into the rents of lease terms.
    pub concessions_included: bool,
}

/// The tables of a slice.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Batches by dataset. A dataset that a model reads and that is not here is an empty table.
    pub tables: BTreeMap<String, Vec<RecordBatch>>,
    /// The slice they belong to.
    pub slice: SliceInfo,
}

/// What the models made of a slice.
#[derive(Debug, Default)]
pub struct Output {
    /// Batches by dataset, one entry for every model that ran, in exactly the schema of the catalog.
    pub tables: BTreeMap<String, Vec<RecordBatch>>,
    /// Rows that were refused, and values that were left unknown.
    pub rejects: Vec<Reject>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({}/{})", self.layer, self.name)
    }
}

impl Model {
    /// Reads a model from its text. The header is the run of comment lines at the top up to an empty one, behind which is
    /// what people should know; in it, a line `word: …` is a setting, and `inputs`, `key` and `check` may come again.
    ///
    /// # Errors
    /// A header without its parts, with an unknown word, or with a name or a key that the catalog does not know.
    pub fn parse(text: &str) -> Result<Self> {
        let mut settings: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in text.lines().map_while(|l| l.strip_prefix("--")).take_while(|l| !l.trim().is_empty()) {
            let Some((word, value)) = line.trim().split_once(": ") else { continue };
            if ["model", "layer", "about", "inputs", "key", "check"].contains(&word) {
                settings.entry(word).or_default().push(value.trim());
            } else if word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                return Err(Fault::us(format!("a model's header has the unknown word `{word}`"))
                    .hint("known are model, layer, about, inputs, key and check"));
            }
        }
        let once = |word: &str| match settings.get(word).map(Vec::as_slice) {
            Some([value]) => Ok((*value).to_owned()),
            _ => Err(Fault::us(format!("a model's header needs exactly one line `{word}: …`"))),
        };
        let list = |word: &str| -> Vec<String> {
            let values = settings.get(word).into_iter().flatten();
            values.flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).collect()
        };
        let name = once("model")?;
        let dataset = datasets::find(&name)
            .ok_or_else(|| Fault::us(format!("model `{name}` computes a dataset that the catalog does not have")))?;
        let layer = once("layer")?;
        if !LAYERS.contains(&layer.as_str()) {
            return Err(Fault::us(format!("model `{name}` is in the unknown layer `{layer}`")));
        }
        let key = list("key");
        if key != dataset.key() {
            return Err(Fault::us(format!("the key of model `{name}` is not that of its dataset"))
                .hint(format!("write `key: {}`", dataset.key().join(", "))));
        }
        let inputs = list("inputs");
        if let Some(input) = inputs.iter().find(|i| *i != SLICE && datasets::find(i).is_none()) {
            return Err(Fault::us(format!("model `{name}` reads the unknown dataset `{input}`")));
        }
        Ok(Self {
            about: once("about")?,
            checks: settings.get("check").into_iter().flatten().map(|c| (*c).to_owned()).collect(),
            sql: text.to_owned(),
            queries: queries(text).map_err(|e| e.at(format_args!("model `{name}`")))?,
            plan: OnceLock::new(),
            name,
            layer,
            inputs,
            key,
            dataset,
        })
    }

    /// Plans the model against the catalog, which finds every fault that does not depend on the rows.
    ///
    /// # Errors
    /// SQL that cannot be planned, an input that the header does not name, a function whose result depends on more
    /// than its arguments, an output column that is missing or unknown, or a check that is no condition.
    pub async fn check(&self) -> Result<()> {
        let named = |e: Fault| e.at(format_args!("model `{}`", self.name));
        self.plan().await?.steps.plannable().await.map_err(named)
    }

    /// The model's steps, read against the catalog.
    async fn plan(&self) -> Result<Arc<Plan>> {
        if let Some(plan) = self.plan.get() {
            return Ok(Arc::clone(plan));
        }
        let plan = self.read().await.map_err(|e| e.at(format_args!("model `{}`", self.name)))?;
        // Should another slice have been faster, its plan is the one that is kept.
        Ok(Arc::clone(self.plan.get_or_init(|| Arc::new(plan))))
    }

    /// Reads the model and holds it to its header and its dataset.
    async fn read(&self) -> Result<Plan> {
        let steps = Steps::read(&self.queries).await?;
        let named: BTreeSet<&str> = self.inputs.iter().map(String::as_str).collect();
        let read = steps.inputs();
        if named != read {
            let differ: Vec<_> = named.symmetric_difference(&read).copied().collect();
            return Err(Fault::us(format!("`inputs` and its query differ in {}", differ.join(", "))));
        }
        let result = steps.schema().ok_or_else(|| Fault::us("it has no query"))?;
        if let Some(column) = self.dataset.columns.iter().find(|c| result.column_with_name(&c.name).is_none()) {
            return Err(Fault::us(format!("its result lacks the column `{}`", column.name)));
        }
        let known = |name: &str| [REJECT, ISSUE].contains(&name) || self.dataset.column(name).is_some();
        if let Some(field) = result.fields().iter().find(|f| !known(f.name())) {
            return Err(Fault::us(format!("its result has the column `{}`, which its dataset has not", field.name())));
        }
        let checks = self.checks.iter().map(|check| steps.condition(check, self.dataset)).collect::<Result<_>>()?;
        Ok(Plan { steps, checks })
    }
}

/// Runs models over a slice, in the order given; each one sees what those before it made.
///
/// The same inputs give the same output. Every row of a model's result is in `tables` or, with a reason, in `rejects`:
/// refused are rows that the model itself marks, rows without a value in a required column, and rows whose key another
/// row of the result had before.
///
/// # Errors
/// A batch without a column of its dataset, a model that cannot be planned or run, and a check that does not hold. Then
/// nothing of the slice may be written.
pub async fn run(models: &[&Model], inputs: Inputs) -> Result<Output> {
    let Inputs { tables: given, slice } = inputs;
    let mut tables = Tables::default();
    for (name, batches) in given {
        tables.0.insert(name.clone(), wire_table(&name, batches)?);
    }
    tables.0.insert(SLICE.to_owned(), vec![slice.batch()?]);
    let mut output = Output::default();
    for (at, model) in models.iter().enumerate() {
        let made = if model.inputs.iter().any(|i| i != SLICE && tables.has_rows(i)) {
            let (made, rejects) =
                model.execute(&tables).await.map_err(|e| e.at(format_args!("model `{}`", model.name)))?;
            output.rejects.extend(rejects);
            made
        } else {
            Vec::new()
        };
        // A vendor's table that no model behind this one reads makes room.
        tables.0.retain(|table, _| models[at + 1..].iter().any(|m| m.inputs.contains(table)));
        if models[at + 1..].iter().any(|m| m.inputs.contains(&model.name)) {
            tables.0.insert(model.name.clone(), made.clone());
        }
        output.tables.insert(model.name.clone(), made);
    }
    Ok(output)
}

/// Reads the models and loads what their functions know, which the first slice would otherwise wait for. What is wrong with
/// a model is told when it runs.
pub async fn load(models: &[&Model]) {
    for model in models {
        if let Err(fault) = model.plan().await {
            tracing::debug!(error = fault.chain(), "model `{}` cannot be read", model.name);
        }
    }
    if models.iter().any(|m| m.sql.contains("phone_e164(")) {
        functions::load_phones();
    }
}

impl Model {
    async fn execute(&self, tables: &Tables) -> Result<(Vec<RecordBatch>, Vec<Reject>)> {
        let failed = |e: DataFusionError| Fault::us("its checks cannot be run").because(e);
        let plan = self.plan().await?;
        let began = std::time::Instant::now();
        let result = plan.steps.run(tables).await?;
        let mut judge = Judge::new(self.dataset)?;
        let mut made = Vec::with_capacity(result.len());
        for batch in result.iter().filter(|b| b.num_rows() > 0) {
            let batch = judge.admit(batch)?;
            if batch.num_rows() > 0 {
                made.push(batch);
            }
        }
        for (check, expression) in self.checks.iter().zip(&plan.checks) {
            let mut wrong = 0;
            for batch in &made {
                let holds = expression.evaluate(batch).and_then(|v| v.into_array(batch.num_rows())).map_err(failed)?;
                wrong += holds.as_boolean().iter().filter(|h| *h == Some(false)).count();
            }
            if wrong > 0 {
                return Err(Fault::us(format!("check `{check}` does not hold for {wrong} rows"))
                    .hint("nothing of this slice was written; what is stored stays as it was"));
            }
        }
        let rows: usize = made.iter().map(RecordBatch::num_rows).sum();
        let duration_us = began.elapsed().as_micros();
        tracing::debug!(rows, duration_us, "model `{}` ran", self.name);
        Ok((made, judge.rejects))
    }
}

/// The schema without its metadata and with every column nullable.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

impl SliceInfo {
    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("observed_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("connection", DataType::Utf8, true),
            Field::new("currency", DataType::Utf8, true),
            Field::new("region", DataType::Utf8, true),
            Field::new("concessions_included", DataType::Boolean, true),
        ]))
    }

    fn batch(&self) -> Result<RecordBatch> {
        let text = |t: &str| Arc::new(StringArray::from(vec![t])) as ArrayRef;
        let at = TimestampMicrosecondArray::from(vec![self.observed_at.timestamp_micros()]).with_timezone("UTC");
        let included = BooleanArray::from(vec![self.concessions_included]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(at), text(&self.connection), text(&self.currency), text(&self.region), Arc::new(included)];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }
}
