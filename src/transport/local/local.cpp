// A few threads that copy what post() queues, each piece by whoever is free.
#include "transport/local/local.h"

#include <pthread.h>

#include <cstring>
#include <thread>

#include "base/thread_annotations.h"
#include "core/access_table.h"

namespace te {
namespace {

class LocalTransport final : public Transport {
 public:
  LocalTransport(TransportHost& host, uint64_t threads) : host_(host) {
    for (uint64_t i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~LocalTransport() override { stop(); }

  std::string_view name() const override { return "local"; }
  Capabilities capabilities() const override {
    return {.same_engine_only = true, .data_over_engine_port = false, .key_size = AccessKey::kSize};
  }
  std::vector<DeviceLoad> loads() const override { return {{"local", queued_bytes_.load(), 0}}; }

  Result<Bytes> register_memory(const Buffer& buffer) override {
    Result<AccessKey> key = table_.add(buffer.address, buffer.length);
    if (!key.ok()) return key.status();
    Bytes bytes(AccessKey::kSize, '\0');
    key->encode(reinterpret_cast<std::byte*>(bytes.data()));
    return bytes;
  }
  void unregister_memory(const Buffer& buffer) override {
    const auto key = buffer.keys.find("local");
    if (key != buffer.keys.end()) table_.remove(AccessKey::decode(as_bytes(key->second).data()));
  }

  std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView) override {
    if (!peer.self) return {};
    auto path = std::make_shared<Path>(*this, "", "", "this engine");
    path->state.store(PathState::kReady);
    return {path};
  }
  void warm_up(Path&) override {}
  void adopt(Fd, const wire::Hello&, std::shared_ptr<void>) override {}

  void post(Slice* first) override;
  void sweep(Path&) override;
  void reset(Path& path) override;
  void stop() override;

 private:
  void work();
  void copy(Slice* slice);
  void give_back(Slice* first, Code code);
  // Takes out of the queue what `wanted` holds for, and returns it as `code`.
  template <typename Wanted>
  void take_back(Code code, Wanted&& wanted);

  TransportHost& host_;
  AccessTable table_;
  std::vector<std::thread> threads_;
  std::atomic<uint64_t> queued_bytes_{0};
  Mutex mutex_;
  CondVar changed_;
  Slice* first_ TE_GUARDED_BY(mutex_) = nullptr;
  Slice* last_ TE_GUARDED_BY(mutex_) = nullptr;
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
};

void LocalTransport::post(Slice* first) {
  uint64_t bytes = 0;
  Slice* last = first;
  for (Slice* slice = first; slice != nullptr; slice = slice->next) {
    bytes += slice->length;
    last = slice;
  }
  queued_bytes_.fetch_add(bytes);
  MutexLock lock(mutex_);
  if (stopping_) {
    mutex_.unlock();
    give_back(first, Code::kCancelled);
    mutex_.lock();
    return;
  }
  (first_ == nullptr ? first_ : last_->next) = first;
  last_ = last;
  if (first == last) {
    changed_.notify_one();
  } else {
    changed_.notify_all();
  }
}

void LocalTransport::copy(Slice* slice) {
  const AccessKey key = AccessKey::decode(slice->key);
  Code code = table_.acquire(key, slice->remote_address, slice->length);
  if (code == Code::kOk) {
    auto* remote = reinterpret_cast<std::byte*>(slice->remote_address);
    // The two may overlap: it is the caller's own memory.
    if (slice->opcode == Opcode::kWrite) {
      std::memmove(remote, slice->local, slice->length);
    } else {
      std::memmove(slice->local, remote, slice->length);
    }
    table_.release(key);
  }
  queued_bytes_.fetch_sub(slice->length);
  host_.done(slice, code);
}

void LocalTransport::work() {
  ::pthread_setname_np(::pthread_self(), "te-copy");
  MutexLock lock(mutex_);
  for (;;) {
    while (first_ == nullptr) {
      if (stopping_) return;
      changed_.wait(mutex_);
    }
    Slice* slice = first_;
    first_ = slice->next;
    mutex_.unlock();
    copy(slice);
    mutex_.lock();
  }
}

template <typename Wanted>
void LocalTransport::take_back(Code code, Wanted&& wanted) {
  Slice* taken = nullptr;
  {
    MutexLock lock(mutex_);
    Slice* rest = first_;
    first_ = last_ = nullptr;
    while (rest != nullptr) {
      Slice* slice = rest;
      rest = rest->next;
      slice->next = nullptr;
      if (wanted(*slice)) {
        slice->next = taken;
        taken = slice;
      } else {
        (first_ == nullptr ? first_ : last_->next) = slice;
        last_ = slice;
      }
    }
  }
  give_back(taken, code);
}

void LocalTransport::give_back(Slice* first, Code code) {
  while (first != nullptr) {
    Slice* slice = first;
    first = slice->next;
    queued_bytes_.fetch_sub(slice->length);
    host_.done(slice, code);
  }
}

void LocalTransport::sweep(Path&) {
  take_back(Code::kCancelled, [](const Slice& slice) { return slice.cancelled(); });
}

void LocalTransport::reset(Path& path) {
  take_back(Code::kUnavailable, [&path](const Slice& slice) { return slice.path == &path; });
}

void LocalTransport::stop() {
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
  }
  take_back(Code::kCancelled, [](const Slice&) { return true; });
  {
    MutexLock lock(mutex_);
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace

Result<std::unique_ptr<Transport>> make_local_transport(TransportHost& host, const Config& config) {
  return std::unique_ptr<Transport>(std::make_unique<LocalTransport>(host, config.copy_threads));
}

}  // namespace te
