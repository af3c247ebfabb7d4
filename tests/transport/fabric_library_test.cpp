#include "transport/fabric/library.h"

#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "support/facts.h"

namespace te::fabric {
namespace {

void applications(int) {}

decltype(&applications) handler() {
  struct sigaction now {};
  ::sigaction(SIGUSR2, nullptr, &now);
  return now.sa_handler;
}

// Each puts back what it found, which must not be what the other one's provider installed.
TEST(FabricLibrary, TwoThreadsThatLoadProvidersKeepTheApplicationsHandlers) {
  const Result<const Library*> library = Library::open(TE_FAKE_LIBFABRIC);
  ASSERT_TRUE(library.ok()) << library.status().to_string();
  const auto before = std::signal(SIGUSR2, applications);
  const auto find = [&library] {
    int error = 0;
    EXPECT_FALSE((*library)->find(nullptr, 0, fi_info{}, &error));
    EXPECT_NE(error, 0);
  };
  std::atomic<bool> done{false};
  std::thread first([&] {
    find();
    done = true;
  });
  EXPECT_TRUE(test::eventually([&] { return handler() != applications || done; }));
  std::thread second(find);
  first.join();
  second.join();
  EXPECT_EQ(handler(), applications);
  std::signal(SIGUSR2, before);
}

}  // namespace
}  // namespace te::fabric
