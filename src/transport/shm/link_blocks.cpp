// The part of a link that opens memory on devices.
#include <unistd.h>

#include "base/log.h"
#include "transport/shm/link.h"

namespace te::shm {

Link::Opened Link::find_block(const RangeKey& key, uint64_t address, const Copier& by,
                              const std::function<void()>& wait) {
  const void* const copier = by.memory->copier();
  MutexLock lock(mutex_);
  if (std::optional<OpenBlocks::Found> found = blocks_->find(copier, address)) {
    return {std::move(*found), {}};
  }
  const Status refused = blocks_->refusal(by.local, address, 1);
  if (!refused.ok()) return {{}, error(Code::kUnavailable, "{}", refused.message())};
  if (!alive_.load()) return {{}, Status(Code::kUnavailable, "the target is gone")};
  if (asked_blocks_.emplace(copier, address).second) {
    const bool keeps = by.local == OpenBlocks::Local::kHost;
    ask({key, address, copier, by.memory, by.local, keeps ? by.memory : nullptr});
  }
  wait();
  return {{}, Status(Code::kBusy, "it is asked for")};
}

bool Link::may_open(const RangeKey& key, OpenBlocks::Local local) const {
  const SharedRange* const range = ranges_->find(key);
  if (range == nullptr) return true;  // what is planned anew is asked then
  MutexLock lock(mutex_);
  return blocks_->refusal(local, range->address, range->length).ok();
}

void Link::refuse_host_memory(const RangeKey& key, Status why) {
  const SharedRange* const range = ranges_->find(key);
  if (range == nullptr) return;
  MutexLock lock(mutex_);
  blocks_->refuse(OpenBlocks::Local::kHost, range->address, range->length, key, std::move(why));
}

// What a peer says of its block before anything is opened.
Status Link::check_block(const Message& answer, const Question& question) const {
  const bool holds = answer.value + answer.length > answer.value &&
                     question.address - answer.value < answer.length;
  const RangeKey key{answer.index, answer.generation, Way::kOpened};
  const bool is_current = ranges_->find(key) != nullptr || ranges_->find(question.key) == nullptr;
  if (holds && is_current) return {};
  return error(Code::kProtocol, "the target gives {} bytes at {:#x} for the memory at {:#x}",
               answer.length, answer.value, question.address);
}

// All that is known not to be openable: the block, or the range if there is none.
void Link::refuse(const Question& question, const Message& answer, Status why) {
  static LogLimit limit;
  log_limited(limit, LogLevel::kWarning, "shm: {}", why.message());
  if (answer.code == Code::kOk) {
    const RangeKey key{answer.index, answer.generation, Way::kOpened};
    return blocks_->refuse(question.local, answer.value, answer.length, key, std::move(why));
  }
  const SharedRange* const range = ranges_->find(question.key);
  if (range == nullptr) return;
  blocks_->refuse(question.local, range->address, range->length, question.key, std::move(why));
}

Status Link::take_block(Received& answer) {
  const Message& message = answer.message;
  Question question;
  {
    MutexLock lock(mutex_);
    if (asked_.empty() || asked_.front().copier == nullptr) {
      return Status(Code::kProtocol, "the target answers what was not asked");
    }
    question = asked_.front();
  }
  // Without the lock: a driver takes its time. Only this thread takes questions away.
  OpenBlocks::Block block;
  Status status;
  if (message.code == Code::kOk) {
    TE_RETURN_IF_ERROR(check_block(message, question));
    block = {
        nullptr, message.value, message.length, {message.index, message.generation, Way::kOpened}};
    // Who asked may have unregistered its memory; another one asks again.
    if (const std::shared_ptr<const DeviceMemory> memory = question.memory.lock()) {
      Result<std::shared_ptr<const OpenedBlock>> opened =
          pid() == ::getpid()
              ? memory->own_block(message.value, message.length)
              : memory->open_block({message.type, std::move(answer.descriptor), message.data},
                                   message.length);
      status = opened.status();
      if (opened.ok()) block.opened = opened.take();
    }
  } else {
    status = error(message.code, "its engine does not give it out ({})", code_name(message.code));
  }
  OpenBlocks::Dropped dropped;  // closed behind the lock
  {
    MutexLock lock(mutex_);
    if (status.ok() && block.opened != nullptr) {
      status = blocks_->add(question.copier, std::move(block), dropped);
    }
    if (!status.ok()) {
      refuse(question, message,
             error(Code::kUnavailable, "memory of {} at {:#x} is staged in host memory: {}", name(),
                   question.address, status.message()));
    }
    asked_blocks_.erase({question.copier, question.address});
    asked_.pop_front();
    ask_next();
  }
  MutexLock lock(owner_mutex_);
  if (owner_.mapped) owner_.mapped();
  return {};
}

Status Link::release(const Message& message) {
  {
    OpenBlocks::Dropped dropped;  // closed behind the lock, and before the answer
    Files outdated;               // unmapped likewise
    MutexLock lock(mutex_);
    dropped = blocks_->drop_outdated();
    outdated = take_outdated_files();
  }
  Message answer;
  answer.kind = Kind::kReleased;
  answer.value = message.value;
  return send_message(socket_.get(), answer);
}

}  // namespace te::shm
