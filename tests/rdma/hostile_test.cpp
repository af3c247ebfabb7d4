// A peer that is connected to a NIC here and shows it keys that it was not given.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "base/options.h"
#include "rdma/devices.h"
#include "support/bytes.h"
#include "support/facts.h"
#include "transport/rdma/devices.h"
#include "transport/rdma/message.h"
#include "transport/rdma/rdma.h"

namespace te::test {
namespace {

constexpr uint64_t kOpen = 64 << 10;
constexpr uint64_t kClosed = 76 << 10;  // of a size that no other registration has
constexpr std::byte kBefore{0x5A}, kHostile{0xEE};

class NoEngine : public TransportHost {
 public:
  void done(Slice*, Code) override { ADD_FAILURE() << "nothing was posted"; }
  uint64_t instance() const override { return 1; }
  void exchange(const Peer&, std::string_view, Bytes, Answered answered) override {
    answered(Status(Code::kUnavailable, "nobody is asked"));
  }
  void fence(const Peer&, std::string_view, Bytes) override { ADD_FAILURE() << "no WRITE"; }
};

class Hostile : public testing::Test {
 protected:
  void begin() {
    const Config config{};
    Result<std::unique_ptr<Transport>> target =
        kRdmaFactory.make({host_, config, "rdma", [] {
                             return NicMatrix{{{"*", {"rxe1"}, {}}}};
                           }});
    ASSERT_TRUE(target.ok()) << target.status().to_string();
    target_ = target.take();
    const Result<const rdma::Library*> library = rdma::Library::open("");
    ASSERT_TRUE(library.ok()) << library.status().to_string();
    Result<std::vector<std::unique_ptr<rdma::VerbsNic>>> nics =
        rdma::open_nics(**library, {"rxe0"});
    ASSERT_TRUE(nics.ok()) << nics.status().to_string();
    nic_ = std::move(nics->front());
    Buffer own;
    describe(own, own_, true);
    Result<std::unique_ptr<rails::MemoryRegion>> range =
        nic_->register_range(own, own.address, own.length);
    ASSERT_TRUE(range.ok()) << range.status().to_string();
    range_ = range.take();
  }
  void TearDown() override {
    range_.reset();
    if (target_) target_->stop();
  }

  static void describe(Buffer& buffer, std::vector<std::byte>& memory, bool remote_accessible) {
    buffer.address = reinterpret_cast<uint64_t>(memory.data());
    buffer.length = memory.size();
    buffer.location = "cpu:0";
    buffer.remote = remote_accessible ? Rights::kBoth : Rights::kNone;
  }

  // How the target's NIC takes that.
  ibv_wc_status attempt(ibv_wr_opcode what, uint32_t key, const std::byte* there) {
    ibv_wc_status status = IBV_WC_RETRY_EXC_ERR;
    // No answer: the kernel still looks for the other NIC.
    for (int i = 0; i < 10 && status == IBV_WC_RETRY_EXC_ERR; ++i) status = once(what, key, there);
    return status;
  }
  // On a connection of its own.
  ibv_wc_status once(ibv_wr_opcode what, uint32_t key, const std::byte* there) {
    Result<std::unique_ptr<rdma::QueuePair>> pair = nic_->make_queue_pair(false);
    EXPECT_TRUE(pair.ok()) << pair.status().to_string();
    rdma::Connect hello;
    hello.id = ++connections_;
    hello.from = (*pair)->local();
    const Result<Bytes> answer = target_->accept(encode(rdma::Hello(hello)), Rights::kBoth);
    EXPECT_TRUE(answer.ok()) << answer.status().to_string();
    const Result<rdma::Address> other = rdma::decode_answer(as_bytes(*answer));
    EXPECT_TRUE(other.ok() && (*pair)->connect(*other).ok());
    std::memset(own_.data(), static_cast<int>(kHostile), own_.size());
    ibv_sge piece{reinterpret_cast<uint64_t>(own_.data()), static_cast<uint32_t>(own_.size()),
                  static_cast<uint32_t>(range_->local_key)};
    ibv_send_wr request{};
    request.sg_list = &piece;
    request.num_sge = 1;
    request.opcode = what;
    request.send_flags = IBV_SEND_SIGNALED;
    request.wr.rdma.remote_addr = reinterpret_cast<uint64_t>(there);
    request.wr.rdma.rkey = key;
    ibv_send_wr* refused = nullptr;
    EXPECT_EQ(::ibv_post_send((*pair)->get(), &request, &refused), 0);
    ibv_wc end{};
    EXPECT_TRUE(eventually([&] { return ::ibv_poll_cq(nic_->completions(), 1, &end) == 1; }));
    return end.status;
  }
  // Of the only registration of that length with the target's NIC, as root sees it.
  static std::vector<uint32_t> keys_of(uint64_t length) {
    std::vector<uint32_t> keys;
    FILE* pipe = ::popen("rdma resource show mr dev rxe1", "r");
    if (pipe == nullptr) return keys;
    char line[512];
    while (std::fgets(line, sizeof line, pipe) != nullptr) {
      if (std::strstr(line, fmt::format("mrlen {} ", length).c_str()) == nullptr) continue;
      for (const char* name : {"rkey ", "lkey "}) {
        const char* found = std::strstr(line, name);
        if (found != nullptr) {
          keys.push_back(static_cast<uint32_t>(std::strtoul(found + 5, nullptr, 16)));
        }
      }
    }
    ::pclose(pipe);
    return keys;
  }

