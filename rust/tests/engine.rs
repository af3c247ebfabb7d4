//! The API of the C header, between two engines of this process.

mod common;

use std::convert::TryFrom;
use std::net::TcpListener;
use std::ptr;

use common::{addr, bytes, engine, engine_error, engine_over, name, transport, LONG};
use transfer_engine_rust::code;
use transfer_engine_rust::transfer_engine::{
    version, Access, AddressList, Addressing, BlockList, BlockRegion, BufferEntry, MemoryKind,
    Notification, OpcodeEnum, SubmitOptions, TransferEngine, TransferRequest, TransferStatusEnum,
    LOCAL_SEGMENT,
};

const LENGTH: usize = 1 << 20;

fn request(opcode: OpcodeEnum, source: &mut [u8], target_id: i32, offset: u64) -> TransferRequest {
    let length = source.len() as u64;
    TransferRequest { opcode, source: addr(source), target_id, target_offset: offset, length }
}

fn run(engine: &TransferEngine, requests: &[TransferRequest]) -> Vec<(i32, u64)> {
    let batch = engine.allocate_batch_id(requests.len()).expect("allocates");
    engine.submit_transfer(batch, requests).expect("submits");
    engine.wait_batch(batch, Some(LONG)).expect("ends");
    let status = |task| engine.get_transfer_status(batch, task).expect("has a status");
    let ends = (0..requests.len()).map(status).collect();
    engine.free_batch_id(batch).expect("frees");
    ends
}

#[test]
fn written_bytes_come_back() {
    let (target, initiator) = (engine(), engine());
    let mut remote = vec![0u8; LENGTH];
    let mut local = bytes(1, LENGTH);
    let mut back = vec![0u8; LENGTH];
    target.register_local_memory(addr(&mut remote), LENGTH, "cpu:0").unwrap();
    initiator.register_local_memory(addr(&mut local), LENGTH, "*").unwrap();
    initiator.register_private_memory(addr(&mut back), LENGTH, "*").unwrap();
    let segment = initiator.open_segment(name(&target)).unwrap();

    let (low, high) = local.split_at_mut(LENGTH / 2);
    let half = (LENGTH / 2) as u64;
    let mut writes = [
        request(OpcodeEnum::Write, low, segment, 0),
        request(OpcodeEnum::Write, high, segment, half),
    ];
    let completed = (i32::from(TransferStatusEnum::Completed), half);
    assert_eq!(run(&initiator, &mut writes), [completed; 2]);
    let expected = bytes(1, LENGTH);
    assert!(remote == expected, "completed means in place at the target");

    let reads = [request(OpcodeEnum::Read, &mut back, segment, 0)];
    assert_eq!(run(&initiator, &reads), [(4, LENGTH as u64)]);
    assert!(back == expected, "the target's bytes");

    initiator.close_segment(segment).unwrap();
    target.unregister_local_memory(addr(&mut remote)).unwrap();
    initiator.unregister_local_memory(addr(&mut local)).unwrap();
    initiator.unregister_local_memory(addr(&mut back)).unwrap();
}

/// Why the only task of a submission failed: the target was asked whether it allows it by now.
fn refusal(initiator: &TransferEngine, requests: &[TransferRequest]) -> String {
    let batch = initiator.allocate_batch_id(1).unwrap();
    initiator.submit_transfer(batch, requests).unwrap();
    initiator.wait_batch(batch, Some(LONG)).unwrap();
    assert_eq!(initiator.get_transfer_status(batch, 0).unwrap(), (6, 0));
    let text = initiator.get_transfer_error(batch, 0).unwrap();
    initiator.free_batch_id(batch).unwrap();
    text
}

