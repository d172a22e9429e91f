//! The tables of a slice, as plans see them: known by name and columns, filled when a plan runs.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use catalog::{Dataset, Fault, Result, datasets};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
};
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{SliceInfo, nullable};
use crate::session::session_with;

/// The table that says what the slice is; see [`SliceInfo`].
pub(super) const SLICE: &str = "slice";
/// The column of every wire table that numbers its rows in the order in which they were read, from 0.
const ROW: &str = "_row";

/// The schema in which models see a table.
pub(super) fn table_schema(dataset: &Dataset) -> SchemaRef {
    let schema = nullable(&dataset.schema());
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(Field::new(ROW, DataType::Int64, true)));
    Arc::new(Schema::new(fields))
}

/// Brings the batches of a slice into the schema in which models see them.
pub(super) fn wire_table(name: &str, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
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

/// The tables of the slice that a plan is run over; travels in the task's settings.
#[derive(Default)]
pub(super) struct Tables(pub(super) BTreeMap<String, Vec<RecordBatch>>);

impl Tables {
    /// Whether the table has a row.
    pub(super) fn has_rows(&self, table: &str) -> bool {
        self.0.get(table).is_some_and(|t| t.iter().any(|b| b.num_rows() > 0))
    }
}

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

/// The session in which models are planned. One partition: a slice is small, and slices run beside each other.
static SESSION: LazyLock<Result<SessionState, DataFusionError>> = LazyLock::new(|| {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_collect_statistics(false)
        // Everything here is plain UTF-8: a mix of the two forms costs a copy wherever they meet.
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        // A dynamic filter would be kept in the plan from one slice to the next.
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
    Ok(session_with(config)?.state())
});

/// A session of one model's own, in which every table of a slice has its name and its columns, and none has rows yet.
pub(super) fn planner() -> Result<SessionContext> {
    let state = SESSION.as_ref().map_err(|e| Fault::us(format!("no session for models: {e}")))?.clone();
    let options = &state.config_options().catalog;
    let (catalog, schema) = (options.default_catalog.clone(), options.default_schema.clone());
    let failed = |e: DataFusionError| Fault::us("no session for a model").because(e);
    let own = MemoryCatalogProvider::new();
    own.register_schema(&schema, Arc::new(MemorySchemaProvider::new())).map_err(failed)?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(catalog, Arc::new(own));
    let state = SessionStateBuilder::new_from_existing(state).with_catalog_list(Arc::new(catalogs)).build();
    let context = SessionContext::new_with_state(state);
    let all = datasets::all().iter().map(|d| (d.name.as_str(), table_schema(d)));
    for (name, schema) in all.chain([(SLICE, SliceInfo::schema())]) {
        register(&context, name, schema)?;
    }
    Ok(context)
}

/// Makes a table known whose rows come when a plan runs.
pub(super) fn register(context: &SessionContext, name: &str, schema: SchemaRef) -> Result<()> {
    let stream = SliceTable { name: name.to_owned(), schema: Arc::clone(&schema) };
    let failed = |e: DataFusionError| Fault::us(format!("the table `{name}` cannot be planned with")).because(e);
    let table = StreamingTable::try_new(schema, vec![Arc::new(stream)]).map_err(failed)?;
    context.register_table(name, Arc::new(table)).map_err(failed)?;
    Ok(())
}
