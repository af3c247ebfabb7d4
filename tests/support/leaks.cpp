// Where leaks are looked for: in the first process of a program alone. A child that ends by exit()
// still has what its parent had, and with the threads of the parent gone, or in a pid namespace of
// its own, the search does not end well.
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
static const pid_t first_process = ::getpid();
// LeakSanitizer asks, out of its library.
extern "C" __attribute__((visibility("default"))) int
__lsan_is_turned_off();  // NOLINT(*): its name
extern "C" int __lsan_is_turned_off() { return ::getpid() != first_process ? 1 : 0; }  // NOLINT(*)

// libfabric 1.17 forgets a connection of which nothing had come yet when its endpoint was closed,
// as happens where a peer connects and gives up at once.
extern "C" __attribute__((visibility("default"))) const char*
__lsan_default_suppressions();                          // NOLINT(*): its name
extern "C" const char* __lsan_default_suppressions() {  // NOLINT(*)
  return "leak:libfabric.so\n";
}
#endif
