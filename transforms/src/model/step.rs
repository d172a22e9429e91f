//! A model is run step by step: each step is one query, and its result is a table of the steps behind it.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use catalog::{Dataset, Fault, Result};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{EmptyRelation, Expr, LogicalPlan, Volatility};
use datafusion::optimizer::Optimizer;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::SessionContext;

use super::nullable;
use super::project::unmeasured;
use super::table::{Tables, planner, register};

/// A text column that a model may add: the row is refused where it is not null.
pub(super) const REJECT: &str = "reject";
/// A text column that a model may add: a value of the row was unusable where it is not null.
pub(super) const ISSUE: &str = "issue";

/// The name of the last step, in faults and logs.
const RESULT: &str = "result";
/// Plans kept of one step; see [`Steps::plan`].
const PLANS_KEPT: usize = 8;

/// A query of a model's file.
#[derive(Debug)]
pub(super) struct Query {
    /// The name of the table that it makes; the last one makes the result.
    pub(super) name: Option<String>,
    pub(super) sql: String,
}

/// Splits a model's text at its lines `-- step: name` and `-- result`. A text without such lines is one query.
pub(super) fn queries(text: &str) -> Result<Vec<Query>> {
    let mut queries: Vec<Query> = Vec::new();
    let mut open: Option<Query> = None;
    for line in text.lines() {
        let mark = match line.strip_prefix("-- step: ") {
            Some(name) => Some(Some(name.trim().to_owned())),
            None => (line.trim_end() == "-- result").then_some(None),
        };
        match (mark, &mut open) {
            (Some(name), _) => {
                let plain = |n: &String| {
                    !n.is_empty() && n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                };
                if let Some(bad) = name.iter().find(|n| !plain(n)) {
                    return Err(Fault::us(format!("`{bad}` is no name for a step"))
                        .hint("Use lower-case letters, digits and `_`."));
                }
                if name.is_some() && queries.iter().chain(&open).any(|q| q.name == name) {
                    return Err(Fault::us(format!("the step `{}` is there twice", name.unwrap_or_default())));
                }
                queries.extend(open.replace(Query { name, sql: String::new() }));
            }
            (None, Some(query)) => {
                query.sql.push_str(line);
                query.sql.push('\n');
            }
            (None, None) => {}
        }
    }
    match open {
        Some(last) if last.name.is_none() && queries.iter().all(|q| q.name.is_some()) => {
            queries.push(last);
            Ok(queries)
        }
        Some(_) => Err(Fault::us("a model in steps ends with its one `-- result`")),
        None => Ok(vec![Query { name: None, sql: text.to_owned() }]),
    }
}

/// The steps of a model, with what planning them has found out.
pub(super) struct Steps {
    context: SessionContext,
    steps: Vec<Step>,
}

/// Plans by the inputs that have no rows.
type Plans = Vec<(BTreeSet<String>, Arc<dyn ExecutionPlan>)>;

struct Step {
    name: Option<String>,
    /// The tables that it reads, those of other steps included.
    reads: BTreeSet<String>,
    logical: LogicalPlan,
    plans: Mutex<Plans>,
}

impl Steps {
    /// Reads the queries against the catalog.
    ///
    /// # Errors
    /// SQL that is none, a function whose result depends on more than its arguments, and a step that nobody reads.
    pub(super) async fn read(queries: &[Query]) -> Result<Self> {
        let context = planner()?;
        let mut steps: Vec<Step> = Vec::with_capacity(queries.len());
        for query in queries {
            let name = query.name.as_deref().unwrap_or(RESULT);
            let failed = |e: DataFusionError| Fault::us(format!("`{name}` cannot be planned")).because(e);
            let state = context.state();
            let logical = state.create_logical_plan(&query.sql).await.map_err(failed)?;
            let reads = reads(&logical)?;
            let logical =
                state.analyzer().execute_and_check(logical, state.config_options(), |_, _| {}).map_err(failed)?;
            if let Some(name) = &query.name {
                if context.table_exist(name.as_str()).map_err(failed)? {
                    return Err(Fault::us(format!("the step `{name}` has the name of a table")));
                }
                register(&context, name, nullable(logical.schema().as_arrow()))?;
            }
            steps.push(Step { name: query.name.clone(), reads, logical, plans: Mutex::default() });
        }
        for (at, step) in steps.iter().enumerate() {
            if let Some(name) = &step.name
                && !steps[at + 1..].iter().any(|s| s.reads.contains(name))
            {
                return Err(Fault::us(format!("nothing reads the step `{name}`")));
            }
        }
        Ok(Self { context, steps })
    }

    /// The tables of the slice that the steps read.
    pub(super) fn inputs(&self) -> BTreeSet<&str> {
        let own: BTreeSet<&str> = self.steps.iter().filter_map(|s| s.name.as_deref()).collect();
        self.steps.iter().flat_map(|s| &s.reads).map(String::as_str).filter(|t| !own.contains(t)).collect()
    }

