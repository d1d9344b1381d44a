//! Programs that block where they should not, and await where they can.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use actix::{Actor, Handler, Message, ResponseFuture};
use engineroom::{Client, Error, MessageId, Result};
use engineroom_tests::SOON;

use crate::{Options, print};

fn square(number: u64) -> u64 {
    number * number
}

/// Everything that waits, by blocking.
fn block(client: &Client) -> Result<u64> {
    client.wait_for_engines(1, SOON)?;
    let view = client.load_balanced_view();
    let mut squares = view.map(square, 0..5);
    client.flush(SOON)?;
    assert!(client.wait(squares.message_ids(), SOON)? && squares.wait(Some(SOON))?);
    assert_eq!((squares.abort()?.queued, squares.metadata()?.len(), client.status()?.engines.len()), (0, 5, 2));
    assert_eq!(client.resubmit::<u64>(squares.message_ids())?.get()?, [0, 1, 4, 9, 16]);
    let lazily: u64 = view.map_lazy(square, 0..100).sum::<Result<u64>>()?;
    let directly: Vec<u64> = client.direct_view()?.apply(square, 3).get()?;
    let in_order: u64 = squares.iter().sum::<Result<u64>>()?;
    Ok(lazily + directly.len() as u64 + in_order + view.apply(square, 10).get()?)
}

/// Everything that waits, by awaiting.
async fn wait(profile: engineroom::Profile) -> Result<u64> {
    let client = Client::connect_async(profile).await?;
    let view = client.load_balanced_view();
    let mut squares = view.map(square, 0..5);
    let ids: Vec<MessageId> = squares.message_ids();
    assert_eq!(squares.first_error_async().await?, None);
    squares.wait_async().await?;
    assert_eq!(squares.get_timeout(Duration::ZERO)?, [0, 1, 4, 9, 16]);
    let again = client.blocking(move |client| client.resubmit::<u64>(ids)).await?;
    assert_eq!(again.results_async().await?, [0, 1, 4, 9, 16].map(Ok));
    let error = client.blocking(|client| client.wait_for_engines(1000, Duration::from_millis(10))).await;
    assert!(matches!(error, Err(Error::Timeout(_))), "{error:?}");
    let mut stream = view.map_lazy(square, 0..100);
    let mut sum = view.apply(square, 10).await?;
    while let Some(square) = next(&mut stream).await {
        sum += square?;
    }
    client.blocking(|client| client.close()).await?;
    Ok(sum)
}

/// The next item of a stream.
async fn next<S: futures_util::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *stream).poll_next(context)).await
}

/// An actor of a service.
struct Service {
    client: Client,
    profile: engineroom::Profile,
}

#[derive(Message)]
#[rtype(result = "Result<u64>")]
struct Blocks;

#[derive(Message)]
#[rtype(result = "Result<u64>")]
struct Awaits;

impl Actor for Service {
    type Context = actix::Context<Self>;
}

impl Handler<Blocks> for Service {
    type Result = Result<u64>;

    fn handle(&mut self, _: Blocks, _: &mut actix::Context<Self>) -> Result<u64> {
        block(&self.client)
    }
}

impl Handler<Awaits> for Service {
    type Result = ResponseFuture<Result<u64>>;

    fn handle(&mut self, _: Awaits, _: &mut actix::Context<Self>) -> ResponseFuture<Result<u64>> {
        Box::pin(wait(self.profile.clone()))
    }
}

/// The barest executor there is.
fn run<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// `contexts`: the same sums, blocked and awaited for in programs of all kinds.
pub fn contexts(options: &Options) -> Result<()> {
    let client = options.client()?;
    let profile = &options.profile;
    let mut sums = vec![block(&client)?, run(wait(profile.clone()))?];

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (of_task, awaiting) = (client.clone(), profile.clone());
    runtime.block_on(async {
        sums.push(block(&client)?);
        sums.push(tokio::spawn(async move { block(&of_task) }).await.expect("it does not panic")?);
        sums.push(tokio::spawn(wait(awaiting)).await.expect("it does not panic")?);
        Ok::<_, Error>(())
    })?;

    let service = Service { client: client.clone(), profile: profile.clone() };
    actix::System::new().block_on(async {
        let service = service.start();
        sums.push(service.send(Blocks).await.expect("it runs")?);
        sums.push(service.send(Awaits).await.expect("it runs")?);
        Ok::<_, Error>(())
    })?;
    print(&sums);
    Ok(())
}

/// `blocking-tasks`: tasks that block on runtimes of their own.
pub fn blocking_tasks(options: &Options) -> Result<()> {
    let block = |number: u64| actix::System::new().block_on(async move { number + 1 });
    print(&options.client()?.load_balanced_view().map(block, 0..3).get()?);
    Ok(())
}
