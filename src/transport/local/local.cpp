// Copies where the source and the target are one engine's.
#include "transport/local/local.h"

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
    return capabilities;
  }

  Result<Bytes> register_memory(const Buffer& buffer) override {
    Bytes bytes(AccessKey::kSize, '\0');  // first, so that no key gets lost when memory is short
    Result<AccessKey> key = table_.add(buffer.address, buffer.length, buffer.remote);
    if (!key.ok()) return key.status();
    key->encode(reinterpret_cast<std::byte*>(bytes.data()));
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

  AccessTable table_;
};

void LocalTransport::copy(Slice* run, CopyWay way) {
  while (run != nullptr) {
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
