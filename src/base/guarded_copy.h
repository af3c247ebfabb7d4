// Copies from and to memory that an application gave, which may have become inaccessible: unmapped,
// protected, or its file truncated. Such a copy reports which side it was; the process lives.
//
// Two ways. Under the guard, memcpy runs as usual and a handler of SIGSEGV and SIGBUS ends it at
// the first fault. By the kernel (process_vm_writev), which needs no handler but costs 0.5 us, and
// on large copies a tenth to two fifths of the speed of memcpy. The guard is used while a
// FaultHandler exists, no other handler was installed over it, and the thread does not block the
// two signals. That is looked at whenever the coarse clock has moved on, every few milliseconds.
//
// Threads: any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace te {

// While one exists, the process has the handler. Every other fault, and every signal that was sent,
// goes to the handler that was there before, as if there was no other: with its flags, its mask and
// the same context. The last one to end puts that one back; where another was installed over ours
// meanwhile, ours stays below it and the library in memory.
class FaultHandler {
 public:
  FaultHandler();
  ~FaultHandler();
  FaultHandler(const FaultHandler&) = delete;
  FaultHandler& operator=(const FaultHandler&) = delete;
};

enum class CopyResult : uint8_t { kDone, kBadSource, kBadDestination };

// Of a part that was copied before the fault, nothing is known. The ranges do not overlap.
CopyResult guarded_copy(std::byte* to, const std::byte* from, size_t length);
// The same for ranges that may overlap.
CopyResult guarded_move(std::byte* to, const std::byte* from, size_t length);
// Under the guard `copy` copies, with plain instructions and nothing to undo if it is ended in the
// middle; it touches nothing outside of the two ranges.
using CopyFunction = void (*)(std::byte* to, const std::byte* from, size_t length);
CopyResult guarded_copy(std::byte* to, const std::byte* from, size_t length, CopyFunction copy);
// The same for what makes other bytes of them (a cipher). Only under the guard: nullopt, and
// nothing is called, where that does not work. If it is ended in the middle, so is what it did to
// `state`.
using ConvertFunction = void (*)(void* state, std::byte* to, const std::byte* from, size_t length);
std::optional<CopyResult> guarded_convert(std::byte* to, const std::byte* from, size_t length,
                                          ConvertFunction convert, void* state);

// Whether all of it can be read, or written, at this moment. Changes no byte.
bool is_readable(const std::byte* begin, size_t length);
bool is_writable(std::byte* begin, size_t length);

}  // namespace te
