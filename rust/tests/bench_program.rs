//! transfer_engine_bench, as two processes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_transfer_engine_bench");

/// A target, killed in the end unless it was interrupted.
struct Target {
    process: Child,
    out: BufReader<ChildStdout>,
    segment_id: String,
}

impl Target {
    fn start(buffer_size: &str) -> Self {
        let mut process = Command::new(PROGRAM)
            .args(["--mode", "target", "--buffer-size", buffer_size])
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
        Self { process, out, segment_id }
    }

    fn initiator(&self, arguments: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--mode", "initiator", "--segment-id", &self.segment_id]);
        command.args(arguments.split_whitespace());
        command
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn interrupt(process: &Child) {
    // SAFETY: a child that was not waited for.
    assert_eq!(unsafe { libc::kill(process.id() as i32, libc::SIGINT) }, 0);
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
    let target = Target::start("4M");
    for operation in ["read", "write"] {
        let arguments = format!(
            "--operation {operation} --block-size 16K --batch-size 8 --threads 2 --duration 0.2 \
             --verify"
        );
        let output = target.initiator(&arguments).output().expect("runs");
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(&operation.to_uppercase()), "{text}");
        assert!(text.contains("GB/s") && text.contains("p99.9 us"), "{text}");
        assert!(text.contains(&format!("verified {} bytes", 2 * 8 * (16 << 10))), "{text}");
    }
}

#[test]
fn an_interrupt_ends_both_in_order() {
    let mut target = Target::start("1M");
    let mut initiator = target
        .initiator("--block-size 4K --batch-size 1 --duration 1000")
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut out = BufReader::new(initiator.stdout.take().expect("piped"));
    let mut table = String::new();
    out.read_line(&mut table).expect("reads");
    assert!(table.starts_with("measuring"), "{table}");
    interrupt(&initiator);
    out.read_to_string(&mut table).expect("reads");
    assert!(initiator.wait().expect("ends").success(), "{table}");
    assert!(table.contains("GB/s"), "{table}");

    interrupt(&target.process);
    let mut rest = String::new();
    target.out.read_to_string(&mut rest).expect("reads");
    assert!(target.process.wait().expect("ends").success());
    assert!(rest.contains("target stopped"), "{rest}");
}

#[test]
fn what_cannot_be_is_an_error() {
    let target = Target::start("64K");
    let too_small = target.initiator("--block-size 64K --batch-size 2").output().expect("runs");
    assert!(!too_small.status.success());
    assert!(text(&too_small).contains("--buffer-size"), "{}", text(&too_small));

    for arguments in ["", "--segment-id x --block-size 0", "--mode sideways", "--duration -1"] {
        let output =
            Command::new(PROGRAM).args(arguments.split_whitespace()).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", text(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}
