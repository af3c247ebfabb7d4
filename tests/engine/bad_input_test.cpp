// Wrong arguments: each has its own clear error, and the engine goes on unharmed.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "base/log.h"
#include "base/socket.h"
#include "engine/pair.h"
#include "support/peer.h"
#include "support/servers.h"

namespace te::test {
namespace {

Status create_fails(const EngineOptions& options) {
  Result<std::unique_ptr<Engine>> engine = Engine::create(options);
  EXPECT_FALSE(engine.ok()) << "an engine came of it";
  return engine.status();
}

EngineOptions options_with(const std::string& metadata, const std::string& name = "somebody") {
  EngineOptions options;
  options.metadata = metadata;
  options.name = name;
  options.host = "127.0.0.1";
  options.config = {{"directory_timeout_ms", "1500"}};
  return options;
}

const std::vector<std::pair<std::string, std::string>>& bad_names() {
  static const std::vector<std::pair<std::string, std::string>> names = {
      {std::string(1'025, 'n'), "1025 bytes"},
      {std::string(1 << 20, 'n'), "1048576 bytes"},
      {"\xFF\xFE", "UTF-8"},
      {"caf\xC3", "UTF-8"},
      {"\xC0\xAF", "UTF-8"},
      {"\xED\xA0\x80", "UTF-8"},
      {"\xF5\x80\x80\x80", "UTF-8"},
      {std::string("a\0b", 3), "NUL"}};
  return names;
}

TEST(BadInput, NamesOfSegments) {
  Pair pair;
  EXPECT_TRUE(fails_with(pair.initiator().open_segment(""), Code::kInvalidArgument, "empty"));
  for (const auto& [name, text] : bad_names()) {
    EXPECT_TRUE(fails_with(pair.initiator().open_segment(name), Code::kInvalidArgument, text));
    EXPECT_TRUE(
        fails_with(pair.initiator().open_segment_no_cache(name), Code::kInvalidArgument, text));
    EXPECT_TRUE(fails_with(pair.initiator().probe(name, 1), Code::kInvalidArgument, text));
    EXPECT_FALSE(pair.initiator().warmup_segment(name).ok());
    EXPECT_FALSE(pair.initiator().remove_local_segment(name).ok());
  }
  for (const char* name :
       {"nonsense", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:x", ":", "[::1"}) {
    const Result<SegmentId> opened = pair.initiator().open_segment(name);
    EXPECT_FALSE(opened.ok());
    EXPECT_NE(opened.status().message().find(name), std::string::npos)
        << opened.status().to_string();
  }
  EXPECT_TRUE(pair.works());
}

TEST(BadInput, NamesOfEnginesOnAMetadataServer) {
  RedisServer redis;
  if (!redis.available()) GTEST_SKIP() << redis.program() << " is not installed";
  ASSERT_TRUE(redis.start().ok());
  EXPECT_TRUE(fails_with(create_fails(options_with(redis.url(), "")), Code::kInvalidArgument,
                         "name is empty"));
  for (const auto& [name, text] : bad_names()) {
    EXPECT_TRUE(
        fails_with(create_fails(options_with(redis.url(), name)), Code::kInvalidArgument, text));
  }
  // The longest name there may be, and one in other letters, are no trouble.
  for (const std::string& name :
       {std::string(1'024, 'n'), std::string("h\xC3\xB6rer/\xE2\x82\xAC")}) {
    Result<std::unique_ptr<Engine>> engine = Engine::create(options_with(redis.url(), name));
    ASSERT_TRUE(engine.ok()) << engine.status().to_string();
    Result<std::unique_ptr<Engine>> other = Engine::create(options_with(redis.url(), "other"));
    ASSERT_TRUE(other.ok());
    EXPECT_TRUE((*other)->open_segment(name).ok());
    EXPECT_TRUE(fails_with((*other)->open_segment("nobody"), Code::kNotFound, "nobody"));
  }
}

TEST(BadInput, ConnectionStrings) {
  for (const auto& [metadata, text] : std::vector<std::pair<std::string, std::string>>{
           {"zookeeper://127.0.0.1:1", "zookeeper"},
           {"://", "://"},
           {"", "P2PHANDSHAKE"},
           {"etcd://", "host"},
           {"redis://127.0.0.1:notaport", "notaport"}}) {
    const Status status = create_fails(options_with(metadata));
    EXPECT_TRUE(fails_with(status, Code::kInvalidArgument, text)) << metadata;
  }
}

TEST(BadInput, MetadataServersThatAreNotThere) {
  for (const char* scheme : {"etcd://", "redis://", "http://", ""}) {
    const std::string address = "127.0.0.1:" + std::to_string(free_port());
    const std::string tail = std::string(scheme) == "http://" ? "/metadata" : "";
    const Stopwatch watch;
    EXPECT_TRUE(fails_with(create_fails(options_with(scheme + address + tail)), Code::kUnavailable,
                           address));
    EXPECT_LT(watch.ms(), 4'000);
  }
}

TEST(BadInput, MetadataServersOfAnotherKind) {
  EtcdServer etcd;
  RedisServer redis("secret");
  if (!etcd.available() || !redis.available()) GTEST_SKIP() << "etcd or redis is not installed";
  ASSERT_TRUE(etcd.start().ok() && redis.start().ok());
  for (const std::string& metadata : {"redis://" + etcd.endpoint(), "etcd://" + redis.endpoint(),
                                      "http://" + redis.endpoint() + "/metadata"}) {
    const Stopwatch watch;
    const Status status = create_fails(options_with(metadata));
    EXPECT_NE(status.message().find("127.0.0.1:"), std::string::npos) << status.to_string();
    EXPECT_LT(watch.ms(), 6'000) << metadata;
  }
  for (const std::string& metadata :
       {"redis://:wrong@" + redis.endpoint(), "redis://" + redis.endpoint()}) {
    const Status status = create_fails(options_with(metadata));
    EXPECT_TRUE(fails_with(status, Code::kPermission, "password"));
    EXPECT_EQ(status.message().find("wrong@"), std::string::npos) << "a password in an error";
  }
}

TEST(BadInput, TransportsThatAreNotThere) {
  Pair pair;
  for (const char* name : {"TCP", "", "warp"}) {
    EXPECT_TRUE(fails_with(pair.initiator().install_transport(name), Code::kNotFound, "transport"));
    EXPECT_TRUE(
        fails_with(pair.initiator().uninstall_transport(name), Code::kNotFound, "transport"));
    EXPECT_TRUE(fails_with(pair.initiator().install_transport(name), Code::kNotFound,
                           "shm, rdma, efa, fabric:PROVIDER, tcp"));
  }
  EXPECT_TRUE(fails_with(pair.initiator().install_transport("tcp", "{not json"),
                         Code::kInvalidArgument, "JSON"));
  EXPECT_TRUE(pair.works());
}

TEST(BadInput, PortsInUse) {
  Pair pair;
  EngineOptions options;
  options.host = "127.0.0.1";
  const std::string endpoint = pair.target().local_endpoint();
  const std::string port = endpoint.substr(endpoint.rfind(':') + 1);
  options.port = static_cast<uint16_t>(std::stoi(port));
  EXPECT_TRUE(fails_with(create_fails(options), Code::kAlreadyExists, port));
  options.port = 0;
  options.name = endpoint;
  EXPECT_TRUE(fails_with(create_fails(options), Code::kAlreadyExists, port));
  EXPECT_TRUE(pair.works());
}

TEST(BadInput, Registrations) {
  Pair pair;
  Engine& engine = pair.initiator();
  constexpr size_t kSize = 1 << 16;
  std::vector<std::byte> memory(kSize);
  std::byte* at = memory.data();
  ASSERT_TRUE(engine.register_memory(at + 1024, 4096).ok());
  EXPECT_TRUE(fails_with(engine.register_memory(nullptr, 10), Code::kInvalidArgument, "null"));
  EXPECT_TRUE(fails_with(engine.register_memory(at, 0), Code::kInvalidArgument, "length"));
  EXPECT_TRUE(
      fails_with(engine.register_memory(at + 8192, SIZE_MAX), Code::kInvalidArgument, "wrap"));
  for (const auto& [begin, length] : std::vector<std::pair<size_t, size_t>>{
           {1024, 4095}, {1024, 1}, {5119, 1}, {0, 1025}, {0, kSize}, {2048, 100}, {5119, 4096}}) {
    EXPECT_TRUE(
        fails_with(engine.register_memory(at + begin, length), Code::kAlreadyExists, "overlap"))
        << begin << " " << length;
  }
  // What only touches is another buffer.
  EXPECT_TRUE(engine.register_memory(at, 1024).ok());
  EXPECT_TRUE(engine.register_memory(at + 5120, 10).ok());
  for (const char* location :
       {"", "gpu:0", "cpu", "cpu:", "cpu:x", "cpu:-1", "cpu:4096", "cpu:0 "}) {
    EXPECT_TRUE(fails_with(engine.register_memory(at + 8192, 10, location), Code::kInvalidArgument,
                           "location"))
        << location;
  }
  EXPECT_TRUE(fails_with(engine.register_memory(at + 8192, 10, "cuda:0"), Code::kInvalidArgument,
                         "'cuda:0', but"));
  EXPECT_TRUE(fails_with(engine.unregister_memory(at + 1), Code::kNotFound, "registered"));
  EXPECT_TRUE(fails_with(engine.unregister_memory(nullptr), Code::kNotFound, "registered"));
  EXPECT_TRUE(engine.unregister_memory(at).ok());
  EXPECT_EQ(engine.unregister_memory(at).code(), Code::kNotFound) << "twice";
  // All or none.
  const size_t before = engine.describe_segment(kLocalSegment)->buffers.size();
  const std::vector<BufferEntry> entries = {{at + 8192, 10}, {at + 9000, 10}, {at + 1500, 10}};
  EXPECT_TRUE(fails_with(engine.register_memory_batch(entries), Code::kAlreadyExists, "buffer 2"));
  EXPECT_EQ(engine.describe_segment(kLocalSegment)->buffers.size(), before);
  EXPECT_TRUE(engine.register_memory(at + 8192, 10).ok());
  const std::vector<void*> addresses = {at + 8192, at + 5120, at + 7};
  EXPECT_EQ(engine.unregister_memory_batch(addresses).code(), Code::kNotFound);
  EXPECT_EQ(engine.describe_segment(kLocalSegment)->buffers.size(), before + 1);
  EXPECT_TRUE(engine.unregister_memory_batch(std::vector<void*>{at + 8192, at + 5120}).ok());
  EXPECT_TRUE(engine.unregister_memory(at + 1024).ok());
  EXPECT_TRUE(pair.works());
}

class BadRequests : public testing::Test {
 protected:
  BadRequests() {
    std::memset(pair_.remote(), 0x42, Pair::kSize);
    std::memset(pair_.local(), 0x17, Pair::kSize);
  }

  // The request is refused on its own, and in the middle of good ones: then none of them starts.
  void refused(const TransferRequest& bad, Code code, const std::string& text) {
    Engine& engine = pair_.initiator();
    const BatchId batch = *engine.allocate_batch(3);
    EXPECT_TRUE(fails_with(engine.submit(batch, {&bad, 1}), code, text));
    const std::vector<TransferRequest> among = {pair_.write(0, 1000), bad, pair_.write(5000, 1000)};
    const Status status = engine.submit(batch, among);
    EXPECT_TRUE(fails_with(status, code, text));
    EXPECT_TRUE(fails_with(status, code, "request 1"));
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(engine.status(batch, i)->state, TaskState::kWaiting);
    EXPECT_TRUE(engine.wait(batch, std::chrono::milliseconds(0)).ok());
    EXPECT_EQ(other_than(pair_.remote(), Pair::kSize, std::byte{0x42}), kSame);
    // The batch still takes what is right.
    const TransferRequest good = pair_.read(0, 10);
    EXPECT_TRUE(engine.submit(batch, {&good, 1}).ok());
    EXPECT_TRUE(engine.wait(batch).ok());
    EXPECT_EQ(engine.status(batch, 0)->state, TaskState::kCompleted);
    EXPECT_TRUE(engine.free_batch(batch).ok());
  }

  // What the target does not offer as far as is known here is accepted, and ends once the target
  // was asked: it alone.
  void not_offered(const TransferRequest& bad, Code code, const std::string& text) {
    Engine& engine = pair_.initiator();
    const TransferRequest good = pair_.read(0, 10);
    const BatchId batch = submit_new(engine, {good, bad, good});
    ASSERT_TRUE(engine.wait(batch, kPatience).ok());
    EXPECT_EQ(engine.status(batch, 0)->state, TaskState::kCompleted);
    EXPECT_EQ(engine.status(batch, 1)->state, TaskState::kFailed);
    EXPECT_EQ(engine.status(batch, 1)->transferred_bytes, 0u);
    EXPECT_EQ(engine.status(batch, 2)->state, TaskState::kCompleted);
    EXPECT_TRUE(fails_with(engine.task_error(batch, 1)->status, code, text));
    EXPECT_TRUE(engine.free_batch(batch).ok());
    EXPECT_EQ(other_than(pair_.remote(), Pair::kSize, std::byte{0x42}), kSame);
  }

  Pair pair_;
};

TEST_F(BadRequests, Sources) {
  std::vector<std::byte> other(1000);
  TransferRequest request = pair_.write(0, 100);
  request.source = other.data();
  refused(request, Code::kInvalidArgument, "not in registered memory");
  request.source = nullptr;
  refused(request, Code::kInvalidArgument, "not in registered memory");
  request.source = pair_.local() + Pair::kSize - 50;
  refused(request, Code::kInvalidArgument, "50 of the 100 bytes");
  request.source = pair_.local() - 50;
  refused(request, Code::kInvalidArgument, "not in registered memory");
  request = pair_.write(0, UINT64_MAX);
  refused(request, Code::kInvalidArgument, "registered buffer");
  EXPECT_TRUE(pair_.works());
}

TEST_F(BadRequests, TargetRanges) {
  TransferRequest request = pair_.write(0, 100);
  request.target_offset = pair_.address() + Pair::kSize - 50;
  not_offered(request, Code::kOutOfRange, "50 bytes are left");
  request.target_offset = Pair::kSize - 99;
  not_offered(request, Code::kOutOfRange, "99 bytes are left");
  request.target_offset = pair_.address() - 1;
  not_offered(request, Code::kOutOfRange, "no buffer");
  request.target_offset = Pair::kSize;
  not_offered(request, Code::kOutOfRange, "no buffer");
  request.target_offset = UINT64_MAX - 50;
  refused(request, Code::kOutOfRange, "wrap");
  request.opcode = Opcode::kRead;
  refused(request, Code::kOutOfRange, "wrap");
  // Two buffers that adjoin in the segment are two all the same.
  Registered second(pair_.target(), 4096);
  request = pair_.write(0, 100);
  request.target_offset = Pair::kSize - 10;
  not_offered(request, Code::kOutOfRange, "cross");
  EXPECT_TRUE(pair_.works());
}

TEST_F(BadRequests, BuffersWithoutRemoteAccess) {
  Registered closed(pair_.target(), 4096, false);
  std::memset(closed.data(), 0x33, closed.size());
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    TransferRequest request = pair_.write(0, 100);
    request.opcode = opcode;
    request.target_offset = reinterpret_cast<uint64_t>(closed.data());
    not_offered(request, Code::kPermission, "remote access");
  }
  EXPECT_EQ(other_than(closed.data(), closed.size(), std::byte{0x33}), kSame);
  EXPECT_EQ(other_than(pair_.local() + 10, Pair::kSize - 10, std::byte{0x17}), kSame);
  EXPECT_TRUE(pair_.works());
}

TEST_F(BadRequests, Segments) {
  const Result<SegmentId> closed = pair_.target().open_segment(pair_.initiator().local_endpoint());
  ASSERT_TRUE(closed.ok());
  std::unique_ptr<Engine> third = make_engine();
  const Result<SegmentId> gone = pair_.initiator().open_segment(third->local_endpoint());
  ASSERT_TRUE(gone.ok());
  ASSERT_TRUE(pair_.initiator().close_segment(*gone).ok());
  for (const SegmentId id : {*gone, -1, INT32_MIN, INT32_MAX, pair_.segment() + 1}) {
    TransferRequest request = pair_.write(0, 100);
    request.target_id = id;
    refused(request, Code::kNotFound, std::to_string(id));
    EXPECT_EQ(pair_.initiator().describe_segment(id).code(), Code::kNotFound);
    EXPECT_EQ(pair_.initiator().notify(id, {"a", "b"}).code(), Code::kNotFound);
    EXPECT_EQ(pair_.initiator().close_segment(id).code(), Code::kNotFound);
  }
  // Another engine's id means nothing here, except by accident of 1 in 2^16.
  if (*closed != pair_.segment()) {
    TransferRequest request = pair_.write(0, 100);
    request.target_id = *closed;
    refused(request, Code::kNotFound, std::to_string(*closed));
  }
  EXPECT_TRUE(pair_.works());
}

TEST_F(BadRequests, OpcodesAndCounts) {
  TransferRequest request = pair_.write(0, 100);
  request.opcode = static_cast<Opcode>(7);
  refused(request, Code::kInvalidArgument, "7");
  Engine& engine = pair_.initiator();
  const BatchId batch = *engine.allocate_batch(2);
  const std::vector<TransferRequest> three = {pair_.write(0, 10), pair_.write(10, 10),
                                              pair_.write(20, 10)};
  EXPECT_TRUE(fails_with(engine.submit(batch, three), Code::kNoSpace, "3 requests do not fit"));
  EXPECT_EQ(other_than(pair_.remote(), Pair::kSize, std::byte{0x42}), kSame) << "nothing started";
  ASSERT_TRUE(engine.submit(batch, {three.data(), 2}).ok());
  EXPECT_TRUE(fails_with(engine.submit(batch, {three.data(), 1}), Code::kNoSpace,
                         "1 request does not fit: the batch holds 2, of which 2 are used"));
  ASSERT_TRUE(engine.wait(batch).ok());
  EXPECT_EQ(engine.batch_status(batch)->transferred_bytes, 20u);
  EXPECT_TRUE(engine.submit(batch, {}).ok()) << "nothing is nothing";
  EXPECT_TRUE(engine.free_batch(batch).ok());
  EXPECT_TRUE(pair_.works());
}

TEST_F(BadRequests, LengthZeroCompletesAndTouchesNothing) {
  for (const Opcode opcode : {Opcode::kRead, Opcode::kWrite}) {
    TransferRequest request = pair_.write(0, 0);
    request.opcode = opcode;
    EXPECT_EQ(transfer(pair_.initiator(), {request}).state, TaskState::kCompleted);
  }
  EXPECT_EQ(other_than(pair_.remote(), Pair::kSize, std::byte{0x42}), kSame);
  EXPECT_EQ(other_than(pair_.local(), Pair::kSize, std::byte{0x17}), kSame);
  EXPECT_TRUE(pair_.works());
}

TEST_F(BadRequests, Notifications) {
  Engine& engine = pair_.initiator();
  const Notification huge{"name", std::string(64 << 20, 'x')};
  EXPECT_TRUE(
      fails_with(engine.notify(pair_.segment(), huge), Code::kInvalidArgument, "too large"));
  SubmitOptions options;
  options.notification = Notification{"a", "b"};
  const BatchId batch = *engine.allocate_batch(2);
  EXPECT_TRUE(fails_with(engine.submit(batch, {}, options), Code::kInvalidArgument, "no request"));
  TransferRequest other = pair_.write(0, 10);
  other.target_id = kLocalSegment;
  other.target_offset = 0;
  const std::vector<TransferRequest> two = {pair_.write(0, 10), other};
  EXPECT_TRUE(
      fails_with(engine.submit(batch, two, options), Code::kInvalidArgument, "one segment"));
  EXPECT_TRUE(engine.free_batch(batch).ok());
  EXPECT_EQ(other_than(pair_.remote(), Pair::kSize, std::byte{0x42}), kSame);
  EXPECT_TRUE(pair_.target().take_notifications().empty());
  EXPECT_TRUE(pair_.works());
}

TEST(BadInput, Settings) {
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"tcp_connectoins", "2"},
                                                        {"tcp_connections", "65"},
                                                        {"tcp_connections", "many"},
                                                        {"tcp_connections", "99999999999999999999"},
                                                        {"tcp_zero_copy", "yes"},
                                                        {"slice_bytes", "-1"},
                                                        {"transfer_timeout_ms", ""},
                                                        {"log_level", "loud"}}) {
    EngineOptions options;
    options.config = {{name, value}};
    EXPECT_TRUE(fails_with(create_fails(options), Code::kInvalidArgument, name)) << value;
  }
}

// The environment belongs to the whole process, so another one tries it.
TEST(BadInput, EnvironmentValues) {
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{
           {"TRANSFER_ENGINE_TCP_CONNECTIONS", "none"}, {"TE_SLICE_BYTES", "1"}}) {
    const std::string refused = mover_error({{name, value}});
    EXPECT_NE(refused.find(name), std::string::npos) << refused;
    EXPECT_NE(refused.find("invalid_argument"), std::string::npos) << refused;
  }
}

}  // namespace
}  // namespace te::test
