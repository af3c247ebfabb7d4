//! Latencies in fixed memory: 32 buckets to each power of two, so that percentiles are 3% exact.

use std::time::Duration;

const STEPS_LOG2: u32 = 5;
const STEPS: usize = 1 << STEPS_LOG2;
const BUCKETS: usize = STEPS * (64 - STEPS_LOG2 as usize + 1);

/// How often each latency was seen.
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum_ns: u128,
    max_ns: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS], count: 0, sum_ns: 0, max_ns: 0 }
    }

    pub fn record(&mut self, latency: Duration) {
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(latency_ns)] += 1;
        self.count += 1;
        self.sum_ns += u128::from(latency_ns);
        self.max_ns = self.max_ns.max(latency_ns);
    }

    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn mean_us(&self) -> f64 {
        self.sum_ns as f64 / self.count.max(1) as f64 / 1e3
    }

    pub fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1e3
    }

    /// The latency that `percent` of all do not exceed; 0 when there are none.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        let rank = (self.count as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end_ns(bucket).min(self.max_ns) as f64 / 1e3;
            }
        }
        self.max_us()
    }
}

fn bucket(latency_ns: u64) -> usize {
    let octave = (64 - (latency_ns >> STEPS_LOG2).leading_zeros()) as usize;
    if octave == 0 {
        return latency_ns as usize;
    }
    let step = (latency_ns >> (octave - 1)) as usize - STEPS;
    octave * STEPS + step
}

fn upper_end_ns(bucket: usize) -> u64 {
    let (octave, step) = (bucket / STEPS, (bucket % STEPS) as u128);
    if octave == 0 {
        return step as u64;
    }
    let end = ((STEPS as u128 + step + 1) << (octave - 1)) - 1;
    u64::try_from(end).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_has_a_bucket_that_ends_within_a_32nd() {
        for shift in 0..64 {
            for latency_ns in [1u64 << shift, (1 << shift) - 1, (1 << shift) | (1 << (shift / 2))] {
                let end = upper_end_ns(bucket(latency_ns));
                assert!(end >= latency_ns, "{latency_ns} is above the end {end}");
                assert!(end - latency_ns <= latency_ns / 32, "{latency_ns} is far from {end}");
            }
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn percentiles_of_1_to_1000_us() {
        let (mut low, mut high) = (Histogram::new(), Histogram::new());
        for us in 1..=1000 {
            let half = if us <= 500 { &mut low } else { &mut high };
            half.record(Duration::from_micros(us));
        }
        low.merge(&high);
        assert_eq!(low.count(), 1000);
        assert!((low.mean_us() - 500.5).abs() < 1e-6);
        for percent in [50.0, 90.0, 99.0] {
            let (found, exact) = (low.percentile_us(percent), percent * 10.0);
            assert!(found >= exact && found <= exact * 1.04, "p{percent}: {found}");
        }
        assert_eq!(low.percentile_us(100.0), 1000.0);
        assert_eq!(Histogram::new().percentile_us(50.0), 0.0);
    }
}
