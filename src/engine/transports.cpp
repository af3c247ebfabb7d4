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

struct Known {
  std::string_view name;
  // Null: what it takes is more than that, see install() and describe().
  Result<std::unique_ptr<Transport>> (*make)(TransportHost&, const Config&);
  // Whether this machine can serve it, and what was found or is missing.
  bool (*look)(std::string* detail);
};

bool look_local(std::string* detail) {
  *detail = "copies inside the engine; always installed";
  return true;
}

bool look_tcp(std::string* detail) {
  *detail = "the kernel's TCP, IPv4 and IPv6";
  return true;
}

// In the order in which paths are preferred.
constexpr Known kKnown[] = {
    {"local", make_local_transport, look_local},
    {"shm", make_shm_transport, shm_available},
    {"rdma", nullptr, nullptr},
    {"tcp", make_tcp_transport, look_tcp},
};

const Known* known(std::string_view name) {
  const auto* found = std::find_if(std::begin(kKnown), std::end(kKnown),
                                   [name](const Known& entry) { return entry.name == name; });
  return found == std::end(kKnown) ? nullptr : found;
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

Result<std::unique_ptr<Transport>> make_rdma(TransportHost& host, const Config& config,
                                             const Transports::FindTopology& find_topology,
                                             const NicMatrix* given) {
  const Result<std::shared_ptr<const Topology>> topology = find_topology();
  if (!topology.ok()) return topology.status();
  if (given != nullptr) TE_RETURN_IF_ERROR(check_nic_matrix(*given, **topology));
  RdmaPlaces places;
  places.matrix = given != nullptr ? *given : make_nic_matrix(**topology);
  places.devices = devices_of(places.matrix);
  places.nodes_of = [](uint64_t address, uint64_t length) {
    std::vector<std::pair<uint64_t, uint32_t>> result;
    for (const NodeRange& range : memory_nodes_of(address, length)) {
      result.emplace_back(range.address, range.node);
    }
    return result;
  };
  return make_rdma_transport(host, config, std::move(places));
}

// Without a topology no card is near anything, which is no reason to have none.
Result<std::unique_ptr<Transport>> make_fabric(TransportHost& host, const Config& config,
                                               std::string_view name,
                                               const Transports::FindTopology& find_topology,
                                               const NicMatrix* given) {
  const Result<std::shared_ptr<const Topology>> topology = find_topology();
  if (given != nullptr) {
    if (!topology.ok()) return topology.status();
    TE_RETURN_IF_ERROR(check_nic_matrix(*given, **topology));
    return make_fabric_transport(host, config, name, *given);
  }
  if (!topology.ok()) log_warning("{}: {}", name, topology.status().message());
  return make_fabric_transport(host, config, name,
                               topology.ok() ? make_nic_matrix(**topology) : NicMatrix());
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
  Result<std::unique_ptr<Transport>> made =
      entry == nullptr         ? make_fabric(host_, config_, name, find_topology_, matrix)
      : entry->make == nullptr ? make_rdma(host_, config_, find_topology_, matrix)
                               : entry->make(host_, config_);
  if (!made.ok()) return made.status();
  entries_.push_back({std::shared_ptr<Transport>(made.take()), implicit});
  std::sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return rank(a.transport->name()) < rank(b.transport->name());
  });
  return true;
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
  retired_.push_back(transport);
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
    TransportInfo info;
    if (entry.look == nullptr) {
      info = describe_rdma_transport(config_);
    } else {
      info.name = entry.name;
      info.available = entry.look(&info.detail);
    }
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
    for (std::shared_ptr<Path>& path : paths) {
      target.paths.push_back(std::move(path));
      target.transport_of_path.push_back(index);
    }
  }
}

}  // namespace te
