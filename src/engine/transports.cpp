#include "engine/transports.h"

#include <algorithm>

#include "base/log.h"
#include "core/stage_message.h"
#include "platform/memory.h"
#include "transport/factory.h"

namespace te {
namespace {

std::vector<std::pair<uint64_t, uint32_t>> nodes_of(uint64_t address, uint64_t length) {
  std::vector<std::pair<uint64_t, uint32_t>> result;
  for (const NodeRange& range : memory_nodes_of(address, length)) {
    result.emplace_back(range.address, range.node);
  }
  return result;
}

// Its place in the order of preference; beyond the last: no transport has this name.
size_t rank(std::string_view name) {
  const auto factories = transport_factories();
  const auto found =
      std::find_if(factories.begin(), factories.end(),
                   [name](const TransportFactory* each) { return each->makes(name); });
  return static_cast<size_t>(found - factories.begin());
}

std::string all_names() {
  std::string result;
  for (const TransportFactory* each : transport_factories()) {
    if (each->names.empty()) continue;
    if (!result.empty()) result += ", ";
    result += each->names;
  }
  return result;
}

}  // namespace

bool Transports::in_plain(const TransportFactory& factory) const {
  return factory.over_fabric && config_.security == "tls" &&
         config_.tls_allow_plaintext_fabrics != "true";
}

Status Transports::install_local() { return install("local", false).status(); }

Result<bool> Transports::install(std::string_view name, bool implicit, const NicMatrix* matrix) {
  const size_t place = rank(name);
  if (place == transport_factories().size()) {
    return error(Code::kNotFound, "there is no transport '{}' in this build: it has {}", name,
                 all_names());
  }
  if (in_plain(*transport_factories()[place])) {
    return error(Code::kPermission,
                 "transport '{}' moves bytes over NICs, where TLS does not protect them: with "
                 "security = tls it takes tls_allow_plaintext_fabrics = true",
                 name);
  }
  {
    MutexLock lock(mutex_);
    for (Entry& present : entries_) {
      if (present.transport->name() != name) continue;
      present.implicit = present.implicit && implicit;
      return false;
    }
  }
  // Without the lock, which submissions take: opening libraries and NICs takes its time.
  const TransportSetup setup{
      host_, config_, name, [&] { return nic_matrix(matrix); }, matrix != nullptr, nodes_of};
  Result<std::unique_ptr<Transport>> made = transport_factories()[place]->make(setup);
  if (!made.ok()) return made.status();
  add(made.take(), implicit);
  return true;
}

Result<NicMatrix> Transports::nic_matrix(const NicMatrix* given) const {
  const Result<std::shared_ptr<const Topology>> topology = find_topology_();
  if (!topology.ok()) return topology.status();
  if (given == nullptr) return make_nic_matrix(**topology);
  TE_RETURN_IF_ERROR(check_nic_matrix(*given, **topology));
  NicMatrix matrix = *given;
  matrix.gpus = locations_of_gpus(**topology);
  return matrix;
}

void Transports::add(std::shared_ptr<Transport> transport, bool implicit) {
  MutexLock lock(mutex_);
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
    return entry.transport->name() == name && name != "local" && name != stage::kName;
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
  for (const TransportFactory* each : transport_factories()) {
    for (TransportInfo& info : each->describe(config_)) {
      info.installed = find(info.name) != nullptr;
      if (in_plain(*each)) {
        info.available = false;
        info.detail += "; with security = tls it takes tls_allow_plaintext_fabrics = true";
      }
      result.push_back(std::move(info));
    }
  }
  return result;
}

bool Transports::any_by_key_alone() const {
  const std::vector<std::shared_ptr<Transport>> all = installed();
  return std::any_of(all.begin(), all.end(), [](const std::shared_ptr<Transport>& each) {
    const Capabilities capabilities = each->capabilities();
    return !capabilities.checks_rights && !capabilities.within_host;
  });
}

bool Transports::adopt(tls::Connection& connection, const wire::Hello& hello,
                       std::shared_ptr<void> permit) const {
  for (const std::shared_ptr<Transport>& transport : installed()) {
    if (!transport->capabilities().data_over_engine_port) continue;
    transport->adopt(std::move(connection), hello, std::move(permit));
    return true;
  }
  return false;
}

void Transports::end_idlest(int64_t before_ns, const MayEnd& may_end) const {
  for (const std::shared_ptr<Transport>& transport : installed()) {
    if (transport->end_idlest(before_ns, may_end)) return;
  }
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
      for (const std::shared_ptr<Path>& path : paths) path->reach = transport->capabilities().reach;
    }
    if (!paths.empty()) target.transports.push_back(transport);
    for (std::shared_ptr<Path>& path : paths) {
      target.paths.push_back(std::move(path));
      target.transport_of_path.push_back(index);
    }
  }
}

}  // namespace te
