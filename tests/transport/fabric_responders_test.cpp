// The endpoints that peers reach, driven by hand: the target's side works only when the test lets
// it, so what a peer sent stays in the sockets meanwhile.
#include "transport/fabric/responders.h"

#include <gtest/gtest.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/open_sockets.h"
#include "support/facts.h"
#include "transport/fabric/provider.h"
#include "transport/fabric/settings.h"

namespace te::fabric {
namespace {

using test::Stopwatch;

constexpr size_t kSize = 256 << 10;  // more than a provider keeps for itself
constexpr size_t kMostEndpoints = 2;
// Connections are looked at by the clock, not at every call.
constexpr int64_t kPatienceMs = 10'000;

class FabricResponders : public testing::Test {
 protected:
  // False where libfabric is missing; the test is then skipped.
  bool begin() {
    Config config;
    config.set(kAddresses, "127.0.0.1");
    const Result<const Library*> library = Library::open("");
    if (!library.ok()) return false;
    for (std::unique_ptr<Domain>* domain : {&here_, &there_}) {
      Result<std::vector<NicInfo>> nics = find_nics(**library, "tcp", config);
      if (!nics.ok()) return false;
      Result<std::unique_ptr<Domain>> opened = Domain::open(**library, std::move(nics->front()));
      EXPECT_TRUE(opened.ok()) << opened.status().to_string();
      if (!opened.ok()) return false;
      *domain = opened.take();
    }
    responders_ = std::make_unique<Responders>(*there_, kMostEndpoints, [] {});
    EXPECT_TRUE(responders_->open().ok());
    Result<Owned<fid_mr>> range =
        there_->add_range(memory_.data(), kSize, Rights::kBoth, Rights::kBoth, "*");
    EXPECT_TRUE(range.ok()) << range.status().to_string();
    if (range.ok()) range_ = range.take();
    return range.ok();
  }
  static Hello hello(Hello::Type type, uint64_t id, uint64_t epoch) { return {type, 0, id, epoch}; }

  // A peer's endpoint, connected with the one that the target made for it.
  void connect(uint64_t id, uint64_t epoch) {
    ASSERT_NO_FATAL_FAILURE(open_peer(id, epoch));
    post(1);
    ASSERT_TRUE(eventually_done()) << "it does not connect";
  }
  // One that knows where to connect to. `*at`: there.
  void open_peer(uint64_t id, uint64_t epoch, AddressKey* at = nullptr) {
    Result<Bytes> name = responders_->accept(hello(Hello::Type::kOpen, id, epoch));
    ASSERT_TRUE(name.ok()) << name.status().to_string();
    if (at != nullptr) *at = address_key(*name);
    Result<std::shared_ptr<Queue>> queue = Queue::open(*here_);
    ASSERT_TRUE(queue.ok());
    queue_ = queue.take();
    Result<std::unique_ptr<Endpoint>> endpoint = Endpoint::open(*here_, queue_);
    ASSERT_TRUE(endpoint.ok());
    endpoint_ = endpoint.take();
    name->resize(512);
    ASSERT_EQ(::fi_av_insert(queue_->addresses(), name->data(), 1, &to_, 0, nullptr), 1);
  }
  void post(size_t length) {
    const uint64_t at =
        there_->virtual_addresses() ? reinterpret_cast<uint64_t>(memory_.data()) : 0;
    long result = -FI_EAGAIN;
    const Stopwatch watch;
    while (result == -FI_EAGAIN && watch.ms() < kPatienceMs) {
      result = ::fi_write(endpoint_->get(), source_.data(), length, nullptr, to_, at,
                          ::fi_mr_key(range_.get()), &context_);
      if (result == -FI_EAGAIN) {
        responders_->serve();
        done();
      }
    }
    ASSERT_EQ(result, 0);
  }
  bool done() {
    fi_cq_entry entry{};
    return ::fi_cq_read(queue_->get(), &entry, 1) == 1;
  }
  bool eventually_done() {
    for (const Stopwatch watch; watch.ms() < kPatienceMs;) {
      responders_->serve();
      if (done()) return true;
    }
    return false;
  }
  // As a deadline does, with the WRITE in the target's socket.
  void give_up_a_write() {
    std::fill(source_.begin(), source_.end(), 'o');
    post(kSize);
    for (int i = 0; i < 1000; ++i) EXPECT_FALSE(done()) << "the target worked by itself";
    endpoint_.reset();
    queue_.reset();
  }
  // Whether nothing is written over it within the time.
  bool stays(char value, int64_t ms = 200) {
    std::fill(memory_.begin(), memory_.end(), value);
    for (const Stopwatch watch; watch.ms() < ms;) {
      for (int i = 0; i < 100; ++i) responders_->serve();
      if (std::any_of(memory_.begin(), memory_.end(), [value](char c) { return c != value; })) {
        return false;
      }
    }
    return true;
  }

