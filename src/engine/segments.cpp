#include "engine/segments.h"

#include <algorithm>

#include "base/log.h"
#include "base/random.h"

namespace te {
namespace {

constexpr size_t kMaxNameSize = 1024;
constexpr uint32_t kGenerationMask = 0xFFFF;

bool valid_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t more = lead < 0x80         ? 0
                        : (lead >> 5) == 6  ? 1
                        : (lead >> 4) == 14 ? 2
                        : (lead >> 3) == 30 ? 3
                                            : 4;
    if (more == 4 || i + more >= text.size() + (more == 0 ? 1 : 0)) return false;
    uint32_t code = more == 0 ? lead : lead & (0x3Fu >> more);
    for (size_t k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next >> 6) != 2) return false;
      code = (code << 6) | (next & 0x3F);
    }
    constexpr uint32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
    if (code < kSmallest[more] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
      return false;
    i += more + 1;
  }
  return true;
}

}  // namespace

Status check_segment_name(std::string_view name) {
  if (name.empty()) return Status(Code::kInvalidArgument, "the segment name is empty");
  if (name.size() > kMaxNameSize) {
    return error(Code::kInvalidArgument, "the segment name has {} bytes: the most is {}",
                 name.size(), kMaxNameSize);
  }
  if (!valid_utf8(name) || name.find('\0') != std::string_view::npos) {
    return Status(Code::kInvalidArgument, "the segment name is not valid UTF-8 text");
  }
  return {};
}

Segments::Segments(uint64_t instance, const Config& config, Directory& directory, Memory& memory,
                   Transports& transports)
    : instance_(instance),
      config_(config),
      directory_(directory),
      memory_(memory),
      transports_(transports),
      first_generation_(static_cast<uint32_t>(random_u64())) {}

void Segments::set_local_name(std::string name) {
  local_name_ = name;
  WriterLock lock(mutex_);
  slots_.resize(1);
  slots_[0].segment = std::make_shared<Segment>(std::move(name), true);
  slots_[0].opens = 1;
}

SegmentId Segments::id_of(size_t slot) const {
  if (slot == 0) return kLocalSegment;
  return static_cast<SegmentId>(((slots_[slot].generation & kGenerationMask) << kSlotBits) | slot);
}

// Null where none is open by that id.
const Segments::Slot* Segments::slot_of(SegmentId id) const {
  const size_t slot = slot_number(id);
  const bool open = id >= 0 && slot < slots_.size() && slots_[slot].segment && id_of(slot) == id;
  return open ? &slots_[slot] : nullptr;
}

std::shared_ptr<Segment> Segments::find(SegmentId id) const { return find_for_use(id).segment; }

Submission::Use Segments::find_for_use(SegmentId id) const {
  ReaderLock lock(mutex_);
  const Slot* slot = slot_of(id);
  if (slot == nullptr) return {};
  return {slot->segment, slot->target};
}

std::shared_ptr<Segment> Segments::find(std::string_view name) const {
  ReaderLock lock(mutex_);
  for (const Slot& slot : slots_) {
    if (slot.segment && slot.segment->name == name) return slot.segment;
  }
  return nullptr;
}

std::vector<std::shared_ptr<Segment>> Segments::all() const {
  ReaderLock lock(mutex_);
  std::vector<std::shared_ptr<Segment>> result;
  for (const Slot& slot : slots_) {
    if (slot.segment) result.push_back(slot.segment);
  }
  return result;
}

Result<SegmentId> Segments::open(std::string_view name, bool fresh) {
  TE_RETURN_IF_ERROR(check_segment_name(name));
  std::shared_ptr<Segment> segment;
  {
    WriterLock lock(mutex_);
    for (size_t i = 0; i < slots_.size() && !segment; ++i) {
      if (!slots_[i].segment || slots_[i].segment->name != name) continue;
      if (i == 0) return kLocalSegment;
      if (!fresh) {
        ++slots_[i].opens;
        return id_of(i);
      }
      segment = slots_[i].segment;
    }
  }
  if (!segment) {
    segment = std::make_shared<Segment>(std::string(name), false);
    WriterLock lock(mutex_);
    std::erase_if(alive_, [](const std::weak_ptr<Segment>& other) { return other.expired(); });
    alive_.push_back(segment);
  }
  if (Status status = refresh(*segment); !status.ok()) {
    return status.with_context(fmt::format("cannot open segment '{}'", name));
  }
  WriterLock lock(mutex_);
  size_t free = 0;
  for (size_t i = 1; i < slots_.size(); ++i) {
    if (!slots_[i].segment) {
      free = i;
    } else if (slots_[i].segment->name == name) {
      ++slots_[i].opens;  // opened by another thread meanwhile, or before
      return id_of(i);
    }
  }
  if (free == 0) {
    if (slots_.size() >= (1u << kSlotBits)) {
      return error(Code::kBusy, "{} segments are open, the most there can be: close some",
                   slots_.size() - 1);
    }
    free = slots_.size();
    slots_.push_back({nullptr, first_generation_, 0, nullptr});
  }
  Slot& slot = slots_[free];
  ++slot.generation;
  slot.opens = 1;
  slot.target = segment->target();
  slot.segment = std::move(segment);
  return id_of(free);
}

Status Segments::close(SegmentId id) {
  if (id == kLocalSegment) return {};
  Submission::Use closed;  // dies after the lock
  WriterLock lock(mutex_);
  if (slot_of(id) == nullptr) {
    return error(Code::kNotFound, "there is no open segment with id {}", id);
  }
  Slot& slot = slots_[slot_number(id)];
  if (--slot.opens > 0) return {};
  closed.segment.swap(slot.segment);
  closed.target.swap(slot.target);
  return {};
}

