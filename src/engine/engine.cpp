// The C++ API: creation and end, and the calls that are more than a word to one part.
#include "transfer_engine/engine.h"

#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "base/random.h"
#include "base/thread.h"
#include "core/plan.h"
#include "core/wire.h"
#include "engine/answer.h"
#include "engine/impl.h"
#include "engine/interrupt.h"
#include "engine/own_address.h"
#include "platform/topology.h"
#include "transport/factory.h"

namespace te {
namespace {

constexpr int64_t kPollMs = 1;

constexpr std::string_view kAddressingNames[] = {"", "auto", "offset", "address"};

Status check_addressing(Addressing addressing) {
  const auto mode = static_cast<int32_t>(addressing);
  if (mode >= 0 && mode < std::ssize(kAddressingNames)) return {};
  return error(Code::kInvalidArgument, "addressing {} is not 0 (default) to 3 (address)", mode);
}

// The engine's mode at first: as set, else as its creator has it.
Addressing first_addressing(Config& config, Addressing asked) {
  if (!config.origins.contains("addressing")) {
    if (asked == Addressing::kDefault) asked = Addressing::kOffset;
    config.addressing = kAddressingNames[static_cast<size_t>(asked)];
  }
  const auto* found = std::find(std::begin(kAddressingNames), std::end(kAddressingNames),
                                std::string_view(config.addressing));
  return static_cast<Addressing>(found - std::begin(kAddressingNames));
}

LogLevel level_of(const std::string& name) {
  if (name == "error") return LogLevel::kError;
  if (name == "info") return LogLevel::kInfo;
  return name == "debug" ? LogLevel::kDebug : LogLevel::kWarning;
}

struct StoppedAtTheEnd {
  Transport& transport;
  ~StoppedAtTheEnd() {
    run_persistently([this] { transport.stop(); });
  }
};

}  // namespace

Engine::Impl::Impl(Config config, std::unique_ptr<Directory> directory)
    : config_(std::move(config)),
      instance_(random_u64() | 1),
      publication_(std::move(directory)),
      notifications_(config_.max_notifications),
      topology_(config_.nics),
      transports_(*this, config_, [this] { return topology(); }),
      memory_(instance_, config_, transports_) {
  if (config_.guarded_copies == "handler") fault_handler_.emplace();
}

Result<std::unique_ptr<Engine::Impl>> Engine::Impl::create(const EngineOptions& options) {
  watch_forks();
  Result<Config> config = Config::load(options.config, transport_settings());
  if (!config.ok()) return config.status();
  TE_RETURN_IF_ERROR(check_addressing(options.addressing));
  const Addressing addressing = first_addressing(*config, options.addressing);
  if (config->origins.contains("log_level")) set_log_level(level_of(config->log_level));
  for (const std::string& warning : config->warnings) warn_once(warning);
  for (const std::string& warning : config->limits_without_descriptors()) warn_once(warning);
  DirectoryOptions directory_options;
  directory_options.timeout = std::chrono::milliseconds(config->directory_timeout_ms);
  directory_options.lease = std::chrono::seconds(config->directory_lease_s);
  directory_options.tls = *config;
  directory_options.login = *config;
  config->directory_password = config->directory_token = Secret();  // the directory has them
  Result<std::unique_ptr<Directory>> directory =
      open_directory(options.metadata, directory_options);
  if (!directory.ok()) return directory.status();
  std::unique_ptr<Impl> impl(new Impl(config.take(), directory.take()));
  TE_RETURN_IF_ERROR(impl->start(options));
  impl->transfers_->set_addressing(addressing);
  return impl;
}

Status Engine::Impl::start(const EngineOptions& options) {
  const bool no_server = options.metadata == "P2PHANDSHAKE";
  if (!options.name.empty() || !no_server) TE_RETURN_IF_ERROR(check_segment_name(options.name));
  Result<std::unique_ptr<Peers>> peers =
      Peers::create(instance_, config_, publication_.directory(), memory_, transports_);
  if (!peers.ok()) return peers.status();
  peers_ = peers.take();
  exchanges_ = std::make_unique<Exchanges>(
      instance_, segments(), [this](std::string_view name) { return transports_.find(name); });
  recovery_ = std::make_unique<Recovery>(config_, *peers_);
  notifier_ = std::make_unique<Notifier>(instance_, *peers_);
  transfers_ =
      std::make_unique<Transfers>(config_, memory_, segments(), *recovery_, way_of_notifications());
  recovery_->set_owner(*transfers_);
  fences_ = std::make_unique<Fences>(
      [this](const Peer& peer, std::string_view transport, Bytes hello, Answered answered) {
        exchange(peer, transport, std::move(hello), std::move(answered));
      },
      Transfers::post_held, [this](Slice* slice, Code code) { done(slice, code); });
  transfers_->set_fences(*fences_);
  staging_ = std::make_unique<Staging>(config_, memory_, *transfers_, *this);
  transfers_->set_staging(*staging_);
  transports_.set_on_peer([this](uint64_t instance) { fences_->found(instance); });
  // What is in flight later needs them: here their absence is an error that a caller sees.
  TE_RETURN_IF_ERROR(segments().start());
  TE_RETURN_IF_ERROR(exchanges_->start());
  TE_RETURN_IF_ERROR(transfers_->start());
  Result<OwnAddress> address = choose_own_address(
      {options.name, no_server, options.host, config_.advertise_address, config_.bind_address},
      this_machine(publication_.directory()->local_address()));
  if (!address.ok()) return address.status();
  address_ = address.take();
  uint16_t port = options.port;
  if (Result<HostPort> parsed = parse_host_port(options.name);
      port == 0 && no_server && parsed.ok() && parsed->has_port) {
    port = parsed->port;
  }
  TE_RETURN_IF_ERROR(transports_.install_local());
  transports_.add(std::make_shared<StageServer>(config_, memory_), false);
  TE_RETURN_IF_ERROR(transports_.install("tcp", true).status());
  if (Status status = transports_.install("shm", true).status(); !status.ok()) {
    log_info("processes of this host are reached by TCP: {}", status.message());
  }
  Result<std::unique_ptr<ControlServer>> server =
      ControlServer::start(address_.bind, port, instance_, config_, *this, identity());
  if (!server.ok()) return server.status();
  server_ = server.take();
  publication_.set_name(no_server ? endpoint() : options.name);
  segments().set_local_name(name());
  if (options.auto_discover) {
    TE_RETURN_IF_ERROR(discover_topology());
    for (const TransportInfo& transport : transports_.describe()) {
      // Names with a colon are kinds of a transport, for who wants that very one.
      if (transport.available && transport.name != "local" &&
          transport.name.find(':') == std::string::npos) {
        TE_RETURN_IF_ERROR(install(transport.name, false));
      }
    }
  }
  return publish();
}

Status Engine::Impl::publish() {
  // The directory may outlive the engine.
  const auto alive =
      [instance = instance_, identity = identity(),
       limit = std::chrono::milliseconds(config_.connect_timeout_ms)](const Locator& holder) {
        const Code code = greet(holder, instance, limit, identity).code();
        // One that refuses us is there all the same; one that is silent, or another run, is not.
        return code != Code::kUnavailable && code != Code::kStale && code != Code::kProtocol;
      };
  return publication_.publish(own_locator(), alive);
}

// First nothing comes in, then nothing is begun, then all in flight ends, then the threads. The
// directory, which may be slow, is left meanwhile.
Engine::Impl::~Impl() {
  publication_.begin_leave();
  if (server_) server_->stop();
  if (peers_) peers_->key_holders().stop();
  if (transfers_) transfers_->begin_stop();
  if (recovery_) recovery_->stop();
  if (fences_) fences_->stop();
  if (notifier_) notifier_->stop();
  if (exchanges_) exchanges_->begin_stop();
  transports_.stop();
  if (peers_) peers_->segments().stop();
  if (exchanges_) exchanges_->stop();
  if (peers_) peers_->stop_loop();
  if (transfers_) transfers_->finish_stop();
  publication_.finish_leave();
}

std::shared_ptr<const Bytes> Engine::Impl::describe(const tls::Principal& peer) {
  const Rights rights = rights_of(peer.permissions());
  if (rights == Rights::kBoth && transports_.any_by_key_alone()) peers_->key_holders().add(peer);
  return memory_.encoded_descriptor(rights);
}

Status Engine::Impl::install(std::string_view protocol, bool implicit, const NicMatrix* matrix) {
  MutexLock lock(install_mutex_);
  const std::vector<std::string> replaced = transports_.implicit_but(protocol);
  {
    const WriterLock barrier(memory_.barrier());
    Result<bool> fresh = transports_.install(protocol, implicit, matrix);
    if (!fresh.ok()) return fresh.status();
    if (*fresh) TE_RETURN_IF_ERROR(begin_to_use(protocol));
  }
  for (const std::string& other : replaced) {
    const WriterLock barrier(memory_.barrier());
    TE_RETURN_IF_ERROR(take_away(other));
  }
  return {};
}

Status Engine::Impl::begin_to_use(std::string_view protocol) try {
  Status status = memory_.introduce(*transports_.find(protocol));
  if (!status.ok()) {
    (void)take_away(protocol);
    return status.with_context(fmt::format("registering memory with transport '{}'", protocol));
  }
  segments().rebuild_all();
  return {};
} catch (const std::bad_alloc&) {
  (void)take_away(protocol);  // kNotFound where it was taken away before
  throw;
}

Status Engine::Impl::uninstall(std::string_view protocol) {
  MutexLock lock(install_mutex_);
  const WriterLock barrier(memory_.barrier());
  return take_away(protocol);
}

Status Engine::Impl::take_away(std::string_view protocol) {
  // Out of the plans first, so that what it returns is planned another way.
  Result<std::shared_ptr<Transport>> transport = transports_.retire(protocol);
  if (!transport.ok()) return transport.status();
  // Also where memory runs out before: segments may then keep its paths, which are over, until they
  // are described again, but peers reach nothing through it.
  const StoppedAtTheEnd stopped{**transport};
  memory_.forget(**transport);
  segments().rebuild_all();
  return {};
}

Status Engine::Impl::remove_local_segment(std::string_view name) {
  if (name != this->name()) {
    return error(Code::kInvalidArgument, "the local segment is '{}', not '{}'", this->name(), name);
  }
  return publication_.remove();
}

Status Engine::Impl::warm_up(std::string_view name) {
  const std::shared_ptr<Segment> segment = segments().find(name);
  if (!segment) {
    return error(Code::kNotFound, "segment '{}' is not open: open it first", name);
  }
  const std::shared_ptr<const Target> target = segment->target();
  if (!target) return {};
  for (const std::shared_ptr<Path>& path : target->paths) {
    if (path->state.load() != PathState::kReady) path->transport.warm_up(*path);
  }
  const int64_t patience_ns = static_cast<int64_t>(config_.connect_timeout_ms) * kNsPerMs;
  for (const std::shared_ptr<Path>& path : target->paths) {
    // As long as one after the other gets ready, there are just many.
    const int64_t until = now_ns() + patience_ns;
    while (path->state.load() == PathState::kConnecting && now_ns() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(kPollMs));
    }
    if (path->state.load() == PathState::kReady) continue;
    const Status why = path->last_error();
    return error(Code::kUnavailable, "{} to {} cannot be connected: {}", path->transport.name(),
                 path->remote_address,
                 why.ok() ? wire::silence(config_.connect_timeout_ms) : why.message());
  }
  const int64_t until = now_ns() + patience_ns;
  std::optional<uint64_t> readable;
  for (size_t buffer = 0; buffer < target->descriptor.size() && now_ns() < until; ++buffer) {
    const std::byte* key = nullptr;
    Path* path = choose_path(*target, buffer, MemoryKind::kHost, nullptr, &key);
    if (path == nullptr) continue;
    path->prepare(key, until);
    const RemoteBuffer& known = target->descriptor.buffer(buffer);
    if (!readable && contains(known.rights, Rights::kRead) &&
        !path->transport.capabilities().registers_local_memory) {
      readable = known.address;
    }
  }
  // Last, so that both ends are still awake for what comes next.
  for (const std::shared_ptr<Path>& path : target->paths) path->transport.warm_up(*path);
  return readable ? read_to_warm_up(name, *readable) : Status();
}