  std::unique_ptr<Domain> here_, there_;
  std::unique_ptr<Responders> responders_;
  std::vector<char> memory_ = std::vector<char>(kSize), source_ = std::vector<char>(kSize, 'f');
  Owned<fid_mr> range_;
  std::shared_ptr<Queue> queue_;
  std::unique_ptr<Endpoint> endpoint_;
  fi_addr_t to_ = FI_ADDR_NOTAVAIL;
  fi_context2 context_{};
};

// The target's half of a WRITE of more than the sockets hold, in memory of its own.
class FabricUnregister : public FabricResponders {
 protected:
  static constexpr size_t kLarge = 64 << 20;
  // Leaves the target in the middle of it.
  void begin_a_write(uint64_t key) {
    connect(1, 1);
    source_.assign(kLarge, 'o');
    const uint64_t at = there_->virtual_addresses() ? reinterpret_cast<uint64_t>(large_.data()) : 0;
    ASSERT_EQ(
        ::fi_write(endpoint_->get(), source_.data(), kLarge, nullptr, to_, at, key, &context_), 0);
    for (const Stopwatch watch; large_.front() == 0 && watch.ms() < kPatienceMs;) {
      responders_->serve();
    }
    ASSERT_EQ(large_.front(), 'o');
    ASSERT_EQ(large_.back(), 0) << "it is whole";
  }
  // Whether the peer, which goes on sending, writes over it within the time.
  bool stays(char value, int64_t ms) {
    std::fill(large_.begin(), large_.end(), value);
    for (const Stopwatch watch; watch.ms() < ms;) {
      for (int i = 0; i < 100; ++i) {
        responders_->serve();
        done();
      }
      if (large_.back() != value) return false;
    }
    return std::all_of(large_.begin(), large_.end(), [value](char c) { return c == value; });
  }

