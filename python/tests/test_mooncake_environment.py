"""What the variables of Mooncake mean; no engine runs."""
import logging

import pytest

from transfer_engine.mooncake import environment


@pytest.fixture(autouse=True)
def forget_warnings(monkeypatch):
    monkeypatch.setattr(environment, "_warned", set())


def test_nothing_set():
    read = environment.read({})
    assert read.settings == {"connect_timeout_ms": "5000"}
    assert (read.timeout_s, read.protocol, read.keep_port) == (30, None, False)
    assert (read.ports[0], read.ports[-1]) == (15000, 17000)


def test_settings_with_the_units_of_this_engine():
    assert environment.read({
        "MC_TCP_BIND_ADDRESS": "10.0.0.1", "MC_HANDSHAKE_CONNECT_TIMEOUT": "3",
        "MC_TCP_LANES_PER_PEER": "8", "MC_MAX_MR_SIZE": "1073741824",
        "MC_TE_FILTERS": "mlx5_0,mlx5_1"}).settings == {
            "bind_address": "10.0.0.1", "connect_timeout_ms": "3000", "tcp_connections": "8",
            "rdma_max_registration": "1073741824", "nics": "mlx5_0,mlx5_1"}


def test_settings_of_this_engine_have_precedence_over_defaults():
    assert environment.read({"TRANSFER_ENGINE_CONNECT_TIMEOUT_MS": "700"}).settings == {}


def test_excluded_nics():
    assert environment.read({"MC_TE_FILTERS_EXCLUDE": "a,b"}).settings["nics"] == "^a,b"


@pytest.mark.parametrize("text, seconds", [("60", 60), ("1", 5), ("", 30)])
def test_timeout(text, seconds):
    assert environment.read({"MC_TRANSFER_TIMEOUT": text}).timeout_s == seconds


@pytest.mark.parametrize("variables, protocol", [
    ({"MC_FORCE_TCP": "1"}, "tcp"), ({"MC_FORCE_TCP": "true"}, "tcp"),
    ({"MC_FORCE_TCP": "0"}, None),
    ({"MC_FORCE_HCA": "1"}, "rdma"), ({"MC_FORCE_HCA": "1", "MC_FORCE_TCP": "1"}, "tcp")])
def test_protocol(variables, protocol):
    assert environment.read(variables).protocol == protocol


def test_wrong_number_is_an_error_with_its_name():
    with pytest.raises(ValueError, match="MC_MIN_RPC_PORT is 'x'"):
        environment.read({"MC_MIN_RPC_PORT": "x"})


@pytest.mark.parametrize("server, directory", [
    ("redis://h:1", "redis://:secret@h:1/2"), ("redis://:other@h:1/3", "redis://:other@h:1/3"),
    ("etcd://h:1", "etcd://h:1"), ("P2PHANDSHAKE", "P2PHANDSHAKE"), ("h:1", "h:1")])
def test_redis(server, directory):
    read = environment.read({"MC_REDIS_PASSWORD": "secret", "MC_REDIS_DB_INDEX": "2"})
    assert read.directory(server) == directory


def test_topology_file(tmp_path):
    file = tmp_path / "topology.json"
    file.write_text('{"cpu:0": [["mlx5_0"], []]}')
    assert environment.read({"MC_CUSTOM_TOPO_JSON": str(file)}).nic_priority_matrix == (
        '{"cpu:0": [["mlx5_0"], []]}')
    with pytest.raises(OSError, match="missing.json"):
        environment.read({"MC_CUSTOM_TOPO_JSON": str(tmp_path / "missing.json")})


def test_one_warning_names_the_others(caplog):
    variables = {"MC_GID_INDEX": "3", "MC_SLICE_SIZE": "65536", "MC_USE_IPV6": "1", "MC_SID": "9"}
    with caplog.at_level(logging.WARNING):
        environment.read(variables)
        environment.read(variables)
    assert [record.message for record in caplog.records] == [
        "these variables have no effect on this engine: MC_GID_INDEX, MC_SLICE_SIZE"]
