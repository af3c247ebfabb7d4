// The peer process: commands in, answers out, see peer.h. Threads: the main thread; those of the
// engines and of the limit programs move the bytes.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <thread>

#include "buffers.h"
#include "callers.h"
#include "command.h"
#include "limits/ping_pong.h"
#include "limits/programs.h"
#include "limits/sockets.h"
#include "mover.h"
#include "pattern.h"
#include "peer.h"
#include "process_usage.h"
#include "size_text.h"

namespace te::bench {
namespace {

class Server {
 public:
  explicit Server(Buffers buffers) : buffers_(std::move(buffers)) {}
  ~Server() { join(); }

  // "ok ...", or "error CODE text".
  std::string answer(const std::string& line);

 private:
  using Answer = Result<std::string>;
  struct Command {
    size_t arguments;  // at least
    Answer (Server::*run)(const Words&);
  };

  Answer hello(const Words&) { return std::string(); }
  Answer fill(const Words& words);
  Answer verify(const Words& words);
  Answer serve(const Words& words);
  Answer allocate(const Words& words);
  Answer connect(const Words& words);
  Answer end_engines(const Words&);
  Answer leave_network(const Words&);
  Answer join_network(const Words& words);
  Answer open(const Words& words);
  Answer move(const Words& words);
  Answer open_streams(const Words& words);
  Answer send_streams(const Words& words);
  Answer await_streams(const Words& words);
  Answer close_streams(const Words&);
  Answer ping_pong(const Words& words);
  Answer cpu_us(const Words&);
  Answer memory(const Words&);

  static const std::map<std::string, Command>& commands();
  // A part of the buffer called main, limit or allocated.
  Result<std::span<std::byte>> part(const std::string& buffer, uint64_t offset, uint64_t length);
  void join();

