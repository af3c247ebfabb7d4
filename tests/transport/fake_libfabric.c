/* A libfabric whose fi_getinfo() leaves a handler of SIGUSR2 behind, as providers do that it loads.
 * Of two callers that are inside at once, the first leaves first. */
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

static atomic_int entered;

static void on_signal(int number) { (void)number; }

static int is_handled(void) {
  struct sigaction now;
  sigaction(SIGUSR2, NULL, &now);
  return now.sa_handler == on_signal;
}

int fi_getinfo(void) {
  const int first = atomic_fetch_add(&entered, 1) == 0;
  signal(SIGUSR2, on_signal);
  for (int i = 0; i < 300 && (first ? atomic_load(&entered) < 2 : is_handled()); ++i) usleep(1000);
  return -61; /* FI_ENODATA */
}
void fi_freeinfo(void) {}
void* fi_dupinfo(void) { return NULL; }
int fi_fabric(void) { return -61; }
const char* fi_strerror(void) { return "no data"; }
uint32_t fi_version(void) { return 1u << 16 | 17; }
