//! The command line.

use std::process;
use std::time::Duration;

use anyhow::Result;
use clap::{value_parser, Arg, ArgAction, ArgMatches, Command};
use transfer_engine_rust::transfer_engine::{version, OpcodeEnum, TransferEngine};

const P2P: &str = "P2PHANDSHAKE";

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Initiator,
    Target,
}

/// What the user asked for. Sizes in bytes.
#[derive(Debug)]
pub struct Options {
    pub mode: Mode,
    pub metadata_server: String,
    pub local_server_name: String,
    pub rpc_port: u16,
    pub segment_id: String,
    pub protocol: String,
    pub operation: OpcodeEnum,
    pub block_size: usize,
    pub batch_size: usize,
    pub threads: usize,
    pub duration: Duration,
    pub buffer_size: usize,
    pub verify: bool,
}

impl Options {
    /// Parses the command line; ends the process with a text where that is wrong.
    pub fn from_command_line() -> Self {
        Self::from_matches(command().get_matches())
            .unwrap_or_else(|reason| fail(format_args!("{reason}")))
    }

    /// Whether names are addresses, and no server knows them.
    pub fn is_p2p(&self) -> bool {
        self.metadata_server == P2P
    }

    /// An engine with the transport that was asked for.
    pub fn engine(&self) -> Result<TransferEngine> {
        let (metadata, name) = (&self.metadata_server, &self.local_server_name);
        let engine = TransferEngine::new(metadata, name, self.rpc_port.into())?;
        engine.discover_topology()?;
        engine.install_transport(&self.protocol)?;
        Ok(engine)
    }

    fn from_matches(matches: ArgMatches) -> Result<Self, String> {
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let given = |name: &str| text(name).unwrap_or_default();
        let size = |name: &str| *matches.get_one::<usize>(name).expect("has a default");
        let is_target = given("mode") == "target";
        let metadata_server = given("metadata-server");
        let local_server_name = match text("local-server-name") {
            Some(name) => name,
            None if metadata_server == P2P => "127.0.0.1".to_string(),
            None if is_target => {
                return Err("--local-server-name: give the target a name to open it by".to_string())
            }
            None => format!("transfer-engine-bench-{}", process::id()),
        };
        if !is_target && text("segment-id").is_none() {
            return Err(
                "--segment-id: name the target; it prints its own when it starts".to_string()
            );
        }
        let is_write = given("operation") == "write";
        Ok(Self {
            mode: if is_target { Mode::Target } else { Mode::Initiator },
            metadata_server,
            local_server_name,
            rpc_port: *matches.get_one("rpc-port").expect("has a default"),
            segment_id: given("segment-id"),
            protocol: given("protocol"),
            operation: if is_write { OpcodeEnum::Write } else { OpcodeEnum::Read },
            block_size: size("block-size"),
            batch_size: size("batch-size"),
            threads: size("threads"),
            duration: *matches.get_one("duration").expect("has a default"),
            buffer_size: size("buffer-size"),
            verify: matches.get_flag("verify"),
        })
    }
}

fn command() -> Command {
    let option = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    let size = |name: &'static str, default: &'static str, help: &'static str| {
        option(name, help).default_value(default).value_parser(parse_size)
    };
    Command::new("transfer_engine_bench")
        .about("Measures transfers between two processes; start the target first")
        .version(version())
        .arg(
            option("mode", "What this process is")
                .value_parser(["initiator", "target"])
                .default_value("initiator"),
        )
        .arg(
            option("metadata-server", "Who knows the names; by default the name is the address")
                .default_value(P2P),
        )
        .arg(option(
            "local-server-name",
            "This process's name, or the address peers should use [default: 127.0.0.1 with \
             P2PHANDSHAKE]",
        ))
        .arg(
            option("rpc-port", "The port to listen on; 0: any free one")
                .value_parser(value_parser!(u16))
                .default_value("0"),
        )
        .arg(option("segment-id", "The target's name, for the initiator"))
        .arg(option("protocol", "The transport to install").default_value("tcp"))
        .arg(
            option("operation", "What the initiator does")
                .value_parser(["read", "write"])
                .default_value("read"),
        )
        .arg(size("block-size", "64K", "Bytes of a request; K, M and G are powers of 1024"))
        .arg(size("batch-size", "16", "Requests of a batch"))
        .arg(size("threads", "1", "Threads, each with one batch in flight"))
        .arg(
            option("duration", "Seconds to measure")
                .value_parser(parse_seconds)
                .default_value("10"),
        )
        .arg(size("buffer-size", "64M", "Bytes that the target offers"))
        .arg(option("verify", "Compares the bytes").action(ArgAction::SetTrue))
}

fn fail(reason: std::fmt::Arguments<'_>) -> ! {
    eprintln!("error: {reason}");
    process::exit(2)
}

fn parse_size(text: &str) -> Result<usize, String> {
    let wrong = || "a number above 0, with K, M or G for powers of 1024, such as 64K".to_string();
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let shift = match text[digits_end..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" | "KIB" => 10,
        "M" | "MIB" => 20,
        "G" | "GIB" => 30,
        _ => return Err(wrong()),
    };
    let number: usize = text[..digits_end].parse().map_err(|_| wrong())?;
    match number.checked_mul(1 << shift) {
        Some(size) if size > 0 => Ok(size),
        _ => Err(wrong()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    const SECONDS_MAX: f64 = 1e6;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err("a number of seconds above 0, such as 10 or 0.5".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64K"), Ok(65536));
        assert_eq!(parse_size("1gib"), Ok(1 << 30));
        for wrong in ["", "0", "-1", "K", "1X", "64 K", "99999999999999999999", "99999999999G"] {
            assert!(parse_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn seconds() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["", "0", "-1", "nan", "inf", "1s"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_initiator_needs_a_target() {
        let parse = |line: &str| {
            let arguments = std::iter::once("bench").chain(line.split_whitespace());
            Options::from_matches(command().try_get_matches_from(arguments).expect("parses"))
        };
        assert!(parse("").unwrap_err().contains("--segment-id"));
        assert!(parse("--mode target --metadata-server h:1").unwrap_err().contains("name"));
        let options = parse("--segment-id 10.0.0.2:7 --operation write --verify").expect("right");
        assert_eq!((options.mode, options.operation), (Mode::Initiator, OpcodeEnum::Write));
        assert!(options.verify && options.is_p2p());
    }
}
