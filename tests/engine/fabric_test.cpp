// The libfabric transport beyond what the conformance suite shows: NICs, pieces, counters, and
// machines without the library.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/socket.h"
#include "engine/fabric.h"
#include "support/peer.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

TEST_F(Fabric, BatchesOf64RequestsMove128MiBBothWays) {
  constexpr uint64_t kCount = 64, kPiece = 1 << 20, kSize = 128 << 20;
  if (!begin(kOneNic, kSize)) GTEST_SKIP() << why_;
  const auto move_all = [&](Opcode opcode) {
    std::vector<BatchId> batches;
    for (uint64_t at = 0; at < kSize; at += kCount * kPiece) {
      std::vector<TransferRequest> requests;
      for (uint64_t i = 0; i < kCount; ++i) {
        requests.push_back(request(opcode, at + i * kPiece, kPiece));
      }
      batches.push_back(submit_new(*initiator_, requests));
    }
    for (const BatchId batch : batches) {
      EXPECT_TRUE(initiator_->wait(batch, kPatience).ok());
      EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kCompleted);
      EXPECT_TRUE(initiator_->free_batch(batch).ok());
    }
  };
  fill(local_->data(), kSize, 1);
  move_all(Opcode::kWrite);
  EXPECT_EQ(first_difference(remote_->data(), kSize, 1), kSize);
  fill(remote_->data(), kSize, 2);
  move_all(Opcode::kRead);
  EXPECT_EQ(first_difference(local_->data(), kSize, 2), kSize);
  const Totals after = totals(*initiator_);
  EXPECT_EQ(after.completed, 2 * kSize / kPiece) << "one end for each slice";
  EXPECT_EQ(after.failed, 0u);
  EXPECT_EQ(after.inflight, 0u);
}

// Without fabric_addresses: on the address that the engine was given, not on all of the machine.
TEST_F(Fabric, TheEnginesAddressIsItsNic) {
  std::vector<InterfaceAddress> own;
  for (const InterfaceAddress& each : all_interface_addresses()) {
    const bool zone = each.address.find('%') != std::string::npos;
    if (each.up && !zone && (each.loopback || own.size() < 2)) own.push_back(each);
  }
  for (const InterfaceAddress& address : own) {
    SCOPED_TRACE(address.address);
    for (const bool bound : {false, true}) {
      EngineOptions options;
      options.host = bound ? "" : address.address;
      if (bound) options.config["bind_address"] = address.address;
      Result<std::unique_ptr<Engine>> target = Engine::create(options);
      ASSERT_TRUE(target.ok()) << target.status().to_string();
      const Status installed = (*target)->install_transport("fabric:tcp");
      if (installed.code() == Code::kUnsupported) GTEST_SKIP() << installed.message();
      ASSERT_TRUE(installed.ok()) << installed.to_string();
      std::string why;
      const auto initiator = make_fabric_engine({{"fabric_addresses", address.address}}, &why);
      ASSERT_TRUE(initiator) << why;
      std::vector<std::byte> local(4096), remote(4096);
      ASSERT_TRUE((*target)->register_memory(remote.data(), remote.size()).ok());
      ASSERT_TRUE(initiator->register_memory(local.data(), local.size()).ok());
      fill(local.data(), local.size(), 7);
      const SegmentId segment = *initiator->open_segment((*target)->local_endpoint());
      const TransferRequest write{Opcode::kWrite, local.data(), segment, 0, local.size()};
      EXPECT_EQ(transfer(*initiator, {write}).state, TaskState::kCompleted);
      EXPECT_EQ(first_difference(remote.data(), remote.size(), 7), remote.size());
      const std::vector<PathInfo> paths = initiator->paths();
      ASSERT_EQ(paths.size(), 1u);
      EXPECT_EQ(paths[0].remote_device, address.interface);
    }
  }
}

