// Variables of the process's environment that the library sets for others.
#pragma once

#include <span>

namespace te {

struct Variable {
  const char* name;
  const char* value;
};

// Sets those variables that the environment lacks. Unlike setenv(), which frees the list of
// variables that it extends, this leaves the former list as it is: other threads may be inside
// getenv() meanwhile, as most libraries call it while they are loaded. Each call that sets
// something keeps its list until the process ends, so it is for a few calls in all.
//
// Threads: any, beside each other and beside threads that read the environment. A thread that
// changes the environment at the same moment may lose its change.
void set_missing_variables(std::span<const Variable> variables);

}  // namespace te
