#include "peer.h"

#include <fmt/core.h>

#include <sstream>

#include "size_text.h"

namespace te::bench {
namespace {

constexpr std::chrono::seconds kAnswerTime{60};

}  // namespace

Words split_words(const std::string& line) {
  std::istringstream stream(line);
  Words words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

Result<Peer> Peer::start(uint64_t buffer_bytes) {
  Result<tool::ChildProcess> process =
      tool::ChildProcess::start_self({"--role", "peer", "--memory", std::to_string(buffer_bytes)});
  if (!process.ok()) return process.status();
  Peer peer(process.take());
  if (const Result<Words> ready = peer.ask("hello"); !ready.ok()) return ready.status();
  return peer;
}

Result<Words> Peer::ask(const std::string& command) {
  TE_RETURN_IF_ERROR(process_.write_line(command).with_context("the peer process"));
  const Result<std::string> line = process_.read_line(kAnswerTime);
  if (!line.ok()) {
    return line.status().with_context(fmt::format("the peer process, asked '{}'", command));
  }
  Words words = split_words(*line);
  if (!words.empty() && words.front() == "ok") {
    words.erase(words.begin());
    return words;
  }
  // "error CODE text"
  const size_t text = line->find(' ', line->find(' ') + 1);
  const int code = words.size() > 1 ? std::atoi(words[1].c_str()) : 0;
  return Status(code < 0 ? static_cast<Code>(code) : Code::kInternal,
                text == std::string::npos ? *line : line->substr(text + 1));
}

Result<uint64_t> Peer::ask_number(const std::string& command) {
  const Result<Words> words = ask(command);
  if (!words.ok()) return words.status();
  if (words->size() != 1) {
    return Status(Code::kInternal, "the peer process did not answer a number to " + command);
  }
  return tool::parse_whole_number(words->front());
}

}  // namespace te::bench
