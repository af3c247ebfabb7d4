//! Waiting without blocking: the feature `tokio`.

mod common;

use std::future::Future;
use std::time::Duration;

use common::{bytes, engine, engine_error, name, LONG};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use transfer_engine_rust::{Batch, RegisteredBuffer, Request, Segment};

const LENGTH: usize = 8 << 20;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts")
}

fn sent<F: Future + Send>(future: F) -> F {
    future
}

#[test]
fn batches_are_awaited_together() {
    runtime().block_on(async {
        let (target, initiator) = (engine(), engine());
        let remote = RegisteredBuffer::new(&target, vec![0; 2 * LENGTH], "*").unwrap();
        let local = RegisteredBuffer::new(&initiator, bytes(1, 2 * LENGTH), "*").unwrap();
        let segment = sent(Segment::open_async(&initiator, name(&target))).await.unwrap();
        let tasks: Vec<_> = (0..2)
            .map(|half| {
                let mut batch = Batch::new(&initiator, 1).unwrap();
                let begin = half * LENGTH;
                let part = local.slice(begin..begin + LENGTH).unwrap();
                let write = Request::write(part, &segment, begin as u64);
                tokio::spawn(async move {
                    batch.submit(vec![write]).unwrap();
                    batch.wait_async().await.unwrap()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(timeout(LONG, task).await.expect("in time").unwrap(), LENGTH as u64);
        }
        assert!(remote.to_vec() == bytes(1, 2 * LENGTH));
    });
}

#[test]
fn waiting_again_after_a_wait_was_given_up() {
    runtime().block_on(async {
        let (target, initiator) = (engine(), engine());
        let remote = RegisteredBuffer::new(&target, bytes(2, LENGTH), "*").unwrap();
        let local = RegisteredBuffer::private(&initiator, vec![0; LENGTH], "*").unwrap();
        let segment = Segment::open_async(&initiator, name(&target)).await.unwrap();
        let mut batch = Batch::new(&initiator, 2).unwrap();
        assert_eq!(batch.wait_async().await.unwrap(), 0, "nothing to wait for");
        for round in 1..=2 {
            let read = Request::read(local.slice(..).unwrap(), &segment, 0);
            batch.submit(vec![read]).unwrap();
            let _ = timeout(Duration::ZERO, batch.wait_async()).await;
            let total = timeout(LONG, batch.wait_async()).await.expect("in time").unwrap();
            // The first wait may have been in time after all, and let go of the requests.
            assert!(total == 0 || total == round * LENGTH as u64, "{total}");
        }
        assert!(local.to_vec() == remote.to_vec());
    });
}

#[test]
fn an_error_of_open_comes_through() {
    runtime().block_on(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = engine_error(Segment::open_async(&engine(), nobody.as_str()).await);
        assert!(error.message.contains(&nobody), "{error}");
    });
}
