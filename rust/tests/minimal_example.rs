//! The documented minimal program, as printed, against a real etcd and a target in this process.
//!
//! It names port 2379 for etcd and 12345 for itself, so both must be free.

mod common;

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::LONG;
use std::sync::Arc;
use transfer_engine_rust::transfer_engine::TransferEngine;
use transfer_engine_rust::RegisteredBuffer;

const ETCD: &str = "127.0.0.1:2379";

/// An etcd with its data in a folder of its own; both go in the end.
struct Etcd {
    process: Child,
    data: PathBuf,
}

impl Etcd {
    /// Or the reason why there is none.
    fn start() -> Result<Self, String> {
        let peer_port = match TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()) {
            Ok(address) => address.port(),
            Err(error) => return Err(format!("no free port: {error}")),
        };
        let data = env::temp_dir().join(format!("te-minimal-example-{}", std::process::id()));
        let (client, peer) = (format!("http://{ETCD}"), format!("http://127.0.0.1:{peer_port}"));
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(&data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("etcd does not start: {error}"))?;
        Ok(Self { process, data })
    }

    /// The target, as soon as etcd lets it publish its name.
    fn target(&mut self) -> Arc<TransferEngine> {
        let start = Instant::now();
        loop {
            match TransferEngine::new(ETCD, "target-seg", 0) {
                Ok(engine) => return Arc::new(engine),
                Err(error) => {
                    assert!(start.elapsed() < LONG, "etcd did not become ready: {error}");
                    let ended = self.process.try_wait().expect("asks");
                    assert!(ended.is_none(), "etcd ended: {ended:?}");
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// Where cargo builds: target/PROFILE/deps/test is this program.
fn profile() -> PathBuf {
    let test = env::current_exe().expect("known");
    test.parent().and_then(Path::parent).expect("target/PROFILE/deps/test").to_path_buf()
}

fn build(arguments: &[&str], manifest: &Path) {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet"]).args(arguments).arg("--manifest-path").arg(manifest);
    build.arg("--target-dir").arg(profile().parent().expect("target/PROFILE"));
    if profile().ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success());
}

/// The example as cargo builds it next to the tests.
fn example() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    build(&["--example", "minimal"], &manifest);
    profile().join("examples").join("minimal")
}

/// The example with the name of another transport and no other change, in a package of its own as a
/// user would have it.
fn example_over(transport: &str) -> PathBuf {
    let here = env!("CARGO_MANIFEST_DIR");
    let package = env::temp_dir().join(format!("te-minimal-package-{}", std::process::id()));
    fs::create_dir_all(package.join("src")).expect("makes a folder");
    let source = include_str!("../examples/minimal.rs");
    let changed = source.replace("\"tcp\"", &format!("{transport:?}"));
    assert_ne!(source, changed);
    fs::write(package.join("src/main.rs"), changed).expect("writes");
    let name = "te_minimal_over_another";
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [dependencies]\nanyhow = \"1\"\ntransfer_engine_rust = {{ path = {here:?} }}\n\
         [workspace]\n"
    );
    fs::write(package.join("Cargo.toml"), manifest).expect("writes");
    let finds_library = "fn main() {\n    \
         if let Ok(dir) = std::env::var(\"DEP_TRANSFER_ENGINE_LIB_DIR\") {\n        \
         println!(\"cargo:rustc-link-arg=-Wl,-rpath,{dir}\");\n    }\n}\n";
    fs::write(package.join("build.rs"), finds_library).expect("writes");
    fs::copy(Path::new(here).join("Cargo.lock"), package.join("Cargo.lock")).expect("copies");
    build(&["--offline"], &package.join("Cargo.toml"));
    fs::remove_dir_all(&package).expect("removes");
    profile().join(name)
}

fn why_not() -> Option<String> {
    for port in [2379, 12345] {
        if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
            return Some(format!("port {port} is not free: {error}"));
        }
    }
    None
}

#[test]
fn the_readme_shows_it_as_it_is() {
    let example = include_str!("../examples/minimal.rs");
    assert!(include_str!("../README.md").contains(example));
}

#[test]
fn it_writes_to_the_target() {
    if let Some(reason) = why_not() {
        eprintln!("SKIPPED: {reason}");
        return;
    }
    let mut etcd = match Etcd::start() {
        Ok(etcd) => etcd,
        Err(reason) => {
            eprintln!("SKIPPED: {reason}");
            return;
        }
    };
    let target = etcd.target();
    target.install_transport("tcp").expect("TCP is everywhere");
    let buffer = RegisteredBuffer::new(&target, vec![0xff; 8192], "cpu:0").expect("registers");
    run(&example(), &buffer);

    let other = "fabric:tcp";
    if let Err(reason) = target.install_transport(other) {
        eprintln!("SKIPPED over {other}: {reason}");
        return;
    }
    buffer.copy_from(0, &[0xff; 8192]).expect("fits");
    run(&example_over(other), &buffer);
}

/// It writes 4096 zeros to the beginning of the target.
fn run(example: &Path, target: &RegisteredBuffer) {
    let output = Command::new(example).output().expect("runs");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    // Looked at right after the submission: in flight, or done.
    let starts = ["status=1, bytes=", "status=4, bytes=4096\n"];
    assert!(starts.iter().any(|start| out.starts_with(start)), "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
    let bytes = target.to_vec();
    assert!(bytes[..4096].iter().all(|&byte| byte == 0), "its zeros are in place: {out}{err}");
    let rest_is_same = bytes[4096..].iter().all(|&byte| byte == 0xff);
    assert!(rest_is_same, "and nothing else is touched: {out}{err}");
}
