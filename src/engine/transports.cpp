#include "engine/transports.h"

#include <algorithm>

#include "base/log.h"
#include "platform/memory.h"
#include "transport/fabric/fabric.h"
#include "transport/local/local.h"
#include "transport/rdma/rdma.h"
#include "transport/shm/shm.h"
#include "transport/tcp/tcp.h"

namespace te {
namespace {

// What a transport is made of.
struct Making {
  TransportHost& host;
  const Config& config;
  std::string_view name;
  const Transports::FindTopology& find_topology;
  const NicMatrix* given;  // null: none was
};

// As given, if it fits this machine; else as discovered.
Result<NicMatrix> nic_matrix(const Making& making) {
  const Result<std::shared_ptr<const Topology>> topology = making.find_topology();
  if (!topology.ok()) return topology.status();
  if (making.given == nullptr) return make_nic_matrix(**topology);
  TE_RETURN_IF_ERROR(check_nic_matrix(*making.given, **topology));
  return *making.given;
}

// All NICs, in the order in which the matrix prefers them: those that it names, each once.
std::vector<std::string> devices_of(const NicMatrix& matrix) {
  std::vector<std::string> devices;
  for (const bool preferred : {true, false}) {
    for (const NicMatrix::Row& row : matrix.rows) {
      for (const std::string& name : preferred ? row.preferred : row.other) {
        if (std::find(devices.begin(), devices.end(), name) == devices.end()) {
          devices.push_back(name);
        }
      }
    }
  }
  return devices;
}

Result<std::unique_ptr<Transport>> make_local(const Making& making) {
  return make_local_transport(making.host, making.config);
}

Result<std::unique_ptr<Transport>> make_shm(const Making& making) {
  return make_shm_transport(making.host, making.config);
}

Result<std::unique_ptr<Transport>> make_tcp(const Making& making) {
  return make_tcp_transport(making.host, making.config);
}

Result<std::unique_ptr<Transport>> make_rdma(const Making& making) {
  Result<NicMatrix> matrix = nic_matrix(making);
  if (!matrix.ok()) return matrix.status();
  RdmaPlaces places;
  places.matrix = matrix.take();
  places.devices = devices_of(places.matrix);
  places.nodes_of = [](uint64_t address, uint64_t length) {
    std::vector<std::pair<uint64_t, uint32_t>> result;
    for (const NodeRange& range : memory_nodes_of(address, length)) {
      result.emplace_back(range.address, range.node);
    }
    return result;
  };
  return make_rdma_transport(making.host, making.config, std::move(places));
}

// Without a topology no card is near anything, which is no reason to have none.
Result<std::unique_ptr<Transport>> make_fabric(const Making& making) {
  const Result<NicMatrix> matrix = nic_matrix(making);
  if (!matrix.ok()) {
    if (making.given != nullptr) return matrix.status();
    log_warning("{}: {}", making.name, matrix.status().message());
  }
  return make_fabric_transport(making.host, making.config, making.name,
                               matrix.ok() ? *matrix : NicMatrix());
}

TransportInfo describe_local(const Config&) {
  return {"local", true, false, "copies inside the engine; always installed"};
}

TransportInfo describe_shm(const Config&) {
  TransportInfo info;
  info.name = "shm";
  info.available = shm_available(&info.detail);
  return info;
}

TransportInfo describe_tcp(const Config&) {
  return {"tcp", true, false, "the kernel's TCP, IPv4 and IPv6"};
}

struct Known {
  std::string_view name;
  Result<std::unique_ptr<Transport>> (*make)(const Making&);
  // Whether this machine can serve it, and what was found or is missing.
  TransportInfo (*describe)(const Config&);
};

// In the order in which paths are preferred. libfabric's have names of their own, see
// make_fabric().
constexpr Known kKnown[] = {
    {"local", make_local, describe_local},
    {"shm", make_shm, describe_shm},
    {"rdma", make_rdma, describe_rdma_transport},
    {"tcp", make_tcp, describe_tcp},
};

const Known* known(std::string_view name) {
  const auto* found = std::find_if(std::begin(kKnown), std::end(kKnown),
                                   [name](const Known& entry) { return entry.name == name; });
  return found == std::end(kKnown) ? nullptr : found;
}

// libfabric's, of which there is one for each provider, come right before TCP.
size_t rank(std::string_view name) {
  if (is_fabric_transport(name)) return 2 * static_cast<size_t>(known("tcp") - kKnown);
  return 2 * static_cast<size_t>(known(name) - kKnown) + 1;
}

}  // namespace

Status Transports::install_local() { return install("local", false).status(); }

Result<bool> Transports::install(std::string_view name, bool implicit, const NicMatrix* matrix) {
  const Known* entry = known(name);
  if (entry == nullptr && !is_fabric_transport(name)) {
    std::string names;
    for (const Known& each : kKnown) {
      if (each.name != "local") names += std::string(each.name) + ", ";
    }
    names += "efa, fabric:PROVIDER";
    return error(Code::kNotFound, "there is no transport '{}' in this build: it has {}", name,
                 names);
  }
  MutexLock lock(mutex_);
  for (Entry& present : entries_) {
    if (present.transport->name() != name) continue;
    present.implicit = present.implicit && implicit;
    return false;
  }
  const Making making{host_, config_, name, find_topology_, matrix};
  Result<std::unique_ptr<Transport>> made =
      entry == nullptr ? make_fabric(making) : entry->make(making);
  if (!made.ok()) return made.status();
  add_locked(made.take(), implicit);
  return true;
}

void Transports::add(std::shared_ptr<Transport> transport, bool implicit) {
  MutexLock lock(mutex_);
  add_locked(std::move(transport), implicit);
}

void Transports::add_locked(std::shared_ptr<Transport> transport, bool implicit) {
  entries_.push_back({std::move(transport), implicit});
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return rank(a.transport->name()) < rank(b.transport->name());
  });
}

