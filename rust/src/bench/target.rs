//! The target: offers a buffer until it is asked to stop.

use std::io::{self, Write};
use std::sync::mpsc::Receiver;
use std::sync::Arc;

use anyhow::{Context, Result};
use transfer_engine_rust::RegisteredBuffer;

use super::options::Options;

/// Serves until `wake` tells of the user's wish to stop; withdraws the segment then.
pub fn run(options: &Options, wake: &Receiver<()>) -> Result<()> {
    let engine = Arc::new(options.engine()?);
    let buffer = RegisteredBuffer::new(&engine, vec![0; options.buffer_size], "*")?;
    let segment_id = if options.is_p2p() {
        engine.get_local_ip_and_port()?
    } else {
        options.local_server_name.clone()
    };
    let mut out = io::stdout();
    writeln!(out, "target ready: {} bytes; open it with", buffer.len())?;
    writeln!(out, "--segment-id {segment_id}")?;
    out.flush()?;
    wake.recv().context("the thread for signals ended")?;
    drop(buffer);
    drop(engine);
    println!("target stopped");
    Ok(())
}