    /// The columns of the result.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        self.steps.last().map(|s| nullable(s.logical.schema().as_arrow()))
    }

    /// Plans every step as if all tables had rows.
    pub(super) async fn plannable(&self) -> Result<()> {
        for step in &self.steps {
            self.plan(step, &BTreeSet::new()).await?;
        }
        Ok(())
    }

    /// A condition on the rows of a dataset, to be evaluated on batches.
    pub(super) fn condition(&self, check: &str, dataset: &Dataset) -> Result<Arc<dyn PhysicalExpr>> {
        let failed = |e: DataFusionError| Fault::us(format!("the check `{check}` cannot be planned")).because(e);
        let schema = DFSchema::try_from(nullable(&dataset.schema())).map_err(failed)?;
        let expression = self.context.parse_sql_expr(check, &schema).map_err(failed)?;
        self.context.create_physical_expr(expression, &schema).map_err(failed)
    }

    /// Runs the steps over a slice and gives the result.
    pub(super) async fn run(&self, tables: &Tables) -> Result<Vec<RecordBatch>> {
        let mut made = Tables::default();
        for (at, step) in self.steps.iter().enumerate() {
            let name = step.name.as_deref().unwrap_or(RESULT);
            let failed = |e: DataFusionError| Fault::us(format!("`{name}` cannot be run")).because(e);
            let mut given = Tables::default();
            for table in &step.reads {
                if let Some(batches) = made.0.get(table).or_else(|| tables.0.get(table)) {
                    given.0.insert(table.clone(), batches.clone());
                }
            }
            // Tables of steps that nobody reads again make room.
            made.0.retain(|table, _| self.steps[at + 1..].iter().any(|s| s.reads.contains(table)));
            let empty = step.reads.iter().filter(|t| !given.has_rows(t)).cloned().collect();
            let plan = reset_plan_states(self.plan(step, &empty).await?).map_err(failed)?;
            let config = self.context.copied_config().with_extension(Arc::new(given));
            let task = TaskContext::default().with_session_config(config);
            let began = std::time::Instant::now();
            let result = collect(plan, Arc::new(task)).await.map_err(failed)?;
            tracing::trace!(
                rows = result.iter().map(RecordBatch::num_rows).sum::<usize>(),
                duration_us = began.elapsed().as_micros(),
                "step `{name}` ran"
            );
            match &step.name {
                Some(name) => made.0.insert(name.clone(), result),
                None => return Ok(result),
            };
        }
        Ok(Vec::new())
    }

    /// The plan for slices in which these tables have no rows. Knowing that, the optimiser drops whole joins: a bare
    /// marketing feed pays nothing for the lists that only an account has. A few plans are kept; a slice with yet
    /// another set of empty tables is run with the plan that assumes nothing.
    async fn plan(&self, step: &Step, empty: &BTreeSet<String>) -> Result<Arc<dyn ExecutionPlan>> {
        let name = step.name.as_deref().unwrap_or(RESULT);
        let lock = || step.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |set: &BTreeSet<String>| lock().iter().find(|(e, _)| e == set).map(|(_, plan)| Arc::clone(plan));
        let nothing = BTreeSet::new();
        let full = lock().len() >= PLANS_KEPT;
        if let Some(plan) = known(empty).or_else(|| if full { known(&nothing) } else { None }) {
            return Ok(plan);
        }
        let plan = match self.make_plan(step, if full { &nothing } else { empty }).await {
            // DataFusion 55 trips over some plans with relations known to be empty; the general plan always works.
            Err(_) if !empty.is_empty() => self.make_plan(step, &nothing).await,
            made => made,
        };
        let plan = plan.map_err(|e| Fault::us(format!("`{name}` cannot be planned")).because(e))?;
        tracing::trace!("step `{name}` is planned as\n{}", displayable(plan.as_ref()).indent(false));
        lock().push((if full { nothing } else { empty.clone() }, Arc::clone(&plan)));
        Ok(plan)
    }

    async fn make_plan(
        &self,
        step: &Step,
        empty: &BTreeSet<String>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let state = self.context.state();
        let mut logical = without_rows(step.logical.clone(), empty)?;
        if !empty.is_empty() {
            // What is known to be null is to be folded away before it is looked at as a common expression.
            logical = FOLD.optimize(logical, &state, |_, _| {})?;
        }
        unmeasured(state.create_physical_plan(&logical).await?)
    }
}

/// The part of the optimiser that makes less of a plan in which tables are known to be empty.
static FOLD: LazyLock<Optimizer> = LazyLock::new(|| {
    Optimizer::with_rules(vec![
        Arc::new(PropagateEmptyRelation::new()),
        Arc::new(OptimizeProjections::new()),
        Arc::new(SimplifyExpressions::new()),
    ])
});

/// The tables that a query reads; a query that is not a function of them is refused.
fn reads(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut reads = BTreeSet::new();
    let mut impure = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            reads.insert(scan.table_name.table().to_owned());
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
    match impure {
        Some(function) => {
            Err(Fault::us(format!("it calls `{function}`, which does not depend on its arguments alone")))
        }
        None => Ok(reads),
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