Status Engine::Impl::read_to_warm_up(std::string_view name, uint64_t address) {
  constexpr int kTimes = 16;
  const Result<SegmentId> segment = segments().open(name, false);
  if (!segment.ok()) return segment.status();
  // What does not work is for the first transfer to say.
  for (int i = 0; i < kTimes && transfers_->read_to_warm_up(*segment, address);) ++i;
  return segments().close(*segment);
}

Transfers::Notify Engine::Impl::way_of_notifications() {
  Transfers::Notify notify;
  notify.send = [this](const Submission& submission, std::shared_ptr<Segment> segment,
                       uint64_t instance, std::function<void(Status)> done) {
    Notifier::Message message;
    message.segment = std::move(segment);
    message.instance = instance;
    message.notification = &*submission.notification;
    message.cancel = &submission.cancel;
    message.retry_until_ns =
        deadline_after_ms(now_ns(), static_cast<int64_t>(config_.retry_window_ms));
    message.done = std::move(done);
    send_notification(std::move(message));
  };
  notify.sweep = [this] { notifier_->sweep(); };
  return notify;
}

void Engine::Impl::send_notification(Notifier::Message message) {
  if (!message.segment->self) return notifier_->send(std::move(message));
  message.done(notifications_.deliver_own(instance_, *message.notification));
}

