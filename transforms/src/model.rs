//! SQL models and the engine that runs them over one slice.
//!
//! A model is a file `models/<layer>/<name>.sql`: comment lines that describe it, then one query whose result is the
//! dataset of the model's name. The engine plans each model once a process, against the schemas of the catalog, and
//! runs that plan over the tables of a slice, so that a slice of a single property costs no planning.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::array::{TimestampMicrosecondArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use catalog::{Dataset, Fault, Reject, RejectKind, Result, datasets};
use chrono::{DateTime, Utc};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::session::session_with;

/// The table that says what the slice is; see [`SliceInfo`].
const SLICE: &str = "slice";
/// The column of every wire table that numbers its rows in the order in which they were read, from 0.
const ROW: &str = "_row";
/// A text column that a model may add: the row is refused where it is not null.
const REJECT: &str = "reject";
/// A text column that a model may add: a value of the row was unusable where it is not null.
const ISSUE: &str = "issue";

/// Plans kept of one model; see [`Model::plan`].
const PLANS_KEPT: usize = 8;

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
    /// The query.
    pub sql: String,
    dataset: &'static Dataset,
    /// Plans by the inputs that have no rows; the first entry is for none.
    plans: Mutex<Vec<(BTreeSet<String>, Arc<Plan>)>>,
}

