// What an Engine is made of, and in which order it comes up and goes down.
#pragma once

#include <unistd.h>

#include <memory>
#include <optional>
#include <string>

#include "base/fork.h"
#include "base/guarded_copy.h"
#include "base/log.h"
#include "base/options.h"
#include "core/topology.h"
#include "engine/control_server.h"
#include "engine/exchanges.h"
#include "engine/fences.h"
#include "engine/known_topology.h"
#include "engine/links.h"
#include "engine/load_meter.h"
#include "engine/memory.h"
#include "engine/notifications.h"
#include "engine/notifier.h"
#include "engine/own_address.h"
#include "engine/peers.h"
#include "engine/publication.h"
#include "engine/recovery.h"
#include "engine/stage_server.h"
#include "engine/staging.h"
#include "engine/transfers.h"
#include "engine/transports.h"

namespace te {

// An engine belongs to the process that made it, and not to those forked from it.
class OwnerProcess {
 public:
  // kUnsupported in a process that was forked from the owner.
  Status check() const {
    if (generation_ == fork_generation()) return {};
    return error(Code::kUnsupported,
                 "the engine belongs to process {}, from which this one was forked: create a new "
                 "one after the fork",
                 process_);
  }

 private:
  const uint32_t generation_ = fork_generation();
  const pid_t process_ = ::getpid();
};

class __attribute__((visibility("hidden"))) Engine::Impl final : public ControlService,
                                                                 public TransportHost {
 public:
  static Result<std::unique_ptr<Impl>> create(const EngineOptions& options);
  ~Impl() override;
  Status check_process() const { return owner_.check(); }

  Status discover_topology() { return topology_.discover(); }
  Result<std::shared_ptr<const Topology>> topology() { return topology_.get(); }
  Status install(std::string_view protocol, bool implicit, const NicMatrix* matrix = nullptr);
  Status uninstall(std::string_view protocol);
  Status remove_local_segment(std::string_view name);
  Status warm_up(std::string_view name);
  Status read_to_warm_up(std::string_view name, uint64_t address);
  Status notify(SegmentId target, const Notification& notification);
  Result<ProbeResult> probe(std::string_view name, size_t rounds);
  Result<SegmentInfo> describe(SegmentId id);
  std::vector<DeviceLoad> device_loads();
  std::vector<PathInfo> paths() const;
  Result<std::vector<PathInfo>> paths_of(std::string_view name);
  // Takes the name out of the directory; for a signal, or the end.
  void withdraw() { publication_.withdraw(); }

  // ControlService.
  std::shared_ptr<const Bytes> describe(const tls::Principal& peer) override;
  void check_peers(int64_t now_ns) override { peers_->key_holders().check(now_ns); }
  uint64_t generation() override { return memory_.generation(); }
  Status notified(wire::NotifyBody body) override {
    return notifications_.deliver(std::move(body));
  }
  Status exchange(wire::ExchangeBody body, Rights rights,
                  std::function<void(Result<Bytes>)> answered) override {
    return exchanges_->accept(std::move(body), rights, std::move(answered));
  }
  Bytes links() override { return links_as_json(paths()); }
  bool adopt(tls::Connection& connection, const wire::Hello& hello,
             std::shared_ptr<void> permit) override {
    return transports_.adopt(connection, hello, std::move(permit));
  }
  void end_idlest(int64_t before_ns, const MayEnd& may_end) override {
    transports_.end_idlest(before_ns, may_end);
  }

  // TransportHost.
  void done(Slice* slice, Code code) override { transfers_->done(slice, code); }
  uint64_t instance() const override { return instance_; }
  std::shared_ptr<tls::Identity> identity() const override { return peers_->identity(); }
  std::string asked_address() const override { return address_.asked; }
  void exchange(const Peer& peer, std::string_view transport, Bytes hello,
                Answered answered) override {
    exchanges_->ask(peer, transport, std::move(hello), std::move(answered));
  }
  void fence(const Peer& peer, std::string_view transport, Bytes hello) override {
    fences_->add(peer, transport, std::move(hello));
  }
  std::shared_ptr<const DeviceMemory> device_memory(uint64_t address) override {
    return memory_.device_at(address);
  }
  bool has_device(MemoryKind kind) override {
    const MemoryDriver* const driver = memory_.driver(kind);
    return driver != nullptr && driver->has_device();
  }
  Result<std::shared_ptr<const DeviceMemory>> any_device(MemoryKind kind) override {
    const MemoryDriver* const driver = memory_.driver(kind);
    return driver != nullptr ? driver->any_device() : TransportHost::any_device(kind);
  }
  void unpin(std::byte* begin, size_t length) override { te::unpin(begin, length); }

  const Config& config() const { return config_; }
  std::string endpoint() const { return join_host_port(address_.advertised, server_->port()); }
  const std::string& name() const { return publication_.name(); }
  Memory& memory() { return memory_; }
  Segments& segments() { return peers_->segments(); }
  Transfers& transfers() { return *transfers_; }
  Transports& transports() { return transports_; }
  Notifications& notifications() { return notifications_; }

 private:
  Impl(Config config, std::unique_ptr<Directory> directory);
  Status start(const EngineOptions& options);
  Locator own_locator() const { return {address_.advertised, server_->port(), instance_}; }
  Status publish();
  // Registers memory with a transport that was just installed, and makes its paths. On failure,
  // also by an exception, it is taken away.
  Status begin_to_use(std::string_view protocol) TE_REQUIRES(install_mutex_, memory_.barrier());
  // Until it stopped it serves peers, so no buffer is unregistered meanwhile.
  Status take_away(std::string_view protocol) TE_REQUIRES(install_mutex_, memory_.barrier());
  std::string encryption(const Transport& transport) const;
  void send_notification(Notifier::Message message);
  Transfers::Notify way_of_notifications();

  const OwnerProcess owner_;
  const Config config_;
  // Ends after everything that copies.
  std::optional<FaultHandler> fault_handler_;
  const uint64_t instance_;
  Publication publication_;
  OwnAddress address_;
  Notifications notifications_;
  KnownTopology topology_;
  Transports transports_;
  Memory memory_;
  Mutex install_mutex_{LockRank::kInstall};
  LoadMeter meter_;
  // Outlives what asks peers.
  std::unique_ptr<Peers> peers_;
  std::unique_ptr<Exchanges> exchanges_;
  std::unique_ptr<Fences> fences_;
  std::unique_ptr<Notifier> notifier_;
  // Recovery and Transfers know each other; transports stop before either goes.
  std::unique_ptr<Recovery> recovery_;
  std::unique_ptr<Transfers> transfers_;
  std::unique_ptr<Staging> staging_;  // Transfers knows it
  std::unique_ptr<ControlServer> server_;
};

}  // namespace te