Status Engine::Impl::notify(SegmentId target, const Notification& notification) {
  TE_RETURN_IF_ERROR(check_notification(notification));
  const std::shared_ptr<Segment> segment = segments().find(target);
  if (!segment) return error(Code::kNotFound, "there is no open segment with id {}", target);
  const auto answer = std::make_shared<Answer<Status>>();
  Notifier::Message message;
  message.segment = segment;
  message.notification = &notification;
  message.timeout_ms = 2 * static_cast<int64_t>(config_.connect_timeout_ms);
  message.done = [answer](Status status) { answer->set(std::move(status)); };
  std::atomic<Code> cancel{Code::kOk};
  message.cancel = &cancel;
  send_notification(std::move(message));
  std::optional<Status> status = get_unless_interrupted(*answer);
  if (!status) {
    cancel.store(Code::kCancelled);
    notifier_->sweep();
    status = answer->get();
  }
  return status->with_context(fmt::format("segment '{}'", segment->name));
}

// ---- Engine ----

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
// In a forked child it is left as it is: what it would do is the parent's to do.
Engine::~Engine() {
  if (!impl_->check_process().ok()) (void)impl_.release();
}

Status Engine::check_process() const { return impl_->check_process(); }

Result<std::unique_ptr<Engine>> Engine::create(const EngineOptions& options) {
  Result<std::unique_ptr<Impl>> impl = Impl::create(options);
  if (!impl.ok()) return impl.status();
  return std::unique_ptr<Engine>(new Engine(impl.take()));
}