// On one host, as over TCP. To other hosts' NICs a loopback address does not lead.
TEST_F(Fabric, ALoopbackAddressMeetsThoseOfTheHostsNetworks) {
  const InterfaceAddress* network = nullptr;
  const std::vector<InterfaceAddress> own = all_interface_addresses();
  for (const InterfaceAddress& each : own) {
    const bool v4 = each.address.find(':') == std::string::npos;
    if (each.up && v4 && !each.loopback) network = &each;
  }
  if (network == nullptr) GTEST_SKIP() << "no network but loopback";
  const Settings loopback{{"fabric_addresses", "127.0.0.1"}};
  const Settings other{{"fabric_addresses", network->address}};
  for (const bool from_loopback : {false, true}) {
    SCOPED_TRACE(from_loopback);
    const Settings& here = from_loopback ? loopback : other;
    const Settings& there = from_loopback ? other : loopback;
    if (!begin(here, there, 4096, "fabric:tcp")) GTEST_SKIP() << why_;
    fill(local_->data(), 4096, 7);
    EXPECT_EQ(transfer(*initiator_, {request(Opcode::kWrite, 0, 4096)}).state,
              TaskState::kCompleted);
    EXPECT_EQ(first_difference(remote_->data(), 4096, 7), 4096u);
    fill(remote_->data(), 4096, 8);
    EXPECT_EQ(transfer(*initiator_, {request(Opcode::kRead, 0, 4096)}).state,
              TaskState::kCompleted);
    EXPECT_EQ(first_difference(local_->data(), 4096, 8), 4096u);
    end();
  }
}