  Buffers buffers_;
  std::string address_ = "127.0.0.1";  // of the engines
  std::vector<std::unique_ptr<Engine>> engines_;
  std::unique_ptr<Callers> callers_;
  // What the engines allocated, stripes of a buffer as large as the others.
  std::vector<std::span<std::byte>> allocated_;
  std::unique_ptr<Streams> streams_;
  // The limit's end that waits for a connection, or answers it.
  std::thread background_;
  Status background_status_;
};

Status outside() { return Status(Code::kOutOfRange, "that is outside the buffer"); }

uint64_t number(const std::string& word) { return std::strtoull(word.c_str(), nullptr, 10); }

Result<std::span<std::byte>> Server::part(const std::string& buffer, uint64_t offset,
                                          uint64_t length) {
  std::span<std::byte> bytes = buffer == "main" ? buffers_.main_bytes() : buffers_.limit_bytes();
  if (buffer == "allocated") {
    if (allocated_.empty()) return outside();
    const uint64_t index = offset / allocated_.front().size();
    if (index >= allocated_.size()) return outside();
    bytes = allocated_[index];
    offset -= index * bytes.size();
  }
  if (offset > bytes.size() || length > bytes.size() - offset) return outside();
  return bytes.subspan(offset, length);
}

// main|allocated SEED OFFSET LENGTH: fills these bytes.
Result<std::string> Server::fill(const Words& words) {
  const uint64_t offset = number(words[2]);
  const Result<std::span<std::byte>> bytes = part(words[0], offset, number(words[3]));
  if (!bytes.ok()) return bytes.status();
  tool::fill_pattern(number(words[1]), offset, *bytes);
  return std::string();
}

// main|limit|allocated SEED OFFSET LENGTH [POSITION]: whether these bytes came from a source filled
// with SEED, from the same offset there or from POSITION.
Result<std::string> Server::verify(const Words& words) {
  const uint64_t offset = number(words[2]);
  const Result<std::span<std::byte>> bytes = part(words[0], offset, number(words[3]));
  if (!bytes.ok()) return bytes.status();
  const uint64_t position = words.size() > 4 ? number(words[4]) : offset;
  TE_RETURN_IF_ERROR(expect_pattern(number(words[1]), position, *bytes));
  return std::string();
}

// TRANSPORT COUNT [INDEX]: adds engines that serve one stripe each of the main buffer, or only the
// one for stripe INDEX; answers their names.
Result<std::string> Server::serve(const Words& words) {
  const uint64_t count = number(words[1]);
  const uint64_t first = words.size() > 2 ? number(words[2]) : 0;
  const uint64_t end = words.size() > 2 ? first + 1 : count;
  std::vector<std::string> names;
  for (uint64_t i = first; i < end; ++i) {
    Result<std::unique_ptr<Engine>> engine = make_engine(words[0], address_);
    if (!engine.ok()) return engine.status();
    const std::span<std::byte> part = stripe(buffers_.main_bytes(), i, count);
    TE_RETURN_IF_ERROR((*engine)->register_memory(part.data(), part.size()));
    names.push_back((*engine)->local_endpoint());
    engines_.push_back(engine.take());
  }
  return fmt::format("{}", fmt::join(names, " "));
}

// TRANSPORT COUNT: adds engines that allocate one stripe each of a buffer as large as the others;
// answers their names.
Result<std::string> Server::allocate(const Words& words) {
  const uint64_t count = number(words[1]);
  std::vector<std::string> names;
  for (uint64_t i = 0; i < count; ++i) {
    Result<std::unique_ptr<Engine>> engine = make_engine(words[0], address_);
    if (!engine.ok()) return engine.status();
    const size_t size = stripe(buffers_.main_bytes(), i, count).size();
    const Result<void*> memory = (*engine)->allocate(size);
    if (!memory.ok()) return memory.status();
    allocated_.emplace_back(static_cast<std::byte*>(*memory), size);
    std::memset(*memory, 0, size);  // so that its pages are there
    names.push_back((*engine)->local_endpoint());
    engines_.push_back(engine.take());
  }
  return fmt::format("{}", fmt::join(names, " "));
}

// TRANSPORT NAME...: one more engine, that opens these segments and writes the main buffer to the
// beginning of each. Answers by how much that made the process grow, in bytes.
Result<std::string> Server::connect(const Words& words) {
  Result<std::unique_ptr<Engine>> engine = make_engine(words[0], address_);
  if (!engine.ok()) return engine.status();
  const std::span<std::byte> bytes = buffers_.main_bytes();
  TE_RETURN_IF_ERROR((*engine)->register_memory(bytes.data(), bytes.size()));
  const uint64_t before = resident_bytes();
  for (size_t i = 1; i < words.size(); ++i) {
    const Result<SegmentId> segment = (*engine)->open_segment(words[i]);
    if (!segment.ok()) return segment.status();
    TE_RETURN_IF_ERROR(Mover(**engine, *segment, {Opcode::kWrite, bytes.size()}, bytes, 0).step());
  }
  const uint64_t after = resident_bytes();
  engines_.push_back(engine.take());
  return std::to_string(after > before ? after - before : 0);
}

Result<std::string> Server::end_engines(const Words&) {
  engines_.clear();
  callers_.reset();
  allocated_.clear();
  return std::string();
}

// Before any engine: moves this process into a network namespace of its own, which is empty.
// Answers the process id.
Result<std::string> Server::leave_network(const Words&) {
  // Of this thread; the engines' threads inherit it.
  if (::unshare(CLONE_NEWNET) != 0) {
    return Status(Code::kUnsupported,
                  fmt::format("a network namespace takes root: {}", std::strerror(errno)));
  }
  return std::to_string(getpid());
}

// DEVICE ADDRESS: takes the device, which was put into this process's namespace, into use.
Result<std::string> Server::join_network(const Words& words) {
  const Result<std::string> said =
      output_of(fmt::format("{{ ip addr add {1}/24 dev {0} && ip link set {0} up && "
                            "ip link set lo up; }} 2>&1",
                            words[0], words[1]));
  if (!said.ok()) return said.status();
  if (!said->empty()) return Status(Code::kUnsupported, *said);
  address_ = words[1];
  return std::string();
}

// NAME: opens this segment for move, from and to the main buffer.
Result<std::string> Server::open(const Words& words) {
  Result<std::unique_ptr<Callers>> callers =
      Callers::open(address_, words[0], buffers_.main_bytes());
  if (!callers.ok()) return callers.status();
  callers_ = callers.take();
  return std::string();
}

// write|read wait|spin THREADS BLOCK_SIZE BATCH_SIZE WINDOW_MS: answers how fast, in 10^9 bytes per
// second, and how many bytes the slowest thread moved.
Result<std::string> Server::move(const Words& words) {
  if (!callers_) return Status(Code::kInvalidArgument, "no segment is open");
  const Load load{words[0] == "read" ? Opcode::kRead : Opcode::kWrite, number(words[3]),
                  number(words[4]), words[1] == "spin" ? Waiting::kSpin : Waiting::kSleep};
  const Result<Callers::Moved> moved = callers_->run(
      load, number(words[2]), Clock::now() + std::chrono::milliseconds(number(words[5])));
  if (!moved.ok()) return moved.status();
  return fmt::format("{} {}", moved.value().gb_per_s, moved.value().least_bytes);
}

// COUNT: awaits so many connections in the background; answers the port.
Result<std::string> Server::open_streams(const Words& words) {
  join();
  uint16_t port = 0;
  Result<Socket> listener = listen_on_loopback(&port);
  if (!listener.ok()) return listener.status();
  background_ = std::thread([this, listener = listener.take(), count = number(words[0])] {
    Result<std::vector<Socket>> sockets = accept_connections(listener, count);
    background_status_ = sockets.status();
    if (!sockets.ok()) return;
    streams_ =
        std::make_unique<Streams>(sockets.take(), buffers_.main_bytes(), buffers_.limit_bytes());
  });
  return std::to_string(port);
}

// BLOCK_SIZE WINDOW_MS: answers what was sent over each connection since the beginning.
Result<std::string> Server::send_streams(const Words& words) {
  join();
  if (!streams_) return background_status_.with_context("there are no streams");
  const Result<std::vector<uint64_t>> totals =
      streams_->send(number(words[0]), std::chrono::milliseconds(number(words[1])));
  if (!totals.ok()) return totals.status();
  return fmt::format("{}", fmt::join(*totals, " "));
}

// TOTAL of the first connection and of the second: until that much has arrived.
Result<std::string> Server::await_streams(const Words& words) {
  join();
  if (!streams_) return background_status_.with_context("there are no streams");
  std::vector<uint64_t> totals;
  for (const std::string& word : words) totals.push_back(number(word));
  TE_RETURN_IF_ERROR(streams_->await(totals));
  return std::string();
}

Result<std::string> Server::close_streams(const Words&) {
  join();
  streams_.reset();
  return std::string();
}

// spin|block THERE BACK: awaits one connection and answers it in the background; answers the port.
Result<std::string> Server::ping_pong(const Words& words) {
  join();
  uint16_t port = 0;
  Result<Socket> listener = listen_on_loopback(&port);
  if (!listener.ok()) return listener.status();
  const PingPong shape{words[0] == "spin", number(words[1]), number(words[2])};
  background_ = std::thread([this, listener = listener.take(), shape] {
    const Result<std::vector<Socket>> sockets = accept_connections(listener, 1);
    background_status_ = sockets.status();
    if (!sockets.ok()) return;
    answer_pings(sockets->front(), shape, buffers_.main_bytes(), buffers_.limit_bytes());
  });
  return std::to_string(port);
}

// Of this process, since it began.
Result<std::string> Server::cpu_us(const Words&) {
  return std::to_string(static_cast<uint64_t>(cpu_seconds() * 1e6));
}

// Process id, and where the main and the limit's buffer are.
Result<std::string> Server::memory(const Words&) {
  return fmt::format("{} {} {}", getpid(), reinterpret_cast<uintptr_t>(buffers_.main.data()),
                     reinterpret_cast<uintptr_t>(buffers_.limit.data()));
}

void Server::join() {
  if (background_.joinable()) background_.join();
}

const std::map<std::string, Server::Command>& Server::commands() {
  static const std::map<std::string, Command> table = {
      {"hello", {0, &Server::hello}},
      {"fill", {4, &Server::fill}},
      {"verify", {4, &Server::verify}},
      {"serve", {2, &Server::serve}},
      {"allocate", {2, &Server::allocate}},
      {"connect", {2, &Server::connect}},
      {"end_engines", {0, &Server::end_engines}},
      {"leave_network", {0, &Server::leave_network}},
      {"join_network", {2, &Server::join_network}},
      {"open", {1, &Server::open}},
      {"move", {6, &Server::move}},
      {"open_streams", {1, &Server::open_streams}},
      {"send_streams", {2, &Server::send_streams}},
      {"await_streams", {2, &Server::await_streams}},
      {"close_streams", {0, &Server::close_streams}},
      {"ping_pong", {3, &Server::ping_pong}},
      {"cpu_us", {0, &Server::cpu_us}},
      {"memory", {0, &Server::memory}},
  };
  return table;
}

std::string Server::answer(const std::string& line) {
  Words words = split_words(line);
  const auto found = commands().find(words.empty() ? "" : words.front());
  if (found == commands().end() || words.size() <= found->second.arguments) {
    return fmt::format("error {} the peer does not understand '{}'",
                       static_cast<int>(Code::kInvalidArgument), line);
  }
  words.erase(words.begin());
  const Answer result = (this->*found->second.run)(words);
  if (result.ok()) return "ok " + *result;
  return fmt::format("error {} {}", static_cast<int>(result.code()), result.status().message());
}

}  // namespace

int run_peer(uint64_t buffer_bytes) {
  // The limits of same-host moves, and the engine, reach into this process.
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
  Result<Buffers> buffers = Buffers::allocate(buffer_bytes);
  if (!buffers.ok()) return tool::fail(buffers.status());
  Server server(buffers.take());
  for (std::string line; std::getline(std::cin, line);) {
    if (const Status written = tool::print(server.answer(line) + "\n"); !written.ok()) return 1;
  }
  return 0;
}

}  // namespace te::bench