std::string Engine::local_endpoint() const { return impl_->endpoint(); }
std::string Engine::local_name() const { return impl_->name(); }

Status Engine::discover_topology() {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->discover_topology();
}
Result<std::string> Engine::topology() {
  TE_RETURN_IF_ERROR(impl_->check_process());
  const Result<std::shared_ptr<const Topology>> topology = impl_->topology();
  if (!topology.ok()) return topology.status();
  return topology_json(**topology);
}
Result<std::string> Engine::nic_priority_matrix() {
  TE_RETURN_IF_ERROR(impl_->check_process());
  const Result<std::shared_ptr<const Topology>> topology = impl_->topology();
  if (!topology.ok()) return topology.status();
  return make_nic_matrix(**topology).to_json();
}
Status Engine::install_transport(std::string_view protocol, std::string_view nic_priority_matrix) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  if (nic_priority_matrix.empty()) return impl_->install(protocol, false);
  const Result<NicMatrix> matrix = NicMatrix::parse(nic_priority_matrix);
  if (!matrix.ok()) return matrix.status();
  return impl_->install(protocol, false, &*matrix);
}
Status Engine::uninstall_transport(std::string_view protocol) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->uninstall(protocol);
}
std::vector<TransportInfo> Engine::transports() const {
  if (!impl_->check_process().ok()) return {};
  return impl_->transports().describe();
}

Status Engine::register_memory(void* addr, size_t length, std::string_view location,
                               Access access) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  const BufferEntry entry{addr, length};
  return impl_->memory().add({&entry, 1}, location, access);
}
Status Engine::unregister_memory(void* addr) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->memory().remove({&addr, 1});
}
Status Engine::register_memory_batch(std::span<const BufferEntry> buffers,
                                     std::string_view location, Access access) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return buffers.empty() ? Status() : impl_->memory().add(buffers, location, access);
}
Status Engine::unregister_memory_batch(std::span<void* const> addrs) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return addrs.empty() ? Status() : impl_->memory().remove(addrs);
}

Result<void*> Engine::allocate(size_t length, const AllocateOptions& options) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->memory().allocate(length, options);
}
Status Engine::free(void* addr) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->memory().free(addr);
}
Result<size_t> Engine::release(void* addr) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->memory().release(addr);
}

Result<SegmentId> Engine::open_segment(std::string_view name) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->segments().open(name, false);
}
Result<SegmentId> Engine::open_segment_no_cache(std::string_view name) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->segments().open(name, true);
}
Status Engine::close_segment(SegmentId id) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->segments().close(id);
}
Result<SegmentInfo> Engine::describe_segment(SegmentId id) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->describe(id);
}
Status Engine::warmup_segment(std::string_view name) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->warm_up(name);
}
Status Engine::remove_local_segment(std::string_view name) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->remove_local_segment(name);
}
Result<ProbeResult> Engine::probe(std::string_view name, size_t rounds) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->probe(name, rounds);
}

Result<std::vector<PathInfo>> Engine::paths_of(std::string_view name) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->paths_of(name);
}

