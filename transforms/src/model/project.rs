//! Projections that do not measure themselves.
//!
//! DataFusion's own projection writes its expressions out as text whenever it is run, to name a metric for each. A model's
//! expressions are long and its slices are short: on slices of one property that was a seventh of the models' time.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::Projector;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties,
    ReplaceChildrenOptions, apply_expression_roots,
};
use futures::StreamExt;

/// The plan with all its projections replaced. For finished plans: the optimiser does not know these.
pub(super) fn unmeasured(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some(planned) = node.downcast_ref::<ProjectionExec>() else { return Ok(Transformed::no(node)) };
        let input = Arc::clone(planned.input());
        let projector =
            planned.projection_expr().make_projector_with_schema_metadata(&input.schema(), &planned.schema())?;
        let properties = Arc::clone(planned.properties());
        Ok(Transformed::yes(Arc::new(Project { projector, input, properties })))
    })
    .data()
}

#[derive(Debug, Clone)]
struct Project {
    projector: Projector,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for Project {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.projector.projection().iter().map(|e| format!("{} as {}", e.expr, e.alias));
        write!(f, "Project: {}", columns.collect::<Vec<_>>().join(", "))
    }
}

impl ExecutionPlan for Project {
    fn name(&self) -> &str {
        "Project"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.projector.projection().iter().map(|e| &e.expr), f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(Self { input, ..Self::clone(&self) })),
            Err(_) => datafusion::common::internal_err!("a projection has one input"),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (schema, projector) = (Arc::clone(self.projector.output_schema()), self.projector.clone());
        let batches = input.map(move |batch| projector.project_batch(&batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}