#[test]
fn a_target_is_addressed_by_offset_or_by_address() {
    let (target, initiator) = (engine(), engine());
    let mut remote = vec![0u8; 8192];
    let mut local = bytes(2, 4096);
    target.register_local_memory(addr(&mut remote), 8192, "*").unwrap();
    initiator.register_local_memory(addr(&mut local), 4096, "*").unwrap();
    let segment = initiator.open_segment(name(&target)).unwrap();

    let described = initiator.describe_segment(segment).unwrap();
    assert_eq!(described.len(), 1);
    assert_eq!((described[0].offset, described[0].length), (0, 8192));
    assert_eq!(described[0].address, remote.as_ptr() as u64);
    assert_eq!(described[0].kind, MemoryKind::Host);
    assert!(described[0].remote_accessible && !described[0].location.is_empty());

    // As an offset, unless the submission or the engine says else.
    let by_address = [request(OpcodeEnum::Write, &mut local, segment, described[0].address + 4096)];
    let refused = refusal(&initiator, &by_address);
    assert!(refused.contains("out_of_range"), "{refused}");
    assert!(refused.contains("addressing mode to address"), "{refused}");
    let batch = initiator.allocate_batch_id(2).unwrap();
    let note = Notification::new("n", "m");
    let options = SubmitOptions {
        addressing: Addressing::Address,
        timeout: Some(LONG),
        notification: Some(&note),
        ..Default::default()
    };
    initiator.submit_transfer_with_options(batch, &by_address, &options).unwrap();
    initiator.wait_batch(batch, Some(LONG)).unwrap();
    assert_eq!(initiator.get_transfer_status(batch, 0).unwrap(), (4, 4096));
    assert_eq!(target.take_notifications().unwrap(), [note]);
    assert!(remote[..4096].iter().all(|&byte| byte == 0) && remote[4096..] == local[..]);

    remote[4096..].fill(0);
    initiator.set_addressing(Addressing::Address).unwrap();
    initiator.submit_transfer(batch, &by_address).unwrap();
    initiator.wait_batch(batch, Some(LONG)).unwrap();
    assert!(remote[4096..] == local[..]);
    initiator.free_batch_id(batch).unwrap();
    assert!(initiator.set_addressing(Addressing::Default).is_err());
}

#[test]
fn peers_do_what_is_offered() {
    let (target, initiator) = (engine(), engine());
    let mut remote = vec![7u8; 4096];
    let mut local = bytes(2, 4096);
    initiator.register_private_memory(addr(&mut local), 4096, "*").unwrap();
    let segment = initiator.open_segment(name(&target)).unwrap();
    for access in [Access::Read, Access::Write, Access::ReadWrite] {
        let at = addr(&mut remote);
        target.register_local_memory_with_access(at, 4096, "*", access).unwrap();
        assert_eq!(initiator.describe_segment(segment).unwrap()[0].access, access);
        for opcode in [OpcodeEnum::Read, OpcodeEnum::Write] {
            let allowed = access == Access::ReadWrite
                || (access == Access::Read) == (opcode == OpcodeEnum::Read);
            let requests = [request(opcode, &mut local, segment, 0)];
            if !allowed {
                let refused = refusal(&initiator, &requests);
                assert!(refused.contains("permission"), "{refused}");
                continue;
            }
            let batch = initiator.allocate_batch_id(1).unwrap();
            initiator.submit_transfer(batch, &requests).unwrap();
            initiator.wait_batch(batch, Some(LONG)).unwrap();
            assert_eq!(initiator.get_transfer_status(batch, 0).unwrap(), (4, 4096));
            initiator.free_batch_id(batch).unwrap();
        }
        target.unregister_local_memory(addr(&mut remote)).unwrap();
    }
    let entries = [BufferEntry { addr: addr(&mut remote), length: 4096 }];
    target.register_local_memory_batch_with_access(&entries, "*", Access::None).unwrap();
    let described = target.describe_segment(LOCAL_SEGMENT).unwrap();
    assert!(!described[0].remote_accessible && described[0].access == Access::None);
}