Status Engine::sync_segment_cache() {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->segments().refresh_now(impl_->segments().all());
}

Status Engine::set_addressing(Addressing addressing) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  TE_RETURN_IF_ERROR(check_addressing(addressing));
  if (addressing == Addressing::kDefault) {
    return Status(Code::kInvalidArgument, "an engine's addressing is auto, offset or address");
  }
  impl_->transfers().set_addressing(addressing);
  return {};
}

Result<BatchId> Engine::allocate_batch(size_t size, const BatchOptions& options) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->transfers().allocate(size, options);
}
size_t Engine::take_completions(std::span<Completion> completions) {
  if (!impl_->check_process().ok()) return 0;
  return impl_->transfers().take_completions(completions);
}
Result<int> Engine::completion_fd() {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->transfers().completion_fd();
}
Status Engine::submit(BatchId batch, std::span<const TransferRequest> requests,
                      const SubmitOptions& options) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  TE_RETURN_IF_ERROR(check_addressing(options.addressing));
  return impl_->transfers().submit(batch, requests, options);
}
struct PreparedList::Ranges {
  MergedList list;
};
size_t PreparedList::ranges() const { return ranges_ ? ranges_->list.ranges.size() : 0; }
uint64_t PreparedList::bytes() const { return ranges_ ? ranges_->list.bytes : 0; }

Status Engine::submit_list(BatchId batch, const BlockList& blocks, const SubmitOptions& options) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  TE_RETURN_IF_ERROR(check_addressing(options.addressing));
  TE_RETURN_IF_ERROR(check_list(blocks));
  return impl_->transfers().submit_list(batch, &blocks, options);
}
Status Engine::submit_list(BatchId batch, const AddressList& addresses,
                           const SubmitOptions& options) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  TE_RETURN_IF_ERROR(check_addressing(options.addressing));
  TE_RETURN_IF_ERROR(check_list(addresses));
  return impl_->transfers().submit_list(batch, &addresses, options);
}
Status Engine::submit_list(BatchId batch, const PreparedList& list, const SubmitOptions& options) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  TE_RETURN_IF_ERROR(check_addressing(options.addressing));
  if (!list.ranges_) return Status(Code::kInvalidArgument, "the list was not prepared");
  return impl_->transfers().submit_list(batch, &list.ranges_->list, options);
}
Result<PreparedList> Engine::prepare(const BlockList& blocks) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  TE_RETURN_IF_ERROR(check_list(blocks));
  return prepare_checked(blocks);
}
Result<PreparedList> Engine::prepare(const AddressList& addresses) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  TE_RETURN_IF_ERROR(check_list(addresses));
  return prepare_checked(addresses);
}
template <typename List>
Result<PreparedList> Engine::prepare_checked(const List& list) try {
  auto ranges = std::make_shared<PreparedList::Ranges>();
  ranges->list = merge(list);
  TE_RETURN_IF_ERROR(impl_->transfers().check(&ranges->list));
  PreparedList prepared;
  prepared.ranges_ = std::move(ranges);
  return prepared;
} catch (const std::bad_alloc&) {
  return Status(Code::kResource, "there is no memory to prepare the list");
}
Result<TransferStatus> Engine::status(BatchId batch, size_t task) const {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->transfers().status(batch, task);
}
Result<TransferStatus> Engine::batch_status(BatchId batch) const {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->transfers().batch_status(batch);
}
Result<TaskError> Engine::task_error(BatchId batch, size_t task) const {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->transfers().task_error(batch, task);
}
Status Engine::wait(BatchId batch, std::optional<std::chrono::milliseconds> timeout) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->transfers().wait(batch, timeout);
}
Status Engine::cancel(BatchId batch) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->transfers().cancel(batch);
}
Result<int> Engine::event_fd(BatchId batch) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->transfers().event_fd(batch);
}
Status Engine::free_batch(BatchId batch) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->transfers().free(batch);
}

Status Engine::notify(SegmentId target, const Notification& notification) {
  TE_RETURN_IF_ERROR(impl_->check_process());
  return impl_->notify(target, notification);
}
std::vector<Notification> Engine::take_notifications() {
  if (!impl_->check_process().ok()) return {};
  return impl_->notifications().take();
}

std::vector<DeviceLoad> Engine::device_loads() {
  if (!impl_->check_process().ok()) return {};
  return impl_->device_loads();
}
std::vector<PathInfo> Engine::paths() const {
  if (!impl_->check_process().ok()) return {};
  return impl_->paths();
}
std::string Engine::effective_config() const { return impl_->config().to_json(); }

}  // namespace te