/// A model, planned.
struct Plan {
    exec: Arc<dyn ExecutionPlan>,
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
            plans: Mutex::default(),
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
        self.plan(&BTreeSet::new()).await.map(drop)
    }

    /// The plan for slices in which these inputs have no rows. Knowing that, the optimiser drops whole joins: a bare
    /// marketing feed pays nothing for the lists that only an account has. A few plans are kept; a slice with yet
    /// another set of empty inputs is run with the plan that assumes nothing.
    async fn plan(&self, empty: &BTreeSet<String>) -> Result<Arc<Plan>> {
        let lock = || self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |set: &BTreeSet<String>| lock().iter().find(|(e, _)| e == set).map(|(_, plan)| Arc::clone(plan));
        let nothing = BTreeSet::new();
        let full = lock().len() >= PLANS_KEPT;
        if let Some(plan) = known(empty).or_else(|| if full { known(&nothing) } else { None }) {
            return Ok(plan);
        }
        let plan = match self.make_plan(if full { &nothing } else { empty }).await {
            // DataFusion 55 trips over some plans with relations known to be empty; the general plan always works.
            Err(_) if !empty.is_empty() => self.make_plan(&nothing).await,
            made => made,
        };
        let plan = Arc::new(plan.map_err(|e| e.at(format_args!("model `{}`", self.name)))?);
        lock().push((if full { nothing } else { empty.clone() }, Arc::clone(&plan)));
        Ok(plan)
    }

    async fn make_plan(&self, empty: &BTreeSet<String>) -> Result<Plan> {
        let context = PLANNER.as_ref().map_err(|e| Fault::us(format!("no session for models: {e}")))?;
        let failed = |e: DataFusionError| Fault::us("it cannot be planned").because(e);
        let logical = context.state().create_logical_plan(&self.sql).await.map_err(failed)?;
        self.refuse_impure(&logical)?;
        let logical = without_rows(logical, empty).map_err(failed)?;
        let exec = context.state().create_physical_plan(&logical).await.map_err(failed)?;

        tracing::trace!("model `{}` is planned as\n{}", self.name, displayable(exec.as_ref()).indent(false));
        let result = exec.schema();
        if let Some(column) = self.dataset.columns.iter().find(|c| result.column_with_name(&c.name).is_none()) {
            return Err(Fault::us(format!("its result lacks the column `{}`", column.name)));
        }
        let known = |name: &str| [REJECT, ISSUE].contains(&name) || self.dataset.column(name).is_some();
        if let Some(field) = result.fields().iter().find(|f| !known(f.name())) {
            return Err(Fault::us(format!("its result has the column `{}`, which its dataset has not", field.name())));
        }
        let schema = DFSchema::try_from(nullable(&self.dataset.schema())).map_err(failed)?;
        let checks = self.checks.iter().map(|check| {
            let expression = context.parse_sql_expr(check, &schema)?;
            context.create_physical_expr(expression, &schema)
        });
        let checks = checks.collect::<Result<_, _>>().map_err(failed)?;
        Ok(Plan { exec, checks })
    }

    /// Holds the model to its header and to being a function of its inputs.
    fn refuse_impure(&self, plan: &LogicalPlan) -> Result<()> {
        use datafusion::logical_expr::{Expr, Volatility};

        let mut read = BTreeSet::new();
        let mut impure = None;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                read.insert(scan.table_name.table().to_owned());
            }
            node.apply_expressions(|e| {
                e.apply(|e| {
                    if let Expr::ScalarFunction(f) = e
                        && f.func.signature().volatility != Volatility::Immutable
                    {
                        impure = Some(f.func.name().to_owned());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })
        .map_err(|e| Fault::us("its plan cannot be read").because(e))?;
        if let Some(function) = impure {
            return Err(Fault::us(format!("it calls `{function}`, which does not depend on its arguments alone")));
        }
        let named: BTreeSet<String> = self.inputs.iter().cloned().collect();
        if named != read {
            let differ: Vec<_> = named.symmetric_difference(&read).cloned().collect();
            return Err(Fault::us(format!("`inputs` and its query differ in {}", differ.join(", "))));
        }
        Ok(())
    }
}

/// The plan with the scans of these tables replaced by relations that are known to be empty.
fn without_rows(plan: LogicalPlan, empty: &BTreeSet<String>) -> Result<LogicalPlan, DataFusionError> {
    let replaced = plan.transform_down_with_subqueries(|node| {
        Ok(match node {
            LogicalPlan::TableScan(scan) if empty.contains(scan.table_name.table()) => {
                Transformed::yes(LogicalPlan::EmptyRelation(EmptyRelation {
                    produce_one_row: false,
                    schema: scan.projected_schema,
                }))
            }
            node => Transformed::no(node),
        })
    })?;
    Ok(replaced.data)
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
    let mut tables = BTreeMap::new();
    for (name, batches) in given {
        tables.insert(name.clone(), wire_table(&name, batches)?);
    }
    tables.insert(SLICE.to_owned(), vec![slice.batch()?]);
    let mut output = Output::default();
    for model in models {
        let has_rows = |input: &str| tables.get(input).is_some_and(|t| t.iter().any(|b| b.num_rows() > 0));
        let made = if model.inputs.iter().any(|i| i != SLICE && has_rows(i)) {
            let empty = model.inputs.iter().filter(|i| !has_rows(i)).cloned().collect();
            let plan = model.plan(&empty).await?;
            let (made, rejects) =
                model.execute(&plan, &mut tables).await.map_err(|e| e.at(format_args!("model `{}`", model.name)))?;
            output.rejects.extend(rejects);
            made
        } else {
            Vec::new()
        };
        tables.insert(model.name.clone(), made.clone());
        output.tables.insert(model.name.clone(), made);
    }
    Ok(output)
}

impl Model {
    async fn execute(
        &self,
        plan: &Plan,
        tables: &mut BTreeMap<String, Vec<RecordBatch>>,
    ) -> Result<(Vec<RecordBatch>, Vec<Reject>)> {
        let failed = |e: DataFusionError| Fault::us("it cannot be run").because(e);
        let context = PLANNER.as_ref().map_err(|e| Fault::us(format!("no session for models: {e}")))?;
        let began = std::time::Instant::now();
        let config = context.copied_config().with_extension(Arc::new(Tables(tables.clone())));
        let task = TaskContext::default().with_session_config(config);
        let exec = reset_plan_states(Arc::clone(&plan.exec)).map_err(failed)?;
        let result = collect(exec, Arc::new(task)).await.map_err(failed)?;

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
        let duration_ms = began.elapsed().as_millis();
        tracing::debug!(rows, duration_ms, "model `{}` ran", self.name);
        Ok((made, judge.rejects))
    }
}

/// Decides row by row what of a model's result is loaded.
struct Judge {
    dataset: &'static Dataset,
    schema: SchemaRef,
    keys: RowConverter,
    seen: HashSet<Box<[u8]>>,
    rejects: Vec<Reject>,
}

impl Judge {
    fn new(dataset: &'static Dataset) -> Result<Self> {
        let keys = dataset.columns.iter().filter(|c| c.key).map(|c| SortField::new(c.kind.arrow())).collect();
        Ok(Self {
            dataset,
            schema: dataset.schema(),
            keys: RowConverter::new(keys)?,
            seen: HashSet::new(),
            rejects: Vec::new(),
        })
    }

    /// The rows of the batch that are good, in the dataset's schema.
    fn admit(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
        let mut issues: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (row, reason) in texts(batch, REJECT)? {
            reasons.insert(row, reason);
        }
        for (row, issue) in texts(batch, ISSUE)? {
            issues.entry(row).or_default().push(issue);
        }
        let mut columns = Vec::with_capacity(self.dataset.columns.len());
        for column in &self.dataset.columns {
            let from = batch
                .column_by_name(&column.name)
                .ok_or_else(|| Fault::us(format!("its result lacks the column `{}`", column.name)))?;
            let to = cast_with_options(from, &column.kind.arrow(), &CastOptions { safe: true, ..Default::default() })?;
            if to.null_count() > from.null_count() {
                for row in (0..to.len()).filter(|r| to.is_null(*r) && from.is_valid(*r)) {
                    issues
                        .entry(row)
                        .or_default()
                        .push(format!("`{}` does not fit its type, so it is left unknown", column.name));
                }
            }
            if column.required && to.null_count() > 0 {
                for row in (0..to.len()).filter(|r| to.is_null(*r)) {
                    reasons.entry(row).or_insert_with(|| format!("`{}` has no value", column.name));
                }
            }
            columns.push(to);
        }
        let keys: Vec<ArrayRef> =
            self.dataset.columns.iter().zip(&columns).filter(|(c, _)| c.key).map(|(_, a)| Arc::clone(a)).collect();
        let rows = self.keys.convert_columns(&keys)?;
        for (number, row) in rows.iter().enumerate() {
            if !reasons.contains_key(&number) && !self.seen.insert(row.as_ref().into()) {
                reasons.insert(number, "another row has the same key".to_owned());
            }
        }
        let whole = RecordBatch::try_new(nullable(&self.schema), columns)?;
        for (row, issues) in issues.into_iter().filter(|(row, _)| !reasons.contains_key(row)) {
            self.rejects.push(self.reject(&whole, &keys, row, RejectKind::Value, issues.join("; "))?);
        }
        let good = if reasons.is_empty() {
            whole
        } else {
            let keep: BooleanArray = (0..whole.num_rows()).map(|r| Some(!reasons.contains_key(&r))).collect();
            for (row, reason) in reasons {
                self.rejects.push(self.reject(&whole, &keys, row, RejectKind::Row, reason)?);
            }
            filter_record_batch(&whole, &keep)?
        };
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), good.columns().to_vec())?)
    }

    fn reject(
        &self,
        batch: &RecordBatch,
        keys: &[ArrayRef],
        row: usize,
        kind: RejectKind,
        reason: String,
    ) -> Result<Reject> {
        let options = FormatOptions::default();
        let mut key = Vec::with_capacity(keys.len());
        for column in keys {
            key.push(ArrayFormatter::try_new(column, &options)?.value(row).to_string());
        }
        let scope = self.dataset.scope.as_deref().and_then(|s| batch.column_by_name(s)).map(|c| c.as_string::<i32>());
        let mut writer = arrow::json::ArrayWriter::new(Vec::new());
        writer.write(&batch.slice(row, 1))?;
        writer.finish()?;
        let payload: serde_json::Value = serde_json::from_slice(&writer.into_inner()).unwrap_or_default();
        Ok(Reject {
            dataset: self.dataset.name.clone(),
            scope: scope.filter(|s| s.is_valid(row)).map(|s| s.value(row).to_owned()),
            key: key.join("/"),
            kind,
            reason,
            payload: payload.get(0).cloned().unwrap_or_default(),
        })
    }
}

