//! transfer_engine_bench, as two processes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_transfer_engine_bench");

/// A target, killed in the end.
struct Target {
    process: Child,
    segment_id: String,
}

impl Target {
    fn start(buffer_size: &str) -> Self {
        let mut process = Command::new(PROGRAM)
            .args(["--mode", "target", "--buffer-size", buffer_size])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().expect("piped"));
        assert_ne!(out.read_line(&mut line).expect("reads"), 0, "the target ended");
        let segment_id = line.trim_end().strip_prefix("--segment-id ").expect(&line).to_string();
        Self { process, segment_id }
    }

    fn initiator(&self, arguments: &str) -> Output {
        run(&format!("--segment-id {} {arguments}", self.segment_id))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(arguments: &str) -> Output {
    Command::new(PROGRAM).args(arguments.split_whitespace()).output().expect("runs")
}

fn text(output: &Output) -> String {
    format!(
        "{}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn it_measures_and_verifies_both_operations() {
    let target = Target::start("4194304");
    for how in ["read", "write", "write --wait"] {
        let output = target.initiator(&format!(
            "--operation {how} --block-size 16384 --batch-size 8 --threads 2 --duration 1"
        ));
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        let operation = how[..how.find(' ').unwrap_or(how.len())].to_uppercase();
        assert!(text.contains(&format!("{operation}: ")), "{text}");
        assert!(text.contains("GB/s") && text.contains("bytes verified before"), "{text}");
        assert!(!text.contains(" 0 requests/s"), "{text}");
    }
}

#[test]
fn what_cannot_be_is_an_error() {
    let target = Target::start("65536");
    let too_small = target.initiator("--block-size 65536 --batch-size 2");
    assert_eq!(too_small.status.code(), Some(1));
    assert!(text(&too_small).contains("--buffer-size"), "{}", text(&too_small));

    for arguments in ["", "--segment-id x --block-size 0", "--mode sideways", "--duration -1"] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", text(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}