  NoEngine host_;
  std::unique_ptr<Transport> target_;
  std::unique_ptr<rdma::VerbsNic> nic_;
  std::vector<std::byte> own_ = std::vector<std::byte>(4096);
  std::unique_ptr<rails::MemoryRegion> range_;
  uint64_t connections_ = 0;
};

TEST_F(Hostile, PrivateMemoryHasNoKeyAndIsClosedToEveryKeyThatIsShown) {
  TE_NEEDS_RDMA_VM();
  ASSERT_NO_FATAL_FAILURE(begin());
  std::vector<std::byte> open(kOpen, kBefore), closed(kClosed, kBefore);
  Buffer open_buffer, closed_buffer;
  describe(open_buffer, open, true);
  describe(closed_buffer, closed, false);
  const Result<Bytes> given = target_->register_memory(open_buffer);
  const Result<Bytes> none = target_->register_memory(closed_buffer);
  ASSERT_TRUE(given.ok() && none.ok());
  EXPECT_TRUE(none->empty()) << "peers are given a key of private memory";

  const Result<rails::Advertisement> advertisement =
      rails::Advertisement::decode(as_bytes(target_->info()));
  ASSERT_TRUE(advertisement.ok());
  rails::Key::Place place;
  ASSERT_TRUE(rails::Key::find(reinterpret_cast<const std::byte*>(given->data()), 0,
                               advertisement->pieces, open_buffer.address, kOpen, &place));
  const auto key = static_cast<uint32_t>(place.key);
  ASSERT_EQ(attempt(IBV_WR_RDMA_WRITE, key, open.data()), IBV_WC_SUCCESS) << "so an attempt works";
  EXPECT_EQ(other_than(open.data(), own_.size(), kHostile), kSame);

  std::vector<uint32_t> keys = keys_of(kClosed);
  ASSERT_FALSE(keys.empty()) << "the kernel does not tell the private memory's keys";
  keys.push_back(key);
  for (const uint32_t shown : keys) {
    for (const ibv_wr_opcode what : {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ}) {
      EXPECT_EQ(attempt(what, shown, closed.data()), IBV_WC_REM_ACCESS_ERR)
          << fmt::format("key {:#x}, operation {}", shown, static_cast<int>(what));
      EXPECT_EQ(other_than(own_.data(), own_.size(), kHostile), kSame) << "bytes were read";
    }
  }
  // Over its end, and what was given once and is not any more.
  EXPECT_EQ(attempt(IBV_WR_RDMA_WRITE, key, open.data() + kOpen - 1), IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(open[kOpen - 1], kBefore);
  target_->unregister_memory(open_buffer);
  EXPECT_EQ(attempt(IBV_WR_RDMA_WRITE, key, open.data() + own_.size()), IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(other_than(open.data() + own_.size(), kOpen - own_.size(), kBefore), kSame);
  EXPECT_EQ(other_than(closed.data(), closed.size(), kBefore), kSame);
}

}  // namespace
}  // namespace te::test
