#include "base/environment.h"

#include <unistd.h>

#include <algorithm>
#include <list>
#include <string>
#include <string_view>
#include <vector>

#include "base/fork.h"
#include "base/mutex.h"

namespace te {
namespace {

// What the environment points to.
struct List {
  std::vector<std::string> added;  // "NAME=VALUE"
  std::vector<char*> entries;      // ends with null
};

struct Lists {
  Mutex mutex{LockRank::kEnvironment};
  std::list<List> all TE_GUARDED_BY(mutex);
};

// Never destroyed: the environment is read until the process ends.
Lists& lists() {
  static Lists* instance = new Lists;
  return *instance;
}

[[maybe_unused]] const bool lists_held = (hold_during_forks(lists().mutex), true);

bool has(char* const* entries, std::string_view name) {
  for (; entries != nullptr && *entries != nullptr; ++entries) {
    const std::string_view entry = *entries;
    if (entry.size() > name.size() && entry[name.size()] == '=' && entry.starts_with(name)) {
      return true;
    }
  }
  return false;
}

}  // namespace

void set_missing_variables(std::span<const Variable> variables) {
  MutexLock lock(lists().mutex);
  char** present = __atomic_load_n(&::environ, __ATOMIC_ACQUIRE);
  for (;;) {
    List list;
    for (const Variable& variable : variables) {
      if (has(present, variable.name)) continue;
      list.added.push_back(std::string(variable.name) + "=" + variable.value);
    }
    if (list.added.empty()) return;
    for (char** each = present; each != nullptr && *each != nullptr; ++each) {
      list.entries.push_back(*each);
    }
    for (std::string& each : list.added) list.entries.push_back(each.data());
    list.entries.push_back(nullptr);
    List& kept = lists().all.emplace_back(std::move(list));
    if (__atomic_compare_exchange_n(&::environ, &present, kept.entries.data(), false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      return;
    }
    lists().all.pop_back();
  }
}

}  // namespace te
