// The transports that are installed, of those that this build has (transport/factory.h).
//
// Threads: any. install() and retire() are called by one at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/options.h"
#include "core/topology.h"
#include "transport/transport.h"

namespace te {

struct TransportFactory;

class Transports {
 public:
  using FindTopology = std::function<Result<std::shared_ptr<const Topology>>()>;

  Transports(TransportHost& host, const Config& config, FindTopology find_topology)
      : host_(host), config_(config), find_topology_(std::move(find_topology)) {}

  // Called with the instance of each peer that make_paths() is for. Before any other call.
  void set_on_peer(std::function<void(uint64_t)> on_peer) { on_peer_ = std::move(on_peer); }
  // Copies inside the engine: always there.
  Status install_local();
  // kNotFound for a name that no transport has. `implicit`: nobody asked for it by name; it goes
  // when the first one is asked for. True when it was not there before.
  // `matrix`: which NICs serve what memory; null: as discovered.
  Result<bool> install(std::string_view name, bool implicit, const NicMatrix* matrix = nullptr);
  // The same for one that was made elsewhere, under a name that this build knows.
  void add(std::shared_ptr<Transport> transport, bool implicit);
  // What install() of `name` by request would replace.
  std::vector<std::string> implicit_but(std::string_view name) const;
  // No longer installed; the caller stops it. The object lives on for as long as paths know it.
  Result<std::shared_ptr<Transport>> retire(std::string_view name);
  void stop();

  // Null when it is not installed.
  std::shared_ptr<Transport> find(std::string_view name) const;
  std::vector<std::shared_ptr<Transport>> installed() const;
  // Whether there is one that peers reach over a network with nothing but a key.
  bool any_by_key_alone() const;
  // A connection of the engine's port goes to the transport that serves such. False, and nothing
  // taken: none does.
  bool adopt(tls::Connection& connection, const wire::Hello& hello,
             std::shared_ptr<void> permit) const;
  // See Transport.
  void end_idlest(int64_t before_ns, const MayEnd& may_end) const;
  std::vector<TransportInfo> describe() const;
  // The best ways to `peer` first. Those of `previous` are used again where they lead there too.
  void make_paths(const Peer& peer, const Target* previous, bool same_peer, Target& target) const;

 private:
  struct Entry {
    std::shared_ptr<Transport> transport;
    bool implicit;
  };

  // As given, if it fits this machine; else as discovered.
  // With TLS, and it would go around it.
  bool in_plain(const TransportFactory& factory) const;
  Result<NicMatrix> nic_matrix(const NicMatrix* given) const;

  TransportHost& host_;
  const Config& config_;
  const FindTopology find_topology_;
  std::function<void(uint64_t)> on_peer_;
  mutable Mutex mutex_{LockRank::kTransports};
  std::vector<Entry> entries_ TE_GUARDED_BY(mutex_);
};

}  // namespace te
