//! What programs written for other versions of this crate rely on: the names, the types and the
//! module path that its documentation gives. Most of it is for the compiler to check.

mod common;

use std::ffi::c_void;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use common::{engine, engine_error, name};
use transfer_engine_rust::code;
use transfer_engine_rust::transfer_engine::{
    self, BatchID, BufferEntry, OpcodeEnum, TransferEngine, TransferRequest, TransferStatusEnum,
};

const THREADS: usize = 4;
const BATCH: i32 = 16;
const BLOCK: i32 = 4096;

/// Every function as documented, with the argument types that programs pass.
#[allow(clippy::type_complexity)]
fn documented() {
    let _: fn(&str, &str, u64) -> Result<TransferEngine> = TransferEngine::new;
    let _: fn(&TransferEngine) -> Result<()> = TransferEngine::discover_topology;
    let _: fn(&TransferEngine, &str) -> Result<()> = TransferEngine::install_transport;
    let _: fn(&TransferEngine, *mut c_void, usize, &str) -> Result<()> =
        TransferEngine::register_local_memory;
    let _: fn(&TransferEngine, *mut c_void) -> Result<()> = TransferEngine::unregister_local_memory;
    let _: fn(&TransferEngine, &[BufferEntry], &str) -> Result<()> =
        TransferEngine::register_local_memory_batch;
    let _: fn(&TransferEngine, &[BufferEntry]) -> Result<()> =
        TransferEngine::unregister_local_memory_batch;
    let _: fn(&TransferEngine, String) -> Result<i32> = TransferEngine::open_segment;
    let _: fn(&TransferEngine, i32) -> Result<()> = TransferEngine::close_segment;
    let _: fn(&TransferEngine, &str) -> Result<()> = TransferEngine::warmup_efa_segment;
    let _: fn(&TransferEngine) -> Result<()> = TransferEngine::sync_segment_cache;
    let _: fn(&TransferEngine, usize) -> Result<BatchID> = TransferEngine::allocate_batch_id;
    let _: fn(&TransferEngine, BatchID, &[TransferRequest]) -> Result<()> =
        TransferEngine::submit_transfer;
    let _: fn(&TransferEngine, BatchID, u64) -> Result<(i32, u64)> =
        |engine, batch, task| engine.get_transfer_status(batch, task);
    let _: fn(&TransferEngine, BatchID) -> Result<()> = TransferEngine::free_batch_id;
    let _: fn(&mut TransferEngine) -> Result<()> = TransferEngine::close;
    fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<TransferEngine>();
    shared_between_threads::<TransferRequest>();
    // Written out, so with no field more.
    let _ = BufferEntry { addr: std::ptr::null_mut(), length: 0u64 };
    let _ = (OpcodeEnum::Read as i32, OpcodeEnum::Write as i32);
    let _: u64 = 0 as transfer_engine::BatchID;
}

/// A worker as benchmarks have it: 32-bit loops, 64-bit task numbers, polling until all ended.
fn worker(engine: &TransferEngine, segment: i32, base: usize, thread: i32) -> Result<()> {
    let batch_id = engine.allocate_batch_id(BATCH as usize)?;
    let mut requests = Vec::with_capacity(BATCH as usize);
    for i in 0..BATCH {
        let at = BLOCK * (i * THREADS as i32 + thread);
        requests.push(TransferRequest {
            opcode: OpcodeEnum::Write,
            source: (base as *mut u8).wrapping_add(at as usize) as *mut _,
            target_id: segment,
            target_offset: at as u64,
            length: BLOCK as u64,
        });
    }
    engine.submit_transfer(batch_id, &mut requests)?;
    for task_id in 0..BATCH {
        loop {
            let (status, bytes) = engine.get_transfer_status(batch_id, task_id as u64)?;
            if status == TransferStatusEnum::Completed as i32 {
                assert_eq!(bytes, BLOCK as u64);
                break;
            }
            assert_ne!(status, TransferStatusEnum::Failed as i32);
        }
    }
    engine.free_batch_id(batch_id)
}

#[test]
fn a_benchmark_of_the_documented_shape_runs() -> Result<()> {
    documented();
    let size = THREADS * BATCH as usize * BLOCK as usize;
    let source: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
    let mut target_memory = vec![0u8; size];
    let target = TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", 0)?;
    target.register_local_memory(target_memory.as_mut_ptr() as *mut _, size, "cpu:0")?;
    let engine = Arc::new(TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", 0)?);
    engine.register_local_memory(source.as_ptr() as *mut _, size, "cpu:0")?;
    let segment = engine.open_segment(name(&target))?;
    let base = source.as_ptr() as usize;
    let workers: Vec<_> = (0..THREADS as i32)
        .map(|thread| {
            let engine = Arc::clone(&engine);
            thread::spawn(move || worker(&engine, segment, base, thread))
        })
        .collect();
    for worker in workers {
        worker.join().expect("does not panic")?;
    }
    engine.unregister_local_memory(source.as_ptr() as *mut _)?;
    drop(target);
    assert!(target_memory == source);
    Ok(())
}

#[test]
fn task_numbers_may_have_any_integer_type() -> Result<()> {
    let engine = engine();
    let batch = engine.allocate_batch_id(2)?;
    let waiting = TransferStatusEnum::Waiting as i32;
    assert_eq!(engine.get_transfer_status(batch, 1u64)?.0, waiting);
    assert_eq!(engine.get_transfer_status(batch, 1usize)?.0, waiting);
    assert_eq!(engine.get_transfer_status(batch, 1u32)?.0, waiting);
    assert_eq!(engine.get_transfer_status(batch, 1)?.0, waiting);
    for error in [
        engine_error(engine.get_transfer_status(batch, -1)),
        engine_error(engine.get_transfer_status(batch, 2u64)),
        engine_error(engine.get_transfer_status(batch, u64::MAX)),
    ] {
        assert_eq!(error.code, code::OUT_OF_RANGE, "{error}");
    }
    engine.free_batch_id(batch)
}

#[test]
fn a_closed_engine_refuses_and_frees_its_port() -> Result<()> {
    let mut engine = TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", 0)?;
    let name = name(&engine);
    let port: u16 = name.rsplit(':').next().expect("has a port").parse()?;
    engine.close()?;
    let error = engine_error(engine.allocate_batch_id(1));
    assert_eq!(error.code, code::INVALID_ARGUMENT, "{error}");
    assert!(engine.open_segment(name).is_err());
    assert!(engine.discover_topology().is_err());
    engine.enable_graceful_shutdown();
    engine.close()?;
    let another = TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", u64::from(port))?;
    drop(engine);
    another.allocate_batch_id(1).map(drop)
}