  std::vector<char> large_ = std::vector<char>(kLarge);
};

TEST_F(FabricUnregister, AProviderInSoftwareGoesOnWithAWriteIntoMemoryThatWasClosed) {
  if (!begin()) GTEST_SKIP() << "no libfabric here";
  Result<Owned<fid_mr>> range =
      there_->add_range(large_.data(), kLarge, Rights::kBoth, Rights::kBoth, "*");
  ASSERT_TRUE(range.ok()) << range.status().to_string();
  ASSERT_NO_FATAL_FAILURE(begin_a_write(::fi_mr_key(range->get())));
  range->reset();
  EXPECT_FALSE(stays('n', kPatienceMs)) << "the test below proves nothing";
}

TEST_F(FabricUnregister, NothingOfAWriteLandsInABufferThatWasUnregistered) {
  if (!begin()) GTEST_SKIP() << "no libfabric here";
  Buffer buffer;
  buffer.address = reinterpret_cast<uint64_t>(large_.data());
  buffer.length = kLarge;
  Result<std::unique_ptr<rails::MemoryRegion>> region =
      there_->register_range(buffer, buffer.address, kLarge);
  ASSERT_TRUE(region.ok()) << region.status().to_string();
  ASSERT_NO_FATAL_FAILURE(begin_a_write((*region)->remote_key));
  region->reset();
  EXPECT_TRUE(stays('n', 300));
  EXPECT_EQ(responders_->accept(hello(Hello::Type::kCheck, 1, 1)).code(), Code::kUnavailable)
      << "the peer is told to connect again";
}

TEST_F(FabricUnregister, ABufferThatNoPeerReachesInterruptsNobody) {
  if (!begin()) GTEST_SKIP() << "no libfabric here";
  connect(1, 1);
  Buffer buffer;
  buffer.address = reinterpret_cast<uint64_t>(large_.data());
  buffer.length = kLarge;
  buffer.remote = Rights::kNone;
  ASSERT_TRUE(there_->register_range(buffer, buffer.address, kLarge).ok());
  EXPECT_EQ(responders_->accept(hello(Hello::Type::kCheck, 1, 1)).code(), Code::kOk);
}

TEST_F(FabricResponders, WithoutAFenceAGivenUpWriteLands) {
  if (!begin()) GTEST_SKIP() << "no libfabric here";
  connect(1, 1);
  give_up_a_write();
  EXPECT_FALSE(stays('n', kPatienceMs)) << "the tests below prove nothing";
}

TEST_F(FabricResponders, NothingOfAWriteLandsAfterTheFence) {
  if (!begin()) GTEST_SKIP() << "no libfabric here";
  connect(1, 1);
  give_up_a_write();
  ASSERT_TRUE(responders_->accept(hello(Hello::Type::kRetire, 1, 1)).ok());
  EXPECT_TRUE(stays('n'));
}

TEST_F(FabricResponders, NothingOfAWriteLandsAfterTheNextConnection) {
  if (!begin()) GTEST_SKIP() << "no libfabric here";
  connect(1, 1);
  give_up_a_write();
  ASSERT_NO_FATAL_FAILURE(connect(1, 2));
  EXPECT_TRUE(stays('n'));
}

TEST_F(FabricResponders, AFenceDisturbsNoOtherPeer) {
  if (!begin()) GTEST_SKIP() << "no libfabric here";
  ASSERT_TRUE(responders_->accept(hello(Hello::Type::kOpen, 2, 1)).ok());
  connect(1, 1);
  ASSERT_TRUE(responders_->accept(hello(Hello::Type::kRetire, 2, 1)).ok());
  post(kSize);
  EXPECT_TRUE(eventually_done());
}

size_t open_sockets_at(const AddressKey& address) {
  const std::vector<int> all = list_descriptors();
  return static_cast<size_t>(std::count_if(all.begin(), all.end(), [&address](int fd) {
    return address_key(local_address(fd)) == address;
  }));
}

// A peer that connects and gives up, at any moment of the handshake.
TEST_F(FabricResponders, AClosedEndpointLeavesNoSocketBehind) {
  if (!begin()) GTEST_SKIP() << "no libfabric here";
  size_t left = 0;
  for (uint64_t epoch = 1; epoch <= 100; ++epoch) {
    AddressKey address{};
    ASSERT_NO_FATAL_FAILURE(open_peer(1, epoch, &address));
    const uint64_t at =
        there_->virtual_addresses() ? reinterpret_cast<uint64_t>(memory_.data()) : 0;
    (void)::fi_write(endpoint_->get(), source_.data(), 1, nullptr, to_, at,
                     ::fi_mr_key(range_.get()), &context_);
    for (uint64_t i = 0; i < epoch % 20; ++i) responders_->serve();
    ASSERT_TRUE(responders_->accept(hello(Hello::Type::kRetire, 1, epoch)).ok());
    endpoint_.reset();
    queue_.reset();
    left += open_sockets_at(address);
  }
  EXPECT_EQ(left, 0u);
}

TEST_F(FabricResponders, EpochsAreKeptApart) {
  if (!begin()) GTEST_SKIP() << "no libfabric here";
  const auto code = [&](Hello::Type type, uint64_t epoch) {
    return responders_->accept(hello(type, 7, epoch)).code();
  };
  EXPECT_EQ(code(Hello::Type::kCheck, 1), Code::kUnavailable);
  const Result<Bytes> first = responders_->accept(hello(Hello::Type::kOpen, 7, 2));
  const Result<Bytes> again = responders_->accept(hello(Hello::Type::kOpen, 7, 2));
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_EQ(*first, *again) << "the same hello twice is one";
  EXPECT_EQ(code(Hello::Type::kOpen, 1), Code::kUnavailable) << "an older one that comes late";
  EXPECT_EQ(code(Hello::Type::kRetire, 1), Code::kOk);
  EXPECT_EQ(code(Hello::Type::kCheck, 2), Code::kOk) << "a late fence ended a later connection";
  EXPECT_EQ(code(Hello::Type::kRetire, 2), Code::kOk);
  EXPECT_EQ(code(Hello::Type::kCheck, 2), Code::kUnavailable);
}

TEST_F(FabricResponders, MorePathsThanEndpointsShareThem) {
  if (!begin()) GTEST_SKIP() << "no libfabric here";
  std::vector<Bytes> names;
  for (uint64_t id = 1; id <= 2 * kMostEndpoints; ++id) {
    const Result<Bytes> name = responders_->accept(hello(Hello::Type::kOpen, id, 1));
    ASSERT_TRUE(name.ok());
    names.push_back(*name);
  }
  EXPECT_EQ(names[0], names[2]);
  ASSERT_TRUE(responders_->accept(hello(Hello::Type::kRetire, 1, 1)).ok());
  EXPECT_EQ(responders_->accept(hello(Hello::Type::kCheck, 3, 1)).code(), Code::kUnavailable);
  EXPECT_EQ(responders_->accept(hello(Hello::Type::kCheck, 2, 1)).code(), Code::kOk);
}

}  // namespace
}  // namespace te::fabric