/// The rows of an optional text column that have a value.
fn texts(batch: &RecordBatch, column: &str) -> Result<Vec<(usize, String)>> {
    let Some(array) = batch.column_by_name(column).filter(|a| a.null_count() < a.len()) else { return Ok(Vec::new()) };
    let array = arrow::compute::cast(array, &DataType::Utf8)?;
    Ok(array.as_string::<i32>().iter().enumerate().filter_map(|(row, v)| Some((row, v?.to_owned()))).collect())
}

/// The schema without its metadata and with every column nullable.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The schema in which models see a table.
fn table_schema(dataset: &Dataset) -> SchemaRef {
    let schema = nullable(&dataset.schema());
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(ROW, DataType::Int64, true)));
    Arc::new(Schema::new(fields))
}

/// Brings the batches of a slice into the schema in which models see them.
fn wire_table(name: &str, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let dataset = datasets::find(name).ok_or_else(|| Fault::us(format!("a slice has the unknown dataset `{name}`")))?;
    let schema = table_schema(dataset);
    let mut first = 0;
    let mut table = Vec::with_capacity(batches.len());
    for batch in batches {
        let rows = batch.num_rows();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for column in &dataset.columns {
            let kind = column.kind.arrow();
            columns.push(match batch.column_by_name(&column.name) {
                Some(array) if *array.data_type() == kind => Arc::clone(array),
                Some(array) => arrow::compute::cast(array, &kind)?,
                None if column.required => {
                    return Err(Fault::us(format!("rows of `{name}` lack the column `{}`", column.name)));
                }
                None => new_null_array(&kind, rows),
            });
        }
        columns.push(Arc::new(Int64Array::from_iter_values(first..first + rows as i64)));
        first += rows as i64;
        table.push(RecordBatch::try_new(Arc::clone(&schema), columns)?);
    }
    Ok(table)
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

/// The tables of the slice that a plan is run over; travels in the task's settings.
struct Tables(BTreeMap<String, Vec<RecordBatch>>);

/// A table whose rows are looked up when the plan runs, not when it is made.
#[derive(Debug)]
struct SliceTable {
    name: String,
    schema: SchemaRef,
}

impl PartitionStream for SliceTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let tables = context.session_config().get_extension::<Tables>();
        let batches = tables.and_then(|t| t.0.get(&self.name).cloned()).unwrap_or_default();
        let stream = MemoryStream::try_new(batches, Arc::clone(&self.schema), None);
        match stream {
            Ok(stream) => Box::pin(stream),
            Err(error) => Box::pin(datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(
                Arc::clone(&self.schema),
                futures::stream::once(async { Err(error) }),
            )),
        }
    }
}

/// The session in which all models are planned. One partition: a slice is small, and slices run beside each other.
static PLANNER: LazyLock<Result<SessionContext, DataFusionError>> = LazyLock::new(|| {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_collect_statistics(false)
        // A dynamic filter would be kept in the plan from one slice to the next.
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
    let context = session_with(config)?;
    let all = datasets::all().iter().map(|d| (d.name.clone(), table_schema(d)));
    for (name, schema) in all.chain([(SLICE.to_owned(), SliceInfo::schema())]) {
        let stream = SliceTable { name: name.clone(), schema: Arc::clone(&schema) };
        context.register_table(name, Arc::new(StreamingTable::try_new(schema, vec![Arc::new(stream)])?))?;
    }
    Ok(context)
});
