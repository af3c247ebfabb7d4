//! transfer_engine_bench: a target that offers memory, and an initiator that measures transfers.
//!
//! Each thread of the initiator keeps one batch in flight. It polls the status of each task until
//! it is COMPLETED, as the documented interface requires. With `--wait` it sleeps in wait_batch.

use std::ffi::c_void;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure, Context, Result};
use clap::{value_parser, Arg, ArgAction, ArgMatches, Command};
use transfer_engine_rust::transfer_engine::{
    version, OpcodeEnum, TransferEngine, TransferRequest, TransferStatusEnum,
};
use transfer_engine_rust::RegisteredBuffer;

fn command() -> Command {
    let text = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).help(help).default_value(default)
    };
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        text(name, default, help).value_parser(value_parser!(u32).range(1..))
    };
    Command::new("transfer_engine_bench")
        .about("Measures transfers between two processes; start the target first")
        .version(version())
        .arg(
            text("mode", "initiator", "What this process is").value_parser(["initiator", "target"]),
        )
        .arg(text("segment-id", "", "The target; it prints its own when it starts"))
        .arg(text("metadata-server", "P2PHANDSHAKE", "The directory of names; by default, none"))
        .arg(text(
            "local-server-name",
            "127.0.0.1",
            "This process's name, or address without names",
        ))
        .arg(text("protocol", "tcp", "The transport to install"))
        .arg(text("operation", "read", "What to measure").value_parser(["read", "write"]))
        .arg(number("block-size", "65536", "Bytes of one request"))
        .arg(number("batch-size", "16", "Requests of one batch"))
        .arg(number("threads", "1", "Threads, each with one batch in flight"))
        .arg(number("duration", "10", "Seconds to measure for"))
        .arg(number("buffer-size", "67108864", "Bytes that the target offers"))
        .arg(
            Arg::new("wait")
                .long("wait")
                .action(ArgAction::SetTrue)
                .help("Sleep in wait_batch instead of polling the status"),
        )
}

fn number(options: &ArgMatches, name: &str) -> usize {
    *options.get_one::<u32>(name).expect("has a default") as usize
}

fn text<'a>(options: &'a ArgMatches, name: &str) -> &'a str {
    options.get_one::<String>(name).expect("has a default")
}

fn main() -> Result<()> {
    let options = command().get_matches();
    let is_target = text(&options, "mode") == "target";
    if !is_target && text(&options, "segment-id").is_empty() {
        eprintln!("--segment-id: name the target; it prints its own when it starts");
        process::exit(2);
    }
    let (metadata, name) = (text(&options, "metadata-server"), text(&options, "local-server-name"));
    let engine = Arc::new(TransferEngine::new(metadata, name, 0)?);
    engine.discover_topology()?;
    engine.install_transport(text(&options, "protocol"))?;
    if is_target {
        serve(&engine, number(&options, "buffer-size"), metadata == "P2PHANDSHAKE", name)
    } else {
        measure(&engine, &options)
    }
}

/// Offers a buffer until the process is interrupted.
fn serve(engine: &Arc<TransferEngine>, length: usize, by_address: bool, name: &str) -> Result<()> {
    let _buffer = RegisteredBuffer::new(engine, vec![0; length], "*")?;
    let address = engine.get_local_ip_and_port()?;
    println!("--segment-id {}", if by_address { &address } else { name });
    loop {
        thread::park();
    }
}

/// One thread's batch: its requests, and the memory they read and write.
struct Lane {
    engine: Arc<TransferEngine>,
    local: RegisteredBuffer,
    requests: Vec<TransferRequest>,
    wait: bool,
}