#[test]
fn a_nul_inside_a_text_is_an_error_that_names_the_argument() {
    let engine = engine();
    let mut memory = vec![0u8; 64];
    let at = addr(&mut memory);
    let entry = BufferEntry { addr: at, length: 64 };
    let message = Notification::new("a\0b", "");
    let refused = [
        ("metadata_uri", TransferEngine::new("a\0b", "n", 0).map(drop)),
        ("local_server_name", TransferEngine::new("P2PHANDSHAKE", "a\0b", 0).map(drop)),
        ("ip_or_host_name", TransferEngine::with_address("P2PHANDSHAKE", "n", "a\0b", 0).map(drop)),
        ("proto", engine.install_transport("a\0b")),
        ("matrix", engine.install_transport_with_matrix("tcp", "a\0b")),
        ("proto", engine.uninstall_transport("a\0b")),
        ("location", engine.register_local_memory(at, 64, "a\0b")),
        ("location", engine.register_private_memory(at, 64, "a\0b")),
        ("location", engine.register_local_memory_batch(&[entry], "a\0b")),
        ("name", engine.open_segment("a\0b".to_string()).map(drop)),
        ("name", engine.open_segment_no_cache("a\0b".to_string()).map(drop)),
        ("name", engine.warmup_efa_segment("a\0b")),
        ("name", engine.remove_local_segment("a\0b")),
        ("notification.name", engine.notify(LOCAL_SEGMENT, &message)),
    ];
    for (argument, result) in refused {
        let error = engine_error(result);
        assert_eq!(error.code, code::INVALID_ARGUMENT, "{error}");
        assert_eq!(error.name, "invalid_argument");
        let expected = format!("{argument} has a NUL byte at position 1");
        assert!(error.message.starts_with(&expected), "{error}");
    }
}

#[test]
fn empty_lists_do_nothing() {
    let engine = engine();
    engine.register_local_memory_batch(&[], "cpu:0").unwrap();
    engine.register_local_memory_batch(&mut [], "cpu:0").unwrap();
    engine.unregister_local_memory_batch(&[]).unwrap();
    let batch = engine.allocate_batch_id(1).unwrap();
    engine.submit_transfer(batch, &[]).unwrap();
    engine.submit_transfer(batch, &mut []).unwrap();
    engine.submit_transfer(batch, &Vec::new()).unwrap();
    engine.submit_transfer_with_timeout(batch, &[], LONG).unwrap();
    engine.free_batch_id(batch).unwrap();
}

#[test]
fn a_list_of_buffers_is_registered_whole_or_not_at_all() {
    let engine = engine();
    let mut memory = vec![0u8; 3 * 4096];
    let entry = |at: *mut u8| BufferEntry { addr: at.cast(), length: 4096 };
    let base = memory.as_mut_ptr();
    let list = [entry(base), entry(base.wrapping_add(4096)), entry(base.wrapping_add(8192))];

    engine.register_local_memory_batch(&list, "cpu:0").unwrap();
    assert_eq!(engine.describe_segment(LOCAL_SEGMENT).unwrap().len(), 3);
    engine.unregister_local_memory_batch(&list).unwrap();
    assert_eq!(engine.describe_segment(LOCAL_SEGMENT).unwrap(), []);

    let overlapping = [list[0], list[1], entry(base.wrapping_add(100))];
    let error = engine_error(engine.register_local_memory_batch(&overlapping, "cpu:0"));
    assert!(error.call.starts_with("register_local_memory_batch(["), "{error}");
    assert_eq!(engine.describe_segment(LOCAL_SEGMENT).unwrap(), []);
}

#[test]
fn what_is_not_there_is_an_error_with_the_engines_text() {
    let engine = engine();
    let mut memory = vec![0u8; 4096];
    let at = addr(&mut memory);

    let error = engine_error(engine.unregister_local_memory(at));
    assert_eq!((error.code, error.name.as_str()), (code::NOT_FOUND, "not_found"), "{error}");
    assert!(error.call.contains(&format!("{at:p}")), "{error}");
    assert!(!error.message.is_empty());

    let error = engine_error(engine.register_local_memory(ptr::null_mut(), 4096, "*"));
    assert_eq!(error.code, code::INVALID_ARGUMENT, "{error}");
    let error = engine_error(engine.register_local_memory(at, 0, "*"));
    assert_eq!(error.code, code::INVALID_ARGUMENT, "{error}");
    let error = engine_error(engine.install_transport("pigeon"));
    assert!(error.code < 0 && !error.message.starts_with(&error.name), "{error:?}");
    assert!(error.to_string().contains("pigeon") && !error.message.is_empty(), "{error}");
    engine_error(engine.uninstall_transport("pigeon"));
    engine_error(engine.close_segment(12345));
    engine_error(engine.describe_segment(12345));
    engine_error(engine.remove_local_segment("someone else's"));
    let message = Notification::new("n", "m");
    engine_error(engine.notify(-1, &message));
}