std::vector<std::string> Transports::implicit_but(std::string_view name) const {
  MutexLock lock(mutex_);
  std::vector<std::string> result;
  for (const Entry& entry : entries_) {
    if (entry.implicit && entry.transport->name() != name) {
      result.emplace_back(entry.transport->name());
    }
  }
  return result;
}

Result<std::shared_ptr<Transport>> Transports::retire(std::string_view name) {
  MutexLock lock(mutex_);
  const auto found = std::find_if(entries_.begin(), entries_.end(), [name](const Entry& entry) {
    return entry.transport->name() == name && name != "local";
  });
  if (found == entries_.end()) {
    return error(Code::kNotFound, "transport '{}' is not installed", name);
  }
  std::shared_ptr<Transport> transport = found->transport;
  entries_.erase(found);
  return transport;
}

void Transports::stop() {
  for (const std::shared_ptr<Transport>& transport : installed()) transport->stop();
}

std::shared_ptr<Transport> Transports::find(std::string_view name) const {
  MutexLock lock(mutex_);
  for (const Entry& entry : entries_) {
    if (entry.transport->name() == name) return entry.transport;
  }
  return nullptr;
}

std::vector<std::shared_ptr<Transport>> Transports::installed() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Transport>> result;
  for (const Entry& entry : entries_) result.push_back(entry.transport);
  return result;
}

std::vector<TransportInfo> Transports::describe() const {
  std::vector<TransportInfo> result;
  for (const Known& entry : kKnown) {
    TransportInfo info = entry.describe(config_);
    info.installed = find(entry.name) != nullptr;
    result.push_back(std::move(info));
  }
  for (TransportInfo& info : describe_fabric_transports(config_)) {
    info.installed = find(info.name) != nullptr;
    result.push_back(std::move(info));
  }
  return result;
}

void Transports::make_paths(const Peer& peer, const Target* previous, bool same_peer,
                            Target& target) const {
  if (on_peer_) on_peer_(peer.instance);
  for (const std::shared_ptr<Transport>& transport : installed()) {
    const int index = target.descriptor.transport_index(transport->name());
    if (index < 0 || (transport->capabilities().same_engine_only && !peer.self)) continue;
    const Descriptor::Transport& offered = target.descriptor.transports[static_cast<size_t>(index)];
    std::vector<std::shared_ptr<Path>> paths;
    if (previous != nullptr && same_peer) {
      for (const std::shared_ptr<Path>& path : previous->paths) {
        if (&path->transport == transport.get() && !path->over()) paths.push_back(path);
      }
    }
    if (paths.empty()) {
      Peer asked = peer;
      asked.key_size = offered.key_size;
      paths = transport->make_paths(asked, as_bytes(offered.info));
    }
    if (!paths.empty()) target.transports.push_back(transport);
    for (std::shared_ptr<Path>& path : paths) {
      target.paths.push_back(std::move(path));
      target.transport_of_path.push_back(index);
    }
  }
}

}  // namespace te
