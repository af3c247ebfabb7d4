// Every struct of the public headers, made with one field by name: compiling this with the warnings
// that users have (-Wall -Wextra -Wmissing-field-initializers) shows that each field has a default.
#include "transfer_engine/engine.h"

namespace {

[[maybe_unused]] void make_all() {
  using namespace te;
  [[maybe_unused]] const EngineOptions engine{.metadata = "P2PHANDSHAKE"};
  [[maybe_unused]] const SubmitOptions submit{.timeout = std::chrono::milliseconds(1)};
  [[maybe_unused]] const TransferRequest request{.opcode = Opcode::kRead};
  [[maybe_unused]] const TransferStatus status{.state = TaskState::kPending};
  [[maybe_unused]] const TaskError task_error{};
  [[maybe_unused]] const BufferEntry entry{.addr = nullptr};
  [[maybe_unused]] const Notification notification{.name = "a"};
  [[maybe_unused]] const SegmentBuffer buffer{.address = 1};
  [[maybe_unused]] const SegmentInfo segment{.name = "a"};
  [[maybe_unused]] const DeviceLoad load{.device = "a"};
  [[maybe_unused]] const PathInfo path{.segment = "a"};
  [[maybe_unused]] const TransportInfo transport{.name = "a"};
  [[maybe_unused]] const ProbeResult probe{.connect_us = 1};
}

}  // namespace