#[test]
fn an_unreachable_peer_is_named() {
    // A port that was free a moment ago: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = engine_error(engine().open_segment(free.to_string()));
    assert_eq!(error.code, code::UNAVAILABLE, "{error}");
    assert!(error.message.contains(&free.to_string()), "{error}");
    assert!(error.call.contains(&free.to_string()), "{error}");
}

#[test]
fn a_port_that_is_taken_or_none_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = engine_error(TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", port.into()));
    assert!(error.message.contains(&port.to_string()), "{error}");
    let error = engine_error(TransferEngine::new("P2PHANDSHAKE", "127.0.0.1", 70_000));
    assert!(error.message.contains("70000"), "{error}");
}

#[test]
fn wrong_batches_and_tasks_are_errors() {
    let engine = engine();
    let batch = engine.allocate_batch_id(2).unwrap();
    let error = engine_error(engine.get_transfer_status(batch, 2));
    assert_eq!(error.code, code::OUT_OF_RANGE, "{error}");
    engine_error(engine.get_transfer_error(batch, usize::MAX));
    engine.free_batch_id(batch).unwrap();

    for wrong in [batch, u64::MAX, 0x1234_5678_9abc] {
        engine_error(engine.get_transfer_status(wrong, 0));
        engine_error(engine.get_batch_status(wrong));
        engine_error(engine.wait_batch(wrong, Some(LONG)));
        engine_error(engine.cancel_batch(wrong));
        engine_error(engine.batch_event_fd(wrong));
        engine_error(engine.free_batch_id(wrong));
    }
    engine_error(engine.allocate_batch_id(usize::MAX));
}

#[test]
fn memory_that_is_not_registered_is_not_touched() {
    let (target, initiator) = (engine(), engine());
    let mut remote = vec![7u8; 4096];
    let mut local = vec![1u8; 4096];
    let mut stranger = vec![1u8; 4096];
    target.register_local_memory(addr(&mut remote), 4096, "*").unwrap();
    initiator.register_local_memory(addr(&mut local), 4096, "*").unwrap();
    let segment = initiator.open_segment(name(&target)).unwrap();
    let batch = initiator.allocate_batch_id(4).unwrap();

    let from_stranger = request(OpcodeEnum::Write, &mut stranger, segment, 0);
    let error = engine_error(initiator.submit_transfer(batch, &[from_stranger]));
    assert!(error.call.contains("WRITE of 4096 bytes"), "{error}");
    let to_nobody = request(OpcodeEnum::Write, &mut local, 4321, 0);
    engine_error(initiator.submit_transfer(batch, &[to_nobody]));

    // All or none: the good one is refused with the bad one. What the target does not offer is told
    // as the task's end, since the target is asked first.
    let good = request(OpcodeEnum::Write, &mut local, segment, 0);
    engine_error(initiator.submit_transfer(batch, &[good, from_stranger]));
    let beyond = request(OpcodeEnum::Write, &mut local, segment, 1);
    initiator.submit_transfer(batch, &[beyond]).unwrap();
    initiator.wait_batch(batch, Some(LONG)).unwrap();
    let (status, _) = initiator.get_transfer_status(batch, 0).unwrap();
    assert_eq!(status, TransferStatusEnum::Failed as i32);
    let error = initiator.get_transfer_error(batch, 0).unwrap();
    assert!(error.starts_with("out_of_range"), "{error}");
    assert!(error.contains("0x1") && error.contains("4096 bytes"), "{error}");
    initiator.free_batch_id(batch).unwrap();
    assert!(remote.iter().all(|&byte| byte == 7), "nothing was written");
}

#[test]
fn private_memory_is_closed_to_peers() {
    let (target, initiator) = (engine(), engine());
    let mut remote = vec![7u8; 4096];
    let mut local = vec![1u8; 4096];
    target.register_private_memory(addr(&mut remote), 4096, "*").unwrap();
    initiator.register_local_memory(addr(&mut local), 4096, "*").unwrap();
    let segment = initiator.open_segment(name(&target)).unwrap();
    let batch = initiator.allocate_batch_id(1).unwrap();
    let write = request(OpcodeEnum::Write, &mut local, segment, remote.as_ptr() as u64);
    if initiator.submit_transfer(batch, &[write]).is_ok() {
        initiator.wait_batch(batch, Some(LONG)).unwrap();
        assert_eq!(initiator.get_batch_status(batch).unwrap().0, TransferStatusEnum::Failed);
    }
    initiator.free_batch_id(batch).unwrap();
    assert!(remote.iter().all(|&byte| byte == 7), "nothing was written");
}