Result<Locator> Segments::locate(std::string_view name) { return directory_.resolve(name); }

Result<std::shared_ptr<ControlClient>> Segments::control_of(Segment& segment) {
  Locator known;
  {
    MutexLock lock(segment.mutex_);
    if (segment.control_ && segment.control_->usable()) return segment.control_;
    segment.control_ = nullptr;
    known = segment.locator_;
  }
  Result<Locator> found = directory_.resolve(segment.name);
  if (!found.ok()) {
    // While the directory is away, the engine may still be where it was.
    if (found.code() == Code::kNotFound || known.host.empty()) return found.status();
    found = known;
  }
  Result<std::unique_ptr<ControlClient>> connected = ControlClient::connect(
      *found, instance_, std::chrono::milliseconds(config_.connect_timeout_ms));
  if (!connected.ok()) return connected.status();
  std::shared_ptr<ControlClient> control(connected.take());
  MutexLock lock(segment.mutex_);
  segment.control_ = control;
  segment.address_ = control->address();
  segment.locator_ = *found;
  segment.locator_.instance = control->peer_instance();
  return control;
}

Status Segments::fetch(Segment& segment, const std::shared_ptr<ControlClient>& control) {
  const std::shared_ptr<const Target> known = segment.target();
  ByteWriter body;
  bool same = known && known->descriptor.instance == control->peer_instance();
  for (size_t i = 0; same && i < known->paths.size(); ++i) same = !known->paths[i]->over();
  body.number(same ? known->descriptor.generation : uint64_t{0});
  Result<Bytes> bytes = control->call(wire::ControlType::kDescribe, body.take());
  if (!bytes.ok()) return bytes.status();
  if (bytes->empty()) {
    if (!same) return Status(Code::kProtocol, "the peer does not describe itself");
    return {};
  }
  Result<Descriptor> descriptor = Descriptor::decode(*bytes);
  if (!descriptor.ok()) return descriptor.status();
  if (descriptor->instance != control->peer_instance()) {
    return Status(Code::kProtocol, "the peer describes another engine than itself");
  }
  install(segment, descriptor.take());
  return {};
}

void Segments::install(Segment& segment, Descriptor descriptor) {
  const std::shared_ptr<const Target> previous = segment.target();
  auto target = std::make_shared<Target>();
  target->segment = segment.name;
  target->descriptor = std::move(descriptor);
  Peer peer;
  peer.instance = target->descriptor.instance;
  peer.self = peer.instance == instance_;
  {
    MutexLock lock(segment.mutex_);
    peer.address = segment.address_;
  }
  const bool same_peer = previous && previous->descriptor.instance == peer.instance;
  transports_.make_paths(peer, previous.get(), same_peer, *target);
  {
    MutexLock lock(segment.mutex_);
    segment.target_ = target;
  }
  WriterLock lock(mutex_);
  for (Slot& slot : slots_) {
    if (slot.segment.get() == &segment) slot.target = target;
  }
}

Status Segments::refresh(Segment& segment) {
  if (segment.self) {
    refresh_self(segment);
    return {};
  }
  MutexLock fetching(segment.fetching_);
  // A connection that looked usable may turn out to be dead: then once more with a fresh one.
  Status status;
  for (int attempt = 0; attempt < 2; ++attempt) {
    Result<std::shared_ptr<ControlClient>> control = control_of(segment);
    if (!control.ok()) return control.status();
    status = fetch(segment, *control);
    if (status.ok() || (*control)->usable()) return status;
  }
  return status;
}

void Segments::refresh_self(Segment& segment) {
  const std::shared_ptr<const Target> known = segment.target();
  if (known && known->descriptor.generation == memory_.generation()) return;
  MutexLock fetching(segment.fetching_);
  install(segment, *memory_.descriptor());
}

void Segments::rebuild_all() {
  for (const std::shared_ptr<Segment>& segment : all()) {
    if (segment->self) {
      if (segment->target()) refresh_self(*segment);
      continue;
    }
    MutexLock fetching(segment->fetching_);
    if (const std::shared_ptr<const Target> known = segment->target()) {
      install(*segment, known->descriptor);
    }
  }
}

std::shared_ptr<Segment> Segments::behind(uint64_t instance) const {
  std::vector<std::shared_ptr<Segment>> held;  // one may die here: not under the lock
  ReaderLock lock(mutex_);
  for (const std::weak_ptr<Segment>& weak : alive_) {
    held.push_back(weak.lock());
    if (held.back() && held.back()->locator().instance == instance) return held.back();
  }
  return nullptr;
}

Result<Bytes> Segments::call(Segment& segment, wire::ControlType type, std::string_view body,
                             uint64_t instance) {
  Status last;
  for (int attempt = 0; attempt < 2; ++attempt) {
    std::shared_ptr<ControlClient> control;
    {
      MutexLock fetching(segment.fetching_);
      Result<std::shared_ptr<ControlClient>> found = control_of(segment);
      if (!found.ok()) return found.status();
      control = *found;
    }
    if (instance != 0 && control->peer_instance() != instance) {
      return error(Code::kStale, "{}: another run of the engine is there now",
                   control->address().to_string());
    }
    Result<Bytes> answer = control->call(type, body);
    if (answer.ok() || control->usable()) return answer;
    last = answer.status();
  }
  return last;
}

}  // namespace te
