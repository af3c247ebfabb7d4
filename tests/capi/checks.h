/* Checks that are counted, for a test program in plain C. */
#ifndef TE_TESTS_CAPI_CHECKS_H
#define TE_TESTS_CAPI_CHECKS_H

#include <stdio.h>

extern int checks_done;
extern int checks_failed;

#define CHECK(condition)                                                                        \
  do {                                                                                          \
    ++checks_done;                                                                              \
    if (!(condition)) {                                                                         \
      ++checks_failed;                                                                          \
      fprintf(stderr, "%s:%d: not true: %s (last error: %s)\n", __FILE__, __LINE__, #condition, \
              transferEngineLastError());                                                       \
    }                                                                                           \
  } while (0)

/* What every function does with a null engine, and with null pointers. */
void check_null_arguments(void);

#endif