TEST_F(Fabric, TwentyBatchesOfEightAtOnce) {
  constexpr uint64_t kBatches = 20, kRequests = 8, kPiece = 100'003;
  if (!begin(kTwoNics, kBatches * kRequests * kPiece)) GTEST_SKIP() << why_;
  for (uint64_t round = 0; round < 5; ++round) {
    fill(local_->data(), local_->size(), round);
    std::atomic<uint64_t> completed{0};
    std::vector<std::thread> threads;
    for (uint64_t batch = 0; batch < kBatches; ++batch) {
      threads.emplace_back([&, batch] {
        std::vector<TransferRequest> requests;
        for (uint64_t i = 0; i < kRequests; ++i) {
          requests.push_back(request(Opcode::kWrite, (batch * kRequests + i) * kPiece, kPiece));
        }
        if (transfer(*initiator_, requests).state == TaskState::kCompleted) ++completed;
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(completed.load(), kBatches);
    ASSERT_EQ(first_difference(remote_->data(), remote_->size(), round), remote_->size());
  }
  const Totals after = totals(*initiator_);
  EXPECT_EQ(after.completed, 5 * kBatches * kRequests) << "one end for each slice";
  EXPECT_EQ(after.failed, 0u);
}

// NICs that are equally fast are used alike; but what a loaded machine lets each do in one request
// may differ, so it is one of many requests that has to show it.
TEST_F(Fabric, SlicesOfOneRequestUseAllNics) {
  constexpr uint64_t kSize = 64 << 20;
  if (!begin(kTwoNics, kSize)) GTEST_SKIP() << why_;
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    std::byte* const source = opcode == Opcode::kWrite ? local_->data() : remote_->data();
    std::byte* const arrives = opcode == Opcode::kWrite ? remote_->data() : local_->data();
    fill(source, kSize, static_cast<uint64_t>(opcode) + 1);
    std::map<std::string, uint64_t> moved;
    EXPECT_TRUE(eventually([&] {
      const auto before = moved_by_device(*initiator_);
      std::fill_n(arrives, kSize, std::byte{0});
      EXPECT_EQ(transfer(*initiator_, {request(opcode, 0, kSize)}).state, TaskState::kCompleted);
      EXPECT_EQ(std::memcmp(source, arrives, kSize), 0);
      moved = moved_by_device(*initiator_);
      uint64_t sum = 0, least = kSize;
      for (auto& [device, bytes] : moved) {
        bytes -= before.at(device);
        sum += bytes;
        least = std::min(least, bytes);
      }
      EXPECT_EQ(sum, kSize) << "every byte once";
      return HasFailure() || least >= kSize / 4;
    })) << moved.begin()->first
        << " moved " << moved.begin()->second << " of " << kSize;
    EXPECT_EQ(moved.size(), 2u);
  }
  EXPECT_EQ(totals(*initiator_).failed, 0u);
  EXPECT_EQ(totals(*initiator_).inflight, 0u);
}

TEST_F(Fabric, ABatchLargerThanTheQueuesEndsOnceForEachPost) {
  constexpr uint64_t kCount = 20'000, kPiece = 200;
  for (const Settings& settings : {kOneNic, kTwoNics}) {
    const Operations operations;
    if (!begin(settings, kCount * kPiece)) GTEST_SKIP() << why_;
    fill(local_->data(), local_->size(), 8);
    std::vector<TransferRequest> requests;
    for (uint64_t i = 0; i < kCount; ++i) {
      requests.push_back(request(Opcode::kWrite, i * kPiece, kPiece));
    }
    ASSERT_EQ(transfer(*initiator_, requests).state, TaskState::kCompleted);
    EXPECT_EQ(first_difference(remote_->data(), remote_->size(), 8), remote_->size());
    const uint64_t paths = totals(*initiator_).paths;
    const uint64_t nics = settings == kOneNic ? 1 : 2;
    end();
    EXPECT_TRUE(operations.none_vanished(2 * nics));
    // One for each request, and what tried a path out.
    EXPECT_GT(operations.sum().completed, kCount);
    EXPECT_LE(operations.sum().completed, kCount + paths);
    EXPECT_EQ(operations.sum().failed + operations.sum().ended, 0u);
  }
}

TEST_F(Fabric, ABufferTooLargeForOneRegistrationIsRegisteredInPieces) {
  Settings settings = kTwoNics;
  settings["fabric_max_registration"] = "1048576";
  constexpr uint64_t kSize = (6 << 20) + 12'345;
  if (!begin(settings, kSize)) GTEST_SKIP() << why_;
  fill(local_->data(), kSize, 3);
  // Across every border, and beginning at odd places.
  ASSERT_EQ(transfer(*initiator_,
                     {request(Opcode::kWrite, 0, 777), request(Opcode::kWrite, 777, kSize - 777)})
                .state,
            TaskState::kCompleted);
  EXPECT_EQ(first_difference(remote_->data(), kSize, 3), kSize);
  std::fill_n(local_->data(), kSize, std::byte{0});
  ASSERT_EQ(transfer(*initiator_, {request(Opcode::kRead, 0, kSize)}).state, TaskState::kCompleted);
  EXPECT_EQ(first_difference(local_->data(), kSize, 3), kSize);
  std::vector<std::byte> large(9 << 20);
  EXPECT_TRUE(fails_with(initiator_->register_memory(large.data(), large.size()), Code::kResource,
                         "more than 8 memory regions"));
}

TEST_F(Fabric, SlicesLargerThanTheLargestOperationAreCut) {
  Settings settings = kOneNic;
  settings["fabric_max_operation"] = "10000";
  settings["fabric_max_registration"] = "65536";
  constexpr uint64_t kSize = 500'003, kCut = 10'000, kPiece = 65'536;
  const Operations operations;
  if (!begin(settings, kSize)) GTEST_SKIP() << why_;
  fill(local_->data(), kSize, 4);
  ASSERT_EQ(transfer(*initiator_, {request(Opcode::kWrite, 0, kSize)}).state,
            TaskState::kCompleted);
  EXPECT_EQ(first_difference(remote_->data(), kSize, 4), kSize);
  std::fill_n(local_->data(), kSize, std::byte{0});
  ASSERT_EQ(transfer(*initiator_, {request(Opcode::kRead, 0, kSize)}).state, TaskState::kCompleted);
  EXPECT_EQ(first_difference(local_->data(), kSize, 4), kSize);
  EXPECT_EQ(totals(*initiator_).completed, 2u) << "one slice each way";
  end();
  EXPECT_TRUE(operations.none_vanished(2));
  // Both borders cut: those of an operation, and those of a piece of the registration.
  const uint64_t whole = kSize / kPiece, rest = kSize % kPiece;
  const uint64_t expected = whole * ((kPiece + kCut - 1) / kCut) + (rest + kCut - 1) / kCut;
  // And one that tried the path out, and a confirmation of the READs, or several.
  EXPECT_GE(operations.sum().completed, 2 * expected + 2);
  EXPECT_LE(operations.sum().completed, 3 * expected + 1);
}

TEST_F(Fabric, AProviderThatNamesMemoryByAddressAndHasNoDescriptorsToSleepOn) {
  if (!begin({}, 4 << 20, "fabric:shm")) GTEST_SKIP() << why_;
  for (uint64_t round = 0; round < 5; ++round) {
    fill(local_->data(), local_->size(), round);
    ASSERT_EQ(transfer(*initiator_, {request(Opcode::kWrite, 0, 100),
                                     request(Opcode::kWrite, 100, (4 << 20) - 100)})
                  .state,
              TaskState::kCompleted);
    ASSERT_EQ(first_difference(remote_->data(), remote_->size(), round), remote_->size());
    std::fill_n(local_->data(), local_->size(), std::byte{0});
    ASSERT_EQ(transfer(*initiator_, {request(Opcode::kRead, 0, 4 << 20)}).state,
              TaskState::kCompleted);
    ASSERT_EQ(first_difference(local_->data(), local_->size(), round), local_->size());
  }
}

TEST_F(Fabric, WarmUpConnectsEveryPairOfNics) {
  if (!begin(kTwoNics, 1 << 20)) GTEST_SKIP() << why_;
  const std::string name = target_->local_endpoint();
  EXPECT_EQ(totals(*initiator_).ready, 0u);
  for (int round = 0; round < 3; ++round) {
    const Status warm = initiator_->warmup_segment(name);
    ASSERT_TRUE(warm.ok()) << warm.to_string();
    EXPECT_EQ(totals(*initiator_).paths, 4u);
    EXPECT_EQ(totals(*initiator_).ready, 4u);
  }
  EXPECT_TRUE(fails_with(initiator_->warmup_segment("127.0.0.1:1"), Code::kNotFound, "open it"));
  EXPECT_EQ(transfer(*initiator_, {request(Opcode::kWrite, 0, 1 << 20)}).state,
            TaskState::kCompleted);
}

TEST_F(Fabric, WarmUpLeavesWhatIsUnderWayAlone) {
  constexpr uint64_t kSize = 64 << 20;
  if (!begin(kTwoNics, kSize)) GTEST_SKIP() << why_;
  const std::string name = target_->local_endpoint();
  for (int round = 0; round < 5; ++round) {
    fill(local_->data(), kSize, static_cast<uint64_t>(round));
    const BatchId batch = submit_new(*initiator_, {request(Opcode::kWrite, 0, kSize)});
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] { EXPECT_TRUE(initiator_->warmup_segment(name).ok()); });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_TRUE(initiator_->wait(batch, kPatience).ok());
    EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kCompleted);
    EXPECT_TRUE(initiator_->free_batch(batch).ok());
    ASSERT_EQ(std::memcmp(local_->data(), remote_->data(), kSize), 0);
  }
  EXPECT_EQ(totals(*initiator_).failed, 0u);
  EXPECT_EQ(totals(*initiator_).ready, 4u);
}

