// Devices that are taken away while they are in use. On a machine of its own, since other tests
// would miss them.
#include <unistd.h>

#include "rdma/pair.h"

namespace te::test {
namespace {

class Removal : public RdmaPair {
 protected:
  void TearDown() override { end_load(); }
  // Begins to: the kernel waits until nobody has the device open.
  static void take_away(const std::string& command) {
    ASSERT_EQ(::system((command + " >/dev/null 2>&1 &").c_str()), 0);
  }
  static bool exists(const std::string& device) {
    return ::access(("/sys/class/infiniband/" + device).c_str(), F_OK) == 0;
  }
};

TEST_F(Removal, OfADeviceInMidTransferLeavesTheOtherWaysAndTheEnginesEnd) {
  TE_NEEDS_RDMA_VM();
  begin();
  begin_load();
  ASSERT_TRUE(in_use({"rxe0 rxe2", "rxe1 rxe3"}));
  take_away("ip link delete eth3");
  ASSERT_TRUE(goes_on(6));
  ASSERT_TRUE(in_use({"rxe0 rxe2", "rxe1 rxe2"})) << "who lost its other end has another one";
  take_away("ip link delete eth0");
  ASSERT_TRUE(goes_on(6));
  ASSERT_TRUE(in_use({"rxe1 rxe2"}));
  take_away("rdma link delete rxe1");
  ASSERT_TRUE(goes_on(6));
  end_load();
  EXPECT_EQ(failures_.load(), 0);
  const Stopwatch watch;
  local_.reset();
  initiator_.reset();
  remote_.reset();
  target_.reset();
  EXPECT_LT(watch.ms(), 5'000);
  for (const char* device : {"rxe0", "rxe1", "rxe3"}) {
    EXPECT_TRUE(eventually([&] { return !exists(device); })) << device << " is still held";
  }
  EXPECT_TRUE(exists("rxe2"));
}

}  // namespace
}  // namespace te::test
