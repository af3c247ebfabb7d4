// Copies where the source and the target are one engine's. Memory of a GPU is copied by its driver.
#include "transport/local/local.h"

#include <array>

#include "base/guarded_copy.h"
#include "core/access_table.h"
#include "transport/copy_transport.h"

namespace te {
namespace {

class LocalTransport final : public CopyTransport {
 public:
  LocalTransport(TransportHost& host, uint64_t threads)
      : CopyTransport(host, threads, AccessKey::kSize,
                      [this](Slice* run, CopyWay way) { copy(run, way); }) {}
  ~LocalTransport() override { stop(); }
  Status start() { return pool_.start(); }

  std::string_view name() const override { return "local"; }
  Capabilities capabilities() const override {
    Capabilities capabilities = CopyTransport::capabilities();
    capabilities.same_engine_only = true;
    capabilities.reach.local.add(MemoryKind::kCuda);
    capabilities.reach.remote.add(MemoryKind::kCuda);
    return capabilities;
  }

  Result<Bytes> register_memory(const Buffer& buffer) override {
    Bytes bytes(AccessKey::kSize, '\0');  // first, so that no key gets lost when memory is short
    Result<AccessKey> key = table_.add(buffer.address, buffer.length, buffer.remote);
    if (!key.ok()) return key.status();
    key->encode(reinterpret_cast<std::byte*>(bytes.data()));
    if (buffer.device != nullptr) had_devices_.store(true);
    return bytes;
  }
  void unregister_memory(const Buffer& buffer) override {
    const auto key = buffer.keys.find("local");
    if (key != buffer.keys.end()) table_.remove(AccessKey::decode(as_bytes(key->second).data()));
  }

  std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView) override {
    if (!peer.self) return {};
    auto path = std::make_shared<Path>(*this, "", "", peer.to_string());
    path->state.store(PathState::kReady);
    return {path};
  }

 private:
  void copy(Slice* run, CopyWay way);
  Slice* copy_on_devices(Slice* run);

  AccessTable table_;
  std::atomic<bool> had_devices_{false};  // memory that a driver copies was among what is offered
};

// Where the bytes of a slice are, and who copies them: one of the two at least.
struct Ends {
  std::shared_ptr<const DeviceMemory> local, remote;

  bool any() const { return local != nullptr || remote != nullptr; }
  friend bool operator==(const Ends&, const Ends&) = default;
};

Ends ends_of(TransportHost& host, const Slice& slice) {
  return {host.device_memory(reinterpret_cast<uint64_t>(slice.local)),
          host.device_memory(slice.remote_address)};
}

// What a driver copies it reads itself: memory that became inaccessible must not reach it.
Code check_ends(const Ends& ends, const Slice& slice) {
  const bool write = slice.opcode == Opcode::kWrite;
  auto* const remote = reinterpret_cast<std::byte*>(slice.remote_address);
  const auto intact = [&slice](const std::shared_ptr<const DeviceMemory>& device, std::byte* at,
                               bool is_source) {
    if (device != nullptr) return device->check(at, slice.length).ok();
    return is_source ? is_readable(at, slice.length) : is_writable(at, slice.length);
  };
  if (!intact(ends.local, slice.local, write)) return Code::kInvalidArgument;
  return intact(ends.remote, remote, !write) ? Code::kOk : Code::kPermission;
}

// The first slices of the run that have the same ends, in one piece of work for their driver. What
// is left of the run; all of it where the first slice has both ends in host memory.
Slice* LocalTransport::copy_on_devices(Slice* run) {
  const Ends ends = ends_of(host_, *run);
  if (!ends.any()) return run;
  std::array<Slice*, CopyPool::kMaxRun> slices;
  std::array<Code, CopyPool::kMaxRun> codes;
  std::vector<MemoryCopy> copies;
  size_t count = 0;
  do {
    Slice* const slice = run;
    run = slice->next;
    Code code = table_.acquire(AccessKey::decode(slice->key), slice->remote_address, slice->length,
                               target_rights(slice->opcode));
    if (code == Code::kOk) {
      code = check_ends(ends, *slice);
      if (code != Code::kOk) table_.release(AccessKey::decode(slice->key));
    }
    auto* const remote = reinterpret_cast<std::byte*>(slice->remote_address);
    const bool write = slice->opcode == Opcode::kWrite;
    if (code == Code::kOk) {
      copies.push_back(
          {write ? remote : slice->local, write ? slice->local : remote, slice->length});
    }
    slices[count] = slice;
    codes[count++] = code;
  } while (run != nullptr && count < slices.size() && ends_of(host_, *run) == ends);
  const DeviceMemory& device = ends.local != nullptr ? *ends.local : *ends.remote;
  const Status status = device.copy(copies);
  if (!status.ok()) slices.front()->path->set_error(status);
  const Code failure = ends.local != nullptr ? Code::kInvalidArgument : Code::kPermission;
  for (size_t i = 0; i < count; ++i) {
    if (codes[i] == Code::kOk) table_.release(AccessKey::decode(slices[i]->key));
    host_.done(slices[i], codes[i] == Code::kOk && !status.ok() ? failure : codes[i]);
  }
  return run;
}

void LocalTransport::copy(Slice* run, CopyWay way) {
  while (run != nullptr) {
    if (had_devices_.load(std::memory_order_relaxed) || run->task->kind != MemoryKind::kHost) {
      Slice* const rest = copy_on_devices(run);
      if (rest != run) {
        run = rest;
        continue;
      }
    }
    Slice* slice = run;
    run = slice->next;
    const AccessKey key = AccessKey::decode(slice->key);
    Code code =
        table_.acquire(key, slice->remote_address, slice->length, target_rights(slice->opcode));
    if (code == Code::kOk) {
      code = copy_slice(*slice, reinterpret_cast<std::byte*>(slice->remote_address), way);
      table_.release(key);
    }
    host_.done(slice, code);
  }
}

}  // namespace

constexpr TransportFactory kLocalFactory{
    .names = "",
    .settings = kCopySettings,
    .makes = [](std::string_view name) { return name == "local"; },
    .make = [](const TransportSetup& setup) -> Result<std::unique_ptr<Transport>> {
      auto transport =
          std::make_unique<LocalTransport>(setup.host, setup.config.number(kCopyThreads));
      TE_RETURN_IF_ERROR(transport->start());
      return std::unique_ptr<Transport>(std::move(transport));
    },
    .describe = [](const Config&) -> std::vector<TransportInfo> {
      return {{"local", true, false, "copies inside the engine; always installed"}};
    }};

}  // namespace te
