# Compile options that every target of the project shares.
add_library(te_options INTERFACE)
target_compile_options(te_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX,C>:-Wall -Wextra -Wshadow -Wpointer-arith -Wcast-qual -Wvla>
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor -Woverloaded-virtual>)
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  target_compile_options(te_options INTERFACE -Wthread-safety)
endif()
if(TE_WARNINGS_AS_ERRORS)
  target_compile_options(te_options INTERFACE -Werror)
endif()
if(TE_SANITIZE)
  target_compile_options(te_options INTERFACE -fsanitize=${TE_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all)
  # Its check opens a pipe, and calls every object a wrong one where no descriptor is left, as some
  # tests want it.
  if(TE_SANITIZE MATCHES undefined)
    target_compile_options(te_options INTERFACE -fno-sanitize=vptr)
  endif()
  target_link_options(te_options INTERFACE -fsanitize=${TE_SANITIZE})
endif()
