// What an Engine is made of, and in which order it comes up and goes down.
#pragma once

#include <unistd.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/fork.h"
#include "base/guarded_copy.h"
#include "base/log.h"
#include "base/options.h"
#include "core/topology.h"
#include "directory/directory.h"
#include "engine/answer.h"
#include "engine/control_server.h"
#include "engine/exchanges.h"
#include "engine/fences.h"
#include "engine/links.h"
#include "engine/memory.h"
#include "engine/notifications.h"
#include "engine/notifier.h"
#include "engine/recovery.h"
#include "engine/segments.h"
#include "engine/transfers.h"
#include "engine/transports.h"

namespace te {

// Recovery and notifications by the clock, the loop and the segments of an engine.
class PeersHost final : public RecoveryHost, public NotifierHost {
 public:
  PeersHost(EventLoop& loop, Segments& segments) : loop_(loop), segments_(segments) {}
  int64_t now_ns() override { return te::now_ns(); }
  bool run_after(int64_t delay_ms, std::function<void()> task) override {
    if (delay_ms <= 0) return loop_.run(std::move(task));
    return loop_.run([this, delay_ms, task = std::move(task)] { loop_.run_after(delay_ms, task); });
  }
  void refresh(const std::shared_ptr<Segment>& segment,
               std::function<void(Status)> refreshed) override {
    segments_.refresh(segment, std::move(refreshed));
  }
  int64_t restarted_ns(const Segment& segment) override { return segment.restarted_ns(); }
  void connect(const std::shared_ptr<Segment>& segment, Found found) override {
    segment->contact->get(
        [found = std::move(found)](Result<std::shared_ptr<ControlClient>> client) {
          if (!client.ok()) return found(client.status());
          found(std::shared_ptr<ControlChannel>(client.take()));
        });
  }

 private:
  EventLoop& loop_;
  Segments& segments_;
};

class __attribute__((visibility("hidden"))) Engine::Impl final : public ControlService,
                                                                 public TransportHost {
 public:
  static Result<std::unique_ptr<Impl>> create(const EngineOptions& options);
  ~Impl() override;
  // kUnsupported in a process that was forked from the one that made the engine.
  Status check_process() const {
    if (generation_ == fork_generation()) return {};
    return error(Code::kUnsupported,
                 "the engine belongs to process {}, from which this one was forked: create a new "
                 "one after the fork",
                 process_);
  }

  Status discover_topology();
  // As discovered, with the NICs that the configuration allows; discovers it if need be.
  Result<std::shared_ptr<const Topology>> topology();
  Status install(std::string_view protocol, bool implicit, const NicMatrix* matrix = nullptr);
  Status uninstall(std::string_view protocol);
  Status remove_local_segment(std::string_view name);
  Status warm_up(std::string_view name);
  Status rehearse(std::string_view name, uint64_t address);
  Status notify(SegmentId target, const Notification& notification);
  Result<ProbeResult> probe(std::string_view name, size_t rounds);
  Result<SegmentInfo> describe(SegmentId id);
  std::vector<DeviceLoad> device_loads();
  std::vector<PathInfo> paths() const;
  Result<std::vector<PathInfo>> paths_of(std::string_view name);
  // Takes the name out of the directory; for a signal, or the end.
  void withdraw();

  // ControlService.
  std::shared_ptr<const Bytes> describe() override { return memory_.encoded_descriptor(); }
  uint64_t generation() override { return memory_.generation(); }
  Status notified(wire::NotifyBody body) override {
    return notifications_.deliver(std::move(body));
  }
  Status exchange(wire::ExchangeBody body, std::function<void(Result<Bytes>)> answered) override {
    return exchanges_->accept(std::move(body), std::move(answered));
  }
  Bytes links() override { return links_as_json(paths()); }
  bool adopt(Fd& connection, const wire::Hello& hello, std::shared_ptr<void> permit) override;
  void end_idlest(int64_t before_ns, const MayEnd& may_end) override;

  // TransportHost.
  void done(Slice* slice, Code code) override { transfers_->done(slice, code); }
  uint64_t instance() const override { return instance_; }
  std::string asked_address() const override { return asked_address_; }
  void exchange(const Peer& peer, std::string_view transport, Bytes hello,
                Answered answered) override {
    exchanges_->ask(peer, transport, std::move(hello), std::move(answered));
  }
  void fence(const Peer& peer, std::string_view transport, Bytes hello) override {
    fences_->add(peer, transport, std::move(hello));
  }

  const Config& config() const { return config_; }
  const std::string& endpoint() const { return endpoint_; }
  const std::string& name() const { return name_; }
  Memory& memory() { return memory_; }
  Segments& segments() { return *segments_; }
  Transfers& transfers() { return *transfers_; }
  Transports& transports() { return transports_; }
  Notifications& notifications() { return notifications_; }

 private:
  Impl(Config config, std::unique_ptr<Directory> directory);
  Status start(const EngineOptions& options);
  Status publish();
  // Begins to withdraw the name. The answer comes when the directory is no longer used.
  std::shared_ptr<Answer<Status>> leave_directory();
  // Registers memory with a transport that was just installed, and makes its paths. On failure,
  // also by an exception, it is taken away.
  Status begin_to_use(std::string_view protocol) TE_REQUIRES(install_mutex_, memory_.barrier());
  // Until it stopped it serves peers, so no buffer is unregistered meanwhile.
  Status take_away(std::string_view protocol) TE_REQUIRES(install_mutex_, memory_.barrier());
  void send_notification(Notifier::Message message);
  Transfers::Notify way_of_notifications();

  const uint32_t generation_ = fork_generation();
  const pid_t process_ = ::getpid();
  const Config config_;
  // Ends after everything that copies.
  std::optional<FaultHandler> fault_handler_;
  const uint64_t instance_;
  const std::shared_ptr<Directory> directory_;  // threads that hang in it keep it
  std::string host_;
  std::string asked_address_;
  std::string endpoint_;
  std::string name_;
  Notifications notifications_;
  std::atomic<uint64_t> next_own_notification_{1};  // to this engine
  Transports transports_;
  Memory memory_;
  Mutex install_mutex_;
  Mutex topology_mutex_;
  std::shared_ptr<const Topology> topology_ TE_GUARDED_BY(topology_mutex_);
  // What a device had moved when its load was asked for last.
  struct Meter {
    uint64_t bytes = 0;
    int64_t at_ns = 0;
    double bytes_per_s = 0;
  };
  Mutex meter_mutex_;
  std::map<std::string, Meter> meters_ TE_GUARDED_BY(meter_mutex_);
  std::atomic<bool> published_{false};
  // Control connections to peers. Outlives what asks them.
  std::unique_ptr<EventLoop> peers_loop_;
  std::unique_ptr<Segments> segments_;
  std::unique_ptr<Exchanges> exchanges_;
  std::unique_ptr<Fences> fences_;
  std::unique_ptr<PeersHost> peers_host_;
  std::unique_ptr<Notifier> notifier_;
  // Recovery and Transfers know each other; transports stop before either goes.
  std::unique_ptr<Recovery> recovery_;
  std::unique_ptr<Transfers> transfers_;
  std::unique_ptr<ControlServer> server_;
};

}  // namespace te
