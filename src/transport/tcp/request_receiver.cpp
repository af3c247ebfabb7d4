#include "transport/tcp/request_receiver.h"

#include <span>

namespace te::tcp {

Stream::Outcome RequestReceiver::receive(tls::Connection& from) {
  if (stream_.in_payload()) pin_open_pieces();
  const Stream::Outcome outcome = stream_.receive(from);
  pins_.release();
  return outcome;
}

void RequestReceiver::copy_buffered() {
  if (!stream_.in_payload() || stream_.buffered().empty()) return;
  pin_open_pieces();
  stream_.copy_buffered();
  pins_.release();
}

void RequestReceiver::pin_open_pieces() {
  const std::span<Stream::Piece> open = stream_.open_pieces();
  const size_t first = frame_.size() - open.size();
  for (size_t i = 0; i < open.size(); ++i) {
    if (open[i].to == nullptr) continue;
    PeerRequest& write = frame_[first + i];
    write.code = pins_.pin(write.entry, Rights::kWrite);
    if (write.code != Code::kOk) open[i].to = nullptr;
  }
}

std::string_view RequestReceiver::carry_out() {
  for (;;) {
    if (writing_) {
      copy_buffered();
      if (stream_.in_payload()) return {};
      finish_write();
    }
    const std::span<const std::byte> bytes = stream_.buffered();
    if (bytes.size() < RequestHeader::kSize) return {};
    const RequestHeader header = RequestHeader::decode(bytes.data());
    if (!header.valid()) return "it sent a frame that cannot be understood";
    if (bytes.size() < RequestHeader::kSize + header.count * RequestEntry::kSize) return {};
    stream_.consume(RequestHeader::kSize);
    if (const std::string_view why = start_frame(header); !why.empty()) return why;
  }
}

Code RequestReceiver::check(const RequestEntry& entry, Rights wanted) {
  const Code code = table_.acquire(entry.key, entry.address, entry.length, wanted);
  if (code == Code::kOk) table_.release(entry.key);
  return code;
}

std::string_view RequestReceiver::start_frame(const RequestHeader& header) {
  const bool write = header.type == RequestType::kWrite;
  const tls::Permission wanted = write ? tls::Permission::kWrite : tls::Permission::kRead;
  const Code allowed = header.count == 0 ? Code::kOk : peer_.require(wanted).code();
  frame_.clear();
  uint64_t total = 0;
  for (uint16_t i = 0; i < header.count; ++i) {
    const RequestEntry entry = RequestEntry::decode(stream_.buffered().data());
    stream_.consume(RequestEntry::kSize);
    if (entry.length == 0 || entry.length > kMaxRequestLength) {
      return "it sent a request of a length that is not allowed";
    }
    total += entry.length;
    frame_.push_back(
        {entry, next_sequence_++,
         allowed == Code::kOk ? check(entry, write ? Rights::kWrite : Rights::kRead) : allowed});
  }
  if (write) {
    if (total != header.payload) return "it sent a frame whose lengths contradict each other";
    start_write();
    answers_.expect_write(total);
    return {};
  }
  if (answers_.reads() + header.count > kWindow) {
    return "it asked for more than the window allows";
  }
  start_reads();
  return {};
}

void RequestReceiver::start_write() {
  std::vector<Stream::Piece>& pieces = stream_.start_payload();
  for (const PeerRequest& write : frame_) {
    // The address was checked against the key's range just now, and is again at every access.
    pieces.push_back(
        {write.code == Code::kOk ? reinterpret_cast<std::byte*>(write.entry.address) : nullptr,
         write.entry.length});
  }
  writing_ = true;
}

void RequestReceiver::finish_write() {
  writing_ = false;
  for (size_t i = 0; i < frame_.size(); ++i) {
    PeerRequest& write = frame_[i];
    if (write.code == Code::kOk && stream_.faulted(i)) write.code = Code::kPermission;
    if (write.code != Code::kOk) answers_.refuse(write.sequence, write.code);
  }
  answers_.acknowledge(next_sequence_);
}

void RequestReceiver::start_reads() {
  for (const PeerRequest& request : frame_) {
    if (request.code == Code::kOk) {
      answers_.answer_read(request);
    } else {
      answers_.refuse(request.sequence, request.code);
    }
  }
}

}  // namespace te::tcp