impl Lane {
    fn new(
        engine: &Arc<TransferEngine>,
        segment: i32,
        index: usize,
        options: &ArgMatches,
    ) -> Result<Self> {
        let (block, batch) = (number(options, "block-size"), number(options, "batch-size"));
        let length = block.checked_mul(batch).context("a batch is larger than memory")?;
        let local = RegisteredBuffer::private(engine, vec![0; length], "*")?;
        let request = |i: usize| TransferRequest {
            opcode: OpcodeEnum::Read,
            source: local.addr().cast::<u8>().wrapping_add(i * block).cast::<c_void>(),
            target_id: segment,
            target_offset: (index * length + i * block) as u64,
            length: block as u64,
        };
        let requests = (0..batch).map(request).collect();
        Ok(Self { engine: Arc::clone(engine), local, requests, wait: options.get_flag("wait") })
    }

    /// Transfers one batch.
    fn transfer(&mut self, opcode: OpcodeEnum) -> Result<()> {
        self.requests.iter_mut().for_each(|request| request.opcode = opcode);
        let batch = self.engine.allocate_batch_id(self.requests.len())?;
        let submitted = self.engine.submit_transfer(batch, &self.requests);
        let result = submitted.and_then(|()| self.finish(batch));
        // Also after an error: returns when nothing touches the memory any more.
        self.engine.free_batch_id(batch)?;
        result
    }

    fn finish(&self, batch: u64) -> Result<()> {
        if self.wait {
            self.engine.wait_batch(batch, None)?;
        }
        for task in 0..self.requests.len() {
            loop {
                let status = self.engine.get_transfer_status(batch, task)?.0;
                if status == TransferStatusEnum::Completed as i32 {
                    break;
                }
                if status > TransferStatusEnum::Pending as i32 {
                    bail!("task {task}: {}", self.engine.get_transfer_error(batch, task)?);
                }
            }
        }
        Ok(())
    }

    /// Writes bytes that reveal a misplaced block, and reads them back.
    fn verify(&mut self, seed: usize) -> Result<()> {
        let byte = |i: usize| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8 ^ seed as u8;
        let sent: Vec<u8> = (0..self.local.len()).map(byte).collect();
        self.local.copy_from(0, &sent)?;
        self.transfer(OpcodeEnum::Write)?;
        self.local.copy_from(0, &vec![!sent[0]; sent.len()])?;
        self.transfer(OpcodeEnum::Read)?;
        ensure!(self.local.to_vec() == sent, "other bytes were read than were written");
        Ok(())
    }
}

fn measure(engine: &Arc<TransferEngine>, options: &ArgMatches) -> Result<()> {
    let segment = engine.open_segment(text(options, "segment-id").to_string())?;
    let is_write = text(options, "operation") == "write";
    let opcode = if is_write { OpcodeEnum::Write } else { OpcodeEnum::Read };
    let duration = Duration::from_secs(number(options, "duration") as u64);
    let mut lanes = (0..number(options, "threads"))
        .map(|index| Lane::new(engine, segment, index, options))
        .collect::<Result<Vec<_>>>()?;
    for (index, lane) in lanes.iter_mut().enumerate() {
        lane.verify(index).context("before measuring; is the target's --buffer-size enough?")?;
    }
    let start = Instant::now();
    let run = |lane: &mut Lane| -> Result<usize> {
        let mut batches = 0;
        while start.elapsed() < duration {
            lane.transfer(opcode)?;
            batches += 1;
        }
        Ok(batches)
    };
    let counts = thread::scope(|scope| {
        let threads: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(move || run(lane))).collect();
        let panicked = |_| Err(anyhow!("a thread panicked"));
        let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked));
        results.collect::<Result<Vec<usize>>>()
    })?;
    let batches = counts.iter().sum::<usize>() as f64;
    let requests_per_s =
        batches * number(options, "batch-size") as f64 / start.elapsed().as_secs_f64();
    let gb_per_s = requests_per_s * number(options, "block-size") as f64 / 1e9;
    println!("{opcode}: {gb_per_s:.3} GB/s, {requests_per_s:.0} requests/s; bytes verified before");
    Ok(())
}
