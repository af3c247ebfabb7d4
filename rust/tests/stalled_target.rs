//! A target whose process is stopped: its transfers stay in flight until they are ended from here.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{engine, engine_error, LONG};
use transfer_engine_rust::transfer_engine::{TransferEngine, TransferStatusEnum};
use transfer_engine_rust::{code, Batch, RegisteredBuffer, Request, Segment, TransferError};

const LENGTH: usize = 1 << 20;

/// A target in a process of its own, killed in the end.
struct Target {
    process: Child,
    segment_id: String,
    _out: BufReader<ChildStdout>,
}

impl Target {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_transfer_engine_bench"))
            .args(["--mode", "target", "--buffer-size", "1048576"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut out = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        while !line.starts_with("--segment-id ") {
            line.clear();
            assert_ne!(out.read_line(&mut line).expect("reads"), 0, "the target ended");
        }
        let segment_id = line.trim_end()["--segment-id ".len()..].to_string();
        Self { process, segment_id, _out: out }
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a child that was not waited for.
        assert_eq!(unsafe { libc::kill(self.process.id() as i32, signal) }, 0);
    }

    /// Returns when the kernel has stopped it.
    fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let mut status = 0;
        // SAFETY: our own child; only asks whether it stopped.
        let pid = unsafe { libc::waitpid(self.process.id() as i32, &mut status, libc::WUNTRACED) };
        assert!(pid > 0 && libc::WIFSTOPPED(status));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A READ in flight from a target that does not answer.
fn stalled(target: &Target, timeout: Duration) -> (Arc<TransferEngine>, RegisteredBuffer, Batch) {
    let engine = engine();
    let local = RegisteredBuffer::private(&engine, vec![5; LENGTH], "*").unwrap();
    let segment = Segment::open(&engine, target.segment_id.as_str()).unwrap();
    target.stop();
    let mut batch = Batch::new(&engine, 1).unwrap();
    let read = Request::read(local.slice(..).unwrap(), &segment, 0);
    batch.submit_with_timeout(vec![read], timeout).unwrap();
    (engine, local, batch)
}

fn end_of(result: anyhow::Result<u64>) -> TransferStatusEnum {
    let error = result.expect_err("cannot have completed");
    error.downcast_ref::<TransferError>().unwrap_or_else(|| panic!("{error:?}")).status
}

#[test]
fn a_deadline_ends_it_and_frees_the_memory() {
    let target = Target::start();
    let (_engine, local, mut batch) = stalled(&target, Duration::from_millis(100));
    assert_eq!(end_of(batch.wait(Some(LONG))), TransferStatusEnum::Timeout);
    assert!(local.into_inner().unwrap().iter().all(|&byte| byte == 5));
}

#[test]
fn a_wait_has_a_limit_and_a_cancel_ends_it() {
    let target = Target::start();
    let (_engine, mut local, mut batch) = stalled(&target, LONG);
    let error = batch.wait(Some(Duration::from_millis(20)));
    assert_eq!(engine_error(error).code, code::TIMEOUT);
    assert_eq!(batch.status().unwrap().0, TransferStatusEnum::Pending);
    assert!(local.get_mut().is_none(), "in flight");

    let start = Instant::now();
    batch.cancel().unwrap();
    assert_eq!(end_of(batch.wait(Some(LONG))), TransferStatusEnum::Canceled);
    assert!(start.elapsed() < LONG / 2, "ended by the cancel, not by the deadline");
    assert!(local.get_mut().expect("quiet")[0] == 5);
}

#[test]
fn a_batch_dropped_in_flight_is_cancelled() {
    let target = Target::start();
    let (_engine, local, batch) = stalled(&target, LONG);
    let start = Instant::now();
    drop(batch);
    assert!(start.elapsed() < LONG / 2);
    local.into_inner().unwrap();
}

#[test]
fn an_engine_dropped_in_flight_ends() {
    let target = Target::start();
    let start = Instant::now();
    let engine = engine();
    let mut memory = vec![0u8; LENGTH];
    engine.register_local_memory(common::addr(&mut memory), LENGTH, "*").unwrap();
    let segment = engine.open_segment(target.segment_id.clone()).unwrap();
    target.stop();
    let batch = engine.allocate_batch_id(1).unwrap();
    let request = transfer_engine_rust::transfer_engine::TransferRequest {
        opcode: transfer_engine_rust::transfer_engine::OpcodeEnum::Read,
        source: common::addr(&mut memory),
        target_id: segment,
        target_offset: 0,
        length: LENGTH as u64,
    };
    engine.submit_transfer(batch, &[request]).unwrap();
    drop(engine);
    assert!(start.elapsed() < LONG / 2);
}

#[test]
fn a_target_that_goes_on_completes_it() {
    let target = Target::start();
    let (_engine, local, mut batch) = stalled(&target, LONG);
    target.signal(libc::SIGCONT);
    assert_eq!(batch.wait(Some(LONG)).unwrap(), LENGTH as u64);
    assert!(local.to_vec().iter().all(|&byte| byte == 0), "the target's bytes");
}
