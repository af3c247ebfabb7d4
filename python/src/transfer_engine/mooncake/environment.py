"""What the environment variables of Mooncake (MC_*) mean for this engine."""
from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping

logger = logging.getLogger("transfer_engine.mooncake")

# Variable: setting of this engine with the same meaning, and the factor between their units.
SETTINGS = {
    "MC_TCP_BIND_ADDRESS": ("bind_address", None),
    "MC_HANDSHAKE_CONNECT_TIMEOUT": ("connect_timeout_ms", 1000),
    "MC_TCP_LANES_PER_PEER": ("tcp_connections", 1),
    "MC_MAX_MR_SIZE": ("rdma_max_registration", 1),
    "MC_TE_FILTERS": ("nics", None),
}

# Mooncake's time to connect, longer than this engine's: clients give up a peer after one failure.
CONNECT_TIMEOUT_MS = "5000"

# Variables of Mooncake that have no counterpart.
WITHOUT_EFFECT = frozenset("""
MC_AUTO_GID_MAX_RETRIES MC_CONN_PAUSE_TTL_MS MC_ENABLE_DEST_DEVICE_AFFINITY
MC_ENABLE_HCA_PEER_AFFINITY MC_ENABLE_PARALLEL_REG_MR MC_ENDPOINT_STORE_TYPE MC_FORCE_MNNVL
MC_FRAGMENT_RATIO MC_GID_INDEX MC_HANDSHAKE_LISTEN_BACKLOG MC_HANDSHAKE_MAX_LENGTH
MC_HANDSHAKE_PORT MC_IB_PCI_RELAXED_ORDERING MC_IB_PORT MC_IB_SL MC_IB_TC MC_INTRANODE_NVLINK
MC_LOG_DIR MC_MAX_CQE_PER_CTX MC_MAX_EP_PER_CTX MC_MAX_INLINE MC_MAX_SGE MC_MAX_WR
MC_METADATA_CLUSTER_ID MC_MLX5_QP_UDP_SPORTS MC_MTU MC_NIC_PEER_AFFINITY MC_NUM_CQ_PER_CTX
MC_NUM_QP_PER_EP MC_PATH_ROUNDROBIN MC_PKEY_INDEX MC_RDMA_BIND_ADDRESS
MC_RDMA_RAIL_PAUSE_SECONDS MC_REDIS_USERNAME MC_RETRY_CNT MC_SLICE_SIZE MC_SLICE_TIMEOUT
MC_TCP_ADMISSION_TIMEOUT_MS MC_TCP_MAX_PENDING_ADMISSIONS_PER_PEER
MC_TCP_MAX_QUEUED_TRANSFERS_PER_PEER MC_TCP_PROTO MC_TCP_SLICE_SIZE MC_TCP_STATUS_TIMEOUT_SEC
MC_TENT_CONF MC_TE_METRIC MC_TE_METRIC_INTERVAL_SECONDS MC_USE_NVLINK_IPC MC_USE_TENT MC_USE_TEV1
MC_WORKERS_PER_CTX
""".split())

# Mooncake's ports, unless MC_MIN_RPC_PORT and MC_MAX_RPC_PORT state others.
FIRST_PORT, LAST_PORT = 15000, 17000

_warned: set[str] = set()


@dataclasses.dataclass(frozen=True)
class Environment:
    """The variables as one engine reads them when it is initialized."""

    settings: dict[str, str]
    timeout_s: float
    ports: range
    keep_port: bool  # use the port that the local host name states
    protocol: str | None  # instead of the one that the program states
    nic_priority_matrix: str
    redis_password: str
    redis_database: str
    log_level: str | None

    def directory(self, metadata_server: str) -> str:
        """With the password and the number of the database of a redis server."""
        scheme, separator, rest = metadata_server.partition("://")
        if scheme != "redis":
            return metadata_server
        if self.redis_password and "@" not in rest:
            rest = f":{self.redis_password}@{rest}"
        if self.redis_database and "/" not in rest:
            rest = f"{rest}/{self.redis_database}"
        return scheme + separator + rest


def read(variables: Mapping[str, str] = os.environ) -> Environment:
    """Raises ValueError with the variable's name if a value is wrong, OSError for a file."""
    warn_of_others(variables)
    settings = {}
    if "TRANSFER_ENGINE_CONNECT_TIMEOUT_MS" not in variables:
        settings["connect_timeout_ms"] = CONNECT_TIMEOUT_MS
    for name, (setting, factor) in SETTINGS.items():
        if variables.get(name):
            settings[setting] = (variables[name] if factor is None
                                 else str(_number(variables, name) * factor))
    if variables.get("MC_TE_FILTERS_EXCLUDE"):
        settings["nics"] = "^" + variables["MC_TE_FILTERS_EXCLUDE"]
    matrix = ""
    if variables.get("MC_CUSTOM_TOPO_JSON"):
        with open(variables["MC_CUSTOM_TOPO_JSON"], encoding="utf-8") as file:
            matrix = file.read()
    return Environment(
        settings=settings,
        timeout_s=max(5, _number(variables, "MC_TRANSFER_TIMEOUT", 30)),
        ports=range(_port(variables, "MIN", FIRST_PORT), _port(variables, "MAX", LAST_PORT) + 1),
        keep_port=_is_set(variables, "MC_LEGACY_RPC_PORT_BINDING"),
        protocol=("tcp" if _is_set(variables, "MC_FORCE_TCP") else
                  "rdma" if _is_set(variables, "MC_FORCE_HCA") else None),
        nic_priority_matrix=matrix,
        redis_password=variables.get("MC_REDIS_PASSWORD", ""),
        redis_database=variables.get("MC_REDIS_DB_INDEX", ""),
        log_level=variables.get("MC_LOG_LEVEL"))


def warn_of_others(variables: Mapping[str, str]) -> None:
    """Once for each variable, and once for all of them together."""
    names = sorted(name for name in WITHOUT_EFFECT - _warned if name in variables)
    if names:
        _warned.update(names)
        logger.warning("these variables have no effect on this engine: %s", ", ".join(names))


def _is_set(variables: Mapping[str, str], name: str) -> bool:
    return variables.get(name, "").lower() not in ("", "0", "false", "off", "no")


def _number(variables: Mapping[str, str], name: str, default: int = 0) -> int:
    text = variables.get(name, "")
    if text == "":
        return default
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} is '{text}', which is not a number") from None


def _port(variables: Mapping[str, str], which: str, default: int) -> int:
    """Mooncake reads a misspelt name too."""
    return (_number(variables, f"MC_{which}_RPC_PORT")
            or _number(variables, f"MC_{which}_PRC_PORT") or default)
