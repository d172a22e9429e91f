//! A stream of events written as a plain function.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use catalog::{Fault, Result};
use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{SinkExt, StreamExt};

use crate::source::Event;

/// Where a reading function puts its events. A reader that stops polling stops the function at its next event.
#[derive(Debug, Clone)]
pub(crate) struct Emit(mpsc::Sender<Event>);

impl Emit {
    /// Hands an event out, waiting until it is taken.
    pub(crate) async fn event(&mut self, event: Event) -> Result<()> {
        self.0.send(event).await.map_err(|_| Fault::us("nobody reads this stream any more"))
    }

    /// Hands out a table's rows, if it has any, and empties it.
    pub(crate) async fn rows(&mut self, table: &mut crate::rows::Table) -> Result<()> {
        if table.rows() == 0 {
            return Ok(());
        }
        let (dataset, batch) = (table.name(), table.finish()?);
        self.event(Event::Rows { dataset, batch }).await
    }
}

/// Runs `read` as the stream is polled. Events come in the order in which they were handed out, and a fault last.
pub(crate) fn stream<'a>(read: impl FnOnce(Emit) -> BoxFuture<'a, Result<()>>) -> BoxStream<'a, Result<Event>> {
    let (sender, mut events) = mpsc::channel(0);
    let mut running: Option<Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>> = Some(read(Emit(sender)));
    let mut fault = None;
    stream::poll_fn(move |context| {
        loop {
            // While the function runs it holds a sender, so the channel is not at its end before that.
            match events.poll_next_unpin(context) {
                Poll::Ready(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Poll::Ready(None) if running.is_none() => return Poll::Ready(fault.take().map(Err)),
                Poll::Ready(None) | Poll::Pending => {}
            }
            let Some(future) = &mut running else { return Poll::Pending };
            match future.as_mut().poll(context) {
                Poll::Ready(end) => {
                    fault = end.err();
                    running = None;
                }
                // It may have handed out an event and be waiting for that to be taken.
                Poll::Pending => match events.poll_next_unpin(context) {
                    Poll::Ready(Some(event)) => return Poll::Ready(Some(Ok(event))),
                    _ => return Poll::Pending,
                },
            }
        }
    })
    .boxed()
}