#[test]
fn the_event_fd_polls_readable_when_the_batch_is_done() {
    let (target, initiator) = (engine(), engine());
    let mut remote = vec![0u8; LENGTH];
    let mut local = vec![1u8; LENGTH];
    target.register_local_memory(addr(&mut remote), LENGTH, "*").unwrap();
    initiator.register_local_memory(addr(&mut local), LENGTH, "*").unwrap();
    let segment = initiator.open_segment(name(&target)).unwrap();
    let batch = initiator.allocate_batch_id(1).unwrap();

    let fd = initiator.batch_event_fd(batch).unwrap();
    let readable = |timeout_ms| {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd.
        let count = unsafe { libc::poll(&mut poll, 1, timeout_ms) };
        count == 1 && poll.revents == libc::POLLIN
    };
    assert!(!readable(0), "nothing was submitted");
    let write = request(OpcodeEnum::Write, &mut local, segment, 0);
    initiator.submit_transfer(batch, &[write]).unwrap();
    assert!(readable(LONG.as_millis() as i32));
    let ended = initiator.get_batch_status(batch).unwrap();
    assert_eq!(ended, (TransferStatusEnum::Completed, LENGTH as u64));
    assert!(readable(0), "and stays so");
    initiator.free_batch_id(batch).unwrap();
}

#[test]
fn messages_arrive_alone_and_after_a_batch() {
    let (target, initiator) = (engine(), engine());
    let mut remote = vec![0u8; 4096];
    let mut local = bytes(3, 4096);
    target.register_local_memory(addr(&mut remote), 4096, "*").unwrap();
    initiator.register_local_memory(addr(&mut local), 4096, "*").unwrap();
    let segment = initiator.open_segment(name(&target)).unwrap();
    assert_eq!(target.take_notifications().unwrap(), []);

    let alone = Notification::new("é", vec![0u8; 1000]);
    initiator.notify(segment, &alone).unwrap();
    assert_eq!(target.take_notifications().unwrap(), std::slice::from_ref(&alone));

    let batch = initiator.allocate_batch_id(1).unwrap();
    let error = initiator.submit_transfer_with_notify(batch, &[], &alone);
    assert_eq!(engine_error(error).code, code::INVALID_ARGUMENT);
    let write = request(OpcodeEnum::Write, &mut local, segment, 0);
    initiator.submit_transfer_with_notify(batch, &[write], &alone).unwrap();
    initiator.wait_batch(batch, Some(LONG)).unwrap();
    assert_eq!(target.take_notifications().unwrap(), [alone]);
    assert_eq!(target.take_notifications().unwrap(), []);
    assert!(remote == local);
    initiator.free_batch_id(batch).unwrap();
}

#[test]
fn a_warm_up_may_be_repeated_and_disturbs_nothing() {
    for transport in [transport().as_str(), "fabric:tcp"] {
        let (target, initiator) = match (engine_over(transport), engine_over(transport)) {
            (Ok(target), Ok(initiator)) => (target, initiator),
            (Err(reason), _) | (_, Err(reason)) => {
                eprintln!("SKIPPED over {transport}: {reason}");
                continue;
            }
        };
        let (mut local, mut remote) = (bytes(7, LENGTH), vec![0; LENGTH]);
        initiator.register_local_memory(addr(&mut local), LENGTH, "cpu:0").unwrap();
        target.register_local_memory(addr(&mut remote), LENGTH, "cpu:0").unwrap();
        let segment = initiator.open_segment(name(&target)).unwrap();
        for unknown in ["nobody", ""] {
            let error = engine_error(initiator.warmup_efa_segment(unknown));
            assert_eq!(error.code, code::NOT_FOUND, "{error}");
            assert!(error.message.contains("open it first"), "{error}");
        }
        for _ in 0..3 {
            initiator.warmup_efa_segment(&name(&target)).unwrap();
        }
        let batch = initiator.allocate_batch_id(1).unwrap();
        let write = request(OpcodeEnum::Write, &mut local, segment, 0);
        initiator.submit_transfer(batch, &[write]).unwrap();
        initiator.warmup_efa_segment(&name(&target)).unwrap();
        initiator.wait_batch(batch, Some(LONG)).unwrap();
        let status = initiator.get_transfer_status(batch, 0).unwrap();
        assert_eq!(status, (TransferStatusEnum::Completed as i32, LENGTH as u64));
        initiator.free_batch_id(batch).unwrap();
        assert!(remote == local);
        initiator.unregister_local_memory(addr(&mut local)).unwrap();
        target.unregister_local_memory(addr(&mut remote)).unwrap();
    }
}

