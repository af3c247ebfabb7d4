// Clang's thread-safety annotations. The locks that carry them are in base/mutex.h.
#pragma once

#if defined(__clang__)
#define TE_ANNOTATION(x) __attribute__((x))
#else
#define TE_ANNOTATION(x)
#endif

#define TE_CAPABILITY(x) TE_ANNOTATION(capability(x))
#define TE_SCOPED_CAPABILITY TE_ANNOTATION(scoped_lockable)
#define TE_GUARDED_BY(x) TE_ANNOTATION(guarded_by(x))
#define TE_PT_GUARDED_BY(x) TE_ANNOTATION(pt_guarded_by(x))
#define TE_REQUIRES(...) TE_ANNOTATION(requires_capability(__VA_ARGS__))
#define TE_ACQUIRE(...) TE_ANNOTATION(acquire_capability(__VA_ARGS__))
#define TE_RELEASE(...) TE_ANNOTATION(release_capability(__VA_ARGS__))
#define TE_ACQUIRE_SHARED(...) TE_ANNOTATION(acquire_shared_capability(__VA_ARGS__))
#define TE_RELEASE_SHARED(...) TE_ANNOTATION(release_shared_capability(__VA_ARGS__))
#define TE_RELEASE_GENERIC(...) TE_ANNOTATION(release_generic_capability(__VA_ARGS__))
#define TE_REQUIRES_SHARED(...) TE_ANNOTATION(requires_shared_capability(__VA_ARGS__))
#define TE_TRY_ACQUIRE(...) TE_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define TE_EXCLUDES(...) TE_ANNOTATION(locks_excluded(__VA_ARGS__))
#define TE_RETURN_CAPABILITY(x) TE_ANNOTATION(lock_returned(x))
#define TE_NO_THREAD_SAFETY_ANALYSIS TE_ANNOTATION(no_thread_safety_analysis)
