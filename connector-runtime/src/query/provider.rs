//! A [`TableReader`] as DataFusion's table.
//!
//! Only the columns that a query needs are read. The reader's iterator waits for the store, so it
//! runs on a blocking thread and hands batches over through a short queue; when the query has
//! enough, the queue closes and the thread stops at its next batch.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use connector_api::sink::TableReader;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

/// Batches that may wait between the reader and the query.
const BATCHES_AHEAD: usize = 2;

/// One version of a table.
#[derive(Debug)]
pub(super) struct ReaderTable(pub(super) Arc<dyn TableReader>);

#[async_trait]
impl TableProvider for ReaderTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::common::Result<Arc<dyn ExecutionPlan>> {
        let all = self.0.schema();
        let columns = projection.cloned().unwrap_or_else(|| (0..all.fields().len()).collect());
        let schema = Arc::new(all.project(&columns)?);
        let scan = Scan { reader: self.0.clone(), columns, schema: schema.clone() };
        let exec =
            StreamingTableExec::try_new(schema, vec![Arc::new(scan)], None, None, false, limit)?;
        Ok(Arc::new(exec))
    }
}

/// Some columns of the table.
#[derive(Debug)]
struct Scan {
    reader: Arc<dyn TableReader>,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStream::builder(self.schema.clone(), BATCHES_AHEAD);
        let (queue, reader, columns) = (stream.tx(), self.reader.clone(), self.columns.clone());
        stream.spawn_blocking(move || {
            let batches = reader.scan(&columns).map_err(external)?;
            for batch in batches {
                if queue.blocking_send(batch.map_err(external)).is_err() {
                    break; // The query needs no more.
                }
            }
            Ok(())
        });
        stream.build()
    }
}

fn external(error: connector_api::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
