// The local socket between two engines of one host: messages of a fixed size, each with at most one
// descriptor. Abstract names, so nothing is left behind in a file system, and only processes of the
// same kernel and network namespace meet. No function here keeps state or blocks.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/fd.h"
#include "transport/shm/message.h"

namespace te::shm {

// Under the number of an engine's run.
Result<Fd> listen_local(uint64_t instance);
// kNotFound: nobody of that number is on this host. kBusy: its queue of connections is full now.
Result<Fd> connect_local(uint64_t instance);

// The process at the other end, with something to know its end by. kPermission for one of another
// user, unless that may trace everything: root.
struct PeerProcess {
  pid_t pid = 0;  // 0: in a pid namespace from which this process does not see it
  Fd pidfd;

  // For people: "process 123".
  std::string name() const;
  // Its memory is not touched by it any more.
  bool exited() const;
};
// `initiator`: the other end is the one that copies.
Result<PeerProcess> peer_process(int socket, bool peer_initiates);

// kBusy when the socket's buffer is full.
Status send_message(int socket, const Message& message, int descriptor = -1);

struct Received {
  Message message;
  Fd descriptor;  // not valid either where this process had none left for it
};
// Empty when nothing is there; kUnavailable when the other end is closed.
Result<std::optional<Received>> receive_message(int socket);

}  // namespace te::shm