TEST_F(Fabric, MemoryThatIsGoneIsRefusedAndTheRestStillMoves) {
  if (!begin(kOneNic, 4 << 20)) GTEST_SKIP() << why_;
  for (int round = 0; round < 5; ++round) {
    auto other = std::make_unique<Registered>(*target_, 1 << 20);
    const auto address = reinterpret_cast<uint64_t>(other->data());
    const TransferRequest towards{Opcode::kWrite, local_->data(), segment_, address, 1 << 20};
    ASSERT_EQ(transfer(*initiator_, {towards}).state, TaskState::kCompleted);
    other.reset();
    // The initiator still believes in it.
    const BatchId batch = submit_new(*initiator_, {towards});
    ASSERT_TRUE(initiator_->wait(batch, kPatience).ok());
    EXPECT_EQ(initiator_->batch_status(batch)->state, TaskState::kFailed);
    EXPECT_TRUE(initiator_->free_batch(batch).ok());
    ASSERT_EQ(transfer(*initiator_, {request(Opcode::kWrite, 0, 4 << 20)}).state,
              TaskState::kCompleted);
  }
}

TEST_F(Fabric, AnEngineThatIsIdleSleeps) {
  if (!begin(kTwoNics, 1 << 20)) GTEST_SKIP() << why_;
  ASSERT_EQ(transfer(*initiator_, {request(Opcode::kWrite, 0, 1 << 20)}).state,
            TaskState::kCompleted);
  EXPECT_TRUE(eventually([] {
    const int64_t before = cpu_ms();
    std::this_thread::sleep_for(milliseconds(300));
    return cpu_ms() - before < 30;
  }));
}