#[test]
fn an_engine_tells_of_itself() {
    let (target, initiator) = (engine(), engine());
    let segment = initiator.open_segment(name(&target)).unwrap();
    initiator.sync_segment_cache().unwrap();
    initiator.discover_topology().unwrap();

    assert!(version().starts_with(|first: char| first.is_ascii_digit()), "{}", version());
    assert!(name(&target).starts_with("127.0.0.1:"), "{}", name(&target));
    assert!(initiator.topology().unwrap().contains("\"nic_priority_matrix\""));
    assert!(initiator.nic_priority_matrix().unwrap().contains("\"cpu:0\""));
    let config = initiator.effective_config().unwrap();
    assert!(config.trim_start().starts_with(['{', '[']) && config.contains("timeout"), "{config}");
    assert!(initiator.show_links(false).unwrap().contains(&name(&target)));
    assert!(initiator.show_links(true).unwrap().trim_start().starts_with(['{', '[']));
    for load in initiator.nic_load_stats().unwrap() {
        assert!(!load.device_name.is_empty() && load.ewma_bandwidth_bps >= 0.0, "{load:?}");
    }
    initiator.close_segment(segment).unwrap();
    initiator.uninstall_transport(&transport()).unwrap();
    target.remove_local_segment(&name(&target)).unwrap();
}

#[test]
fn statuses_have_their_numbers_and_no_others() {
    let names = ["WAITING", "PENDING", "INVALID", "CANCELED", "COMPLETED", "TIMEOUT", "FAILED"];
    for (number, name) in (0..).zip(names) {
        let status = TransferStatusEnum::try_from(number).unwrap();
        assert_eq!((i32::from(status), status.to_string().as_str()), (number, name));
        assert_eq!(status.is_terminal(), number >= 2);
    }
    for wrong in [-1, 7, i32::MIN, i32::MAX] {
        let error = TransferStatusEnum::try_from(wrong).unwrap_err();
        assert!(error.to_string().contains(&wrong.to_string()));
    }
}

#[test]
fn engines_and_requests_go_to_other_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<TransferEngine>();
    shared::<TransferRequest>();
    shared::<BufferEntry>();

    let (target, initiator) = (engine(), engine());
    let mut remote = vec![0u8; 4 * 4096];
    target.register_local_memory(addr(&mut remote), 4 * 4096, "*").unwrap();
    let segment = initiator.open_segment(name(&target)).unwrap();
    std::thread::scope(|scope| {
        for part in 0..4u8 {
            let initiator = &initiator;
            scope.spawn(move || {
                let mut local = vec![part + 1; 4096];
                initiator.register_local_memory(addr(&mut local), 4096, "*").unwrap();
                let offset = u64::from(part) * 4096;
                let write = request(OpcodeEnum::Write, &mut local, segment, offset);
                assert_eq!(run(initiator, &[write]), [(4, 4096)]);
                initiator.unregister_local_memory(addr(&mut local)).unwrap();
            });
        }
    });
    for (part, bytes) in remote.chunks(4096).enumerate() {
        assert!(bytes.iter().all(|&byte| usize::from(byte) == part + 1));
    }
}

