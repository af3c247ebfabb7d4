//! The program of a crate that depends on the packed one: two engines, one WRITE.

use std::sync::Arc;
use transfer_engine_rust::transfer_engine::TransferEngine;
use transfer_engine_rust::{Batch, RegisteredBuffer, Request, Segment};

fn main() -> anyhow::Result<()> {
    let engine = || TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", 0).map(Arc::new);
    let (target, initiator) = (engine()?, engine()?);
    target.install_transport("tcp")?;
    initiator.install_transport("tcp")?;
    let there = RegisteredBuffer::new(&target, vec![0u8; 4096], "*")?;
    let here = RegisteredBuffer::new(&initiator, vec![b'x'; 4096], "*")?;
    let segment = Segment::open(&initiator, &target.get_local_ip_and_port()?)?;

    let mut batch = Batch::new(&initiator, 1)?;
    batch.submit(vec![Request::write(here.slice(..)?, &segment, 0)])?;
    let bytes = batch.wait(None)?;
    let equal = there.to_vec() == here.to_vec();
    println!("wrote {bytes} bytes, {}", if equal { "equal" } else { "DIFFERENT" });
    anyhow::ensure!(equal, "the bytes differ");
    Ok(())
}
