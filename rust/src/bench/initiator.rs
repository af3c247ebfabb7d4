//! The initiator: threads that each keep one batch in flight, and the table of what they saw.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, bail, Context, Result};
use transfer_engine_rust::transfer_engine::OpcodeEnum;
use transfer_engine_rust::Segment;

use super::histogram::Histogram;
use super::lane::{Lane, Shape};
use super::options::Options;
use super::verify;

/// Measures until the time is over or `stop` is set; prints the table.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<()> {
    let engine = Arc::new(options.engine()?);
    let target = Segment::open(&engine, options.segment_id.as_str())?;
    let shape = Shape { block_size: options.block_size, batch_size: options.batch_size };
    let first = target_offset(&target, options)?;
    let lanes = (0..options.threads)
        .map(|index| {
            let offset = first + (index * shape.bytes()) as u64;
            Lane::new(&engine, shape, target.id(), offset)
        })
        .collect::<Result<Vec<_>>>()?;
    let expected = if options.verify { prepare(&lanes, options.operation, shape)? } else { vec![] };

    // Connections are made before the clock starts.
    for lane in &lanes {
        lane.transfer_once(options.operation)?;
    }
    println!("measuring for {:?}; an interrupt ends it early", options.duration);
    let start = Instant::now();
    let results = run_lanes(&lanes, options.operation, start + options.duration, stop);
    let elapsed = start.elapsed();
    let mut latencies = Histogram::new();
    for result in results {
        latencies.merge(&result?);
    }
    if latencies.count() == 0 {
        bail!("no batch completed in {:.1} s", elapsed.as_secs_f64());
    }
    print!("{}", Report { options, latencies: &latencies, elapsed });
    if options.verify {
        verify_lanes(&lanes, options.operation, &expected)?;
        println!("verified {} bytes", expected.iter().map(Vec::len).sum::<usize>());
    }
    Ok(())
}

/// Where the target's largest open buffer begins, which must have room for every thread's batch.
fn target_offset(target: &Segment, options: &Options) -> Result<u64> {
    let needed = options
        .block_size
        .checked_mul(options.batch_size)
        .and_then(|batch| batch.checked_mul(options.threads))
        .context("--block-size times --batch-size times --threads is more than memory has")?;
    let buffers = target.describe()?;
    let open = buffers.iter().filter(|buffer| buffer.remote_accessible);
    match open.max_by_key(|buffer| buffer.length) {
        Some(buffer) if buffer.length >= needed as u64 => Ok(buffer.offset),
        Some(buffer) => bail!(
            "{} offers {} bytes, and one batch of every thread needs {needed}; start the target \
             with a larger --buffer-size",
            target.name(),
            buffer.length
        ),
        None => bail!("{} offers no buffer that peers may use", target.name()),
    }
}

/// Lays out bytes to recognise, different ones for each lane: in its memory for WRITEs, at the
/// target for READs.
fn prepare(lanes: &[Lane], operation: OpcodeEnum, shape: Shape) -> Result<Vec<Vec<u8>>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut expected = Vec::with_capacity(lanes.len());
    for (index, lane) in lanes.iter().enumerate() {
        let seed = (now.as_nanos() as u64).wrapping_add(index as u64);
        let bytes = verify::pattern(seed, shape.bytes());
        lane.fill(&bytes)?;
        if operation == OpcodeEnum::Read {
            lane.transfer_once(OpcodeEnum::Write)?;
            lane.fill(&vec![0; bytes.len()])?;
        }
        expected.push(bytes);
    }
    Ok(expected)
}

/// Compares what the READs brought, or what the WRITEs left at the target.
fn verify_lanes(lanes: &[Lane], operation: OpcodeEnum, expected: &[Vec<u8>]) -> Result<()> {
    for (index, (lane, bytes)) in lanes.iter().zip(expected).enumerate() {
        if operation == OpcodeEnum::Write {
            lane.fill(&vec![0; bytes.len()])?;
            lane.transfer_once(OpcodeEnum::Read)?;
        }
        lane.compare(bytes).with_context(|| format!("verification of thread {index} failed"))?;
    }
    Ok(())
}

fn run_lanes(
    lanes: &[Lane],
    operation: OpcodeEnum,
    deadline: Instant,
    stop: &AtomicBool,
) -> Vec<Result<Histogram>> {
    let run = |lane: &Lane| {
        let result = lane.run(operation, deadline, stop);
        if result.is_err() {
            // One that failed ends the others.
            stop.store(true, Ordering::Relaxed);
        }
        result
    };
    thread::scope(|scope| {
        let threads: Vec<_> = lanes.iter().map(|lane| scope.spawn(move || run(lane))).collect();
        let panicked = |_| Err(anyhow!("a thread of the initiator panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    })
}

/// The table: what was asked for, the rate, and the latencies of whole batches.
struct Report<'a> {
    options: &'a Options,
    latencies: &'a Histogram,
    elapsed: Duration,
}

impl Report<'_> {
    fn columns(&self) -> [(&'static str, String); 13] {
        let (options, latencies) = (self.options, self.latencies);
        let requests = latencies.count() as f64 * options.batch_size as f64;
        let requests_per_s = requests / self.elapsed.as_secs_f64();
        let gb_per_s = requests_per_s * options.block_size as f64 / 1e9;
        let percentile = |percent: f64| format!("{:.1}", latencies.percentile_us(percent));
        [
            ("protocol", options.protocol.clone()),
            ("operation", options.operation.to_string()),
            ("block", options.block_size.to_string()),
            ("batch", options.batch_size.to_string()),
            ("threads", options.threads.to_string()),
            ("GB/s", format!("{gb_per_s:.3}")),
            ("requests/s", format!("{requests_per_s:.0}")),
            ("mean us", format!("{:.1}", latencies.mean_us())),
            ("p50 us", percentile(50.0)),
            ("p90 us", percentile(90.0)),
            ("p99 us", percentile(99.0)),
            ("p99.9 us", percentile(99.9)),
            ("max us", format!("{:.1}", latencies.max_us())),
        ]
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.columns();
        let width = |name: &str, value: &str| name.len().max(value.len()) + 2;
        for (name, value) in &columns {
            write!(formatter, "{name:>width$}", width = width(name, value))?;
        }
        writeln!(formatter)?;
        for (name, value) in &columns {
            write!(formatter, "{value:>width$}", width = width(name, value))?;
        }
        writeln!(formatter)
    }
}