#[test]
fn batches_that_ended_are_taken_in_bulk() {
    let (target, initiator) = (engine(), engine());
    let mut remote = vec![0u8; 4096];
    let mut local = bytes(7, 4096);
    target.register_local_memory(addr(&mut remote), 4096, "*").unwrap();
    initiator.register_local_memory(addr(&mut local), 4096, "*").unwrap();
    let segment = initiator.open_segment(name(&target)).unwrap();
    let write = request(OpcodeEnum::Write, &mut local, segment, 0);
    assert!(initiator.completion_fd().unwrap() >= 0);
    let mut batches = Vec::new();
    for _ in 0..3 {
        let batch = initiator.allocate_queued_batch_id(1).unwrap();
        initiator.submit_transfer(batch, &[write]).unwrap();
        initiator.wait_batch(batch, Some(LONG)).unwrap();
        batches.push(batch);
    }
    let two = initiator.take_completions(2).unwrap();
    assert_eq!(two.iter().map(|each| each.batch_id).collect::<Vec<_>>(), batches[..2]);
    let rest = initiator.take_completions(8).unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].batch_id, batches[2]);
    assert_eq!(rest[0].status, TransferStatusEnum::Completed);
    assert_eq!(rest[0].transferred_bytes, 4096);
    for batch in batches {
        initiator.free_batch_id(batch).unwrap();
    }
}

#[test]
fn settings_are_of_one_engine() {
    let set = |name, value| {
        TransferEngine::with_settings("P2PHANDSHAKE", "127.0.0.1", "", 0, &[(name, value)])
    };
    let one = set("transfer_timeout_ms", "4321").unwrap();
    assert!(one.effective_config().unwrap().contains("4321"));
    assert!(!engine().effective_config().unwrap().contains("4321"));
    let unknown = engine_error(set("no_such_setting", "1"));
    assert_eq!(unknown.code, code::INVALID_ARGUMENT);
    assert!(unknown.message.contains("no_such_setting"), "{unknown}");
}

#[test]
fn lists_are_one_task() {
    let (target, initiator) = (engine(), engine());
    let mut remote = vec![0u8; 8192];
    let mut local = bytes(11, 8192);
    target.register_local_memory(addr(&mut remote), 8192, "*").unwrap();
    initiator.register_local_memory(addr(&mut local), 8192, "*").unwrap();
    let segment = initiator.open_segment(name(&target)).unwrap();
    let regions = [
        BlockRegion { source: addr(&mut local), target_offset: 0, block_size: 512 },
        BlockRegion { source: addr(&mut local[4096..]), target_offset: 4096, block_size: 512 },
    ];
    let list = BlockList {
        opcode: OpcodeEnum::Write,
        target_id: segment,
        regions: &regions,
        source_blocks: &[0, 3, 4, 7],
        target_blocks: &[7, 1, 2, 0],
    };
    let options = SubmitOptions { timeout: Some(LONG), ..Default::default() };
    let batch = initiator.allocate_batch_id(3).unwrap();
    initiator.submit_blocks(batch, &list, &options).unwrap();
    initiator.wait_batch(batch, Some(LONG)).unwrap();
    assert_eq!(initiator.get_transfer_status(batch, 0).unwrap(), (4, 4096));
    for begin in [0, 4096] {
        for (here, there) in [(0, 7), (3, 1), (4, 2), (7, 0)] {
            let (here, there) = (begin + here * 512, begin + there * 512);
            assert!(local[here..here + 512] == remote[there..there + 512]);
        }
    }

    let prepared = initiator.prepare_blocks(&list).unwrap();
    remote.fill(0);
    initiator.submit_prepared(batch, &prepared, &options).unwrap();
    let at = addr(&mut local) as u64;
    let ranges = AddressList {
        opcode: OpcodeEnum::Write,
        target_id: segment,
        sources: &[at + 10, at],
        target_offsets: &[3000, 2000],
        lengths: &[5, 7],
    };
    initiator.wait_batch(batch, Some(LONG)).unwrap();
    assert!(remote[512..1536] == local[3 * 512..5 * 512]);
    initiator.submit_addresses(batch, &ranges, &options).unwrap();
    initiator.wait_batch(batch, Some(LONG)).unwrap();
    assert!(remote[3000..3005] == local[10..15] && remote[2000..2007] == local[..7]);
    assert!(initiator.prepare_addresses(&ranges).is_ok());

    let uneven = BlockList { target_blocks: &[1], ..list };
    assert_eq!(engine_error(initiator.prepare_blocks(&uneven)).code, code::INVALID_ARGUMENT);
    let beyond = BlockList { source_blocks: &[0, 3, 4, 99], ..list };
    assert_eq!(engine_error(initiator.prepare_blocks(&beyond)).code, code::INVALID_ARGUMENT);
    initiator.free_batch_id(batch).unwrap();
}