// An endpoint here, and one there.
TEST_F(Fabric, APeerCostsFewMegabytes) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer's own memory counts too";
  if (!begin(kOneNic, 4096)) GTEST_SKIP() << why_;
  constexpr size_t kPeers = 4, kMostBytes = 8 << 20;
  PeerOptions options;
  options.transport = "fabric:tcp";
  options.environment["TRANSFER_ENGINE_FABRIC_ADDRESSES"] = "127.0.0.1";
  std::vector<std::unique_ptr<PeerProcess>> peers;
  size_t before = 0;
  for (size_t i = 0; i <= kPeers; ++i) {
    peers.push_back(std::make_unique<PeerProcess>(options));
    ASSERT_TRUE(peers.back()->running());
    const size_t there_before = resident_bytes(peers.back()->pid());
    const Result<SegmentId> id = initiator_->open_segment(peers.back()->segment());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    ASSERT_EQ(transfer(*initiator_, {{Opcode::kWrite, local_->data(), *id, 0, 4096}}).state,
              TaskState::kCompleted);
    EXPECT_LT(resident_bytes(peers.back()->pid()) - there_before, 2 * kMostBytes);
    if (i == 0) before = resident_bytes();  // with what the first alone costs
  }
  EXPECT_LT(resident_bytes() - before, kPeers * kMostBytes);
}

TEST(FabricAbsent, WithoutANicOrAProviderTheErrorSaysWhatIsMissing) {
  std::string why;
  const std::unique_ptr<Engine> engine = make_fabric_engine(kOneNic, &why);
  if (!engine) GTEST_SKIP() << why;
  EXPECT_TRUE(fails_with(engine->install_transport("fabric:nosuch"), Code::kUnsupported, "nosuch"));
  EXPECT_TRUE(fails_with(engine->install_transport("nosuch"), Code::kNotFound, "efa"));
  for (const TransportInfo& info : engine->transports()) {
    if (info.name == "efa" && info.available) GTEST_SKIP() << "there is an EFA NIC";
  }
  const Status efa = engine->install_transport("efa");
  EXPECT_TRUE(fails_with(efa, Code::kUnsupported, "no EFA NIC"));
  // What it is that is missing; the list says so too.
  EXPECT_TRUE(fails_with(efa, Code::kUnsupported, "EFA interface"));
  bool efa_row = false, tcp_row = false;
  for (const TransportInfo& info : engine->transports()) {
    efa_row =
        efa_row || (info.name == "efa" && info.detail.find("EFA interface") != std::string::npos);
    tcp_row = tcp_row || (info.name == "fabric:tcp" && info.available && info.installed &&
                          info.detail.find("devices ") != std::string::npos);
  }
  EXPECT_TRUE(efa_row);
  EXPECT_TRUE(tcp_row);
}

}  // namespace
}  // namespace te::test
